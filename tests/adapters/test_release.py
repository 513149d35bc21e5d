"""Releases: eight-bit weights that come back exactly, and manifests that notice everything."""

import json

import pytest
import torch

from pipelines.adapters import files, models, release
from pipelines.errors import ArtifactError
from tests.fixtures import corpus_records, tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer([record["text"] for record in corpus_records(20)])


@pytest.fixture
def model(tokenizer):
    return tiny_model(tokenizer)


@pytest.fixture
def folder(model, tokenizer, tmp_path):
    release.save_quantised(model, tokenizer, tmp_path / "release")
    return tmp_path / "release"


def logits(model):
    with torch.no_grad():
        return model(torch.arange(40)[None]).logits


def untied(tokenizer):
    from transformers import LlamaForCausalLM

    config = tiny_model(tokenizer).config
    config.tie_word_embeddings = False
    torch.manual_seed(3)
    return LlamaForCausalLM(config).eval()


def test_eight_bit_weights_come_back_exactly(folder, model, tokenizer, tmp_path):
    loaded, _ = release.load(folder)
    release.save_quantised(loaded, tokenizer, tmp_path / "again")
    assert torch.equal(logits(release.load(folder)[0]), logits(loaded))
    assert torch.allclose(logits(release.load_model(tmp_path / "again")), logits(loaded), atol=1e-6)
    assert 0 < float((logits(loaded) - logits(model)).abs().max()) < 0.05


def test_what_is_loaded_is_a_plain_float32_model_that_can_be_saved_again(folder, model):
    loaded, tokenizer = release.load(folder)
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    assert not hasattr(loaded.config, "quantization_config")
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert loaded.generation_config.eos_token_id == tokenizer.eos_token_id
    assert not loaded.training
    assert hasattr(model.config, "vocab_size")


def test_embeddings_may_stay_in_bfloat16(model, tokenizer, tmp_path):
    release.save_quantised(model, tokenizer, tmp_path / "linear", embeddings=False)
    release.save_quantised(model, tokenizer, tmp_path / "all")
    loaded = release.load_model(tmp_path / "linear")
    embedding = model.model.embed_tokens.weight
    assert torch.equal(loaded.model.embed_tokens.weight, embedding.bfloat16().float())
    larger = release.weight_bytes(tmp_path / "linear") - release.weight_bytes(tmp_path / "all")
    assert larger == pytest.approx(embedding.numel() - 4 * embedding.shape[0], abs=200)


def test_an_output_layer_of_its_own_is_stored_and_comes_back(tokenizer, tmp_path):
    model = untied(tokenizer)
    release.save_quantised(model, tokenizer, tmp_path / "release")
    loaded = release.load_model(tmp_path / "release")
    assert not torch.equal(loaded.lm_head.weight, loaded.model.embed_tokens.weight)
    assert float((logits(loaded) - logits(model)).abs().max()) < 0.05


def test_saving_twice_gives_the_same_bytes(folder, model, tokenizer, tmp_path):
    release.save_quantised(model, tokenizer, tmp_path / "twin")
    assert files.sha256(folder) == files.sha256(tmp_path / "twin")


def test_plain_folders_load_too(model, tokenizer, tmp_path):
    models.save(model, tokenizer, tmp_path / "plain")
    assert torch.equal(logits(release.load_model(tmp_path / "plain")), logits(model))


@pytest.mark.parametrize("make", [tiny_model, untied])
@pytest.mark.parametrize("embeddings", [True, False])
def test_transformers_reads_the_folder_as_we_do(make, embeddings, tokenizer, tmp_path):
    pytest.importorskip("compressed_tensors")
    from transformers import AutoModelForCausalLM

    release.save_quantised(make(tokenizer), tokenizer, tmp_path / "release", embeddings=embeddings)
    theirs = AutoModelForCausalLM.from_pretrained(str(tmp_path / "release"), dtype=torch.float32).eval()
    assert torch.equal(logits(theirs), logits(release.load_model(tmp_path / "release")))


def test_the_export_is_a_plain_bfloat16_folder(folder, tmp_path):
    assert release.main(["export", str(folder), str(tmp_path / "plain")]) == 0
    assert "quantization_config" not in files.read_json(tmp_path / "plain" / "config.json")
    exported = models.load_causal(tmp_path / "plain").state_dict()
    kept = release.load_model(folder).state_dict()
    assert exported.keys() == kept.keys()
    assert all(torch.equal(exported[name], weight.bfloat16().float()) for name, weight in kept.items())


def test_another_quantisation_than_ours_is_refused(folder):
    config = files.read_json(folder / "config.json")
    config["quantization_config"] = {"quant_method": "gptq", "format": "marlin"}
    files.write_json(folder / "config.json", config)
    with pytest.raises(ArtifactError, match="quantised by gptq"):
        release.load(folder)


def test_a_torn_weights_file_is_named(folder):
    weights = folder / release.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ArtifactError, match=r"model\.safetensors cannot be read"):
        release.load(folder)


def test_a_missing_weight_is_named(folder):
    from safetensors.torch import load_file, save_file

    state = load_file(folder / release.WEIGHTS)
    del state["model.norm.weight"]
    save_file(state, folder / release.WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=r"missing keys \['model\.norm\.weight'\]"):
        release.load(folder)


def test_weights_that_are_not_finite_are_not_quantised(model, tokenizer, tmp_path):
    model.model.norm.weight.data[0] = float("nan")
    model.model.layers[0].mlp.up_proj.weight.data[0, 0] = float("inf")
    with pytest.raises(ArtifactError, match=r"layers\.0\.mlp\.up_proj\.weight: a weight is not a finite number"):
        release.save_quantised(model, tokenizer, tmp_path / "release")
    assert not (tmp_path / "release").exists()


@pytest.fixture
def sealed(tmp_path):
    folder = tmp_path / "sealed"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("one")
    (folder / "deep" / "b.txt").write_text("two")
    release.write_manifest(folder, name="x", format=1)
    return folder


def test_an_untouched_release_has_no_differences(sealed):
    assert release.verify(sealed) == []
    manifest = json.loads((sealed / release.MANIFEST).read_text())
    assert list(manifest["files"]) == ["a.txt", "deep/b.txt"]
    assert manifest["name"] == "x"


def test_a_flipped_byte_is_named(sealed):
    (sealed / "a.txt").write_text("onf")
    assert release.verify(sealed) == ["a.txt has another sha256 than the manifest says"]


def test_a_changed_size_is_named(sealed):
    (sealed / "deep" / "b.txt").write_text("three")
    assert release.verify(sealed) == ["deep/b.txt has 5 bytes, not 3"]


def test_missing_and_extra_files_are_named(sealed):
    (sealed / "a.txt").unlink()
    (sealed / "weights.pkl").write_bytes(b"\x80\x04N.")
    assert release.verify(sealed) == ["a.txt is missing", "weights.pkl is not in the manifest"]


def test_a_link_that_leaves_the_folder_is_named(sealed, tmp_path):
    (tmp_path / "outside.txt").write_text("one")
    (sealed / "a.txt").unlink()
    (sealed / "a.txt").symlink_to(tmp_path / "outside.txt")
    assert release.verify(sealed) == ["a.txt is a link that leaves the folder"]


def test_a_link_to_nowhere_is_a_difference_and_not_a_crash(sealed):
    (sealed / "a.txt").unlink()
    (sealed / "a.txt").symlink_to(sealed / "gone.txt")
    assert release.verify(sealed) == ["a.txt is a link to nothing"]


@pytest.mark.parametrize("text", ["[]", "{}", '{"files": 3}', '{"files": {"a.txt": 1}}'])
def test_a_manifest_of_another_kind_is_refused(sealed, text):
    (sealed / release.MANIFEST).write_text(text)
    with pytest.raises(ArtifactError, match="lists no files"):
        release.verify(sealed)


def test_the_command_verifies(sealed, capsys):
    assert release.main(["verify", str(sealed)]) == 0
    (sealed / "a.txt").write_text("two")
    assert release.main(["verify", str(sealed)]) == 1
    assert "a.txt has another sha256" in capsys.readouterr().out
    assert release.main([]) == 2
