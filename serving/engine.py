"""Continuous batching: one thread runs the model, and sequences join and leave between any two tokens.

Each round reads a piece of waiting prompts (at most `prefill_tokens`, so that a long prompt does not hold up those who
are being answered) and then one token of every running sequence. What came out is handed over once a round, without
waiting for anybody: a slow reader costs nothing.

Shapes: R running rows, P prompts read together, V entries of the vocabulary, Q tokens of a piece.
"""

import logging
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipelines.errors import MoteurError
from serving import sampling
from serving.beams import Beams
from serving.wording import Wording

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipelines.core.learning.window import Window

log = logging.getLogger("moteur.serving")


class EngineFullError(MoteurError):
    """As many requests wait as may wait."""


class EngineClosedError(MoteurError):
    """This engine takes no more requests; another one serves now, or the server is stopping."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What is asked of the engine; checked against all limits before."""

    prompts: list[list[int]]
    """Token ids; each prompt gets `choices` answers."""
    max_tokens: int
    temperature: float = 0.0
    """0: the likeliest token."""
    top_p: float = 1.0
    choices: int = 1
    seed: int | None = None
    stops: tuple[str, ...] = ()
    logprobs: int | None = None
    """Alternatives reported for each token; None: no log-probabilities."""
    beams: int = 1
    """Above 1: beam search, of whose texts the best `choices` are returned."""
    length_penalty: float = 1.0
    lead: str = ""
    """Left out at the beginning of each answer."""
    stream: bool = False

    @property
    def rows(self) -> int:
        """Rows that one prompt takes."""
        return max(self.choices, self.beams)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """New text of one choice."""

    choice: int
    text: str
    tokens: list[int]
    """Generated since the choice's last piece, the end token included."""
    scored: list[sampling.Scored]
    """Of `tokens`, when asked for."""
    finish: str | None
    """`stop` or `length` with the last piece of a choice."""
    error: str | None = None
    """The request has failed, and why."""
    last: bool = False
    """Nothing more comes for this request."""


@dataclass(eq=False)
class Job:
    """One request inside the engine."""

    asked: Generation
    unfinished: int
    cancelled: bool = False
    failed: bool = False
    submitted: float = field(default_factory=time.monotonic)
    first_token: float | None = None
    """Seconds from submission."""
    completion_tokens: int = 0
    nats: float = 0.0
    """Negative log-probability of all sampled tokens under the model (beam search left out)."""


@dataclass(eq=False)
class _Prompt:
    job: Job
    ids: list[int]
    first_choice: int


@dataclass(eq=False)
class _Row:
    """A running sequence, or one beam of a search."""

    job: Job
    choice: int
    next: int = 0
    chance: random.Random | None = None
    wording: Wording | None = None
    tokens: list[int] = field(default_factory=list)
    unsent: int = 0
    """How many of `tokens`, at the end, no piece has carried yet."""
    scored: list[sampling.Scored] = field(default_factory=list)
    search: Beams | None = None
    beam: int = 0
    """Which of the search's beams this is; its row may stand anywhere."""
    finished: bool = False


@dataclass(eq=False)
class _Reading:
    """Prompts that are being read."""

    prompts: list[_Prompt]
    window: "Window"
    ids_PQ: "Tensor"
    done: int = 0


Deliver = Callable[[list[tuple[Job, Piece]]], None]


class Engine:
    """Runs one model in a thread of its own.

    Args:
        model: Any causal model of transformers with full or sliding attention, in evaluation mode.
        tokenizer: Its tokenizer.
        deliver: Called by the engine's thread with the pieces of a round; must not block.
        slots: Sequences that run at the same time.
        queue: Rows that may wait beyond those.
        prefill_tokens: Prompt tokens read between two tokens of the running ones.

    Raises:
        MoteurError: for a model whose state is not keys and values.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        deliver: Deliver,
        *,
        slots: int,
        queue: int,
        prefill_tokens: int,
    ) -> None:
        from pipelines.core.learning.window import Window, unreadable

        if layers := unreadable(model):
            raise MoteurError(
                f"The model {type(model).__name__} has {layers} which keep no keys and values: set serving.engine to"
                " vllm in params.yaml."
            )
        self.model, self.tokenizer, self.slots, self.queue = model, tokenizer, slots, queue
        self.context: int = model.config.get_text_config().max_position_embeddings
        self.ends = end_tokens(model, tokenizer)
        self._deliver, self._prefill_tokens = deliver, prefill_tokens
        self._window = Window(model, slots, self.context)
        self._rows: list[_Row] = []
        self._reading: _Reading | None = None
        self._waiting: deque[_Prompt] = deque()
        self._out: list[tuple[Job, Piece]] = []
        self._begun_jobs: set[Job] = set()
        self._load = 0
        self._closed = self._abandoned = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="moteur-engine", daemon=True)
        self._thread.start()

    def submit(self, asked: Generation) -> Job:
        """Queue a request.

        Raises:
            EngineFullError: when too many wait.
            EngineClosedError: when this engine is being replaced.
        """
        job = Job(asked, unfinished=len(asked.prompts) * asked.choices)
        with self._changed:
            rows = asked.rows * len(asked.prompts)
            if self._closed:
                raise EngineClosedError("this engine takes no more requests")
            if self._load + rows > self.slots + self.queue:
                raise EngineFullError(f"{self._load} sequences run or wait, and at most {self.slots + self.queue} may")
            self._load += rows
            for number, ids in enumerate(asked.prompts):
                self._waiting.append(_Prompt(job, ids, number * asked.choices))
            self._changed.notify()
        return job

    def cancel(self, job: Job) -> None:
        """Nobody waits for this request any more: its rows are free before the next token."""
        with self._changed:
            job.cancelled = True
            self._changed.notify()

    def close(self, timeout: float | None = None) -> bool:
        """Take no more, finish what was taken; True when all is finished within `timeout` seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def abandon(self) -> None:
        """Take no more and give up what was taken."""
        with self._changed:
            self._closed = self._abandoned = True
            self._changed.notify()

    @property
    def load(self) -> int:
        """Rows that run or wait."""
        return self._load

    @property
    def running(self) -> int:
        """Rows that run."""
        return len(self._rows)

    def _run(self) -> None:
        import torch

        with torch.inference_mode():
            while self._wait():
                try:
                    self._round()
                except Exception as error:  # the thread must outlive whatever one batch has done
                    log.exception("the engine failed; its requests are answered with an error")
                    self._fail_all(f"{type(error).__name__}")
                self._hand_over()

    def _wait(self) -> bool:
        with self._changed:
            while not (self._waiting or self._rows or self._reading or self._closed):
                self._changed.wait()
            return not self._abandoned and bool(self._waiting or self._rows or self._reading)

    def _round(self) -> None:
        self._drop_cancelled()
        if self._reading is None:
            self._start_reading()
        if self._reading is not None:
            self._read_on(self._reading)
        if self._rows:
            self._decode()

    def _drop_cancelled(self) -> None:
        with self._changed:
            self._waiting = deque(prompt for prompt in self._waiting if not _gone(prompt.job))
        if any(_gone(row.job) for row in self._rows):
            self._settle([(place, row) for place, row in enumerate(self._rows) if not _gone(row.job)])
        if self._reading is not None and all(_gone(prompt.job) for prompt in self._reading.prompts):
            self._reading = None
        self._count()

    def _start_reading(self) -> None:
        import torch

        from pipelines.core.learning.window import Window

        free = self.slots - self._taken()
        prompts: list[_Prompt] = []
        with self._changed:
            longest = 0
            while self._waiting and (rows := self._waiting[0].job.asked.rows) <= free:
                longest = max(longest, len(self._waiting[0].ids))
                if prompts and longest * (len(prompts) + 1) > self._prefill_tokens:
                    break
                prompts.append(self._waiting.popleft())
                free -= rows
            self._begun_jobs.update(prompt.job for prompt in prompts)
        if not prompts:
            return
        longest = max(len(prompt.ids) for prompt in prompts)
        window = Window(self.model, len(prompts), longest)
        window.begin([len(prompt.ids) for prompt in prompts])
        padded = [[0] * (longest - len(prompt.ids)) + prompt.ids for prompt in prompts]
        self._reading = _Reading(prompts, window, torch.tensor(padded, device=self.model.device))

    def _taken(self) -> int:
        searches = {id(row.search): row.search.width for row in self._rows if row.search is not None}
        return sum(row.search is None for row in self._rows) + sum(searches.values())

    def _read_on(self, reading: _Reading) -> None:
        piece = max(1, self._prefill_tokens // len(reading.prompts))
        logits_PV = reading.window.prefill(reading.ids_PQ[:, reading.done : reading.done + piece])
        reading.done += piece
        if reading.done < reading.ids_PQ.shape[1]:
            return
        self._reading = None
        rows: list[_Row] = []
        sources: list[int] = []
        for number, prompt in enumerate(reading.prompts):
            if _gone(prompt.job):
                continue
            begun = self._begun(prompt)
            rows += begun
            sources += [number] * len(begun)
        kept = self._advance(rows, logits_PV[sources])
        if kept:
            self._window.append(reading.window, [sources[place] for place, _ in kept])
            self._rows += [row for _, row in kept]
        self._count()

    def _begun(self, prompt: _Prompt) -> list[_Row]:
        job, asked = prompt.job, prompt.job.asked
        if asked.beams > 1:
            search = Beams(asked.beams, asked.max_tokens, self.ends, asked.length_penalty)
            return [_Row(job, prompt.first_choice, search=search)]
        return [self._begun_row(job, prompt.first_choice + number) for number in range(asked.choices)]

    def _begun_row(self, job: Job, choice: int) -> _Row:
        asked = job.asked
        row = _Row(job, choice)
        if asked.temperature > 0:
            row.chance = random.Random() if asked.seed is None else random.Random(f"{asked.seed}:{choice}")
        if asked.stream or asked.stops:
            row.wording = Wording(self._text, asked.stops, asked.lead)
        return row

    def _text(self, tokens: list[int]) -> str:
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _decode(self) -> None:
        logits_RV = self._window.decode([row.next for row in self._rows])
        self._settle(self._advance(self._rows, logits_RV))
        self._count()

    def _advance(self, rows: Sequence[_Row], logits_RV: "Tensor") -> list[tuple[int, _Row]]:
        """Give every row its next token; return those that go on, each with the place whose keys it continues."""
        self._fail_broken(rows, logits_RV)
        plain = [place for place, row in enumerate(rows) if row.search is None and not row.job.failed]
        if plain:
            every = len(plain) == len(rows)
            self._extend([rows[place] for place in plain], logits_RV if every else logits_RV[plain])
        kept = [(place, rows[place]) for place in plain if not rows[place].finished]
        searches: dict[int, list[int]] = {}
        for place, row in enumerate(rows):
            if row.search is not None and not row.job.failed:
                searches.setdefault(id(row.search), []).append(place)
        for places in searches.values():
            places.sort(key=lambda place: rows[place].beam)
            kept += self._search_on(rows[places[0]], places, logits_RV[places])
        return kept

    def _fail_broken(self, rows: Sequence[_Row], logits_RV: "Tensor") -> None:
        if not bool(logits_RV.sum().isfinite()):
            for row, fine in zip(rows, logits_RV.isfinite().all(-1).tolist(), strict=True):
                if not fine:
                    self._fail(row.job, "the model gave numbers that are not finite")

    def _extend(self, rows: list[_Row], logits_RV: "Tensor") -> None:
        chosen_R = sampling.choose(
            logits_RV,
            [row.job.asked.temperature for row in rows],
            [row.job.asked.top_p for row in rows],
            [row.chance.random() if row.chance else 0.0 for row in rows],
        )
        scores = sampling.scored(logits_RV, chosen_R, [row.job.asked.logprobs or 0 for row in rows])
        for row, score in zip(rows, scores, strict=True):
            self._push(row, score)

    def _push(self, row: _Row, score: sampling.Scored) -> None:
        job, asked = row.job, row.job.asked
        row.next = score.token
        row.tokens.append(score.token)
        row.unsent += 1
        if asked.logprobs is not None:
            row.scored.append(score)
        job.completion_tokens += 1
        job.nats -= score.logprob
        if job.first_token is None:
            job.first_token = time.monotonic() - job.submitted
        ended = score.token in self.ends
        text = row.wording.push(score.token) if row.wording is not None and not ended else ""
        stopped = row.wording is not None and row.wording.stopped
        if ended or stopped or len(row.tokens) >= asked.max_tokens:
            row.finished = True
            self._finish(row, text, "stop" if ended or stopped else "length")
        elif asked.stream and (text or row.unsent >= 16):
            self._emit(row, text, None)
        elif text and row.wording is not None:
            row.wording.keep(text)

    def _finish(self, row: _Row, text: str, why: str) -> None:
        if row.wording is not None:
            text = row.wording.kept + text + row.wording.finish()
            why = "stop" if row.wording.stopped else why
        else:
            spoken = row.tokens[:-1] if row.tokens[-1] in self.ends else row.tokens
            text = self._text(spoken).removeprefix(row.job.asked.lead)
        self._emit(row, text, why)

    def _emit(self, row: _Row, text: str, finish: str | None) -> None:
        fresh = row.tokens[len(row.tokens) - row.unsent :]
        if finish is not None:
            row.job.unfinished -= 1
        piece = Piece(
            choice=row.choice,
            text=text,
            tokens=fresh,
            scored=row.scored,
            finish=finish,
            last=row.job.unfinished == 0,
        )
        row.unsent, row.scored = 0, []
        self._out.append((row.job, piece))

    def _search_on(self, row: _Row, places: list[int], logits_BV: "Tensor") -> list[tuple[int, _Row]]:
        search, job = row.search, row.job
        assert search is not None  # noqa: S101  the caller chose rows of a search
        if job.first_token is None:
            job.first_token = time.monotonic() - job.submitted
        parents, tokens = search.step(logits_BV)
        if not search.done:
            return [
                (places[parent], _Row(job, row.choice, next=token, search=search, beam=beam))
                for beam, (parent, token) in enumerate(zip(parents, tokens, strict=True))
            ]
        for number, text in enumerate(search.best(job.asked.choices)):
            self._tell(job, row.choice + number, text.tokens)
        return []

    def _tell(self, job: Job, choice: int, tokens: list[int]) -> None:
        """A whole text of a beam search, cut at stop strings."""
        row = _Row(job, choice, tokens=tokens, unsent=len(tokens))
        job.completion_tokens += len(tokens)
        ended = tokens[-1] in self.ends
        if job.asked.stops:
            row.wording = Wording(self._text, job.asked.stops, job.asked.lead)
            for token in tokens[:-1] if ended else tokens:
                row.wording.keep(row.wording.push(token))
        self._finish(row, "", "stop" if ended else "length")

    def _settle(self, kept: list[tuple[int, _Row]]) -> None:
        """Go on with `kept` rows; one that may stay in its place does, and holes are filled from the end."""
        placed: list[tuple[int, _Row] | None] = [None] * len(kept)
        others = []
        for place, row in kept:
            if place < len(kept) and placed[place] is None:
                placed[place] = (place, row)
            else:
                others.append((place, row))
        whole = [one if one is not None else others.pop() for one in placed]
        self._window.keep([place for place, _ in whole])
        self._rows = [row for _, row in whole]

    def _fail(self, job: Job, why: str) -> None:
        if not job.failed:
            job.failed = True
            self._out.append((job, Piece(choice=0, text="", tokens=[], scored=[], finish=None, error=why, last=True)))

    def _fail_all(self, why: str) -> None:
        with self._changed:
            for job in self._begun_jobs:
                if not job.cancelled:
                    self._fail(job, why)
            self._waiting = deque(prompt for prompt in self._waiting if not prompt.job.failed)
        self._rows, self._reading = [], None
        self._window.clear()
        self._count()

    def _count(self) -> None:
        with self._changed:
            reading = self._reading.prompts if self._reading is not None else []
            waiting = sum(prompt.job.asked.rows for prompt in (*self._waiting, *reading))
            self._load = self._taken() + waiting

    def _hand_over(self) -> None:
        self._begun_jobs = {job for job in self._begun_jobs if job.unfinished and not _gone(job)}
        if self._out:
            out, self._out = self._out, []
            self._deliver(out)


def _gone(job: Job) -> bool:
    return job.cancelled or job.failed


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a text, by the model's generation settings, else its tokenizer."""
    ends = model.generation_config.eos_token_id
    ends = tokenizer.eos_token_id if ends is None else ends
    return frozenset([] if ends is None else [ends] if isinstance(ends, int) else ends)


def mean_nats(job: Job) -> float | None:
    """Negative log-probability per sampled token."""
    counted = job.completion_tokens if job.asked.beams == 1 else 0
    value = job.nats / counted if counted else math.nan
    return value if math.isfinite(value) else None
