"""The gate: may this release go live? Rules, figures, limits, and a verdict in words.

Everything that is not there, not finite or not as it was recorded is a fail. Three groups of rules, and all must pass:
`lineage` (is it what was made and recorded), `quality` (is it good, and not worse than the champion on the same
examples), `service` (does it load and answer in time). Without a champion the comparisons are left out and the verdict
says `bootstrap`.

Non-inferiority: the challenger passes when, with the confidence in params, its mean is above the champion's less the
margin (one-sided, paired bootstrap by text; Efron and Tibshirani 1993, chapter 16). The burden of proof is on the
challenger. For single tasks, which have few examples each, it is the other way round: a task fails when its score fell
by more than the margin and the fall is significant after Bonferroni's correction over the tasks.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from pipelines.core.judging import comparison
from pipelines.core.judging.rules import Bounds, Rule, limit, number, rules_of_reward_model, said
from pipelines.core.judging.scores import mean
from pipelines.params import Floor, Infra, Promotion

Figures = Mapping[str, Mapping[str, Any]]
"""Stage -> field of its report -> value."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One instruction of the exam, without its text."""

    id: str
    task: str
    text: str
    """Names the text it is about: questions about one text depend on each other."""


@dataclass(frozen=True, kw_only=True)
class Exam:
    """What is asked: of champion and challenger the same."""

    sha256: str
    questions: Sequence[Question]
    documents: Mapping[str, int]
    """Id of a held-out document -> its UTF-8 bytes."""

    @property
    def tasks(self) -> dict[str, int]:
        """Task -> number of its questions, sorted."""
        return dict(sorted(Counter(question.task for question in self.questions).items()))


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What one release reached in an exam, example by example."""

    manifest_sha256: str
    """Of the files that were really examined."""
    scores: Mapping[str, float]
    """Id of a question -> exact match or ROUGE-L, in [0, 1]."""
    nats: Mapping[str, float]
    """Id of a document -> negative log-likelihood."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """How the release behaved as a program."""

    load_seconds: float
    request_seconds: Sequence[float]
    peak_memory_mib: float
    num_empty: int
    """Answers with no text."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Everything the gate knows about the challenger."""

    version: int
    manifest_sha256: str
    """As it was registered."""
    figures: Figures
    marks: Marks | None
    """None: it could not be examined."""
    service: Service | None
    faults: Sequence[str] = ()
    """What is wrong with its files, data and records, a sentence each."""


@dataclass(frozen=True, kw_only=True)
class Champion:
    """What the challenger is held against."""

    version: int
    manifest_sha256: str
    marks: Marks | None
    """In the challenger's exam."""
    exam_tasks: Mapping[str, int] = field(default_factory=dict)
    """Of the exam with which it came in itself."""
    exam_documents: int = 0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome, complete enough to be read in a year."""

    challenger: int
    champion: int | None
    kind: Literal["comparison", "bootstrap"]
    passed: bool
    words: str
    manifest_sha256: str
    exam_sha256: str
    exam_tasks: dict[str, int]
    exam_documents: int
    rules: tuple[Rule, ...]

    @property
    def failed(self) -> tuple[Rule, ...]:
        """The rules that were not met."""
        return tuple(rule for rule in self.rules if not rule.passed)

    def document(self) -> dict[str, Any]:
        """The verdict as JSON-able values, with `sha256` over all the others."""
        values: dict[str, Any] = {"format": 1, **asdict(self), "rules": [asdict(rule) for rule in self.rules]}
        return {**values, "sha256": digest(values)}


def digest(values: Mapping[str, Any]) -> str:
    """SHA-256 of a verdict's values, `sha256` itself left out, as compact JSON with sorted keys."""
    rest = {name: value for name, value in values.items() if name != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def judge(candidate: Candidate, champion: Champion | None, exam: Exam, settings: Promotion, *, seed: int) -> Verdict:
    """Hold a release against every rule; see the head of this module."""
    rules = [
        *_lineage(candidate),
        *_exam(exam, champion, settings),
        *_floors(candidate, exam, settings.floors),
        *rules_of_reward_model(candidate.figures.get("reward_modeling", {}), settings.reward_model),
        *(_comparisons(candidate, champion, exam, settings, seed) if champion else []),
        *_service(candidate.service, settings.infra),
    ]
    failed = [rule for rule in rules if not rule.passed]
    return Verdict(
        challenger=candidate.version,
        champion=champion.version if champion else None,
        kind="comparison" if champion else "bootstrap",
        passed=not failed,
        words=_sentence(candidate, champion, len(rules), failed),
        manifest_sha256=candidate.manifest_sha256,
        exam_sha256=exam.sha256,
        exam_tasks=exam.tasks,
        exam_documents=len(exam.documents),
        rules=tuple(rules),
    )


def _sentence(candidate: Candidate, champion: Champion | None, total: int, failed: Sequence[Rule]) -> str:
    beside = f"beside champion {champion.version}" if champion else "as the first, with no champion to compare"
    if not failed:
        return f"Version {candidate.version} passed all {total} rules, {beside}."
    reasons = "; ".join(rule.words for rule in failed[:3])
    more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
    return f"Version {candidate.version} failed {len(failed)} of {total} rules, {beside}: {reasons}{more}."


def _lineage(candidate: Candidate) -> Iterable[Rule]:
    yield Rule(
        group="lineage",
        name="files and records",
        figure=float(len(candidate.faults)),
        limit="no fault",
        passed=not candidate.faults,
        words="; ".join(candidate.faults) or "files, data and history are as they were recorded",
    )
    examined = candidate.marks.manifest_sha256 if candidate.marks else None
    yield _same_release("challenger", examined, candidate.manifest_sha256)
    checks = candidate.figures.get("data_validation", {})
    met, total = number(checks.get("expectations_met")), number(checks.get("expectations_total"))
    yield Rule(
        group="lineage",
        name="data contract",
        figure=met,
        limit=f"all {total:g} expectations" if total is not None else "all expectations",
        passed=met is not None and total is not None and met == total > 0,
        words=f"{said(met)} of {said(total)} expectations about the data were met",
    )


def _same_release(whose: str, examined: str | None, registered: str) -> Rule:
    same = examined == registered and bool(registered)
    return Rule(
        group="lineage",
        name=f"{whose} is the registered one",
        figure=examined,
        limit=registered,
        passed=same,
        words=f"the {whose} that was examined is the one that was registered"
        if same
        else f"the {whose} that was examined has manifest sha256 {_short(examined)}, not {_short(registered)}",
    )


def _exam(exam: Exam, champion: Champion | None, settings: Promotion) -> Iterable[Rule]:
    count, floor = len(exam.questions), settings.min_examples
    yield limit("quality", "size of the exam", count, "instructions in the exam", Bounds(low=floor))
    yield limit("quality", "documents of the exam", len(exam.documents), "documents in the exam", Bounds(low=2))
    if champion is None:
        return
    share = settings.min_share_of_last_exam
    before = sum(champion.exam_tasks.values())
    for name, now, then in (
        ("instructions", count, before),
        ("documents", len(exam.documents), champion.exam_documents),
    ):
        yield Rule(
            group="quality",
            name=f"{name} beside the champion's exam",
            figure=float(now),
            limit=f"at least {share:g} of {then:,}",
            passed=now >= share * then and then > 0,
            words=f"{now:,} {name} in the exam, {then:,} in the one of champion {champion.version}"
            + ("" if then else " (it left no record of it)"),
        )
    lost = sorted(set(champion.exam_tasks) - set(exam.tasks))
    yield Rule(
        group="quality",
        name="tasks of the champion's exam",
        figure=float(len(lost)),
        limit="none is missing",
        passed=not lost,
        words=f"the exam lacks the tasks {', '.join(lost)}" if lost else "every task of the champion's exam is asked",
    )


def _floors(candidate: Candidate, exam: Exam, floors: Sequence[Floor]) -> Iterable[Rule]:
    own = {"exam": _measured(candidate.marks, exam)}
    for floor in floors:
        stage, name = floor.figure.split(".", 1)
        value = {**candidate.figures, **own}.get(stage, {}).get(name)
        bounds = Bounds(low=floor.at_least, high=floor.at_most)
        yield limit("quality", f"floor of {floor.figure}", value, floor.figure, bounds)


def _measured(marks: Marks | None, exam: Exam) -> dict[str, float | None]:
    """The figures that the gate itself measures on the challenger; None where an example is missing."""
    values = _in_order(marks.scores, [question.id for question in exam.questions]) if marks else None
    nats = _in_order(marks.nats, list(exam.documents)) if marks else None
    size = sum(exam.documents.values())
    return {
        "task_score": mean(values) if values else None,
        "bits_per_byte": sum(nats) / math.log(2) / size if nats and size else None,
    }


def _comparisons(
    candidate: Candidate, champion: Champion, exam: Exam, settings: Promotion, seed: int
) -> Iterable[Rule]:
    yield _same_release(
        "champion", champion.marks.manifest_sha256 if champion.marks else None, champion.manifest_sha256
    )
    ids = [question.id for question in exam.questions]
    pairs = _pairs(candidate.marks, champion.marks, "scores", ids)
    confidence, margins = settings.confidence, settings.margins
    texts = [question.text for question in exam.questions]
    yield _task_score(pairs, texts, margins.task_score, confidence, seed)
    yield from _each_task(pairs, exam, margins.one_task, confidence, seed)
    likelihoods = _pairs(candidate.marks, champion.marks, "nats", list(exam.documents))
    yield _likelihood(likelihoods, margins.bits_per_byte, confidence, seed)


Pairs = tuple[list[float], list[float]]
"""Champion's and challenger's values in one order."""


def _pairs(challenger: Marks | None, champion: Marks | None, kind: str, ids: Sequence[str]) -> Pairs | None:
    if challenger is None or champion is None:
        return None
    late, early = (_in_order(getattr(marks, kind), ids) for marks in (challenger, champion))
    return None if early is None or late is None else (early, late)


def _in_order(values: Mapping[str, float], ids: Sequence[str]) -> list[float] | None:
    """The values of `ids`; None when there are no ids, or any value is missing, not finite or too large to add up."""
    found = [number(values.get(one)) for one in ids]
    kept = [value for value in found if value is not None and abs(value) <= LARGEST]
    return kept if found and len(kept) == len(found) else None


LARGEST = 1e100
"""No score or likelihood comes near it, and the sums and squares of smaller ones are finite."""

MIN_TEXTS = 10
"""A task asked about fewer texts than this counts in the mean only: the bootstrap of so few proves what is chance."""

INCOMPLETE = "an example has no valid score for champion or challenger, so they cannot be compared"


def _task_score(pairs: Pairs | None, texts: Sequence[str], margin: float, confidence: float, seed: int) -> Rule:
    limit = f"above -{margin:g} with {confidence:.0%} confidence"
    name = "task score beside the champion"
    if pairs is None or len(set(texts)) < 2:
        return _incomparable(name, limit)
    found = comparison.difference(*pairs, texts, seed=seed, confidence=confidence)
    passed = found.low >= -margin
    return Rule(
        group="quality",
        name=name,
        figure=found.low,
        limit=limit,
        passed=passed,
        words=f"task score {found.mean:+.4f} beside the champion's {mean(pairs[0]):.4f}, at worst {found.low:+.4f}"
        f" (margin {margin:g}{'' if passed else ': not met'})",
    )


def _incomparable(name: str, limit: str) -> Rule:
    return Rule(group="quality", name=name, figure=None, limit=limit, passed=False, words=f"{name}: {INCOMPLETE}")


def _each_task(pairs: Pairs | None, exam: Exam, margin: float, confidence: float, seed: int) -> Iterable[Rule]:
    tasks = exam.tasks
    level = 1 - (1 - confidence) / max(1, len(tasks))
    for task, count in tasks.items():
        name, limit = f"task {task}", f"no significant fall by more than {margin:g}"
        rows = [row for row, question in enumerate(exam.questions) if question.task == task]
        if pairs is None:
            yield _incomparable(name, limit)
            continue
        early, late = ([side[row] for row in rows] for side in pairs)
        change = mean(late) - mean(early)
        texts = [exam.questions[row].text for row in rows]
        few = len(set(texts)) < MIN_TEXTS
        failed = (
            change < -margin
            and not few
            and comparison.difference(early, late, texts, seed=seed, confidence=level).high < 0
        )
        yield Rule(
            group="quality",
            name=name,
            figure=change,
            limit=limit,
            passed=not failed,
            words=f"{task} {mean(late):.4f}, {change:+.4f} beside the champion over {count} examples"
            + (f": a significant fall by more than {margin:g}" if failed else "")
            + (", too few texts to be judged alone" if few else ""),
        )


def _likelihood(pairs: Pairs | None, margin: float, confidence: float, seed: int) -> Rule:
    name, limit = "bits per byte beside the champion", f"below {margin:+.1%} with {confidence:.0%} confidence"
    if pairs is None or len(pairs[0]) < 2 or min(pairs[0]) <= 0:
        return _incomparable(name, limit)
    found = comparison.relative_change(*pairs, seed=seed, confidence=confidence)
    passed = found.high <= margin
    return Rule(
        group="quality",
        name=name,
        figure=found.high,
        limit=limit,
        passed=passed,
        words=f"bits per byte on held-out text {found.mean:+.2%} beside the champion, at worst {found.high:+.2%}"
        f" (margin {margin:+.1%}{'' if passed else ': not met'})",
    )


def _service(service: Service | None, settings: Infra) -> Iterable[Rule]:
    if service is None:
        yield Rule(
            group="service",
            name="loads and answers",
            figure=None,
            limit="it does",
            passed=False,
            words="it could not be loaded and asked",
        )
        return
    times = list(service.request_seconds)
    limits = (
        ("answers", service.num_empty, "empty answers", Bounds(high=0)),
        ("requests", len(times), "requests whose time was taken", Bounds(low=settings.requests)),
        ("loading", service.load_seconds, "seconds to load", Bounds(high=settings.max_load_seconds)),
        ("p99", quantile(times, 0.99), "99th percentile of a request, seconds", Bounds(high=settings.max_p99_seconds)),
        ("memory", service.peak_memory_mib, "peak memory, MiB", Bounds(high=settings.max_memory_mib)),
    )
    for name, value, what, bounds in limits:
        yield limit("service", name, value, what, bounds)


def quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest value with at least `share` of the values at or below it; None of nothing or of undefined ones."""
    if not values or any(number(value) is None for value in values):
        return None
    return float(np.quantile(values, share, method="inverted_cdf"))


def _short(sha256: str | None) -> str:
    return f"{sha256[:12]}..." if sha256 else "none"
