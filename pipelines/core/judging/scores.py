"""Scores of answers against references.

Exact match and token F1 normalise as SQuAD does (Rajpurkar et al. 2016, arXiv:1606.05250): lower case, no
punctuation, no articles, single spaces; signs and points of numbers stay. ROUGE-L (Lin 2004) is the F-measure over the
longest common subsequence of words, in any script. Where a record has several accepted answers, the best counts.
"""

import hashlib
import re
import statistics
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any, TypeVar

from pipelines.core.text import words

Item = TypeVar("Item", bound=Mapping[str, Any])

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_OF_A_NUMBER = re.compile(r"[.,+-](?=\d)")
_DASHES = dict.fromkeys([*range(0x2010, 0x2016), 0x2212], "-")
"""Hyphens, dashes and the minus, which are all one sign before a digit."""


def normalised(text: str) -> str:
    """Lower case, without punctuation and English articles, single spaces.

    A point, a comma or a sign before a digit is no punctuation: -5 is not 5, and 3.5 is not 35.
    """
    return " ".join(_ARTICLES.sub(" ", _unpunctuated(text)).split())


def _unpunctuated(text: str) -> str:
    text = text.lower().translate(_DASHES)
    kept = {match.start() for match in _OF_A_NUMBER.finditer(text)}
    bare = "".join(character for place, character in enumerate(text) if place in kept or not _is_punctuation(character))
    return " ".join(bare.split())


def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _comparable(answer: str, reference: str) -> tuple[str, str]:
    """Both without what does not matter, unless nothing of the reference is left then: "A" or "+" can be the answer."""
    for without in (normalised, _unpunctuated):
        if wanted := without(reference):
            return without(answer), wanted
    return _plain(answer), _plain(reference)


def exact_match(answer: str, references: Sequence[str]) -> float:
    """1 when the normalised answer is one of the normalised references, otherwise 0."""
    pairs = (_comparable(answer, reference) for reference in references)
    return float(any(said == wanted for said, wanted in pairs))


def token_f1(answer: str, references: Sequence[str]) -> float:
    """Harmonic mean of the precision and recall of normalised words, best over the references."""
    pairs = (_comparable(answer, reference) for reference in references)
    return max((_f1(said.split(), wanted.split()) for said, wanted in pairs), default=0.0)


def _f1(answer: list[str], reference: list[str]) -> float:
    if not answer or not reference:
        return float(answer == reference)
    common = sum((Counter(answer) & Counter(reference)).values())
    return 2 * common / (len(answer) + len(reference))


def rouge_l(answer: str, references: Sequence[str]) -> float:
    """ROUGE-L F-measure over the words of core.text.words, best over the references."""
    return float(_rouge().score_multi(references, answer)["rougeL"].fmeasure) if references else 0.0


@cache
def _rouge() -> Any:
    from rouge_score import rouge_scorer

    return rouge_scorer.RougeScorer(["rougeL"], tokenizer=SimpleNamespace(tokenize=words.spoken))


def references(record: Mapping[str, Any]) -> list[str]:
    """The accepted answers of an instruction record."""
    return [record["completion"], *(record.get("references") or [])]


SHORT_ANSWER_WORDS = 4
"""A task whose median reference has at most this many words is scored by exact match, others by ROUGE-L."""


def short_answer_tasks(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Tasks whose median completion has at most `SHORT_ANSWER_WORDS` words, sorted."""
    lengths: dict[str, list[int]] = {}
    for record in records:
        lengths.setdefault(record["task"], []).append(len(words.spoken(record["completion"])))
    return sorted(task for task, counts in lengths.items() if statistics.median(counts) <= SHORT_ANSWER_WORDS)


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def mean_by(keys: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    """Mean of the values under each key, by sorted key."""
    grouped: dict[str, list[float]] = {}
    for key, value in zip(keys, values, strict=True):
        grouped.setdefault(key, []).append(value)
    return {key: mean(grouped[key]) for key in sorted(grouped)}


def score_all(
    score: Callable[[str, Sequence[str]], float], records: Sequence[Mapping[str, Any]], answers: Sequence[str]
) -> list[float]:
    """The score of each answer to its record."""
    return [score(answer, references(record)) for record, answer in zip(records, answers, strict=True)]


def drawn(records: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of the records, drawn by a hash of their ids, in their order: the same ones in every stage."""
    ranked = sorted(range(len(records)), key=lambda row: hashlib.blake2b(str(records[row]["id"]).encode()).digest())
    return [records[row] for row in sorted(ranked[:count])]
