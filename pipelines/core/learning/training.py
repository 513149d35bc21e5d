"""One training loop for every model that learns by gradient descent: it yields, the caller logs and saves.

Shapes: B sequences in a batch, T positions, V entries of the vocabulary.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pipelines.core.learning import attention
from pipelines.core.learning.batches import Batch
from pipelines.core.learning.padding import IGNORED
from pipelines.errors import TrainingError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedModel

Data = TypeVar("Data")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of the optimiser."""

    step: int
    """Steps done, this one included."""
    loss: float
    """Before the step, on its own batch."""
    learning_rate: float
    gradient_norm: float
    """Before clipping."""


def whole(loss: "Callable[[Data], Tensor]", batch: Data) -> "Tensor":
    """The loss of a batch, taken at once; leaves its gradient in the weights."""
    value = loss(batch)
    value.backward()  # type: ignore[no-untyped-call]
    return value.detach()


def train(
    loss: "Callable[[Data], Tensor]",
    batches: Callable[[int], Data],
    optimizer: "torch.optim.Optimizer",
    *,
    schedule: Callable[[int], float],
    steps: int,
    gradient_clip: float,
    start: int = 0,
    gradient: "Callable[[Callable[[Data], Tensor], Data], Tensor]" = whole,
    name: str = "pretraining",
) -> Iterator[Step]:
    """Take the steps `start` to `steps`, yielding after each; all state is in the model and the optimiser.

    `batches(i)` and `schedule(i)` depend on nothing but the step i, so a run that is resumed at `start` with the
    model and the optimiser as they were goes on as if it had never stopped. `gradient` is how a batch's loss and
    gradient come about: `whole`, or `accumulation.InParts`.

    Raises:
        TrainingError: when the loss or the gradient is not a finite number; `name` is the section named in the remedy.
    """
    import torch

    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for index in range(start, steps):
        rate = schedule(index)
        for group in optimizer.param_groups:
            group["lr"] = rate
        value = gradient(loss, batches(index))
        norm = torch.nn.utils.clip_grad_norm_(weights, gradient_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step = Step(step=index + 1, loss=float(value), learning_rate=rate, gradient_norm=float(norm))
        if not (math.isfinite(step.loss) and math.isfinite(step.gradient_norm)):
            raise TrainingError(
                f"The loss is {step.loss} and the gradient's norm {step.gradient_norm} at step {step.step}: lower"
                f" {name}.learning_rate (now {rate:.3g}) in params.yaml."
            )
        yield step


def next_token_loss(
    model: "Callable[..., Any]", batch: Batch, *, device: "torch.device", precision: "torch.dtype", sum_up: bool = False
) -> "Tensor":
    """Cross-entropy of the next token in nats: mean over the targets asked, or their sum."""
    from torch.nn import functional
    from transformers import PreTrainedModel

    from pipelines.core.learning.cross_entropy import LinearCrossEntropy

    targets_N = batch.targets_BT.to(device).flatten()
    if isinstance(model, PreTrainedModel) and model.config.model_type in attention.PLAIN:
        hidden_BTD = _hidden(model, batch, device=device, precision=precision)
        head_VD = model.get_output_embeddings().weight
        loss: Tensor = LinearCrossEntropy.apply(hidden_BTD.flatten(0, 1), head_VD, targets_N, precision, sum_up)  # type: ignore[no-untyped-call]
        return loss
    logits_BTV = next_token_logits(model, batch, device=device, precision=precision)
    return functional.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_N, reduction="sum" if sum_up else "mean")


def next_token_logits(
    model: "Callable[..., Any]", batch: Batch, *, device: "torch.device", precision: "torch.dtype"
) -> "Tensor":
    """What a causal model says comes next, (B, T, V)."""
    logits_BTV: Tensor = _read(model, batch, device=device, precision=precision).logits
    return logits_BTV


def _hidden(model: "PreTrainedModel", batch: Batch, *, device: "torch.device", precision: "torch.dtype") -> "Tensor":
    """The last hidden states (B, T, D).

    While it learns all layers compute in `precision` with their weights cast once. Embeddings are looked up first: a
    frequent token's gradient is a sum of hundreds, which bfloat16 cannot hold.
    """
    import torch

    from pipelines.core.learning import llama_training

    body = model.base_model
    if not torch.is_grad_enabled():
        seen: Tensor = _read(body, batch, device=device, precision=precision).last_hidden_state
        return seen
    table = body.get_input_embeddings()
    embedded_BTD = table(batch.inputs_BT.to(device))
    places_BT = None if batch.positions_BT is None else batch.positions_BT.to(device)
    if llama_training.fits(body):
        return llama_training.hidden(body, embedded_BTD, places_BT, precision=precision)
    weights = {name: weight.to(precision) for name, weight in body.named_parameters() if weight is not table.weight}
    inputs = {"inputs_embeds": embedded_BTD.to(precision), "position_ids": places_BT, "use_cache": False}
    hidden_BTD: Tensor = torch.func.functional_call(body, weights, (), inputs).last_hidden_state
    return hidden_BTD


def _read(model: "Callable[..., Any]", batch: Batch, *, device: "torch.device", precision: "torch.dtype") -> Any:
    import torch

    places_BT = None if batch.positions_BT is None else batch.positions_BT.to(device)
    with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
        return model(input_ids=batch.inputs_BT.to(device), position_ids=places_BT, use_cache=False)


def nats(
    model: "nn.Module", batches: Iterable[Batch], *, device: "torch.device", precision: "torch.dtype"
) -> tuple[float, int]:
    """Sum of the cross-entropy over all targets that `batches` ask, and how many they are."""
    import torch

    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    with torch.inference_mode():
        for batch in batches:
            total += float(next_token_loss(model, batch, device=device, precision=precision, sum_up=True))
            count += int((batch.targets_BT != IGNORED).sum())
    model.train(was_training)
    return total, count


def weights_of(model: "nn.Module") -> "dict[str, Tensor]":
    """A copy of all weights and persistent buffers; tied ones once."""
    seen: set[int] = set()
    copies = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            copies[name] = tensor.detach().cpu().clone()
    return copies


def trained_weights(model: "nn.Module") -> "dict[str, Tensor]":
    """The same without the weights that are not trained."""
    frozen = {name for name, weight in model.named_parameters(remove_duplicate=False) if not weight.requires_grad}
    return {name: tensor for name, tensor in weights_of(model).items() if name not in frozen}


def load_weights(model: "nn.Module", weights: "Mapping[str, Tensor]") -> None:
    """Put back what `weights_of` or `trained_weights` copied."""
    import torch

    held = model.state_dict(keep_vars=True)
    with torch.no_grad():
        for name, tensor in weights.items():
            held[name].copy_(tensor)


def state_of(model: "nn.Module", optimizer: "torch.optim.Optimizer") -> "dict[str, Tensor]":
    """Everything that training changes and the next step depends on: weights, moments, torch's random state."""
    import torch

    tensors = {f"model.{name}": tensor for name, tensor in trained_weights(model).items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor.detach().cpu().clone() for name, tensor in values.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    return tensors


def load_state(model: "nn.Module", optimizer: "torch.optim.Optimizer", tensors: "Mapping[str, Tensor]") -> None:
    """Put back what `state_of` took."""
    import torch

    load_weights(model, part(tensors, "model"))
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in part(tensors, "optimizer").items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    torch.set_rng_state(tensors["random.cpu"])
    if torch.cuda.is_available() and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"])


def part(tensors: "Mapping[str, Tensor]", prefix: str) -> "dict[str, Tensor]":
    """The tensors below `prefix.`, without it."""
    return {name.removeprefix(f"{prefix}."): item for name, item in tensors.items() if name.startswith(f"{prefix}.")}


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Early stopping: the best value so far, where, and how many values since were no better."""

    limit: int
    best: float = math.inf
    best_step: int = 0
    since: int = 0

    def after(self, step: int, value: float) -> Self:
        """With one more value (lower is better)."""
        if value < self.best:
            return replace(self, best=value, best_step=step, since=0)
        return replace(self, since=self.since + 1)

    @property
    def exhausted(self) -> bool:
        """No better value for `limit` values."""
        return self.since >= self.limit
