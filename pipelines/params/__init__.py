"""The schema of params.yaml as a whole; its sections stand in the rooms beside. No I/O: `stage.load_params` reads."""

import difflib
from collections.abc import Sequence
from typing import Any, Self, get_args

from pydantic import ValidationError, model_validator

from pipelines.errors import ParamsError
from pipelines.params.alignment import (
    Constitution,
    Endpoint,
    Feedback,
    Ppo,
    RewardFunction,
    RewardModeling,
    RewardVerdict,
)
from pipelines.params.data import DataValidation, Expectation, Ingestion, Source, Splits, Tokenization
from pipelines.params.learning import Finetuning, Lora, Model, Pretraining, PromptTuning
from pipelines.params.operations import Alerts, AlertSink, Drift, Probation, Retraining, Schedule, Services
from pipelines.params.release import (
    Compression,
    CompressionRule,
    Decoding,
    Deployment,
    Evaluation,
    Figure,
    Floor,
    Infra,
    Margins,
    Promotion,
    Student,
)
from pipelines.params.section import NotNegative, Positive, Section
from pipelines.params.serving import RequestLog, Serving, ServingLimits

__all__ = [
    "AlertSink",
    "Alerts",
    "Compression",
    "CompressionRule",
    "Constitution",
    "DataValidation",
    "Decoding",
    "Deployment",
    "Drift",
    "Endpoint",
    "Evaluation",
    "Expectation",
    "Feedback",
    "Figure",
    "Finetuning",
    "Floor",
    "Infra",
    "Ingestion",
    "Lora",
    "Margins",
    "Model",
    "Params",
    "Ppo",
    "Pretraining",
    "Probation",
    "Promotion",
    "PromptTuning",
    "RequestLog",
    "Retraining",
    "RewardFunction",
    "RewardModeling",
    "RewardVerdict",
    "Schedule",
    "Services",
    "Serving",
    "ServingLimits",
    "Source",
    "Splits",
    "Student",
    "Tokenization",
    "fields",
    "parse",
]


class Params(Section):
    """All of params.yaml."""

    seed: NotNegative
    """Of everything random."""
    threads: Positive | None
    """CPU threads; None: all cores this process may use."""
    ingestion: Ingestion
    data_validation: DataValidation
    tokenization: Tokenization
    model: Model
    pretraining: Pretraining
    finetuning: Finetuning
    feedback: Feedback
    reward_modeling: RewardModeling
    ppo: Ppo
    evaluation: Evaluation
    compression: Compression
    deployment: Deployment
    promotion: Promotion
    serving: Serving
    drift: Drift
    alerts: Alerts
    retraining: Retraining
    probation: Probation
    schedule: Schedule
    services: Services

    @property
    def ends_with_base(self) -> str | None:
        """Why the lifecycle ends with the base model, as `key is value`; None: it goes all the way."""
        if self.pretraining.objective != "causal":
            return f"pretraining.objective is {self.pretraining.objective}"
        return None if self.model.architecture == "llama" else f"model.architecture is {self.model.architecture}"

    @model_validator(mode="after")
    def _objective_fits_the_model(self) -> Self:
        objective, architecture = self.pretraining.objective, self.model.architecture
        if objective != "causal" and architecture != "llama":
            raise ValueError(
                f"pretraining.objective is {objective}, which is for attention, but model.architecture is"
                f" {architecture}: set the first to causal, or the second to llama, in params.yaml"
            )
        if self.pretraining.init is not None and self.ends_with_base:
            raise ValueError(
                f"pretraining.init is {self.pretraining.init!r}, a causal language model, but {self.ends_with_base}:"
                " set pretraining.init to null in params.yaml"
            )
        return self

    @model_validator(mode="after")
    def _requests_that_are_accepted_are_kept(self) -> Self:
        if self.retraining.accept_requests and not self.serving.log.text:
            raise ValueError(
                "retraining.accept_requests is true but serving.log.text is false, so that there is no text to accept:"
                " set the second to true, or the first to false, in params.yaml"
            )
        return self

    @model_validator(mode="after")
    def _lengths_fit_the_model(self) -> Self:
        if self.pretraining.init is not None:
            return self
        lengths = {
            "pretraining.context": self.pretraining.context,
            "finetuning.max_length": self.finetuning.max_length,
            "reward_modeling.max_length": self.reward_modeling.max_length,
        }
        faults = [
            f"{key} is {length} but model.context is {self.model.context}: lower the first or raise the second in"
            " params.yaml"
            for key, length in lengths.items()
            if length > self.model.context
        ]
        if faults:
            raise ValueError("\n  ".join(faults))
        return self


def parse(values: Any, where: str = "params.yaml") -> Params:
    """Check `values` (a mapping as read from YAML) and return the params.

    Raises:
        ParamsError: for an unknown key, a missing key, a wrong type or a value out of range; all at once, a line each.
    """
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        lines = [_sentence(item["loc"], item["msg"], item.get("input")) for item in error.errors()]
        raise ParamsError(f"{where} is not valid:\n  " + "\n  ".join(lines)) from None


def fields(location: Sequence[str | int]) -> list[str]:
    """The keys of the section at `location` ("model", for instance); none when there is no such section."""
    model: Any = Params
    for key in location:
        kinds = [model.model_fields[key].annotation] if key in getattr(model, "model_fields", {}) else get_args(model)
        model = next((kind for kind in kinds if isinstance(kind, type) or get_args(kind)), None)
    return list(getattr(model, "model_fields", {}))


def _meant(location: tuple[str | int, ...]) -> str:
    close = difflib.get_close_matches(str(location[-1]), fields(location[:-1]), n=1)
    return f"did you mean {'.'.join(map(str, (*location[:-1], close[0])))}?" if close else ""


def _sentence(location: tuple[str | int, ...], message: str, value: Any) -> str:
    if message.startswith("Value error, "):
        return message.removeprefix("Value error, ")
    key = ".".join(map(str, location)) or "(top)"
    if message == "Extra inputs are not permitted":
        return f"{key}: no such key; {_meant(location) or 'remove it or correct its name'}"
    if message == "Field required":
        return f"{key}: missing; add it"
    return f"{key} is {value!r}: {message[0].lower()}{message[1:]}"
