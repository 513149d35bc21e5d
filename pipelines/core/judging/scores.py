"""Scores of answers against references.

Exact match and token F1 normalise as SQuAD does (Rajpurkar et al. 2016, arXiv:1606.05250): lower case, no
punctuation, no articles, single spaces. ROUGE-L (Lin 2004) is the F-measure over the longest common subsequence of
words. Where a record has several accepted answers, the best counts.
"""

import hashlib
import re
import statistics
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

Item = TypeVar("Item", bound=Mapping[str, Any])

_PUNCTUATION = str.maketrans("", "", string.punctuation + "\u2018\u2019\u201c\u201d\u2026\u2013\u2014")
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalised(text: str) -> str:
    """Lower case, without punctuation and English articles, single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, references: Sequence[str]) -> float:
    """1 when the normalised answer is one of the normalised references, otherwise 0."""
    said = normalised(answer)
    return float(any(said == normalised(reference) for reference in references))


def token_f1(answer: str, references: Sequence[str]) -> float:
    """Harmonic mean of the precision and recall of normalised words, best over the references."""
    return max(
        (_f1(normalised(answer).split(), normalised(reference).split()) for reference in references), default=0.0
    )


def _f1(answer: list[str], reference: list[str]) -> float:
    if not answer or not reference:
        return float(answer == reference)
    common = sum((Counter(answer) & Counter(reference)).values())
    return 2 * common / (len(answer) + len(reference))


def rouge_l(answer: str, references: Sequence[str]) -> float:
    """ROUGE-L F-measure over lower-case alphanumeric words, best over the references."""
    return float(_rouge().score_multi(references, answer)["rougeL"].fmeasure) if references else 0.0


@cache
def _rouge() -> Any:
    from rouge_score import rouge_scorer

    return rouge_scorer.RougeScorer(["rougeL"])


def references(record: Mapping[str, Any]) -> list[str]:
    """The accepted answers of an instruction record."""
    return [record["completion"], *(record.get("references") or [])]


SHORT_ANSWER_WORDS = 4
"""A task whose median reference has at most this many words is scored by exact match, others by ROUGE-L."""


def short_answer_tasks(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Tasks whose median completion has at most `SHORT_ANSWER_WORDS` words, sorted."""
    words: dict[str, list[int]] = {}
    for record in records:
        words.setdefault(record["task"], []).append(len(record["completion"].split()))
    return sorted(task for task, counts in words.items() if statistics.median(counts) <= SHORT_ANSWER_WORDS)


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
