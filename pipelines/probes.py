"""What reports do not hold: short looks at pairs and models, for `moteur diagnose`.

    python -m pipelines.probes FILE

writes them as JSON. Each takes seconds; one that cannot be made says why and leaves the others alone. It is no stage:
it makes no artifact.
"""

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pipelines import reward_modeling, stage
from pipelines.adapters import datasets, device, files, models, quiet
from pipelines.artifacts import Artifact
from pipelines.core.judging import examination, scores
from pipelines.core.learning import decoding, preferences, rewards
from pipelines.core.text import chat, prompts
from pipelines.errors import DataError, HeadMissing
from pipelines.params import Params

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NUM_RECORDS = 48
"""Held-out instructions whose likelihood is measured."""

Figures = dict[str, Any]
Record = Mapping[str, Any]


def main(params: Params) -> dict[str, Figures]:
    """Every probe -> its figures, or `error`."""
    device.prepare(params.seed, params.threads)
    each: dict[str, Callable[[Params], Figures]] = {
        "pairs": lambda _params: pairs(_preferences("train", "valid")),
        "template": template,
        "reward": reward,
        "answers": answers,
    }
    return {name: _tried(probe, params) for name, probe in each.items()}


def _tried(probe: Callable[[Params], Figures], params: Params) -> Figures:
    try:
        figures = probe(params)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    if undefined := sorted(name for name, value in figures.items() if value != value or value in (math.inf, -math.inf)):
        return {"error": f"not a finite number: {', '.join(undefined)}"}
    return figures


def _preferences(*splits: datasets.Split) -> list[dict[str, Any]]:
    return [row for split in splits for row in datasets.records(Artifact.PREFERENCES.path, "preferences", split)]


def pairs(records: Sequence[Record]) -> Figures:
    """What labels agree with: the gold order, each other, length in characters."""
    gold = [_order(row["gold_chosen"], row["gold_rejected"]) for row in records if row.get("gold_chosen") is not None]
    shared = list(_shared(records))
    return {
        "num_pairs": len(records),
        "longer_chosen": _mean(_order(len(row["chosen"]), len(row["rejected"])) for row in records),
        "num_gold": len(gold),
        "gold_agreement": _mean(gold),
        "num_shared": len(shared),
        "annotator_agreement": _mean(shared),
    }


def _order(chosen: float, rejected: float) -> float:
    return 0.5 + 0.5 * ((chosen > rejected) - (chosen < rejected))


def _mean(values: Iterable[float]) -> float | None:
    kept = list(values)
    return fmean(kept) if kept else None


def _shared(records: Sequence[Record]) -> Iterable[float]:
    """1 for each two annotators who order the same two responses alike, 0 where they do not."""
    seen: dict[tuple[str, frozenset[str]], list[tuple[str, str]]] = {}
    for row in records:
        votes = seen.setdefault((row["prompt"], frozenset((row["chosen"], row["rejected"]))), [])
        mine = str(row.get("annotator") or row.get("source"))
        yield from (float(row["chosen"] == chosen) for annotator, chosen in votes if annotator != mine)
        votes.append((mine, row["chosen"]))


def template(_params: Params) -> Figures:
    """Nats a token of held-out answers after prompts in the model's own template, in changed ones, and by the base."""
    tokenizer = models.load_tokenizer(Artifact.SFT.path)
    records = scores.drawn(
        list(datasets.records(Artifact.VALIDATED.path, "instructions", "valid")),
        NUM_RECORDS,
    )
    if not records:
        raise DataError(f"{Artifact.VALIDATED} has no held-out instruction (split valid).")
    own, *others = framings(tokenizer, records)
    model, base = models.load_causal(Artifact.SFT.path), models.load_causal(Artifact.BASE.path)
    room = min(decoding.longest(model), decoding.longest(base)) - 1
    completions = [
        tokenizer.encode(chat.LEAD + row["completion"] + tokenizer.eos_token, add_special_tokens=False)[:room]
        for row in records
    ]
    costs = {name: nats(model, asked, completions) for name, asked in others}
    best = min(costs, key=lambda name: costs[name])
    entries = base.get_input_embeddings().weight.shape[0]
    known = [asked for asked in (own[1], dict(others)["plain text"]) if max(map(max, asked)) < entries]
    return {
        "own_nats": nats(model, own[1], completions),
        "best_other": best,
        "best_other_nats": costs[best],
        "base_nats": min(nats(base, asked, completions) for asked in known),
        "num_records": len(records),
    }


Framing = tuple[str, list[list[int]]]
"""Name, and the token ids of each record's prompt."""


def framings(tokenizer: "PreTrainedTokenizerBase", records: Sequence[Record]) -> list[Framing]:
    """The prompts in the tokenizer's own template first, then in changed ones that differ from it."""
    own = [decoding.chat_ids(tokenizer, prompts.single_turn(row)[:1]) for row in records]
    said = [prompts.user_text(row.get("context", ""), row["prompt"]) for row in records]

    def encoded(write: Callable[[str], str]) -> list[list[int]]:
        return [tokenizer.encode(write(text), add_special_tokens=False) for text in said]

    changed = {
        "plain text": encoded(lambda text: f"{text}\n\n"),
        "headings": encoded(lambda text: f"### Instruction:\n{text}\n\n### Response:\n"),
        "turns of the pipeline": encoded(lambda text: f"{chat.USER}{chat.LEAD}{text}{chat.ASSISTANT}"),
        "no assistant's token": [ids[:-1] for ids in own],
        "end token before the answer": [[*ids[:-1], tokenizer.eos_token_id, ids[-1]] for ids in own],
    }
    return [("own", own), *((name, ids) for name, ids in changed.items() if ids != own)]


def nats(model: "PreTrainedModel", asked: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]) -> float:
    """Mean negative log-likelihood of a token of the completions, each after its prompt (token ids)."""
    import torch

    total = 0.0
    room = decoding.longest(model)
    with torch.inference_mode():
        for prompt, completion in zip(asked, completions, strict=True):
            ids_1T = torch.tensor([[*prompt, *completion][-room:]])
            chances_NV = model(input_ids=ids_1T).logits[0, -len(completion) - 1 : -1].float().log_softmax(-1)
            total -= chances_NV.gather(1, ids_1T[0, -len(completion) :, None]).sum().item()
    return total / sum(map(len, completions))


def reward(params: Params) -> Figures:
    """The reward folder as PPO loads it: its head, its accuracy on held-out pairs, what its margins follow."""
    try:
        model = models.load_reward(Artifact.REWARD.path)
    except HeadMissing:
        return {"head_spread": 0.0}
    tokenizer = models.load_tokenizer(Artifact.REWARD.path)
    groups = preferences.grouped(_preferences("valid"))
    fitting = [rewards.comparison(tokenizer, group).within(params.reward_modeling.max_length) for group in groups]
    judged = reward_modeling.judged(model, [one for one in fitting if one.records])
    longer = [float(pair.chosen_tokens - pair.rejected_tokens) for pair in judged]
    return {
        "head_spread": max(weight.detach().std(correction=0).item() for weight in _head(model)),
        "num_pairs": len(judged),
        "accuracy": _mean(pair.correct for pair in judged),
        "reward_length": cosine([pair.margin for pair in judged], longer),
        "label_length": cosine([1.0] * len(judged), longer),
    }


def _head(model: "PreTrainedModel") -> "list[Tensor]":
    """The weights on top of the body, whatever their names."""
    body = {id(weight) for weight in model.base_model.parameters()}
    return [weight for weight in model.parameters() if id(weight) not in body]


def cosine(left: Sequence[float], right: Sequence[float]) -> float:
    """Correlation of differences: exchanging the two responses of a pair changes both signs and not the figure."""
    size = math.sqrt(sum(x * x for x in left) * sum(y * y for y in right))
    return sum(x * y for x, y in zip(left, right, strict=True)) / size if size else 0.0


def answers(params: Params) -> Figures:
    """The instruction model's short answers to the very records that evaluation asks, in its own template."""
    settings = params.evaluation
    model, tokenizer = models.load_causal(Artifact.SFT.path), models.load_tokenizer(Artifact.SFT.path)
    records = list(datasets.records(Artifact.VALIDATED.path, "instructions", "test"))
    room = decoding.longest(model) - settings.max_new_tokens
    asked = examination.questions(tokenizer, records, room).some(settings.examples_per_task).short
    said = decoding.answers(model, tokenizer, asked, max_new_tokens=settings.max_new_tokens)
    exact = scores.score_all(scores.exact_match, asked, said)
    return {"num_records": len(asked), "exact_match": scores.mean(exact) if exact else None}


if __name__ == "__main__":
    quiet.settle()
    files.write_json(Path(sys.argv[1]), main(stage.load_params()))
