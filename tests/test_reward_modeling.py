"""Reward modelling: does it learn what pairs prefer, and say honestly how well?"""

import json
import math
import random
from pathlib import Path

import pytest

from pipelines import reward_modeling, stage
from pipelines.adapters import datasets, files, models, reward_trainer
from pipelines.adapters.tracking import NullTracker
from pipelines.artifacts import Artifact, State
from pipelines.core.learning import rewards
from pipelines.core.learning.preferences import for_held_out_model
from pipelines.errors import DataError, GateError, ParamsError, Preempted, TrainingError
from tests.fixtures import tiny_model, tiny_tokenizer
from tests.learning import Stops, params, write_model

KIND, RUDE = ("please", "thanks", "friend"), ("stupid", "ugly", "shut")
THINGS = ("ball", "cake", "drum", "kite", "boat", "hat")
FIRST_PROMPT = {"train": 0, "valid": 500, "test": 800, "long": 900}
"""The splits tell of other stories in the same words."""
SETTINGS = {"epochs": 3.0, "batch_size": 8, "learning_rate": 3e-3, "max_length": 64}
LAX = {"min_accuracy": 0.0, "min_gain_over_length": -1.0, "max_calibration_error": 1.0}
REFUSED = State.REFUSED.path / "reward_modeling.json"


def pairs(split, count, *, prompts=40, noise=0.0, seed=0):
    """Kind words are preferred to rude ones, except in a share `noise`; length says nothing."""
    draw = random.Random(f"{split}{seed}")
    for number in range(count):
        said = [
            f"the {draw.choice(THINGS)} {draw.choice(words)} {'now ' * draw.randint(0, 4)}" for words in (KIND, RUDE)
        ]
        chosen, rejected = said if draw.random() >= noise else said[::-1]
        yield {
            "id": f"{split}{number}",
            "prompt": f"story {FIRST_PROMPT[split] + number % prompts}",
            "chosen": chosen,
            "rejected": rejected,
            "source": "made",
            "ranking_id": f"{split}{number}",
            "gold_chosen": float(chosen == said[0]),
            "gold_rejected": float(chosen != said[0]),
        }


def write(train, valid, test=()):
    for split, records in (("train", train), ("valid", valid), ("test", test)):
        files.write_jsonl(datasets.file(Path("data/preferences"), "preferences", split), records)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tokenizer = tiny_tokenizer([record[side] for record in pairs("train", 50) for side in ("chosen", "rejected")])
    write_model(Path("models/sft"), tiny_model(tokenizer), tokenizer)
    write(pairs("train", 240), pairs("valid", 80))
    return tmp_path


def run(tracker=None, **changes):
    return reward_modeling.main(params(reward_modeling={"gate": LAX, **SETTINGS, **changes}), tracker or NullTracker())


def test_what_is_preferred_is_learnt_and_holds_for_prompts_not_seen(workspace):
    report = run()
    assert report.held_out_accuracy > 0.9
    assert report.held_out_accuracy_low <= report.held_out_accuracy <= report.held_out_accuracy_high
    assert report.recovered_share > 0.8
    assert report.length_baseline_accuracy < 0.65
    assert report.shorter_chosen_accuracy > 0.8
    assert report.unseen_prompt_share == 1.0
    assert (report.num_held_out_pairs, report.num_held_out_prompts) == (80, 40)


def test_the_two_models_share_the_training_prompts_between_them(workspace, monkeypatch):
    taught = []
    train = reward_trainer.train
    monkeypatch.setattr(
        reward_trainer,
        "train",
        lambda model, tokenizer, comparisons, *rest, **options: (
            taught.append({record["prompt"] for item in comparisons for record in item.records}),
            train(model, tokenizer, comparisons, *rest, **options),
        ),
    )
    report = run(epochs=1.0)
    first, second = taught
    assert not first & second
    assert first | second == {f"story {number}" for number in range(40)}
    assert 5 <= len(second) <= 22
    assert report.num_train_pairs + report.num_held_out_model_pairs == 240
    assert report.num_train_pairs == 6 * len(first)


def test_the_held_out_model_is_one_of_its_own_that_also_learns_what_is_preferred(workspace):
    report = run()
    assert report.held_out_model_accuracy > 0.8
    assert report.held_out_model_accuracy_low <= report.held_out_model_accuracy <= report.held_out_model_accuracy_high
    first, second = (models.load_reward(artifact.path) for artifact in (Artifact.REWARD, Artifact.HELD_OUT_REWARD))
    assert not first.score.weight.equal(second.score.weight)
    assert models.load_tokenizer(Artifact.HELD_OUT_REWARD.path).chat_template


def test_too_few_prompts_for_two_models_are_an_error_with_both_keys(workspace):
    write(pairs("train", 60, prompts=2), pairs("valid", 20))
    with pytest.raises(
        DataError, match=r"Of 2 prompts .*reward_modeling\.held_out_model_share .*\(feedback\.num_prompts\)"
    ):
        run()


def test_the_saved_model_gives_the_rewards_that_were_reported(workspace):
    report = run()
    model = models.load_reward(Path("models/reward"))
    tokenizer = models.load_tokenizer(Path("models/reward"))
    held_out = list(pairs("valid", 80))
    prompts = [record["prompt"] for record in held_out]
    chosen, rejected = (
        rewards.score(model, tokenizer, prompts, [record[side] for record in held_out])
        for side in ("chosen", "rejected")
    )
    margins = [one - other for one, other in zip(chosen, rejected, strict=True)]
    assert sum(margin > 0 for margin in margins) / 80 == pytest.approx(report.held_out_accuracy)
    assert sum(margins) / 80 == pytest.approx(report.mean_margin, rel=1e-4)


def test_labels_at_random_teach_nothing_and_the_interval_says_so(workspace):
    write(pairs("train", 240, noise=0.5), pairs("valid", 80, noise=0.5))
    report = run(epochs=1.0)
    assert report.held_out_accuracy_low < 0.55
    assert report.best_reachable_accuracy < 0.7


def test_shuffled_labels_are_refused_by_the_default_gate_with_number_limit_and_remedy(workspace):
    write(pairs("train", 240, noise=0.5), pairs("valid", 80, noise=0.5))
    with pytest.raises(GateError) as refused:
        run(gate=params().reward_modeling.gate.model_dump())
    found = json.loads(REFUSED.read_text())
    low = f"{found['held_out_accuracy_low']:.4g}"
    words = str(refused.value)
    assert f"lower end of its accuracy on held-out pairs: {low} (at least 0.55: not met)" in words
    assert "feedback.num_prompts" in words
    assert "or change reward_modeling.gate.min_accuracy" in words
    assert str(REFUSED) in words
    assert not Artifact.REWARD.path.exists()
    assert not Artifact.HELD_OUT_REWARD.path.exists()


def test_a_sound_model_passes_the_default_gate_and_clears_the_last_refusal(workspace):
    REFUSED.parent.mkdir(parents=True)
    REFUSED.write_text("{}")
    run(epochs=5.0, gate=params().reward_modeling.gate.model_dump())
    assert Artifact.REWARD.path.exists()
    assert not REFUSED.exists()


@pytest.mark.parametrize(
    ("limit", "remedy"),
    [
        ({"min_gain_over_length": 0.9}, "reward_modeling.gate.min_gain_over_length"),
        ({"max_calibration_error": 0.0}, "lower reward_modeling.epochs or reward_modeling.learning_rate"),
    ],
)
def test_each_limit_of_the_gate_refuses_with_its_own_remedy(workspace, limit, remedy):
    with pytest.raises(GateError) as refused:
        run(epochs=1.0, gate={**LAX, **limit})
    assert remedy in str(refused.value)
    assert "min_accuracy" not in str(refused.value)


def test_rewards_that_are_no_numbers_are_an_error_and_no_accuracy_of_a_half(workspace, monkeypatch):
    monkeypatch.setattr(rewards, "score_ids", lambda _model, sequences: [math.nan] * len(sequences))
    with pytest.raises(TrainingError, match="gives no finite number to"):
        run(epochs=1.0)
    assert not Artifact.REWARD.path.exists()


def test_the_curve_has_a_line_for_each_step_and_the_loss_falls(workspace):
    report = run()
    header, *lines = Path("reports/curves/reward_modeling.csv").read_text().splitlines()
    assert header == "step,loss,accuracy"
    assert len(lines) == 3 * math.ceil(report.num_train_pairs / 8)
    losses = [float(line.split(",")[1]) for line in lines]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


def test_two_runs_give_the_same_bytes(workspace):
    run(epochs=1.0)
    before = files.sha256(Path("models/reward"))
    run(epochs=1.0)
    assert files.sha256(Path("models/reward")) == before


def test_pairs_that_are_too_long_are_left_out_and_counted(workspace):
    long = [{**record, "chosen": record["chosen"] + "now " * 80} for record in pairs("long", 5)]
    write([*pairs("train", 60), *long], pairs("valid", 20))
    report = run(epochs=1.0)
    assert report.num_too_long == 5
    assert report.num_train_pairs + report.num_held_out_model_pairs == 60


def test_when_all_pairs_are_too_long_the_key_is_named(workspace):
    with pytest.raises(DataError, match=r"240 pairs exceed reward_modeling\.max_length,? 3 tokens"):
        run(max_length=3)


def test_a_longest_pair_beyond_what_the_model_reads_is_refused_with_both_numbers(workspace):
    longest = models.load_causal(Path("models/sft")).config.max_position_embeddings
    said = f"reward_modeling.max_length is {longest + 1} but the instruction model reads at most {longest} tokens"
    with pytest.raises(ParamsError, match=said):
        run(max_length=longest + 1)


def test_held_out_pairs_about_a_single_prompt_are_refused(workspace):
    write(pairs("train", 60), pairs("valid", 20, prompts=1))
    with pytest.raises(DataError, match=r"preferences\.valid\.jsonl .* about 1 prompts, but 2 are needed"):
        run()


def test_prompts_on_both_sides_are_confessed(workspace):
    taught = next(f"story {n}" for n in range(40) if not for_held_out_model(f"story {n}", seed=7, share=0.3333))
    known = [{**record, "prompt": taught} for record in pairs("valid", 10)]
    write(pairs("train", 60), [*known, *pairs("valid", 10)])
    assert run(epochs=1.0).unseen_prompt_share == 0.5


def test_annotators_that_nothing_was_learnt_from_are_measured_apart(workspace):
    known = [{**record, "annotator": "ann"} for record in pairs("train", 60)]
    held_out = [
        {**record, "annotator": "ben" if number % 4 == 0 else "ann"} for number, record in enumerate(pairs("valid", 40))
    ]
    write(known, held_out)
    report = run(epochs=1.0)
    assert report.unseen_annotators == report.by_annotator["ben"]
    assert report.unseen_annotators.num_pairs == 10
    write(known, [{**record, "annotator": "ann"} for record in held_out])
    assert run(epochs=1.0).unseen_annotators is None


def test_a_run_that_is_asked_to_stop_stops_and_leaves_no_model(workspace, monkeypatch):
    monkeypatch.setattr(stage, "preempted", lambda: True)
    with pytest.raises(Preempted):
        run()
    assert not Path("models/reward").exists()


@pytest.mark.parametrize("after", [4, 25])
def test_a_run_stopped_at_either_model_and_resumed_is_the_run_that_was_never_stopped(workspace, monkeypatch, after):
    made = [Path("models/reward"), Path("models/held_out_reward"), Path("reports/curves/reward_modeling.csv")]
    options = {"epochs": 1.0, "checkpoint_every": 3}
    expected = run(**options), [files.sha256(path) for path in made]
    with pytest.raises(Preempted, match="goes on from there"):
        run(Stops(monkeypatch, after).tracker(), **options)
    resumed = Stops(monkeypatch, 10**9)
    assert run(resumed.tracker(), **{**options, "checkpoint_every": 4}) == expected[0]
    assert resumed.seconds_before > 0
    assert [files.sha256(path) for path in made] == expected[1]
    assert not list(Path(".moteur/checkpoints").glob("*/*/0*"))


def test_a_loss_that_is_no_number_is_an_error_with_the_remedy(workspace):
    with pytest.raises(TrainingError, match=r"lower reward_modeling\.learning_rate"):
        run(learning_rate=1e30)
    assert not Path("models/reward").exists()
