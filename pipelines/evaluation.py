"""Measure base, instruction model and policy on held-out data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipelines import stage
from pipelines.adapters import datasets, device, files, metrics, models
from pipelines.adapters.tokens import TokenStore
from pipelines.adapters.tracking import Tracker
from pipelines.artifacts import Artifact
from pipelines.core.judging import examination, scores
from pipelines.core.judging.examination import Examiner, Figures, Prompting, Questions, Record
from pipelines.core.judging.forgetting import forgetting
from pipelines.core.judging.likelihood import likelihood
from pipelines.core.judging.win_rates import WinRate, win_rate
from pipelines.core.learning import decoding, preferences, rewards
from pipelines.core.text.prompts import user_text
from pipelines.core.world.gold import gold_score
from pipelines.errors import DataError
from pipelines.params import Params

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NUM_SAMPLES = 16


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """Figures on the split test. Answers are greedy and single-turn; intervals are 95 % and keep stories together.

    Exact match is None where no task has short answers, ROUGE-L where all have.
    """

    sft_exact_match: float | None
    """Over the records of all short-answer tasks."""
    sft_exact_match_low: float | None
    sft_exact_match_high: float | None
    sft_exact_match_story_removed: float | None
    """The questions that have a context, asked without it: what can be guessed without reading; None without any."""
    policy_exact_match: float | None
    policy_exact_match_low: float | None
    policy_exact_match_high: float | None
    policy_exact_match_story_removed: float | None
    base_exact_match: float | None
    """The best that any number of examples and either style of prompt gives."""
    base_best_prompt: str
    sft_rouge_l: float | None
    """Over the records of the other tasks."""
    policy_rouge_l: float | None
    base_bits_per_byte: float
    sft_bits_per_byte: float
    policy_bits_per_byte: float
    base_perplexity: float
    sft_perplexity: float
    policy_perplexity: float
    sft_forgetting: float
    """Relative change of bits per byte from the base model."""
    policy_forgetting: float
    win_rate_by_reward: WinRate
    """Policy over instruction model by the reward model, sampled as for the feedback."""
    win_rate_by_gold: WinRate | None
    """The same by the gold scorer; None where fewer than two prompts carry gold facts."""
    sft_mean_tokens: float
    """Of the responses behind the win rates."""
    policy_mean_tokens: float
    short_answer_tasks: list[str]
    tasks: dict[str, dict[str, Figures]]
    """Model -> task -> metric -> mean, low, high, count; the base model with its best prompt, long tasks zero-shot."""
    shots: list[Figures]
    """The base model by style and number of examples, best first, and the instruction model on the same records."""
    decodings: list[Figures]
    """The policy by way of decoding."""
    num_examples: int
    num_left_out: int
    """Test records too long for the model."""


def main(params: Params, tracker: Tracker) -> EvaluationReport:
    """Measure likelihood, answers, prompting, decoding and preference; write samples."""
    settings, target = params.evaluation, device.prepare(params.seed, params.threads)
    tokenizer = models.load_tokenizer(Artifact.SFT.path)
    folders = {"base": Artifact.BASE, "sft": Artifact.SFT, "policy": Artifact.POLICY}
    loaded = {name: models.load_causal(folder.path).to(target) for name, folder in folders.items()}
    test = _questions(tokenizer, params, loaded["policy"])
    asked, few = test.some(settings.examples_per_task), test.some(settings.shot_examples)
    train = list(datasets.records(Artifact.VALIDATED.path, "instructions", "train"))
    likely = _likelihoods(loaded, params.pretraining.context)
    with tracker.progress("answers", None, "answers") as bar:
        examiner = Examiner(
            tokenizer=tokenizer,
            score=metrics.score,
            max_new_tokens=settings.max_new_tokens,
            seed=params.seed,
            advance=bar.advance,
        )
        wanted = list({record["id"]: record for record in [*asked.every, *few.main]}.values())
        said = {name: examiner.answers(loaded[name], wanted) for name in ("sft", "policy")}
        removed = {name: examination.story_removed(examiner, loaded[name], asked) for name in said}
        # The base model has its own tokenizer: fine-tuning may have added a soft prompt.
        plain = replace(examiner, tokenizer=models.load_tokenizer(Artifact.BASE.path))
        prompting = examination.promptings(plain, loaded["base"], few, train, settings.shots)
        said["base"] = _base_answers(plain, loaded["base"], prompting[0], few, train, settings.decoding_examples)
        ways = [way.model_dump() for way in settings.decodings]
        some = asked.some(settings.decoding_examples)
        decodings = examination.decodings(examiner, loaded["policy"], some, ways, said["policy"])
        compared = _compared(examiner, loaded, params)
    _write_samples(asked, said)
    shots = [{"model": "base", "style": way.style, "shots": way.shots, **way.figures} for way in prompting]
    tuned = examiner.main_score(few, said["sft"])
    return EvaluationReport(
        **_exact(examiner, asked, said, removed),
        base_exact_match=prompting[0].figures["mean"] if few.short else None,
        base_best_prompt=f"{prompting[0].style}, {prompting[0].shots} examples",
        **_overlap(examiner, asked, said),
        **likely,
        **compared,
        short_answer_tasks=sorted({record["task"] for record in asked.short}),
        tasks={name: examiner.by_task(_answered(asked, said[name]), said[name]) for name in folders},
        shots=[*shots, {"model": "sft", "style": "chat", "shots": 0, **tuned}],
        decodings=decodings,
        num_examples=len(asked.every),
        num_left_out=test.num_left_out,
    )


def _questions(tokenizer: "PreTrainedTokenizerBase", params: Params, model: "PreTrainedModel") -> Questions:
    records = list(datasets.records(Artifact.VALIDATED.path, "instructions", "test"))
    room = model.config.max_position_embeddings - params.evaluation.max_new_tokens
    test = examination.questions(tokenizer, records, room)
    if not test.every:
        raise DataError(
            f"Nothing to evaluate: {Artifact.VALIDATED} has {len(records)} test instructions, {test.num_left_out} of"
            f" them longer than the {room} tokens that the model leaves beside evaluation.max_new_tokens."
            " Give ingestion.instructions a test source, or lower evaluation.max_new_tokens in params.yaml."
        )
    return test


def _likelihoods(loaded: Mapping[str, "PreTrainedModel"], context: int) -> Figures:
    text, precision = TokenStore.open(Artifact.TOKENS.path).split("test"), device.precision("auto")
    if not len(text):
        raise DataError(f"{Artifact.TOKENS} has no test text: give ingestion.corpus a test source in params.yaml.")
    each = {
        name: likelihood(model, text, text.num_bytes, context, precision=precision) for name, model in loaded.items()
    }
    return {
        **{f"{name}_bits_per_byte": one.bits_per_byte for name, one in each.items()},
        **{f"{name}_perplexity": one.perplexity for name, one in each.items()},
        **{
            f"{name}_forgetting": forgetting(each["base"].bits_per_byte, each[name].bits_per_byte)
            for name in ("sft", "policy")
        },
    }


def _exact(
    examiner: Examiner,
    asked: Questions,
    said: Mapping[str, Mapping[str, str]],
    removed: Mapping[str, Figures | None],
) -> Figures:
    figures: Figures = {}
    for name, bare in removed.items():
        exact = examiner.measured("exact_match", asked.short, said[name]) if asked.short else {}
        figures |= {
            f"{name}_exact_match": exact.get("mean"),
            f"{name}_exact_match_low": exact.get("low"),
            f"{name}_exact_match_high": exact.get("high"),
            f"{name}_exact_match_story_removed": bare["mean"] if bare else None,
        }
    return figures


def _overlap(examiner: Examiner, asked: Questions, said: Mapping[str, Mapping[str, str]]) -> Figures:
    return {
        f"{name}_rouge_l": examiner.measured("rouge_l", asked.long, said[name])["mean"] if asked.long else None
        for name in ("sft", "policy")
    }


def _base_answers(
    examiner: Examiner,
    base: "PreTrainedModel",
    best: Prompting,
    few: Questions,
    train: Sequence[Record],
    per_task: int,
) -> dict[str, str]:
    if not few.short:
        return best.answers
    long = few.some(per_task).long
    return {**best.answers, **examination.prompted(examiner, base, long, train, style=best.style, shots=0)}


def _answered(asked: Questions, said: Mapping[str, str]) -> Questions:
    return Questions(
        short=[record for record in asked.short if record["id"] in said],
        long=[record for record in asked.long if record["id"] in said],
        num_left_out=0,
    )


def _compared(examiner: Examiner, loaded: Mapping[str, "PreTrainedModel"], params: Params) -> Figures:
    """Sample from instruction model and policy with the same prompts; judge by reward model and gold scorer."""
    test = preferences.about(datasets.records(Artifact.VALIDATED.path, "instructions", "test"), params.feedback.tasks)
    room = loaded["policy"].config.max_position_embeddings - params.evaluation.max_new_tokens
    fit = examination.questions(examiner.tokenizer, test, room).every
    records = scores.drawn(fit, params.evaluation.win_rate_prompts)
    if len(records) < 2:
        raise DataError(
            f"Only {len(records)} test instructions for feedback.tasks {params.feedback.tasks}: a win rate needs two."
        )
    said = {
        name: examiner.responses(loaded[name], examiner.prompts(records), temperature=params.feedback.temperature)
        for name in ("sft", "policy")
    }
    texts = {name: [response.text for response in responses] for name, responses in said.items()}
    prompts = [user_text(record.get("context", ""), record["prompt"]) for record in records]
    judge = models.load_reward(Artifact.REWARD.path).to(loaded["policy"].device)
    reads = models.load_tokenizer(Artifact.REWARD.path)
    reward = {name: rewards.score(judge, reads, prompts, each) for name, each in texts.items()}
    gold = {name: _gold_scores(records, each) for name, each in texts.items()}
    return {
        "win_rate_by_reward": win_rate(reward["policy"], reward["sft"], seed=params.seed),
        "win_rate_by_gold": (
            win_rate(gold["policy"], gold["sft"], seed=params.seed) if len(gold["policy"]) > 1 else None
        ),
        "sft_mean_tokens": _mean_tokens(said["sft"]),
        "policy_mean_tokens": _mean_tokens(said["policy"]),
    }


def _mean_tokens(responses: Sequence[decoding.Response]) -> float:
    return scores.mean([len(response.tokens) for response in responses])


def _gold_scores(records: Sequence[Record], texts: Sequence[str]) -> list[float]:
    return [
        gold_score(record["gold"], text).total
        for record, text in zip(records, texts, strict=True)
        if record.get("gold") is not None
    ]


def _write_samples(asked: Questions, said: Mapping[str, Mapping[str, str]]) -> None:
    by_all = [record for record in asked.every if all(record["id"] in answers for answers in said.values())]
    files.write_jsonl(
        Artifact.SAMPLES.path, (_sample(record, said) for record in examination.diverse(by_all, NUM_SAMPLES))
    )


def _sample(record: Record, said: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    texts = {name: said[name][record["id"]] for name in ("base", "sft", "policy")}
    facts = record.get("gold")
    return {
        "id": record["id"],
        "task": record["task"],
        "prompt": user_text(record.get("context", ""), record["prompt"]),
        "reference": record["completion"],
        **texts,
        "gold": {name: round(gold_score(facts, text).total, 6) for name, text in texts.items()} if facts else None,
    }


if __name__ == "__main__":
    stage.run("evaluation", main, report=Artifact.EVALUATION_REPORT)
