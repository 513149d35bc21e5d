"""Row 20: a loss that is no number, a loss that jumps, a dead reward: it stops or goes back, and registers nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from flows.retraining import records
from flows.retraining import run as retraining
from pipelines import ppo, pretraining
from pipelines.adapters import registry
from pipelines.adapters.alerts import Outbox
from pipelines.adapters.checkpoints import Checkpoints
from pipelines.adapters.tracking import NullTracker
from pipelines.artifacts import Artifact
from pipelines.core.learning import rewards, training
from pipelines.errors import TrainingError
from tests import workspaces
from tests.flows import toy
from tests.learning import params

MODEL = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64, "context": 512}
SETTINGS = {
    "context": 32,
    "batch_size": 8,
    "max_tokens": 40 * 256,
    "learning_rate": 0.01,
    "evaluate_every": 10,
    "validation_tokens": 1000,
    "checkpoint_every": 15,
}
BAD_STEP = 20
PPO = {"iterations": 2, "prompts_per_iteration": 16, "minibatch_size": 8, "max_new_tokens": 6, "evaluation_prompts": 12}


@pytest.fixture(scope="module")
def tokenized(tmp_path_factory):
    return workspaces.tokenized(tmp_path_factory.mktemp("tokenized"))


@pytest.fixture
def workspace(tokenized, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workspaces.linked(tokenized)


def pretrain() -> pretraining.PretrainingReport:
    return pretraining.main(params(model=MODEL, pretraining=SETTINGS), NullTracker())


def spoil(monkeypatch: pytest.MonkeyPatch, how: Callable[[Any], Any]) -> None:
    """Let the loss of step `BAD_STEP`, and of each after it, be what `how` makes of it."""
    real, seen = training.next_token_loss, []

    def loss(*arguments: Any, **named: Any) -> Any:
        value = real(*arguments, **named)
        if named.get("sum_up"):  # it measures, and does not train
            return value
        seen.append(value)
        return how(value) if len(seen) >= BAD_STEP else value

    monkeypatch.setattr(training, "next_token_loss", loss)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_row_20_a_loss_that_is_no_number_ends_the_stage_and_what_was_good_is_gone_on_with(
    workspace, monkeypatch, number
):
    expected = pretrain()
    weights = (Artifact.BASE.path / "model.safetensors").read_bytes()
    for path in Artifact.BASE.path.iterdir():
        path.unlink()
    with monkeypatch.context() as patched:
        spoil(patched, lambda value: value * number)
        with pytest.raises(TrainingError, match=rf"at step {BAD_STEP}: lower pretraining\.learning_rate"):
            pretrain()
    assert not (Artifact.BASE.path / "model.safetensors").exists()
    steps = []
    latest = Checkpoints.latest
    monkeypatch.setattr(Checkpoints, "latest", lambda self: steps.append(latest(self)) or steps[-1])
    assert pretrain() == expected
    assert steps[0].step == 15
    assert (Artifact.BASE.path / "model.safetensors").read_bytes() == weights


def test_row_20_after_a_loss_that_jumps_the_weights_from_before_are_saved(workspace, monkeypatch):
    spoil(monkeypatch, lambda value: -value)  # from here on it learns what is wrong
    report = pretrain()
    assert 10 <= report.best_step <= BAD_STEP
    assert report.val_bits_per_byte < 2.0


@pytest.fixture
def aligned(tmp_path, monkeypatch):
    """What PPO reads."""
    monkeypatch.chdir(tmp_path)
    workspaces.aligned()


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (
            lambda count: [0.25] * count,
            "All 12 responses of the instruction model are given 0.25 by the reward model, weight 1",
        ),
        (lambda count: [1e4 + 1e-4 * number for number in range(count)], r"All 12 responses .* are given 1e\+04 by"),
        (lambda count: [float("nan")] * count, r"PPO diverged at iteration 1 .* lower ppo\.learning_rate"),
    ],
)
def test_row_20_a_reward_that_is_dead_or_no_number_ends_ppo_without_a_policy(aligned, monkeypatch, score, words):
    monkeypatch.setattr(rewards, "score", lambda _model, _tokenizer, _prompts, texts: score(len(texts)))
    with pytest.raises(TrainingError, match=words):
        ppo.main(params(ppo=PPO), NullTracker())
    assert not Artifact.POLICY.path.exists()


def test_row_20_a_retraining_that_diverges_is_over_with_an_alert_and_registers_nothing(tmp_path, database):
    root = toy.make(tmp_path / "checkout", database=database)
    (root / "behaviour").write_text("data_validation diverge")
    toy.run_git(root, "add", "-A")
    toy.run_git(root, "commit", "-qm", "A stage that diverges")
    done = toy.moteur(root, "retrain")
    assert done.returncode == TrainingError.exit_code == 6
    (record,) = records.read(root)
    assert (record.status, record.done, record.version) == ("failed", ["workspace"], None)
    (alert,) = Outbox(root / ".moteur/alerts").open()
    assert alert.title == f"Retraining {record.id}: failed"
    assert registry.open_registry(root=root).versions() == []
    again = retraining.run(root, records.Order(reason="resume"), lambda _: None)
    assert again == records.Skipped(why="no retraining was interrupted")
