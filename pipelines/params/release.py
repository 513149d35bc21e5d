"""What becomes of the policy: measured, made smaller, packed, and examined before it goes live."""

import difflib
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from pipelines.params.alignment import RewardVerdict
from pipelines.params.section import NotNegative, Positive, Rate, Section, Share


class Decoding(Section):
    """One way to decode."""

    name: str
    """What it is called in the report."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """0: greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus."""
    beams: Positive = 1
    """Beam search with this many beams."""


class Evaluation(Section):
    """What is measured."""

    examples_per_task: Positive
    """Test records a task on average; they are drawn evenly from all tasks of a kind (short or long answers)."""
    shots: Annotated[list[NotNegative], Field(min_length=1)]
    """Numbers of examples in the prompt with which the base model is asked."""
    shot_examples: Positive
    """Test records a task for the zero-, one- and few-shot comparison."""
    decodings: list[Decoding]
    """Ways to decode that are compared."""
    decoding_examples: Positive
    """Test records a task for the comparison of decodings."""
    win_rate_prompts: Positive
    """Prompts on which the policy is compared with the SFT model."""
    max_new_tokens: Positive
    """Longest answer in tokens."""


class Student(Section):
    """A distilled model of half the depth (Hinton et al. 2015, arXiv:1503.02531)."""

    max_tokens: Positive
    """Training ends after this many tokens."""
    learning_rate: Rate
    """Peak of the schedule."""
    temperature: Rate
    """Of the softened distributions."""


class CompressionRule(Section):
    """The smallest candidate within these limits is chosen."""

    max_bytes_ratio: Rate
    """Bytes beside the float32 model."""
    max_bits_per_byte_increase: Annotated[float, Field(ge=0)]
    """Relative increase of bits per byte over the float32 model."""
    max_task_score_drop: Annotated[float, Field(ge=0)]
    """Absolute drop of the task score, the mean over the tasks."""
    max_worst_task_drop: Annotated[float, Field(ge=0)]
    """Absolute drop of any one task's score: what the mean would hide."""


class Compression(Section):
    """Smaller models."""

    sparsities: list[Share]
    """Shares of the weights that pruning sets to zero."""
    calibration_tokens: Positive
    """Tokens for Wanda's activation norms."""
    student: Student
    """The distilled student."""
    examples_per_task: Positive
    """Held-out instructions a task for the task score (split valid to choose, split test for the chosen one)."""
    max_new_tokens: Positive
    """Longest of their answers in tokens."""
    rule: CompressionRule
    """How one candidate is chosen."""

    @property
    def num_candidates(self) -> int:
        """Most models that are compared: float32, bfloat16, int8 of two kinds, two prunings a share, two students."""
        return 4 + 2 * len(self.sparsities) + 2


class Deployment(Section):
    """The release."""

    name: str
    """Name of the model."""
    licence: str
    """Of the weights, as the model card states it: an SPDX identifier."""
    intended_use: str
    """What the model card says the model is for."""
    prompts: Annotated[list[str], Field(min_length=1)]
    """Asked of the loaded release."""
    max_silent_share: Share
    """Refuse a release that answers a larger share of the prompts with nothing."""
    max_new_tokens: Positive
    """Longest answer in tokens."""
    timeout_seconds: Positive
    """The sandbox process must answer within this time."""
    memory_mib: Positive
    """Address space of the sandbox process (MiB); the libraries alone take about 4,000."""
    reference_documents: NotNegative
    """Held-out documents of each kind that the release carries as token ids, so that drift can be measured without the
    data. Who has the release can read them; 0: none, and drift cannot be measured."""


Figure = Literal[
    "data_validation.num_contaminated",
    "data_validation.num_documents",
    "data_validation.num_rejected",
    "tokenization.bytes_per_token",
    "tokenization.mask_audit_errors",
    "tokenization.round_trip_errors",
    "pretraining.val_bits_per_byte",
    "finetuning.exact_match",
    "finetuning.forgetting",
    "finetuning.rouge_l",
    "feedback.annotator_agreement",
    "feedback.best_reachable_accuracy",
    "reward_modeling.expected_calibration_error",
    "reward_modeling.gold_accuracy",
    "reward_modeling.held_out_accuracy",
    "reward_modeling.held_out_accuracy_low",
    "reward_modeling.recovered_share",
    "reward_modeling.similar_length_accuracy",
    "ppo.distinct_after",
    "ppo.finished_after",
    "ppo.gold_gain",
    "ppo.gold_gain_low",
    "ppo.kl",
    "ppo.reward_gain_low",
    "evaluation.policy_bits_per_byte",
    "evaluation.policy_exact_match",
    "evaluation.policy_exact_match_low",
    "evaluation.policy_forgetting",
    "evaluation.policy_rouge_l",
    "compression.test_bits_per_byte_increase",
    "compression.test_task_score",
    "compression.unfinished_share",
    "compression.empty_share",
    "exam.bits_per_byte",
    "exam.task_score",
]
"""What a floor may name: `<stage>.<field of its report>`, as the release's figures.json has it, or `exam.` and a figure
that the gate itself measures on the release."""


class Floor(Section):
    """A limit on one figure of the release; a figure that is missing or no number fails."""

    figure: Figure
    """Which."""
    at_least: float | None = None
    """Smallest value that passes."""
    at_most: float | None = None
    """Largest value that passes."""

    @field_validator("figure", mode="before")
    @classmethod
    def _is_known(cls, value: Any) -> Any:
        known = get_args(Figure)
        if value not in known:
            close = difflib.get_close_matches(str(value), known, n=1, cutoff=0.4)
            meant = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
            raise ValueError(f"promotion.floors: there is no figure {value!r}; {meant}")
        return value

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError(
                f"promotion.floors: {self.figure} has no limit: give at_least or at_most, or remove it, in params.yaml"
            )
        return self


class Margins(Section):
    """How much worse than the champion, on the same examples, is as good as equal."""

    task_score: Annotated[float, Field(ge=0)]
    """Absolute drop of the mean score (exact match or ROUGE-L) over all instructions."""
    one_task: Annotated[float, Field(ge=0)]
    """Absolute drop of the score of any one task."""
    bits_per_byte: Annotated[float, Field(ge=0)]
    """Relative increase of bits per byte on held-out text."""


class Infra(Section):
    """The second blessing: the release must not only be good but usable."""

    requests: Positive
    """Requests, one after the other, whose time is taken; deployment.prompts in turn."""
    max_load_seconds: Rate
    """From the folder on disk to a model in memory."""
    max_p99_seconds: Rate
    """99th percentile of the time of a request (promotion.max_new_tokens at most)."""
    max_memory_mib: Positive
    """Largest resident memory (MiB) after loading and answering, libraries included."""
    timeout_seconds: Positive
    """One release must be examined within this time."""
    address_space_mib: Positive
    """Address space of the examining process (MiB); the libraries alone take about 4,000."""


class Promotion(Section):
    """The gate before a release goes live, and what it asks. A missing or undefined figure always fails."""

    examples_per_task: Positive
    """Test instructions a task on average that champion and challenger answer; they stay with the version."""
    documents: Positive
    """Test documents whose likelihood is compared."""
    max_new_tokens: Positive
    """Longest answer in tokens."""
    min_examples: Positive
    """A smaller exam proves nothing and fails."""
    min_share_of_last_exam: Share
    """An exam with fewer instructions or documents than this share of the champion's own exam fails, and so does one
    that lacks a task of it."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    """Of the one-sided statements "not worse than the champion by more than the margin"."""
    margins: Margins
    """Against the champion."""
    floors: list[Floor]
    """Against nothing: they hold for the first release too."""
    reward_model: RewardVerdict
    """Its own verdict."""
    infra: Infra
    """Loads, answers, in time, within memory."""
