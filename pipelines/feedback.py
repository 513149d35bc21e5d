"""Sample responses and turn rankings into preference pairs."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from pipelines import stage
from pipelines.adapters import datasets, device, files, judges, models, rankings
from pipelines.adapters.tracking import Tracker
from pipelines.artifacts import Artifact, State
from pipelines.core.judging import ai_feedback
from pipelines.core.judging.agreement import agreement_with_others, krippendorff_alpha
from pipelines.core.learning import constitution, decoding, preferences, revisions
from pipelines.core.learning.preferences import FEWEST_PROMPTS, Ranking
from pipelines.core.text.prompts import user_text
from pipelines.core.world import annotators
from pipelines.core.world.gold import gold_score
from pipelines.errors import DataError, ParamsError
from pipelines.params import Feedback, Params

BATCH_SIZE = 128
"""Responses sampled at once."""

Record = Mapping[str, Any]
Pairs = dict[datasets.Split, list[dict[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class AnnotatorReport:
    """What one annotator gave."""

    num_rankings: int
    agreement_with_others: float | None
    """Krippendorff's alpha with whoever else ranked the same two responses; None where nobody did."""


@dataclass(frozen=True, kw_only=True)
class FeedbackReport:
    """What there is to learn preferences from."""

    num_rankings: int
    num_pairs: int
    num_train_pairs: int
    num_valid_pairs: int
    num_test_pairs: int
    num_ties: int
    num_failed: int
    annotator_agreement: float | None
    """Krippendorff's alpha (interval metric) over what annotators prefer of every two responses to a prompt."""
    annotators: dict[str, AnnotatorReport]
    """By name."""
    best_reachable_accuracy: float | None
    """On the held-out pairs: how often the gold order agrees with the noisy label."""
    pairs_by_source: dict[str, int]
    num_sampled: int
    distinct_response_share: float | None
    finished_share: float | None
    mean_gold: float | None
    num_quarantined: int
    num_lone_ratings: int
    num_repeated: int
    """Lines by people that say what an earlier one says, by another id; left out."""
    num_too_long: int
    """Prompts that leave no room for `feedback.max_new_tokens`; left out."""
    num_not_learnt_from: int
    """Rankings of prompts on the training side by held-out annotators."""
    constitution: ai_feedback.ConstitutionReport | None
    """AI feedback; None where `feedback.constitution.share` is 0. The annotators above are without it."""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Responses of the instruction model to one prompt."""

    record: Record
    prompt: str
    responses: list[decoding.Response]


def main(params: Params, tracker: Tracker) -> FeedbackReport:
    """Gather rankings by simulated annotators and by people, and ready pairs; write pairs by split."""
    settings = params.feedback
    people = rankings.load(Artifact.FEEDBACK_BY_PEOPLE.path, max_bad_line_share=settings.max_bad_line_share)
    ready = {split: list(datasets.records(Artifact.VALIDATED.path, "preferences", split)) for split in datasets.SPLITS}
    _require_known(settings, people.annotators)
    panel = _panel(params, tracker) if settings.constitution.share else None
    records = chosen_records(settings, params.seed)
    if not (records or people.rankings or any(ready.values())):
        raise DataError(_nothing_to_learn_from(settings))
    sampled = list(_sample(records, params, tracker)) if records else []
    ranked = list(simulated_rankings(sampled, settings, params.seed)) + people.rankings
    given, taught = _by_constitution(panel, sampled, people.rankings, settings, params.seed) if panel else (None, [])
    learnt = ranked + taught
    pairs, left_out = split_pairs(learnt, ready, settings, params.seed)
    _require_both_sides(pairs, sum(not preferences.pairs(ranking) for ranking in learnt))
    _save(ranked + given.rankings if given else ranked, pairs, people, given)
    summary = ai_feedback.report(given, ranked, seed=params.seed) if given else None
    too_long = len(records) - len(sampled)
    return _report(ranked, pairs, left_out, sampled, too_long, people, summary)


def _require_known(settings: Feedback, people: frozenset[str]) -> None:
    known = sorted({*(f"simulated-{number + 1}" for number in range(settings.annotators)), *people})
    if unknown := sorted(set(settings.held_out_annotators).difference(known)):
        raise ParamsError(
            f"feedback.held_out_annotators names {', '.join(unknown)}, but the annotators are {', '.join(known)}:"
            " correct it in params.yaml"
        )


def chosen_records(settings: Feedback, seed: int) -> list[Record]:
    """A random choice of instruction records with gold facts, one a prompt; without, where a constitution judges."""
    train = preferences.about(datasets.records(Artifact.VALIDATED.path, "instructions", "train"), settings.tasks)
    usable = {
        user_text(record["context"], record["prompt"]): record
        for record in sorted(train, key=lambda record: record.get("gold") is not None)  # of one prompt those with facts
        if record.get("gold") is not None or settings.constitution.share
    }
    choice = random.Random(f"feedback:{seed}").sample(sorted(usable), min(settings.num_prompts, len(usable)))
    return [usable[prompt] for prompt in choice]


def _sample(records: Sequence[Record], params: Params, tracker: Tracker) -> Iterator[Sampled]:
    settings = params.feedback
    target = device.prepare(params.seed, params.threads)
    model = models.load_causal(Artifact.SFT.path).to(target)
    tokenizer = models.load_tokenizer(Artifact.SFT.path)
    texts = [user_text(record["context"], record["prompt"]) for record in records]
    ids = [decoding.chat_ids(tokenizer, [{"role": "user", "content": text}]) for text in texts]
    room = decoding.longest(model) - settings.max_new_tokens
    fits = [row for row in range(len(records)) if len(ids[row]) <= room]
    if not fits:
        raise DataError(
            f"No prompt leaves room for feedback.max_new_tokens ({settings.max_new_tokens}) within the model's"
            f" {decoding.longest(model)} tokens: lower feedback.max_new_tokens in params.yaml."
        )
    every = [row for row in fits for _ in range(settings.responses_per_prompt)]
    with tracker.progress("responses", len(every), "responses") as bar:
        responses = decoding.respond(
            model,
            tokenizer,
            [ids[row] for row in every],
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            batch_size=BATCH_SIZE,
            seed=params.seed,
            advance=bar.advance,
        )
    tracker.effort(tokens=sum(len(response.tokens) for response in responses), objective="none (sampling)")
    k = settings.responses_per_prompt
    for number, row in enumerate(fits):
        yield Sampled(record=records[row], prompt=texts[row], responses=responses[number * k : (number + 1) * k])


def simulated_rankings(sampled: Sequence[Sampled], settings: Feedback, seed: int) -> Iterator[Ranking]:
    """Rank each prompt's distinct responses; a share of the prompts is ranked by two annotators.

    Held-out annotators rank held-out prompts only.
    """
    everybody = annotators.annotators(settings.annotators, seed, settings.annotator_noise, settings.tie_margin)
    learnt_from = [annotator for annotator in everybody if annotator.name not in settings.held_out_annotators]
    for item in sampled:
        texts = preferences.distinct(response.text for response in item.responses)
        share = settings.constitution.share
        _, by_annotators = constitution.drawn(item.record["id"], share, settings.overlap_share, seed)
        if len(texts) == 1 or item.record.get("gold") is None or not by_annotators:
            continue
        gold = [gold_score(item.record["gold"], text).total for text in texts]
        draw = random.Random(f"annotation:{seed}:{item.record['id']}")
        judges = 2 if draw.random() < settings.overlap_share else 1
        held_out = preferences.held_out(item.prompt, seed=seed, share=settings.held_out_share)
        hired = everybody if held_out else learnt_from
        for annotator in draw.sample(hired, min(judges, len(hired))):
            yield Ranking(
                id=f"{item.record['id']}-{annotator.name}",
                prompt=item.prompt,
                responses=tuple(texts),
                ranks=tuple(annotators.rank(annotator, gold, draw)),
                annotator=annotator.name,
                kind="simulated",
                task=item.record["task"],
                gold=tuple(gold),
            )


def _panel(params: Params, tracker: Tracker) -> judges.Panel:
    return judges.Panel(
        params.feedback.constitution,
        judges.load(Artifact.CONSTITUTION.path),
        model=Artifact.SFT.path,
        kept=State.ANSWERS.path,
        device=device.prepare(params.seed, params.threads),
        max_new_tokens=params.feedback.max_new_tokens,
        seed=params.seed,
        tracker=tracker,
    )


def _by_constitution(
    panel: judges.Panel, sampled: Sequence[Sampled], people: Sequence[Ranking], settings: Feedback, seed: int
) -> tuple[ai_feedback.Given, list[Ranking]]:
    """Have a share of the prompts ranked and revised, and of what people ranked ranked; what of it is learnt from.

    What the judge says of responses that people ranked is for the agreement alone.
    """
    shares = (settings.constitution.share, settings.overlap_share)
    cases = [case for item in sampled if len((case := _case(item)).responses) > 1]
    own = [case for case in cases if case.facts is None or constitution.drawn(case.id, *shares, seed)[0]]
    theirs = constitution.cases_of_people(people, besides=own, share=settings.overlap_share, seed=seed)
    given = panel.give(own + theirs, own)
    ours = {(case.prompt, case.responses) for case in own}
    return given, [ranking for ranking in given.rankings if (ranking.prompt, ranking.responses) in ours]


def _case(item: Sampled) -> constitution.Case:
    return constitution.Case(
        id=item.record["id"],
        prompt=item.prompt,
        responses=tuple(preferences.distinct(response.text for response in item.responses)),
        task=item.record["task"],
        facts=item.record.get("gold"),
    )


def split_pairs(ranked: Sequence[Ranking], ready: Pairs, settings: Feedback, seed: int) -> tuple[Pairs, int]:
    """The pairs of the rankings, train and valid by prompt, and how many rankings were left out.

    Ready pairs stay in their own splits. Rankings follow the ready pairs about the same prompt, to the side held out
    where these are on both. What held-out annotators say of prompts on the training side is left out.
    """
    pairs: Pairs = {
        split: [{**record, "ranking_id": record.get("ranking_id") or record["id"]} for record in records]
        for split, records in ready.items()
    }
    placed = {record["prompt"]: split for split in datasets.SPLITS for record in ready[split]}
    left_out = 0
    for ranking in ranked:
        drawn: datasets.Split = (
            "valid" if preferences.held_out(ranking.prompt, seed=seed, share=settings.held_out_share) else "train"
        )
        side = placed.get(ranking.prompt, drawn)
        if side == "train" and ranking.annotator in settings.held_out_annotators:
            left_out += 1
        else:
            pairs[side] += preferences.pairs(ranking)
    return pairs, left_out


def _require_both_sides(pairs: Pairs, num_silent: int) -> None:
    for split in ("train", "valid"):
        prompts = len({record["prompt"] for record in pairs[split]})
        if prompts < FEWEST_PROMPTS:
            raise DataError(
                f"The {split} side of the preferences has pairs about {prompts} prompts, but {FEWEST_PROMPTS} are"
                f" needed ({num_silent} rankings hold nothing but ties or failed responses, which give none): raise"
                " feedback.num_prompts or change feedback.held_out_share in params.yaml, or add rankings to"
                f" {Artifact.FEEDBACK_BY_PEOPLE}."
            )


def _nothing_to_learn_from(settings: Feedback) -> str:
    return (
        "There is nothing to learn preferences from. One of three is needed: instruction records with gold facts"
        f" for the tasks in feedback.tasks ({', '.join(settings.tasks)}), as the source tales:// has them; rankings or"
        f" ratings by people in {Artifact.FEEDBACK_BY_PEOPLE}/*.jsonl (README there); or ready pairs in"
        " ingestion.preferences in params.yaml."
    )


def _save(ranked: Sequence[Ranking], pairs: Pairs, people: rankings.Feedback, given: ai_feedback.Given | None) -> None:
    with files.replacing(Artifact.PREFERENCES.path) as folder:
        files.write_jsonl(folder / "rankings.jsonl", map(_row, ranked))
        files.write_jsonl(folder / "rejects.jsonl", map(asdict, people.rejects))
        for split in datasets.SPLITS:
            files.write_jsonl(datasets.file(folder, "preferences", split), pairs[split])
        if given:
            files.write_jsonl(folder / "critiques.jsonl", map(asdict, given.revisions))
            kept = (revisions.instruction(one) for one in given.revisions if one.kept)
            files.write_jsonl(folder / "revisions.jsonl", kept)


def _row(ranking: Ranking) -> dict[str, Any]:
    """Instructions only where there are any: simulated annotators have none."""
    row = asdict(ranking)
    return row if ranking.instructions else {name: value for name, value in row.items() if name != "instructions"}


def _report(
    ranked: Sequence[Ranking],
    pairs: Pairs,
    left_out: int,
    sampled: Sequence[Sampled],
    too_long: int,
    people: rankings.Feedback,
    summary: ai_feedback.ConstitutionReport | None,
) -> FeedbackReport:
    everything = [record for split in datasets.SPLITS for record in pairs[split]]
    responses = [response for item in sampled for response in item.responses]
    texts = sum(len(preferences.distinct(response.text for response in item.responses)) for item in sampled)
    golds = [
        gold_score(item.record["gold"], response.text).total
        for item in sampled
        if item.record.get("gold") is not None
        for response in item.responses
    ]
    return FeedbackReport(
        num_rankings=len(ranked),
        num_pairs=len(everything),
        num_train_pairs=len(pairs["train"]),
        num_valid_pairs=len(pairs["valid"]),
        num_test_pairs=len(pairs["test"]),
        num_ties=sum(map(preferences.num_ties, ranked)),
        num_failed=sum(map(preferences.num_failed, ranked)),
        annotator_agreement=krippendorff_alpha(preferences.labels(ranked)),
        annotators=_by_annotator(ranked),
        best_reachable_accuracy=preferences.best_reachable_accuracy(pairs["valid"]),
        pairs_by_source=dict(sorted(Counter(str(record["source"]) for record in everything).items())),
        num_sampled=len(responses),
        distinct_response_share=texts / len(responses) if responses else None,
        finished_share=fmean(response.finished for response in responses) if responses else None,
        mean_gold=fmean(golds) if golds else None,
        num_quarantined=len(people.rejects),
        num_lone_ratings=people.num_lone_ratings,
        num_repeated=people.num_repeated,
        num_too_long=too_long,
        num_not_learnt_from=left_out,
        constitution=summary,
    )


def _by_annotator(ranked: Sequence[Ranking]) -> dict[str, AnnotatorReport]:
    agreement = agreement_with_others(list(preferences.labels(ranked)))
    return {
        name: AnnotatorReport(num_rankings=count, agreement_with_others=agreement.get(name))
        for name, count in sorted(Counter(ranking.annotator for ranking in ranked).items())
    }


if __name__ == "__main__":
    stage.run("feedback", main, report=Artifact.FEEDBACK_REPORT)
