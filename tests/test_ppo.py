"""PPO as a stage: prompts, comparison before and after, checkpoints, limits."""

import csv
import shutil
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipelines import ppo, stage
from pipelines.adapters import files, models
from pipelines.adapters.tracking import NullTracker
from pipelines.core.judging import kl_axis
from pipelines.core.learning import rewards
from pipelines.core.learning.policy_optimisation import Learner
from pipelines.core.world.corpus import TalesSource, instruction_records
from pipelines.errors import DataError, ParamsError, Preempted
from tests.learning import Stops, params, reward_functions, write_model, write_validated
from tests.workspaces import aligned, take_the_last_policy

SETTINGS = {
    "iterations": 4,
    "prompts_per_iteration": 16,
    "minibatch_size": 8,
    "learning_rate": 1e-3,
    "value_learning_rate": 1e-3,
    "max_new_tokens": 6,
    "measure_every": 2,
    "kl_price": 0.0,
    "max_length_change": None,
    "checkpoint_every": 2,
    "evaluation_prompts": 12,
}
PAIR = {"chosen": "good", "rejected": "bad", "source": "debates"}


@pytest.fixture(scope="module")
def tales():
    return {
        split: [asdict(record) for record in instruction_records(TalesSource(), split, count)]
        for split, count in (("train", 60), ("valid", 40))
    }


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    aligned()
    return tmp_path


CHOSEN = kl_axis.chosen


@pytest.fixture(autouse=True)
def the_last_policy_is_taken(monkeypatch):
    take_the_last_policy(monkeypatch)


def run(tracker=None, tasks=None, **changes):
    chosen = {"feedback": {"tasks": tasks}} if tasks else {}
    return ppo.main(params(ppo={**SETTINGS, **changes}, **chosen), tracker or NullTracker())


def test_policy_and_instruction_model_are_compared_on_held_out_prompts(workspace):
    report = run()
    assert report.iterations == 4
    assert report.num_evaluation_prompts == 12
    assert report.kl > 0
    assert report.gold_before is not None
    assert report.gold_gain == pytest.approx(report.gold_after - report.gold_before)
    assert report.gold_gain_low <= report.gold_gain <= report.gold_gain_high
    assert report.reward_gain_low <= report.reward_after - report.reward_before <= report.reward_gain_high
    assert not report.stopped_early
    assert report.stopped is None


def test_a_policy_that_did_not_move_is_the_instruction_model(workspace):
    report = run(learning_rate=1e-12)
    assert report.kl == pytest.approx(0, abs=1e-4)
    assert report.reward_after == pytest.approx(report.reward_before, abs=1e-5)
    assert report.mean_length_after == report.mean_length_before
    assert (report.gold_gain, report.gold_gain_low, report.gold_gain_high) == (0, 0, 0)


def test_the_value_model_begins_as_the_reward_model_head_included(workspace, monkeypatch):
    began = []

    class Watched(Learner):
        def steps(self, start=0):
            began.append({name: tensor.clone() for name, tensor in self.value_model.state_dict().items()})
            return super().steps(start)

    monkeypatch.setattr(ppo, "Learner", Watched)
    run(iterations=1)
    written = load_file("models/reward/model.safetensors")
    assert "score.weight" in written
    assert all(torch.equal(began[0][name], tensor) for name, tensor in written.items())


def test_the_reward_rises(workspace, monkeypatch):
    monkeypatch.setattr(
        rewards, "score", lambda _model, _tokenizer, _prompts, texts: [text.count(" ") for text in texts]
    )
    report = run(
        tasks=["story_writing"],
        iterations=20,
        prompts_per_iteration=32,
        max_new_tokens=12,
        learning_rate=3e-3,
        value_learning_rate=3e-3,
        kl_coefficient=0.0,
        epochs=4,
        evaluation_prompts=40,
    )
    assert report.reward_gain_low > 0


def test_the_curve_has_a_line_for_each_iteration(workspace):
    run()
    header, *lines = Path("reports/curves/ppo.csv").read_text().splitlines()
    assert header.startswith("iteration,reward,kl,entropy,clip_share,explained_variance,length,finished,")
    assert header.endswith(",reward_model,reward_functions,unfinished_penalty,kl_penalty,kl_coefficient,length_weight")
    assert [line.split(",")[0] for line in lines] == ["1", "2", "3", "4"]


def axis():
    with Path("reports/curves/ppo_axis.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_policies_along_the_axis_are_measured_from_the_instruction_model_to_the_last_one(workspace):
    report = run(measure_every=1)
    assert [row["updates"] for row in axis()] == ["0", "1", "2", "3", "4"]
    assert [point.updates for point in report.axis] == [0, 1, 2, 3, 4]
    assert report.axis[0].kl == pytest.approx(0, abs=1e-4)
    assert all(point.kl >= 0 for point in report.axis)
    assert report.axis[0].held_out_reward != report.axis[0].reward
    assert set(report.laws) == {"reward", "held_out_reward", "gold"}


def taken(updates):
    return lambda examined, **_limits: next(each for each in examined if each.updates == updates)


@pytest.mark.parametrize("updates", [0, 1, 3, 4])
def test_the_chosen_policy_is_the_one_that_is_saved_and_reported(workspace, monkeypatch, updates):
    monkeypatch.setattr(kl_axis, "chosen", taken(updates))
    report = run(measure_every=1)
    assert report.chosen_updates == updates
    assert (report.kl, report.reward_after) == (report.axis[updates].kl, report.axis[updates].reward)
    saved = load_file("models/policy/model.safetensors")
    steps = Learner.steps
    monkeypatch.setattr(Learner, "steps", lambda self, start=0: islice(steps(self, start), updates))
    run()
    expected = load_file("models/policy/model.safetensors")
    assert all(torch.equal(saved[name], tensor) for name, tensor in expected.items())


def test_the_policy_is_chosen_by_both_reward_models_and_the_price_of_the_divergence(workspace, monkeypatch):
    seen = []
    monkeypatch.setattr(kl_axis, "chosen", lambda examined, **limits: seen.append((examined, limits)) or examined[-1])
    run(measure_every=1, kl_price=0.3, max_length_change=0.2)
    examined, limits = seen[0]
    assert limits == {"kl_price": 0.3, "max_length_change": 0.2}
    start = examined[0]
    lost = replace(start, updates=9, said=replace(start.said, kl=[1.0] * len(start.said.kl)))
    won = replace(lost, updates=8, held_out_rewards=[value + 100 for value in start.held_out_rewards])
    longer = replace(won, said=replace(start.said, lengths=[2 * length for length in start.said.lengths]))
    assert CHOSEN([start, lost], **limits) is start
    assert CHOSEN([start, lost, won], **limits) is won
    assert CHOSEN([start, longer], **limits) is start


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_run_stopped_anywhere_and_resumed_is_the_run_that_was_never_stopped(workspace, monkeypatch, after):
    made = (Path("models/policy"), Path("reports/curves/ppo.csv"), Path("reports/curves/ppo_axis.csv"))
    expected = run(), [files.sha256(path) for path in made]
    stops = Stops(monkeypatch, after)
    with pytest.raises(Preempted, match=f"after iteration {after};"):
        run(stops.tracker())
    monkeypatch.setattr(stage, "preempted", lambda: False)
    resumed = Stops(monkeypatch, 10**9)
    assert run(resumed.tracker(), checkpoint_every=3) == expected[0]
    assert resumed.seen == 4 - after
    assert resumed.seconds_before > 0
    assert resumed.resumed == after
    assert [files.sha256(path) for path in made] == expected[1]


def test_the_saved_policy_loads_with_its_tokenizer(workspace):
    run(iterations=1)
    policy = models.load_causal(Path("models/policy"))
    tokenizer = models.load_tokenizer(Path("models/policy"))
    assert policy.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert tokenizer.chat_template


def test_past_the_divergence_limit_the_last_policy_within_it_is_saved(workspace):
    report = run(iterations=15, learning_rate=1e-2, kl_coefficient=0.0, kl_limit=1.0)
    assert report.stopped_early
    assert report.stopped == "kl"
    assert 0 < report.kl < 1.5  # within the limit on its rollout; held-out prompts may differ a little
    assert report.iterations < 15


def test_a_last_update_past_a_limit_is_undone(workspace):
    report = run(iterations=1, learning_rate=1e-2, kl_limit=1e-3)
    assert (report.stopped, report.stopped_early, report.iterations) == ("kl", True, 1)
    assert report.kl == pytest.approx(0, abs=1e-4)


def test_row_20_numbers_that_are_none_leave_the_last_good_policy_and_its_figures(workspace, monkeypatch):
    calls = []
    real = rewards.score

    def spoilt(*arguments):
        calls.append(1)
        return [float("nan") if len(calls) == 8 else value for value in real(*arguments)]

    monkeypatch.setattr(rewards, "score", spoilt)
    report = run()  # two calls measure the instruction model, two the policy in the middle, the eighth is of rollout 4
    assert (report.stopped, report.stopped_early, report.iterations) == ("not finite", True, 3)
    assert len(calls) == 10
    policy = models.load_causal(Path("models/policy"))
    assert all(weight.isfinite().all() for weight in policy.parameters())


def spaces(count):
    return f"def spaces(prompts, responses):\n    return [float(text.count(' ')) * {count} for text in responses]\n"


SPACES = {"reward_model_weight": 0.0, "reward_functions": [{"function": "reward_functions.mine:spaces", "weight": 2.0}]}


def test_a_reward_function_of_the_checkout_is_what_is_optimised_and_measured(workspace):
    options = {"iterations": 12, "prompts_per_iteration": 32, "max_new_tokens": 12, "epochs": 4, "kl_coefficient": 0.0}
    rates = {"learning_rate": 3e-3, "value_learning_rate": 3e-3, "evaluation_prompts": 40}
    judge = models.load_reward(Path("models/reward"))
    judge.score.weight.data *= 50  # its rewards differ by something like one, as those of a trained one do
    write_model(Path("models/reward"), judge, models.load_tokenizer(Path("models/sft")))
    with reward_functions(mine=spaces(1)):
        report = run(tasks=["story_writing"], **SPACES, **options, **rates)
    assert report.reward_before == pytest.approx(round(20 * report.reward_before) / 20)  # twice a count, 40 prompts
    assert report.reward_gain_low > 0


def test_a_run_goes_on_with_the_same_functions_only(workspace, monkeypatch):
    def iterations(count):
        seen = Stops(monkeypatch, 10**9)
        with reward_functions(mine=spaces(count)):
            run(seen.tracker(), **SPACES)
        shutil.rmtree("reward_functions")
        return seen.seen

    def preempted():
        stops = Stops(monkeypatch, 2)
        with reward_functions(mine=spaces(1)), pytest.raises(Preempted):
            run(stops.tracker(), **SPACES)
        shutil.rmtree("reward_functions")

    preempted()
    assert iterations(3) == 4
    preempted()
    assert iterations(1) in {0, 2}


def test_a_function_that_cannot_be_imported_ends_the_stage_before_a_model_is_loaded(workspace, monkeypatch):
    monkeypatch.setattr(models, "load_tokenizer", lambda _path: pytest.fail("loaded"))
    with reward_functions(), pytest.raises(ParamsError, match=r"ppo\.reward_functions\[0\].*cannot be imported"):
        run(**SPACES)


def test_only_prompts_of_the_feedback_tasks_are_used(workspace, tales):
    wanted = {record["prompt"] for record in tales["train"] if record["task"] == "story_writing"}
    assert run(tasks=["story_writing"], iterations=1).num_prompts == len(wanted)


def test_ready_pairs_lend_their_prompts_where_no_feedback_task_occurs(workspace, tales):
    pairs = {
        split: [{**PAIR, "id": f"{split}{number}", "prompt": f"Debate {number % 3} {split}."} for number in range(9)]
        for split in ("train", "valid", "test")
    }
    write_validated(Path("data/validated"), instructions=tales, preferences=pairs)
    report = run(tasks=["chess"], iterations=1)
    assert (report.num_prompts, report.num_evaluation_prompts) == (3, 3)
    assert (report.gold_before, report.gold_gain_low) == (None, None)


def test_no_prompt_that_leaves_room_is_an_error_with_the_key(workspace):
    with pytest.raises(DataError, match=r"found 0 prompts in the train split .* ppo\.max_new_tokens \(512\)"):
        run(max_new_tokens=512)


def test_prompts_that_leave_no_room_are_left_out_of_both_sides_and_counted(workspace, tales):
    with_long = {
        split: [*tales[split], {**tales[split][0], "id": f"long-{split}", "prompt": "so " * 600}]
        for split in ("train", "valid")
    }
    assert run(iterations=1).num_too_long == 0
    write_validated(Path("data/validated"), instructions=with_long)
    assert run(iterations=1, tasks=[tales["train"][0]["task"], tales["valid"][0]["task"]]).num_too_long == 2


def test_an_evaluation_prompt_is_never_one_that_was_trained_on(workspace, tales):
    twice = {"train": tales["train"], "valid": tales["valid"] + tales["train"]}
    write_validated(Path("data/validated"), instructions=twice)
    of_tasks = [record for record in tales["valid"] if record["task"] in params().feedback.tasks]
    report = run(iterations=1, evaluation_prompts=60)
    assert report.num_evaluation_prompts == len(of_tasks)
    assert report.unseen_prompt_share == 1.0


def test_where_every_evaluation_prompt_was_trained_on_the_report_says_so(workspace, tales):
    write_validated(Path("data/validated"), instructions={"train": tales["train"], "valid": tales["train"]})
    assert run(iterations=1).unseen_prompt_share == 0.0
