"""The peer: a GPT-2-style model trained as nanoGPT trains on a CPU, rebuilt from its published description.

nanoGPT (https://github.com/karpathy/nanoGPT, MIT) is a repository and not a package. What is rebuilt: learned
positions, pre-layer-norm blocks without biases, exact GELU of four times the width, tied embeddings, output weights
scaled by the depth, first weights 0.02; decay 0.1 on matrices, clipping at 1; of its configuration for small models and
small batches AdamW (0.9, 0.99), 100 steps of warm-up and a cosine to a tenth of the peak of 1e-3; blocks at random
offsets; float32 without compilation, its default on CPUs.

Shapes: B sequences, T positions, V entries of the vocabulary.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pipelines.core.learning.batches import Batch

PEAK = 1e-3
WARMUP_STEPS = 100


class Block(nn.Module):
    """Attention and feed-forward, each after a layer norm and beside a residual path."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width, bias=False)
        self.attention_in = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.before_mlp = nn.LayerNorm(width, bias=False)
        self.mlp_in = nn.Linear(width, 4 * width, bias=False)
        self.mlp_out = nn.Linear(4 * width, width, bias=False)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """(B, T, C) to the same."""
        B, T, C = x_BTC.shape
        parts = self.attention_in(self.before_attention(x_BTC)).view(B, T, 3, self.heads, C // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x_BTC = x_BTC + self.attention_out(seen.transpose(1, 2).reshape(B, T, C))
        return x_BTC + self.mlp_out(functional.gelu(self.mlp_in(self.before_mlp(x_BTC))))


class GPT2Style(nn.Module):
    """Token ids (B, T) to logits (B, T, V)."""

    def __init__(self, *, vocab_size: int, context: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, width)
        self.places = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.after = nn.LayerNorm(width, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                shrunk = math.sqrt(2 * depth) if name.endswith("_out.weight") else 1.0
                nn.init.normal_(weight, std=0.02 / shrunk)

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Logits of the next token."""
        x_BTC = self.tokens(ids_BT) + self.places.weight[: ids_BT.shape[1]]
        for block in self.blocks:
            x_BTC = block(x_BTC)
        return self.after(x_BTC) @ self.tokens.weight.T


def optimizer(model: nn.Module) -> torch.optim.AdamW:
    """AdamW with decay on matrices only."""
    weights = list(model.parameters())
    return torch.optim.AdamW(
        [
            {"params": [weight for weight in weights if weight.ndim >= 2], "weight_decay": 0.1},
            {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
        ],
        lr=PEAK,
        betas=(0.9, 0.99),
    )


def learning_rate(step: int, share: float) -> float:
    """Linear to the peak over the first steps, a cosine to a tenth of it over the time (`share` is what has passed)."""
    return PEAK * min((step + 1) / (WARMUP_STEPS + 1), 0.1 + 0.45 * (1 + math.cos(math.pi * share)))


def train(
    model: GPT2Style,
    tokens: NDArray[np.int64],
    *,
    context: int,
    batch_size: int,
    share: Callable[[], float],
    seed: int,
) -> Iterator[float]:
    """Take steps for ever, yielding the loss of each; `share` tells how much of the time has passed."""
    adamw, draw = optimizer(model), np.random.default_rng(seed)
    for step in itertools.count():
        for group in adamw.param_groups:
            group["lr"] = learning_rate(step, share())
        starts = draw.integers(len(tokens) - context - 1, size=batch_size)
        ids_BT = torch.from_numpy(np.stack([tokens[start : start + context + 1] for start in starts]))
        loss = functional.cross_entropy(model(ids_BT[:, :-1]).flatten(0, 1), ids_BT[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adamw.step()
        adamw.zero_grad(set_to_none=True)
        yield float(loss.detach())


def nats(model: GPT2Style, windows: Iterable[Batch]) -> float:
    """Sum of the cross-entropy over all targets asked."""
    with torch.inference_mode():
        return sum(
            float(
                functional.cross_entropy(
                    model(batch.inputs_BT).flatten(0, 1), batch.targets_BT.flatten(), reduction="sum"
                )
            )
            for batch in windows
        )
