"""The server of the champion: what it may be asked for, and what it remembers."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipelines.params.section import NotNegative, Positive, Rate, Section


class ServingLimits(Section):
    """What one request, and all together, may ask for; more is refused before the model sees it."""

    body_bytes: Positive
    """Longest request body (413)."""
    json_depth: Positive
    """Deepest nesting of the body's JSON (422)."""
    prompt_tokens: Positive
    """Longest prompt (413); the model's context limits it too."""
    max_tokens: Positive
    """Longest answer that may be asked for, and what is given when nothing is asked for (422)."""
    choices: Positive
    """Most answers of one request: prompts times n (422)."""
    beams: Positive
    """Widest beam search (422)."""
    stops: Positive
    """Most stop strings (422)."""
    stop_characters: Positive
    """Longest stop string (422)."""
    logprobs: NotNegative
    """Most alternatives a token (422)."""
    queue: NotNegative
    """Sequences that may wait beyond `serving.slots`; the next is told to come again later (429)."""
    connections: Positive
    """Open connections; the longest idle one makes room for a new one."""
    header_seconds: Rate
    """A request's head must be complete within this time after the connection opened, or it is closed."""
    body_seconds: Rate
    """A request's body must be complete within this time (408)."""
    send_seconds: Rate
    """A client that takes nothing of its answer for this long is disconnected."""


class RequestLog(Section):
    """What is remembered of each request."""

    text: bool
    """Prompts and answers too, with personal data redacted; descriptors are always kept."""
    text_hours: Rate
    """Text is deleted when it is this old; the descriptors stay."""
    segment_mib: Rate
    """A file of the log is closed at this size (MiB)."""
    segment_minutes: Rate
    """A file of the log is closed at this age."""


class Serving(Section):
    """The server of `moteur serve`."""

    engine: Literal["moteur", "vllm"]
    """moteur: our own, on CPU and GPU. vllm: hand the bundle to vLLM, which needs a GPU."""
    host: str
    """Address to listen at."""
    port: Annotated[int, Field(ge=0, le=65535)]
    """Port to listen at; 0: any free one, which is printed."""
    token_file: str
    """File with the tokens that clients may show, one a line; made with a random one when it is missing. The
    environment variable MOTEUR_TOKEN goes before it."""
    precision: Literal["auto", "float32", "bfloat16"]
    """Of weights and products; auto: bfloat16 on a GPU that computes in it."""
    slots: Positive
    """Sequences that are answered at the same time."""
    prefill_tokens: Positive
    """Prompt tokens read between two tokens of the running answers."""
    poll_seconds: Rate
    """How often the champion (or the manifest of the folder) is looked at."""
    warm_up_tokens: Positive
    """Longest answer to each of `deployment.prompts` with which a version warms up."""
    warm_up_seconds: Rate
    """A version that has not answered all of them after this time is not swapped in."""
    limits: ServingLimits
    """What may be asked for."""
    log: RequestLog
    """What is remembered."""

    @model_validator(mode="after")
    def _rows_fit(self) -> Self:
        for name in ("choices", "beams"):
            if getattr(self.limits, name) > self.slots:
                raise ValueError(
                    f"serving.limits.{name} is {getattr(self.limits, name)} but serving.slots is {self.slots}: lower"
                    " the first or raise the second in params.yaml"
                )
        rows, room = self.limits.choices * self.limits.beams, self.slots + self.limits.queue
        if rows > room:
            raise ValueError(
                f"one request may have serving.limits.choices x beams = {rows} sequences but serving.slots +"
                f" serving.limits.queue is {room}, so that it would be told to come again for ever: lower the first or"
                " raise the second in params.yaml"
            )
        return self
