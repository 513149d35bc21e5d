"""The stage deployment on a tiny model."""

import pytest

from pipelines import deployment
from pipelines.adapters import files, models, references, release, sandbox
from pipelines.adapters.tracking import NullTracker
from pipelines.artifacts import Artifact
from pipelines.errors import ArtifactError
from tests import learning
from tests.fixtures import corpus_records, tiny_model, tiny_tokenizer, write_records

PROMPTS = ["What did they have?", "Where did they go?"]

ANSWERED = {"unfinished_share": 0.1, "empty_share": 0.0, "answer_words": 7.5}


def params(**changes):
    return learning.params(deployment={"prompts": PROMPTS, "max_new_tokens": 6, "reference_documents": 0, **changes})


def talkative(tokenizer):
    """A tiny model that answers with a word, again and again."""
    model = tiny_model(tokenizer)
    rows = model.model.embed_tokens.weight.data
    turn, word = tokenizer.convert_tokens_to_ids("<|assistant|>"), tokenizer.encode("a")[0]
    rows[word] = 3 * rows[turn]
    return model


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tokenizer = tiny_tokenizer([record["text"] for record in corpus_records(20)])
    release.save_quantised(talkative(tokenizer), tokenizer, Artifact.COMPRESSED.path)
    for artifact in deployment.REPORTS.values():
        files.write_json(artifact.path, {"some_figure": 0.5})
    row = {
        "name": "int8",
        "format": "int8",
        "bytes": release.weight_bytes(Artifact.COMPRESSED.path),
        "bits_per_byte": 0.5,
        "task_score": 0.5,
        "same_answers": 1.0,
    }
    files.write_json(Artifact.COMPRESSION_REPORT.path, {"candidates": [row], "chosen": "int8", **ANSWERED})
    files.write_json(Artifact.REFERENCE_PROFILE.path, {"corpus": {"words": 20}})
    return tmp_path


@pytest.fixture
def answering(monkeypatch):
    """Stands in for the child process, which tests/adapters/test_sandbox.py covers."""
    replies = ["a ball", "to the lake"]

    def ask(folder, prompts, **_):
        assert release.verify(folder) == []
        return sandbox.Answers(answers=replies, finished=[True, False], peak_memory_mib=1.0)

    monkeypatch.setattr(sandbox, "ask", ask)
    return replies


def test_the_release_is_verified_and_answers_in_a_process_of_its_own(workspace):
    report = deployment.main(params(), NullTracker())
    assert report.verified
    assert [answer["prompt"] for answer in report.sandbox_answers] == PROMPTS
    assert all(answer["answer"].startswith("aa") for answer in report.sandbox_answers)
    assert release.verify(Artifact.RELEASE.path) == []
    assert report.manifest_sha256 == files.sha256(Artifact.RELEASE.path / release.MANIFEST)
    assert report.weights_format == "int8"
    assert release.load(Artifact.RELEASE.path)[0].num_parameters() > 0


def test_the_release_holds_everything_and_the_manifest_lists_it(workspace, answering):
    report = deployment.main(params(), NullTracker())
    listed = set(files.read_json(Artifact.RELEASE.path / release.MANIFEST)["files"])
    found = {path.relative_to(Artifact.RELEASE.path).as_posix() for path in Artifact.RELEASE.path.rglob("*.*")}
    assert listed == found - {release.MANIFEST}
    assert report.num_files == len(listed)
    assert listed >= {
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "reference_profile.json",
        "figures.json",
        "MODEL_CARD.md",
    }
    profile = files.read_json(Artifact.RELEASE.path / "reference_profile.json")
    assert profile == {"corpus": {"words": 20}, "responses": ANSWERED}
    assert files.read_json(Artifact.RELEASE.path / "figures.json")["ppo"] == {"some_figure": 0.5}


def test_two_runs_give_the_same_bytes_with_a_reference_of_held_out_documents(workspace, answering):
    write_records(Artifact.VALIDATED.path)
    deployment.main(params(reference_documents=15), NullTracker())
    digest = files.sha256(Artifact.RELEASE.path)
    deployment.main(params(reference_documents=15), NullTracker())
    assert files.sha256(Artifact.RELEASE.path) == digest
    assert references.FILE in files.read_json(Artifact.RELEASE.path / release.MANIFEST)["files"]
    held_out = references.texts(Artifact.VALIDATED.path, "corpus", 15)
    assert references.read(Artifact.RELEASE.path, "corpus").texts == tuple(held_out)
    assert len(references.read(Artifact.RELEASE.path, "requests")) == 15
    assert release.weight_bytes(Artifact.RELEASE.path) == release.weight_bytes(Artifact.COMPRESSED.path)


def test_silence_beyond_its_share_fails_the_stage_and_leaves_the_last_release_in_place(workspace, answering):
    deployment.main(params(), NullTracker())
    digest = files.sha256(Artifact.RELEASE.path)
    answering[1] = "  "
    with pytest.raises(ArtifactError, match=r"answers 1 of 2 prompts with nothing, 'Where did they go\?'"):
        deployment.main(params(name="another"), NullTracker())
    assert files.sha256(Artifact.RELEASE.path) == digest


def test_silence_within_its_share_is_reported(workspace, answering):
    answering[1] = "  "
    assert deployment.main(params(max_silent_share=0.5), NullTracker()).silent_share == 0.5


def test_a_model_that_is_not_the_reported_one_is_refused(workspace, answering):
    tokenizer = models.load_tokenizer(Artifact.COMPRESSED.path)
    models.save(tiny_model(tokenizer), tokenizer, Artifact.COMPRESSED.path)
    with pytest.raises(ArtifactError, match="run compression again"):
        deployment.main(params(), NullTracker())
    assert not Artifact.RELEASE.path.exists()


def test_a_file_that_can_run_code_is_refused(workspace, answering):
    (Artifact.COMPRESSED.path / "helper.py").write_text("print(1)")
    with pytest.raises(ArtifactError, match=r"helper\.py can run code"):
        deployment.main(params(), NullTracker())


def test_a_missing_report_is_named(workspace, answering):
    Artifact.PPO_REPORT.path.unlink()
    with pytest.raises(ArtifactError, match=r"reports/ppo\.json is missing"):
        deployment.main(params(), NullTracker())


def test_the_parent_does_not_import_torch(workspace):
    import subprocess
    import sys

    code = "import sys; import pipelines.deployment; print('torch' in sys.modules, 'transformers' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=learning.ROOT)
    assert ended.stdout.split() == ["False", "False"]
