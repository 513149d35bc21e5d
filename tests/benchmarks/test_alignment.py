"""What the command line takes for a size of model, and the reward without a network."""

import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import alignment
from benchmarks.alignment import Shape, shape
from pipelines.adapters import files
from pipelines.core.learning import preferences


@pytest.mark.parametrize(
    ("text", "read"),
    [("64x2", Shape(64, 2)), ("192x4x6000000", Shape(192, 4, 6_000_000))],
)
def test_a_shape_is_width_layers_and_perhaps_tokens(text: str, read: Shape) -> None:
    assert shape(text) == read
    assert str(read) == text


@pytest.mark.parametrize(
    "text", ["64", "64x2x1000x3", "64x", "x2", "0x2", "64x0", "64x2x0", "-64x2", "64*2", "6.4x2", ""]
)
def test_what_is_no_shape_is_refused_with_a_sentence_before_any_work(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["alignment", "sizes", "--shapes", "128x3", f"--shapes={text}"])
    monkeypatch.setattr(alignment, "_run", lambda *_arguments, **_options: pytest.fail("it began to work"))
    with pytest.raises(SystemExit, match="2"):
        alignment.main()
    assert (
        f"argument --shapes: {text!r} is no shape: write width x layers, or width x layers x tokens to pretrain on, as"
        " positive integers, for example 192x4 or 192x4x6000000"
    ) in capsys.readouterr().err


def test_a_width_that_heads_do_not_divide_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["alignment", "sizes", "--shapes", "100x2"])
    with pytest.raises(SystemExit, match="2"):
        alignment.main()
    assert "'100x2' has a width of 100, which heads of 32 do not divide: write a multiple of 32" in (
        capsys.readouterr().err
    )


INSTRUCTIONS = "ingestion: {{instructions: {{train: [{{uri: '{uri}'}}]}}}}\nfeedback: {{responses_per_prompt: 4}}\n"


def test_stories_to_ask_about_are_made_anew_and_the_prompts_that_were_ranked_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(INSTRUCTIONS.format(uri="tales://?stories=6500&seed=7"))
    asked, seen = alignment.Asked(100, 1001, 260), []

    def run(_name: str, changes: alignment.Changes, *stages: str) -> dict[str, Any]:
        seen.append((changes["ingestion"]["instructions"]["train"], stages))
        interval = ("held_out_accuracy", "held_out_accuracy_low", "held_out_accuracy_high")
        others = ("num_train_pairs", "best_reachable_accuracy", "recovered_share", "train_accuracy")
        accuracy = dict.fromkeys((*interval, *others), 1.0)
        return {"feedback": {"num_sampled": 4 * 97}, "reward_modeling": accuracy}

    monkeypatch.setattr(alignment, "_run", run)
    assert alignment._pairs(asked)["prompts"] == 97
    assert "only 97 of 100 prompts are there: raise --stories" in capsys.readouterr().err
    stages = ("ingestion", "data_validation", "feedback", "reward_modeling")
    assert seen == [([{"uri": "tales://?stories=260&seed=7"}], stages)]


@pytest.mark.parametrize(
    ("stories", "uri", "said"),
    [
        ("0", "tales://?stories=6500", "'0' is no number of stories: write a positive integer"),
        ("260", "sft/questions.jsonl.gz", "leave --stories out"),
    ],
)
def test_stories_that_cannot_be_made_are_refused_before_any_work(
    stories: str,
    uri: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(INSTRUCTIONS.format(uri=uri))
    monkeypatch.setattr(sys, "argv", ["alignment", "pairs", "--prompts", "100", "--stories", stories])
    monkeypatch.setattr(alignment, "_run", lambda *_arguments, **_options: pytest.fail("it began to work"))
    with pytest.raises(SystemExit) as refused:
        alignment.main()
    assert said in f"{refused.value} {capsys.readouterr().err}"


def test_a_second_run_of_a_question_replaces_the_rows_that_were_asked_the_same_and_leaves_the_others() -> None:
    known = [{"seed": 1, "prompts": 300, "a": 1}, {"seed": 1, "prompts": 900, "a": 2}]
    again = [{"seed": 1, "prompts": 900, "a": 3}, {"seed": 2, "prompts": 900, "a": 4}]
    assert alignment.merged(known, again) == [known[0], *again]
    sizes = [{"shape": "64x2", "prompts": 900}, {"shape": "64x2x1000", "prompts": 900}]
    assert alignment.merged(sizes, sizes[1:]) == sizes


def test_words_learn_from_the_first_models_pairs_and_are_measured_on_those_held_out(tmp_path: Path) -> None:
    train = [
        {"prompt": f"Story {number}.", "chosen": "Thanks. The end.", "rejected": "No. The end."} for number in range(90)
    ]
    held_out = [
        {**pair, "prompt": f"Tale {number}.", "gold_chosen": 0.9, "gold_rejected": gold}
        for number, (pair, gold) in enumerate(zip(train, [0.1, 0.9], strict=False))
    ]
    files.write_jsonl(tmp_path / "preferences.train.jsonl", train)
    files.write_jsonl(tmp_path / "preferences.valid.jsonl", held_out)
    report = alignment.words_alone(tmp_path, seed=7, share=0.3333)
    of_second = sum(preferences.for_held_out_model(pair["prompt"], seed=7, share=0.3333) for pair in train)
    assert report["num_train_pairs"] == 90 - of_second < 90
    assert (report["held_out_accuracy"], report["train_accuracy"]) == (1.0, 1.0)
    assert report["best_reachable_accuracy"] == 0.75
