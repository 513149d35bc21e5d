import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.adapters import models
from pipelines.core.judging.likelihood import likelihood
from pipelines.errors import ArtifactError, DataError, ParamsError
from tests import fixtures
from tests.core.learning.architectures import causal, classifier

TEXTS = [record["text"] for record in fixtures.corpus_records(20)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    tokenizer = fixtures.tiny_tokenizer(TEXTS)
    model = fixtures.tiny_model(tokenizer)
    folder = tmp_path_factory.mktemp("models") / "base"
    models.save(model, tokenizer, folder)
    return folder, model, tokenizer


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "model")
    return tmp_path / "model"


def test_a_saved_model_loads_with_its_weights_in_float32_ready_to_be_used(made):
    loaded = models.load_causal(made[0])
    assert not loaded.training
    for name, tensor in made[1].state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
        assert loaded.state_dict()[name].dtype == torch.float32


def test_a_saved_tokenizer_encodes_as_before_and_keeps_the_template(made):
    loaded = models.load_tokenizer(made[0])
    assert loaded.encode(TEXTS[0]) == made[2].encode(TEXTS[0])
    assert loaded.chat_template == made[2].chat_template


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "weights.pt", "weights.pth", "x/state.pkl", "a.pickle", "b.ckpt"]
)
def test_pickled_weights_are_refused_by_name(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"")
    with pytest.raises(ArtifactError, match=f"{name} can run code when it is loaded: convert the model to safetensors"):
        models.load_causal(folder)


def test_code_in_the_folder_is_refused(folder):
    (folder / "modeling_evil.py").write_text("raise SystemExit")
    with pytest.raises(ArtifactError, match=r"modeling_evil\.py can run code"):
        models.load_causal(folder)


def test_a_config_that_names_code_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "x--y"}}))
    with pytest.raises(ArtifactError, match="auto_map"):
        models.load_causal(folder)


def test_a_missing_folder_says_how_to_make_it(tmp_path):
    with pytest.raises(ArtifactError, match=r"none is not a model folder\. Run `moteur run`"):
        models.load_causal(tmp_path / "none")


def test_a_tokenizer_with_more_entries_than_embeddings_is_refused(folder, made):
    larger = models.load_tokenizer(folder)
    larger.add_tokens(["<|more|>"])
    larger.save_pretrained(folder)
    size = len(made[2])
    with pytest.raises(ArtifactError, match=f"the tokenizer has {size + 1} entries but the model {size} embeddings"):
        models.load_causal(folder)


def test_a_language_model_is_not_taken_for_a_reward_model(folder):
    with pytest.raises(ArtifactError, match=r"lacks weights \['score.weight'\]: it is not a trained reward model"):
        models.load_reward(folder, num_labels=1)


def test_a_classifier_without_its_trained_head_or_of_several_classes_is_no_reward_model(tmp_path, made):
    tokenizer = made[2]
    for kind, head in (("bert", "classifier.weight"), ("gpt2", "score.weight")):
        folder = tmp_path / kind
        judge = classifier(kind, vocab_size=len(tokenizer), pad=0)
        models.save(judge, tokenizer, folder)
        assert models.load_reward(folder).config.num_labels == 1
        weights = load_file(folder / "model.safetensors")
        weights.pop(head)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ArtifactError, match=rf"lacks weights \['{head}'\]"):
            models.load_reward(folder)
    three = classifier("gpt2", vocab_size=len(tokenizer), pad=0, num_labels=3)
    models.save(three, tokenizer, tmp_path / "three")
    with pytest.raises(ArtifactError, match="tells 3 classes apart"):
        models.load_reward(tmp_path / "three")


@pytest.mark.parametrize(
    ("kind", "words"), [("bert", "fills masks"), ("t5", "fill spans"), ("moteur_baseline", "basel")]
)
def test_a_base_model_on_which_nothing_is_built_is_refused_with_the_keys(folder, kind, words):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "model_type": kind}), encoding="utf-8")
    with pytest.raises(ArtifactError, match=rf"{words}.*set pretraining\.objective to causal and model\.architecture"):
        models.load_causal(folder)


def test_a_failing_save_leaves_the_old_model(folder, made, monkeypatch):
    before = (folder / "model.safetensors").read_bytes()
    monkeypatch.setattr(made[2], "save_pretrained", lambda _path: (_ for _ in ()).throw(RuntimeError("stop")))
    with pytest.raises(RuntimeError):
        models.save(fixtures.tiny_model(made[2], seed=5), made[2], folder)
    assert (folder / "model.safetensors").read_bytes() == before


def test_an_initial_model_grows_embeddings_for_tokens_that_were_added(made):
    folder, model, _ = made
    tokenizer = models.load_tokenizer(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|assistant|>", "<|new|>"]})
    grown = models.load_initial(str(folder), tokenizer, 64)
    assert grown.get_input_embeddings().weight.shape[0] == len(tokenizer) == model.config.vocab_size + 1
    held = grown.get_input_embeddings().weight[: model.config.vocab_size]
    assert torch.equal(held, model.get_input_embeddings().weight)


def test_an_initial_model_with_another_tokenizer_is_refused_with_the_remedy(made):
    other = fixtures.tiny_tokenizer(["wholly different words, zzz yyy xxx"] * 9, vocab_size=300)
    with pytest.raises(ParamsError, match=r"have another id in our tokenizer: set tokenization\.init to .*base' too"):
        models.load_initial(str(made[0]), other, 64)


def test_an_initial_model_that_reads_less_than_the_context_is_refused(made):
    with pytest.raises(ParamsError, match=r"pretraining\.context is 999 but .* reads at most 256 tokens"):
        models.load_initial(str(made[0]), models.load_tokenizer(made[0]), 999)


@pytest.mark.parametrize(("context", "reads"), [(64, 2048), (99_999, 99_999)])
def test_an_initial_model_whose_positions_have_no_end_reads_any_context_and_later_stages_know_how_much(
    made, tmp_path, context, reads
):
    tokenizer = made[2]
    bloom = causal("bloom", vocab_size=len(tokenizer), eos=tokenizer.eos_token_id, pad=tokenizer.pad_token_id)
    models.save(bloom, tokenizer, tmp_path / "bloom")
    model = models.load_initial(str(tmp_path / "bloom"), tokenizer, context)
    models.save(model, tokenizer, tmp_path / "base")
    again = models.load_causal(tmp_path / "base")
    assert again.config.max_position_embeddings == reads
    ids = np.array(tokenizer("Once upon a time")["input_ids"])
    assert likelihood(again, ids, 16, 64).bits_per_byte > 0


def test_an_initial_model_that_is_nowhere_names_the_key():
    with pytest.raises(DataError, match=r"pretraining\.init is 'no/such-model': neither a folder here nor a model"):
        models.initial("no/such-model", "pretraining.init")


def test_a_folder_without_a_tokenizer_names_the_key(tmp_path):
    with pytest.raises(DataError, match=r"tokenization\.init is .* holds no tokenizer"):
        models.initial_tokenizer(str(tmp_path), "tokenization.init")
