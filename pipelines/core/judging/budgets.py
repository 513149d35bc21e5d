"""What a run costs, before it runs: parameters, tokens, FLOPs, time, disk. Arithmetic only."""

from dataclasses import dataclass

from pipelines import budget as written
from pipelines.core.learning.compute import TRAINING
from pipelines.errors import ParamsError

PETAFLOP_S_DAY = 8.64e19
"""FLOPs of one petaflop per second kept up for a day."""
CHINCHILLA = 20.0
"""Tokens per parameter that are compute-optimal at scale (Hoffmann et al. 2022, arXiv:2203.15556)."""


def llama_parameters(
    *,
    vocab_size: int,
    hidden_size: int,
    num_layers: int,
    intermediate_size: int,
    tie_embeddings: bool,
    attention_bias: bool,
) -> int:
    """Parameters of a Llama with full multi-head attention.

    An embedding (and an output matrix of its size when they are not tied); in each layer four attention matrices, with
    biases or without, three of the gated feed-forward and two norms; a last norm.
    """
    embeddings = vocab_size * hidden_size * (1 if tie_embeddings else 2)
    biases = 4 * hidden_size if attention_bias else 0
    layer = 4 * hidden_size**2 + biases + 3 * hidden_size * intermediate_size + 2 * hidden_size
    return embeddings + num_layers * layer + hidden_size


def training_flops(parameters: float, tokens: float) -> float:
    """6ND: forward 2, backward 4 FLOPs for each parameter and token (Kaplan et al. 2020, arXiv:2001.08361)."""
    return TRAINING.flops(parameters, tokens)


def petaflop_s_days(flops: float) -> float:
    """FLOPs in petaflop/s-days."""
    return flops / PETAFLOP_S_DAY


def tokens_per_parameter(tokens: float, parameters: float) -> float:
    """To be read beside `CHINCHILLA`."""
    return tokens / parameters


@dataclass(frozen=True, kw_only=True)
class Disk:
    """What a run puts on the disk, in bytes."""

    weights: int
    """Model folders of all stages, float32, with the copies in DVC's cache, and models while they are compared."""
    checkpoints: int
    """Of the stage with the largest, while one more is written."""
    data: int | None
    """Token shards and records, with the copies in the cache; None: not known."""

    @property
    def total(self) -> int:
        """All of it that is known."""
        return self.weights + self.checkpoints + (self.data or 0)


TOKEN_TEXT_BYTES = 4
"""Of the text behind a token, about."""
PRETRAINING_STATE, PPO_STATE = 4, 7
"""Models that a checkpoint is as large as: weights, two moments, best weights; and these of the policy with the weights
and two moments of the value model. Those of the other stages are smaller."""


def disk(
    *,
    parameters: int,
    tokens: int | None,
    token_bytes: int,
    models: int,
    candidates: int,
    checkpoints: int,
    pinned: int | None,
) -> Disk:
    """An upper estimate of the disk a run needs.

    Args:
        parameters: Of the model.
        tokens: Of the whole corpus, which is all written, however few are trained on; None: not known.
        token_bytes: Of one token in a shard.
        models: Folders that stages keep.
        candidates: Compressed models that exist at one time, at float32 at most; they are not cached.
        checkpoints: Of one training that exist at one time.
        pinned: Policies that PPO keeps beside them until its end; None: the run ends with the base model.
    """
    model = 4 * parameters
    policy = 0 if pinned is None else PPO_STATE * checkpoints + pinned
    return Disk(
        weights=(2 * models + candidates) * model,
        checkpoints=max(PRETRAINING_STATE * checkpoints, policy) * model,
        data=None if tokens is None else 2 * tokens * (token_bytes + 2 * TOKEN_TEXT_BYTES),
    )


def seconds(flops: float, flops_per_second: float) -> float:
    """Time at a measured speed."""
    return flops / flops_per_second


def affordable(flops: float, parameters: float) -> float:
    """Tokens that a model of this size can be trained on with these FLOPs: the inverse of `training_flops`."""
    return flops / training_flops(parameters, 1)


def pretraining_tokens(budget: str | None, *, max_tokens: int, parameters: int, step_tokens: int) -> int:
    """Tokens that pretraining may see: `max_tokens`, or what the budget pays for of a model of this size.

    Args:
        budget: `pretraining.budget` as it is written; None: there is none.
        max_tokens: `pretraining.max_tokens`.
        parameters: Of the model, embeddings included.
        step_tokens: Tokens of one step.

    Raises:
        ParamsError: for a time without a speed, and for what does not suffice for one step.
    """
    if budget is None:
        if max_tokens < step_tokens:
            raise ParamsError(
                f"pretraining.max_tokens is {max_tokens:,}, but one step takes {step_tokens:,} (pretraining.batch_size"
                " x pretraining.context): raise the first, or lower one of these, in params.yaml"
            )
        return max_tokens
    meant = written.parse(budget)
    if not meant.is_settled:
        raise ParamsError(
            f"pretraining.budget is {budget!r}, and how much that is depends on the speed of the machine: `moteur plan"
            " --apply tokens` measures this one's and writes it beside the time; or write it yourself, for instance"
            f' "{written.at_speed(budget, 1e11)}"'
        )
    ratio = meant.tokens_per_parameter
    tokens = ratio * parameters if ratio else affordable(meant.compute or 0.0, parameters)
    if tokens < step_tokens:
        raise ParamsError(
            f"pretraining.budget is {budget!r}, which pays for {tokens:,.0f} tokens of a model of {parameters:,}"
            f" parameters, but one step takes {step_tokens:,} (pretraining.batch_size x pretraining.context): raise the"
            f" budget at least {1.005 * step_tokens / tokens:,.4g} times, or lower one of these, in params.yaml"
        )
    return int(tokens)
