"""Proximal policy optimisation of a language model against a reward model, whole.

A response to a prompt is an episode: state = the text so far, action = the next token. With the policy p, the
reference r (the instruction model), the score R of the whole response, and the temperature in all probabilities:

    reward      R_n = -beta (log p(a_n) - log r(a_n)) + [n is the last token] R'     R' = (R - mean) / deviation
    advantage   A_n = sum_k (gamma lambda)^k (R_{n+k} + gamma V_{n+k+1} - V_{n+k})   V after the last token is 0
    policy      max(-A rho, -A clip(rho, 1 - e, 1 + e)),  rho = p(a_n) / p_old(a_n)
    text        -log p(w_n), mean over the tokens of pretraining text, times ptx_coefficient; added to the policy's
    value       1/2 max((V - G)^2, (clip(V, V_old - e, V_old + e) - G)^2),  G = A + V_old

Sources: Schulman et al. 2017, arXiv:1707.06347 (clipped objective); Schulman et al. 2015, arXiv:1506.02438
(advantages); Stiennon et al. 2020, arXiv:2009.01325 (score at the end, penalty per token, value model of its own that
starts as the reward model); Ouyang et al. 2022, arXiv:2203.02155, equation 2 (pretraining text, there gamma); Huang et
al. 2024, arXiv:2403.17031 (penalty for no end token, whitening, no dropout).
A response that goes further where all go, to texts shorter or longer than the first rollout's, is worth less by what
`length_coefficient` says, one that stays behind is worth more (docs/alignment.md); over a rollout that adds up to 0.
The rewards are whitened with the mean and deviation of the first rollout and keep that scale: with a new one for each
rollout the weight of the KL penalty would change along the way. That weight is fixed, or steered to a target
(Ziegler et al. 2019, arXiv:1909.08593).

Shapes: B responses in a batch, N tokens of the longest response.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipelines.core.learning import attention, decoding, limits, training
from pipelines.core.learning.batches import Batch
from pipelines.core.learning.limits import Stop
from pipelines.core.learning.objectives import (
    advantages,
    beyond_half,
    explained_variance,
    masked_mean,
    policy_loss,
    shaped_rewards,
    steered,
    value_loss,
    whitened,
)
from pipelines.core.learning.reward_mixture import RewardMixture
from pipelines.core.learning.rollouts import (
    Prompt,
    Sequences,
    assembled,
    decodable,
    log_probs_and_entropies,
    sequence_kl,
    token_log_probs,
    token_values,
)
from pipelines.errors import TrainingError
from pipelines.params import Ppo

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LOSSES = ("policy_loss", "value_loss", "ptx_loss")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One iteration: a rollout and its updates."""

    iteration: int
    """Iterations done, this one included."""
    reward: float
    """Mean of the rollout."""
    reward_model: float
    """What the reward model adds to it, weighted."""
    reward_functions: float
    """What the user's functions add to it, weighted."""
    unfinished_penalty: float
    """Mean taken off the whitened reward of a response for no end token."""
    kl_penalty: float
    """Mean taken off it for its divergence: `kl_coefficient` times the sum of log p - log r, which may be negative."""
    kl_coefficient: float
    """Weight of that penalty in this rollout."""
    length_weight: float
    """At which responses were drawn back to the first rollout's length in this rollout."""
    kl: float
    """Mean KL divergence of a response from the reference, nats."""
    entropy: float
    """Mean over the tokens, nats."""
    length: float
    """Mean tokens of a response."""
    finished: float
    """Share of the responses with an end token."""
    explained_variance: float
    """Of the returns, by the value model before its update."""
    clip_share: float
    """Share of the tokens whose ratio was out of range, over all updates."""
    first_ratio: float
    """Largest |ratio - 1| before the first update: rollout and update compute the same probabilities."""
    policy_loss: float
    value_loss: float
    ptx_loss: float | None
    """On pretraining text, nats a token; None where none is read."""
    tokens: int
    """Prompts and responses of the rollout."""
    text_tokens: int | None = None
    """Of pretraining text, read by the updates; None where none is read."""


class Rollout(NamedTuple):
    """Episodes with all that the update needs; B rows."""

    said: Sequences
    log_probs_BN: "Tensor"
    values_BN: "Tensor"
    advantages_BN: "Tensor"
    """Whitened."""
    returns_BN: "Tensor"

    def rows(self, index: "Tensor") -> "Rollout":
        """Some of the episodes."""
        return Rollout(self.said.rows(index), *(part[index] for part in self[1:]))


@dataclass(kw_only=True)
class Learner:
    """Models, optimisers and scale of one run; `steps` goes through it."""

    policy: "PreTrainedModel"
    reference: Any
    """What the policy began as: a model, or the policy with its adapter off."""
    value_model: "PreTrainedModel"
    """A body with a scalar head, as `rewards.token_rewards` reads it."""
    tokenizer: "PreTrainedTokenizerBase"
    prompts: Sequence[Prompt]
    reward: RewardMixture
    settings: Ppo
    seed: int
    precision: "torch.dtype"
    text: Callable[[int], Batch] | None = None
    """Pretraining text for each update of the run, counted from 0."""
    scale: tuple[float, float] | None = None
    """Mean and deviation of the rewards of the first rollout."""
    value_scale: tuple[float, float] | None = None
    """The same of what the reward model alone gives, which a value model that starts as a copy of it knows at first."""
    first_length: float = math.nan
    """Mean tokens of a response of the first rollout."""
    good: "dict[str, Tensor]" = field(default_factory=dict)
    """Weights of the last policy that was measured to be within the limits."""
    stopped: Stop | None = None
    """The limit that was passed."""
    kept_updates: int = 0
    """Iterations that the policy has learnt from that was gone back to then."""

    def __post_init__(self) -> None:
        import torch

        self.kl_coefficient = self.settings.kl_coefficient
        longest = max(len(prompt.ids) for prompt in self.prompts) + self.settings.max_new_tokens
        for model in (self.policy, self.reference, self.value_model):
            model.eval()
            attention.use_fastest(model, device=model.device, context=longest)
        adam = partial(torch.optim.Adam, eps=1e-5, betas=(0.9, 0.95), fused=True)
        self._policy_optimizer = adam(_trained(self.policy))
        self._value_optimizer = adam(_trained(self.value_model))

    def steps(self, start: int = 0) -> Iterator[Step]:
        """Iterate from `start` (iterations done before), yielding after each.

        All that an iteration draws depends on the seed and its number only, so a run that is resumed is the same run.
        It ends early, with the last good policy, when a rollout is past a limit or a loss is not a finite number;
        `stopped` then says which.

        Raises:
            TrainingError: when a number is not finite and the last good policy is the one it began with.
        """
        settings = self.settings
        for iteration in range(start, settings.iterations):
            draw = np.random.default_rng([self.seed, iteration])
            rollout, seen = self.rollout(draw)
            if self.good and (stop := self._passed(seen)):
                self.go_back(stop, iteration - 1, seen)
                return
            self.good = training.trained_weights(self.policy)
            learnt = self.update(rollout, draw, iteration)
            if not math.isfinite(seen["kl"] + sum(learnt[name] or 0.0 for name in LOSSES)):
                self.go_back("not finite", iteration, seen | learnt)
                return
            step = Step(iteration=iteration + 1, **seen, **learnt)
            if settings.kl_target is not None:
                self.kl_coefficient = steered(
                    self.kl_coefficient,
                    step.kl,
                    target=settings.kl_target,
                    responses=settings.prompts_per_iteration,
                    horizon=settings.kl_horizon,
                )
            yield step

    def go_back(self, stop: Stop, updates: int, seen: Mapping[str, float]) -> None:
        """Take the last good policy, which has learnt from this many rollouts, and remember why.

        Raises:
            TrainingError: when it has learnt from none and what was seen since is not finite.
        """
        if stop == "not finite" and updates == 0:
            figures = {"policy loss": "policy_loss", "value loss": "value_loss", "KL": "kl", "reward": "reward"}
            told = ", ".join(f"{name} {seen[key]:.4g}" for name, key in figures.items() if key in seen)
            raise TrainingError(
                f"PPO diverged at iteration 1 ({told}), before it had learnt anything: lower ppo.learning_rate"
                f" ({self.settings.learning_rate}) or ppo.value_learning_rate ({self.settings.value_learning_rate}) in"
                " params.yaml."
            )
        training.load_weights(self.policy, self.good)
        self.stopped, self.kept_updates = stop, updates

    def _passed(self, seen: Mapping[str, float]) -> Stop | None:
        return limits.passed(
            self.settings,
            kl=seen["kl"],
            reward=seen["reward"],
            length=seen["length"],
            first_length=self.first_length,
        )

    def rollout(self, draw: np.random.Generator) -> tuple[Rollout, dict[str, Any]]:
        """Sample responses, score them, estimate advantages; with the figures of `Step` that are known by then."""
        settings = self.settings
        chosen = draw.choice(
            len(self.prompts),
            settings.prompts_per_iteration,
            replace=len(self.prompts) < settings.prompts_per_iteration,
        )
        asked = [self.prompts[row] for row in chosen.tolist()]
        with decodable(self.policy):
            responses = decoding.respond(
                self.policy,
                self.tokenizer,
                [prompt.ids for prompt in asked],
                max_new_tokens=settings.max_new_tokens,
                temperature=settings.temperature,
                batch_size=len(asked),
                seed=int(draw.integers(2**31)),
            )
        said = assembled(asked, responses, self.tokenizer.pad_token_id, self.policy.device)
        with self._autocast():
            parts = self.reward.parts([prompt.text for prompt in asked], [item.text for item in responses])
        finished = np.array([item.finished for item in responses])
        unfinished = settings.unfinished_penalty * ~finished
        if self.scale is None:
            self.scale = _mean_and_deviation(parts.total_B)
            self.value_scale = self.value_scale or _mean_and_deviation(parts.model_B)
        lengths_B = said.mask_BN.sum(dim=1).double().cpu().numpy()
        length = float(lengths_B.mean())
        if math.isnan(self.first_length):
            self.first_length = length
        length_weight = settings.length_coefficient * beyond_half(length, self.first_length, settings.max_length_change)
        astray_B = (lengths_B - length) / self.first_length * np.sign(length - self.first_length)
        scaled = (parts.total_B - self.scale[0]) / self.scale[1] - unfinished - length_weight * astray_B
        ours_BN, theirs_BN, values_BN, entropy_BN = self._look(said)
        rewards_BN = shaped_rewards(ours_BN.new_tensor(scaled), ours_BN - theirs_BN, said.mask_BN, self.kl_coefficient)
        gains_BN = advantages(
            rewards_BN, values_BN, said.mask_BN, discount=settings.discount, gae_lambda=settings.gae_lambda
        )
        returns_BN = gains_BN + values_BN
        figures = {
            "reward": float(parts.total_B.mean()),
            "reward_model": self.reward.model_weight * float(parts.model_B.mean()),
            "reward_functions": float(parts.functions_B.mean()),
            "unfinished_penalty": float(unfinished.mean()),
            "kl_penalty": self.kl_coefficient * float((ours_BN - theirs_BN).sum(dim=1).mean()),
            "kl_coefficient": self.kl_coefficient,
            "length_weight": length_weight,
            "kl": float(sequence_kl(ours_BN, theirs_BN, said.mask_BN).mean()),
            "entropy": float(masked_mean(entropy_BN, said.mask_BN)),
            "length": length,
            "finished": float(finished.mean()),
            "explained_variance": explained_variance(values_BN, returns_BN, said.mask_BN),
            "tokens": int(said.starts_B.sum() + said.mask_BN.sum()),
        }
        return Rollout(said, ours_BN, values_BN, whitened(gains_BN, said.mask_BN), returns_BN), figures

    def update(self, rollout: Rollout, draw: np.random.Generator, iteration: int) -> dict[str, Any]:
        """Several passes over the rollout in random minibatches, at learning rates that fall linearly to 0.

        A minibatch is read in microbatches, each weighted by its share of the minibatch's tokens: the gradient is that
        of the minibatch as a whole, however it is cut.
        """
        import torch

        settings = self.settings
        rate = 1 - iteration / settings.iterations
        sums = dict.fromkeys(("clip_share", *LOSSES), 0.0)
        first_ratio, num_updates, text_tokens = None, 0, 0
        whole = len(rollout.said.mask_BN)
        updates = settings.epochs * math.ceil(whole / settings.minibatch_size)
        for _ in range(settings.epochs):
            for rows_b in _cut(torch.from_numpy(draw.permutation(whole)), settings.minibatch_size):
                tokens = rollout.said.mask_BN[rows_b].sum()
                for part_b in _cut(rows_b, self._microbatch):
                    part = rollout.rows(part_b)
                    share = part.said.mask_BN.sum() / tokens
                    losses, ratio_BN = self._losses(part)
                    for loss in losses.values():
                        (share * loss).backward()  # type: ignore[no-untyped-call]
                    off_BN = (ratio_BN - 1).abs() * part.said.mask_BN
                    outside = masked_mean((off_BN > settings.clip).float(), part.said.mask_BN)
                    first_ratio = max(first_ratio or 0.0, float(off_BN.max())) if num_updates == 0 else first_ratio
                    for name, figure in ({"clip_share": outside} | losses).items():
                        sums[name] += float(share * figure.detach())
                if self.text is not None:
                    text = self.text(iteration * updates + num_updates)
                    sums["ptx_loss"] += self._remember(text)
                    text_tokens += text.inputs_BT.numel()
                self._descend(self._policy_optimizer, rate * settings.learning_rate)
                self._descend(self._value_optimizer, rate * settings.value_learning_rate)
                num_updates += 1
        means = {name: total / num_updates for name, total in sums.items()}
        of_text = {"ptx_loss": means["ptx_loss"], "text_tokens": text_tokens} if self.text else {"ptx_loss": None}
        return means | {"first_ratio": first_ratio or 0.0} | of_text

    def _losses(self, part: Rollout) -> "tuple[dict[str, Tensor], Tensor]":
        """Losses of the policy and the value model, and the ratio rho of each token (B, N), without gradient."""
        settings = self.settings
        said, old_BN, old_values_BN, gains_BN, returns_BN = part
        with self._autocast():
            log_probs_BN = token_log_probs(self.policy, said, settings.temperature)
            values_BN = self._values(said)
        ratio_BN = (log_probs_BN - old_BN).exp()
        return {
            "policy_loss": policy_loss(ratio_BN, gains_BN, said.mask_BN, settings.clip),
            "value_loss": value_loss(values_BN, old_values_BN, returns_BN, said.mask_BN, settings.value_clip),
        }, ratio_BN.detach()

    def _remember(self, text: Batch) -> float:
        """Add the gradient of the loss on pretraining text to the policy's; return that loss, before its weight."""
        loss, rows = 0.0, len(text.inputs_BT)
        for start in range(0, rows, self._microbatch):
            part = text.rows(slice(start, start + self._microbatch))
            here = training.next_token_loss(self.policy, part, device=self.policy.device, precision=self.precision)
            here = here * (len(part.inputs_BT) / rows)
            (self.settings.ptx_coefficient * here).backward()  # type: ignore[no-untyped-call]
            loss += float(here.detach())
        return loss

    def _descend(self, optimizer: "torch.optim.Optimizer", rate: float) -> None:
        import torch

        group = optimizer.param_groups[0]
        group["lr"] = rate
        torch.nn.utils.clip_grad_norm_(group["params"], self.settings.gradient_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _look(self, said: Sequences) -> "list[Tensor]":
        """Log-probabilities by policy and reference, values, entropies; all (B, N), microbatch by microbatch."""
        import torch

        parts: list[tuple[Tensor, ...]] = []
        with torch.no_grad(), self._autocast():
            for rows_b in _cut(torch.arange(len(said.mask_BN)), self._microbatch):
                part = said.rows(rows_b)
                ours_bN, entropy_bN = log_probs_and_entropies(self.policy, part, self.settings.temperature)
                theirs_bN = token_log_probs(self.reference, part, self.settings.temperature)
                parts.append((ours_bN, theirs_bN, self._values(part), entropy_bN))
        return [torch.cat(column) for column in zip(*parts, strict=True)]

    @property
    def _microbatch(self) -> int:
        return min(self.settings.microbatch_size or self.settings.minibatch_size, self.settings.minibatch_size)

    def _values(self, said: Sequences) -> "Tensor":
        mean, deviation = self.value_scale or (0.0, 1.0)
        return (token_values(self.value_model, said) - mean) / deviation * said.mask_BN

    def _autocast(self) -> "torch.autocast":
        import torch

        return torch.autocast(self.policy.device.type, dtype=self.precision, enabled=self.precision != torch.float32)

    @property
    def state_bytes(self) -> int:
        """Bytes of a checkpoint: trained weights and their two moments of both models, the last good policy."""
        counts = [sum(weight.numel() for weight in _trained(model)) for model in (self.policy, self.value_model)]
        return 4 * (4 * counts[0] + 3 * counts[1])

    @property
    def policy_bytes(self) -> int:
        """Bytes of the policy's trained weights."""
        return 4 * sum(weight.numel() for weight in _trained(self.policy))

    def state(self) -> "tuple[dict[str, Tensor], dict[str, Any]]":
        """All that the next iteration depends on besides its number, as tensors and plain values."""
        tensors = {
            f"{name}.{key}": tensor
            for name, part in (
                ("policy", training.state_of(self.policy, self._policy_optimizer)),
                ("value", training.state_of(self.value_model, self._value_optimizer)),
                ("good", self.good),
            )
            for key, tensor in part.items()
        }
        return tensors, {
            "scale": self.scale,
            "value_scale": self.value_scale,
            "first_length": self.first_length,
            "kl_coefficient": self.kl_coefficient,
        }

    def restore(self, tensors: "Mapping[str, Tensor]", values: Mapping[str, Any]) -> None:
        """Put back what `state` took."""
        training.load_state(self.policy, self._policy_optimizer, training.part(tensors, "policy"))
        training.load_state(self.value_model, self._value_optimizer, training.part(tensors, "value"))
        self.good = training.part(tensors, "good")
        self.scale, self.value_scale = tuple(values["scale"]), tuple(values["value_scale"])
        self.first_length, self.kl_coefficient = values["first_length"], values["kl_coefficient"]


def _cut(rows_B: "Tensor", size: int) -> "Iterator[Tensor]":
    for start in range(0, len(rows_B), size):
        yield rows_B[start : start + size]


def _trained(model: "PreTrainedModel") -> "list[Tensor]":
    return [weight for weight in model.parameters() if weight.requires_grad]


def _mean_and_deviation(x_B: "NDArray[np.float64]") -> tuple[float, float]:
    """The deviation is 1 where all are the same."""
    return float(x_B.mean()), float(x_B.std()) or 1.0
