"""What a run costs, before it runs: parameters, tokens, FLOPs, time, disk. Arithmetic only."""

from dataclasses import dataclass

PETAFLOP_S_DAY = 8.64e19
"""FLOPs of one petaflop per second kept up for a day."""
CHINCHILLA = 20.0
"""Tokens per parameter that are compute-optimal at scale (Hoffmann et al. 2022, arXiv:2203.15556)."""


def llama_parameters(
    *, vocab_size: int, hidden_size: int, num_layers: int, intermediate_size: int, tie_embeddings: bool
) -> int:
    """Parameters of a Llama with full multi-head attention and no biases.

    An embedding (and an output matrix of its size when they are not tied); in each layer four attention matrices, three
    of the gated feed-forward and two norms; a last norm.
    """
    embeddings = vocab_size * hidden_size * (1 if tie_embeddings else 2)
    layer = 4 * hidden_size**2 + 3 * hidden_size * intermediate_size + 2 * hidden_size
    return embeddings + num_layers * layer + hidden_size


def training_flops(parameters: float, tokens: float) -> float:
    """6ND: forward 2, backward 4 FLOPs for each parameter and token (Kaplan et al. 2020, arXiv:2001.08361)."""
    return 6.0 * parameters * tokens


def forward_flops(parameters: float, tokens: float) -> float:
    """2ND."""
    return 2.0 * parameters * tokens


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
    """Model folders of all stages, float32, with the copies in DVC's cache."""
    checkpoints: int
    """Weights and two moments, two kept for the stage with the largest."""
    data: int
    """Token shards and records, with the copies in the cache."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.checkpoints + self.data


def disk(*, parameters: int, tokens: int, vocab_size: int, candidates: int) -> Disk:
    """An upper estimate of the disk a run needs.

    Args:
        parameters: Of the model.
        tokens: Of the pretraining text.
        vocab_size: Decides between two and four bytes a token.
        candidates: Compressed models that exist at one time, at float32 at most.
    """
    model = 4 * parameters
    folders = 4 + candidates + 1
    token_bytes = tokens * (2 if vocab_size < 2**16 else 4)
    text_bytes = 4 * tokens
    return Disk(
        weights=2 * folders * model,
        checkpoints=2 * 3 * model,
        data=2 * (token_bytes + 2 * text_bytes),
    )


def seconds(flops: float, flops_per_second: float) -> float:
    """Time at a measured speed."""
    return flops / flops_per_second


SMALL_MODEL_UTILISATION = 0.17
"""Share of the speed of a large bfloat16 matrix product that training a model of some million parameters on a CPU
reached: 128 and 183 of 740 to 860 GFLOP/s at 0.83 and 3.05 million parameters; optimiser, attention and small matrices
take the rest. Used only until this machine has trained once."""
