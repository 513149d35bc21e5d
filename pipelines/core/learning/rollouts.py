"""Responses of a policy as tensors, and what policy, reference and value model say about each of their tokens.

Sequences are prompt and response without a gap, padded on the right: attention is causal, so no token that counts ever
sees padding, and no mask is needed. Positions n of the response are aligned over the batch.

Shapes: B responses in a batch, T tokens of the longest prompt with response, N tokens of the longest response,
K tokens of all responses, V entries of the vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pipelines.core.learning import attention, decoding, rewards, side_by_side
from pipelines.core.learning.padding import right_padded

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Score = Callable[[Sequence[str], Sequence[str]], Sequence[float]]
"""Rewards of responses to prompts, both as text."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What a response is asked for."""

    text: str
    """All that the user says."""
    ids: list[int]
    """The same in the chat template, up to where the answer begins."""


class Sequences(NamedTuple):
    """Prompts with responses as token ids."""

    ids_BT: "Tensor"
    starts_B: "Tensor"
    """Tokens of the prompt, hence where the response begins."""
    mask_BN: "Tensor"
    """1 for tokens of the response, the end token included."""

    def rows(self, index: "Tensor") -> "Sequences":
        """Some of the rows, without the columns that are padding in all of them."""
        starts_B, mask_BN = self.starts_B[index], self.mask_BN[index]
        part = Sequences(self.ids_BT[index], starts_B, mask_BN)
        return part._replace(ids_BT=part.ids_BT[:, : int(part.lengths().max())])

    def lengths(self) -> "Tensor":
        """Tokens of prompt and response together, (B)."""
        return self.starts_B + self.mask_BN.sum(dim=1).long()

    def spread(self, x_K: "Tensor", rows_K: "Tensor", steps_K: "Tensor") -> "Tensor":
        """What was found for each token of the responses, as (B, N); 0 where there is none."""
        x_BN = x_K.new_zeros(self.mask_BN.shape)
        return x_BN.index_put((rows_K, steps_K), x_K)


@contextmanager
def decodable(model: "PreTrainedModel") -> Iterator[None]:
    """Let a model decode whose attention is the fast one for training, and set that back afterwards."""
    fastest = attention.is_fastest(model)
    if fastest:
        model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        if fastest:
            model.set_attn_implementation(attention.NAME)


def assembled(
    prompts: Sequence[Prompt], responses: Sequence[decoding.Response], pad: int, device: "torch.device"
) -> Sequences:
    """Prompts and responses side by side."""
    import torch

    ids_BT, _ = right_padded(
        [[*prompt.ids, *said.tokens] for prompt, said in zip(prompts, responses, strict=True)], pad
    )
    lengths_B = torch.tensor([len(said.tokens) for said in responses])
    mask_BN = (torch.arange(int(lengths_B.max())) < lengths_B[:, None]).float()
    starts_B = torch.tensor([len(prompt.ids) for prompt in prompts])
    return Sequences(ids_BT.to(device), starts_B.to(device), mask_BN.to(device))


def token_log_probs(model: "PreTrainedModel", said: Sequences, temperature: float) -> "Tensor":
    """Log-probability of each token of the responses, (B, N), in nats.

    The logits are divided by the temperature that the responses were sampled with: these are the probabilities of the
    policy that acted.
    """
    places = _places(said)
    logits_KV = _logits(model, said, temperature, *places)
    return said.spread(_log_probs(logits_KV, said, *places), *places)


def log_probs_and_entropies(model: "PreTrainedModel", said: Sequences, temperature: float) -> "tuple[Tensor, Tensor]":
    """The same, with the entropy of the distribution that each token was drawn from, both (B, N)."""
    places = _places(said)
    logits_KV = _logits(model, said, temperature, *places)
    log_chances_KV = logits_KV.log_softmax(dim=-1)
    entropy_K = -(log_chances_KV.exp() * log_chances_KV).sum(dim=-1)
    return said.spread(_log_probs(logits_KV, said, *places), *places), said.spread(entropy_K, *places)


def _places(said: Sequences) -> "tuple[Tensor, Tensor]":
    """Row and step of each of the K tokens of the responses."""
    rows_K, steps_K = said.mask_BN.nonzero(as_tuple=True)
    return rows_K, steps_K


def _logits(
    model: "PreTrainedModel", said: Sequences, temperature: float, rows_K: "Tensor", steps_K: "Tensor"
) -> "Tensor":
    """Logits (K, V) from which each token of the responses was drawn; no others are computed where that can be."""
    import torch
    from transformers import PreTrainedModel

    columns_K = said.starts_B[rows_K] - 1 + steps_K
    if attention.is_fastest(model):
        laid = side_by_side.laid_out(said.ids_BT, said.lengths() - 1)
        places_K = laid.places(rows_K, columns_K)
        if isinstance(model, PreTrainedModel):
            found_KV = model.get_output_embeddings()(side_by_side.hidden(model, laid, places_K))
        else:  # what only can be called, as a model with its adapter off
            found_KV = model(**laid.inputs, use_cache=False, logits_to_keep=places_K).logits[0]
    else:
        first = int(said.starts_B.min()) - 1
        kept = torch.arange(first, said.ids_BT.shape[1] - 1, device=said.ids_BT.device)
        logits_BWV = model(input_ids=said.ids_BT, use_cache=False, logits_to_keep=kept).logits
        if logits_BWV.shape[1] != len(kept):  # some models know no `logits_to_keep`
            logits_BWV = logits_BWV[:, first:-1]
        found_KV = logits_BWV[rows_K, columns_K - first]
    logits_KV: Tensor = found_KV.float()
    return logits_KV if temperature == 1 else logits_KV / temperature


def _log_probs(logits_KV: "Tensor", said: Sequences, rows_K: "Tensor", steps_K: "Tensor") -> "Tensor":
    from torch.nn import functional

    return -functional.cross_entropy(logits_KV, said.ids_BT[rows_K, said.starts_B[rows_K] + steps_K], reduction="none")


def token_values(model: "PreTrainedModel", said: Sequences) -> "Tensor":
    """What the value model expects before each token of the responses, (B, N)."""
    rows_K, steps_K = _places(said)
    columns_K = said.starts_B[rows_K] - 1 + steps_K
    if attention.is_fastest(model):
        laid = side_by_side.laid_out(said.ids_BT, said.lengths() - 1)
        values_K = rewards.headed(model, side_by_side.hidden(model, laid, laid.places(rows_K, columns_K)))
    else:
        values_K = rewards.token_rewards(model, input_ids=said.ids_BT)[rows_K, columns_K]
    return said.spread(values_K, rows_K, steps_K)


def sequence_kl(log_probs_BN: "Tensor", reference_BN: "Tensor", mask_BN: "Tensor") -> "Tensor":
    """KL divergence of the policy from the reference for each response (B), in nats, estimated on its own tokens.

    The estimator k3 = exp(-d) - 1 + d with d = log policy - log reference is unbiased and never negative; what rounding
    leaves below zero is cut off.
    Source: Schulman 2020, Approximating KL divergence, http://joschu.net/blog/kl-approx.html
    """
    log_ratio_BN = (log_probs_BN - reference_BN) * mask_BN
    return ((-log_ratio_BN).exp() - 1 + log_ratio_BN).sum(dim=1).clamp(min=0)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a policy does on a set of prompts; lists have one entry a prompt."""

    texts: list[str]
    rewards: list[float]
    lengths: list[int]
    """In tokens, the end token included."""
    finished: list[bool]
    kl: list[float]
    """From the reference, in nats."""


def measure(
    policy: "PreTrainedModel",
    reference: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[Prompt],
    score: Score,
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    batch_size: int = 64,
) -> Measured:
    """Sample one response to each prompt; with equal prompts and seed two policies are compared like with like."""
    import torch

    with decodable(policy):
        responses = decoding.respond(
            policy,
            tokenizer,
            [prompt.ids for prompt in prompts],
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            batch_size=batch_size,
            seed=seed,
        )
    texts = [response.text for response in responses]
    kl: list[float] = []
    with torch.inference_mode():
        for start in range(0, len(prompts), batch_size):
            part = slice(start, start + batch_size)
            said = assembled(prompts[part], responses[part], tokenizer.pad_token_id, policy.device)
            ours_BN = token_log_probs(policy, said, temperature)
            theirs_BN = token_log_probs(reference, said, temperature)
            kl += sequence_kl(ours_BN, theirs_BN, said.mask_BN).tolist()
    return Measured(
        texts=texts,
        rewards=list(score([prompt.text for prompt in prompts], texts)),
        lengths=[len(response.tokens) for response in responses],
        finished=[response.finished for response in responses],
        kl=kl,
    )
