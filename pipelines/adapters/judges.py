"""Who judges and who writes where a constitution gives feedback: a model here, a reward model, or a server."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.adapters import endpoint, files, models, yaml_text
from pipelines.adapters.tracking import Tracker
from pipelines.core.judging.ai_feedback import Given
from pipelines.core.learning import comparisons, constitution, decoding, letters, revisions, rewards
from pipelines.core.learning.comparisons import Tally
from pipelines.core.learning.constitution import Case, Judge, Principle, Question, Writer
from pipelines.core.learning.preferences import Ranking
from pipelines.core.text.prompts import Message
from pipelines.errors import ArtifactError, DataError, ParamsError
from pipelines.params import Constitution

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LETTER_TOKENS = 8
"""Room for the letter and what some servers put before it; who explains is cut off and not understood."""
BATCH_SIZE = 64
TEXTS = ("name", "critique", "revision", "comparison")


@dataclass(frozen=True, kw_only=True)
class Principles:
    """What constitution.yaml says."""

    principles: list[Principle]
    sha256: str


def load(path: Path) -> Principles:
    """Read the principles.

    Raises:
        DataError: the file is missing or not of the form; says where.
    """
    import yaml

    try:
        value = yaml_text.load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing: write it, or get it back by `git checkout -- {path.name}`") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise DataError(f"{path} is not YAML: {error}") from None
    entries = value.get("principles") if isinstance(value, dict) and len(value) == 1 else None
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{path} must be one list `principles:` of entries with {', '.join(TEXTS)}")
    principles = [_principle(path, number, entry) for number, entry in enumerate(entries, 1)]
    names = [principle.name for principle in principles]
    if twice := [name for name in names if names.count(name) > 1]:
        raise DataError(f"{path} has two principles of the name {twice[0]!r}: give each a name of its own")
    return Principles(principles=principles, sha256=files.sha256(path))


def _principle(path: Path, number: int, entry: Any) -> Principle:
    if not isinstance(entry, dict) or set(entry) != set(TEXTS):
        keys = sorted(map(str, entry)) if isinstance(entry, dict) else type(entry).__name__
        raise DataError(f"{path}, principle {number}: {keys} instead of {', '.join(TEXTS)}")
    for key, text in entry.items():
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"{path}, principle {number}: {key} is {text!r}, a text that is not empty is needed")
    return Principle(**{key: text.strip() for key, text in entry.items()})


class Panel:
    """The judge and the writer that params choose; what they need is checked at once and loaded when first asked.

    Args:
        settings: The section feedback.constitution.
        principles: By which they go.
        model: Folder of the instruction model.
        kept: Folder of the answers of a server.
        device: Where models run.
        max_new_tokens: Longest critique or revision.
        seed: Of what is drawn; sent to the server, too.
        tracker: Shows how far it is.

    Raises:
        ParamsError: the token is missing.
        DataError: there is no such reward model, or it has no chat template.
    """

    def __init__(
        self,
        settings: Constitution,
        principles: Principles,
        *,
        model: Path,
        kept: Path,
        device: "torch.device",
        max_new_tokens: int,
        seed: int,
        tracker: Tracker,
    ) -> None:
        self._settings, self._principles = settings, principles
        self._folder, self._device = model, device
        self._max_new_tokens, self._seed, self._tracker = max_new_tokens, seed, tracker
        asks = "endpoint" in (settings.judge, settings.writer)
        self._client = endpoint.Client(settings.endpoint, kept) if asks and settings.endpoint else None
        self._loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None
        self._reward = _reward_model(settings.reward_model) if settings.judge == "reward_model" else None

    def give(self, cases: Sequence[Case], revised: Sequence[Case]) -> Given:
        """Rank the responses of `cases`, and criticise and revise the first response of each of `revised`.

        Raises:
            ParamsError: it needs more answers of the server than `max_requests`; none was asked for.
            DataError: the server refuses or is away, or the judge gives no usable answer to anything.
        """
        self._limit(cases, revised)
        tally, count = Tally(), self._settings.principles_per_prompt
        options: dict[str, Any] = {"count": count, "seed": self._seed, "tally": tally}
        every = comparisons.judged(cases, self._principles.principles, self.judge, **options)
        if cases and not any(every):
            raise DataError(
                f"The judge {self._settings.judge} gave no usable answer to any of {tally.num_asked:,} comparisons:"
                " prompts with two responses are longer than it reads, or it says more than a letter. Choose another"
                " with feedback.constitution.judge in params.yaml, or lower feedback.max_new_tokens."
            )
        made = revisions.revised(revised, self._principles.principles, self.writer, self.judge, **options)
        rankings = [
            Ranking(
                id=f"{case.id}-constitution",
                prompt=case.prompt,
                responses=case.responses,
                ranks=ranks,
                annotator=f"constitution:{self._settings.judge}",
                kind="constitution",
                task=case.task,
                gold=case.gold,
                instructions=self._principles.sha256,
            )
            for case, ranks in zip(cases, every, strict=True)
            if ranks is not None
        ]
        return Given(cases=list(cases), rankings=rankings, revisions=made, tally=tally)

    @property
    def judge(self) -> Judge:
        """The judge of params."""
        return {"self": self._by_letters, "reward_model": self._by_reward, "endpoint": self._by_server}[
            self._settings.judge
        ]

    @property
    def writer(self) -> Writer:
        """The writer of params."""
        return self._write if self._settings.writer == "self" else self._let_write

    def _limit(self, cases: Sequence[Case], revised: Sequence[Case]) -> None:
        pairs, texts = constitution.num_requests(
            cases, revised, min(self._settings.principles_per_prompt, len(self._principles.principles))
        )
        asked = pairs * (self._settings.judge == "endpoint") + texts * (self._settings.writer == "endpoint")
        if self._settings.endpoint and asked > self._settings.endpoint.max_requests:
            raise ParamsError(
                f"{len(cases)} prompts need up to {asked:,} answers of the server, but {endpoint.KEY}.max_requests is"
                f" {self._settings.endpoint.max_requests:,}: raise it, or lower feedback.constitution.share,"
                " feedback.responses_per_prompt or feedback.num_prompts in params.yaml"
            )

    def _model(self) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
        if self._loaded is None:
            loaded = models.load_causal(self._folder).to(self._device)
            self._loaded = loaded, models.load_tokenizer(self._folder)
        return self._loaded

    def _by_letters(self, questions: Sequence[Question]) -> list[float | None]:
        asked = [constitution.comparison_request(question) for question in questions]
        with self._tracker.progress("comparisons", len(asked), "comparisons") as bar:
            return letters.chances(
                *self._model(), asked, constitution.LETTERS, batch_size=BATCH_SIZE, advance=bar.advance
            )

    def _by_reward(self, questions: Sequence[Question]) -> list[float | None]:
        """Bradley-Terry: the chance is the logistic function of the difference of the rewards."""
        assert self._reward is not None  # noqa: S101  it is the judge
        folder, tokenizer = self._reward
        model = models.load_reward(folder).to(self._device)
        texts = list(dict.fromkeys((one.prompt, text) for one in questions for text in (one.first, one.second)))
        ids = rewards.conversation_ids(tokenizer, [prompt for prompt, _ in texts], [text for _, text in texts])
        fits = [row for row, sequence in enumerate(ids) if len(sequence) <= decoding.longest(model)]
        scores = rewards.score_ids(model, [ids[row] for row in fits], batch_size=BATCH_SIZE)
        if not all(map(math.isfinite, scores)):
            raise DataError(
                f"{folder}, the judge, gives rewards that are no numbers: name another folder in"
                " feedback.constitution.reward_model in params.yaml"
            )
        reward = {texts[row]: score for row, score in zip(fits, scores, strict=True)}
        return [
            None if None in pair else _logistic(pair[0] - pair[1])  # type: ignore[operator]
            for one in questions
            for pair in [(reward.get((one.prompt, one.first)), reward.get((one.prompt, one.second)))]
        ]

    def _by_server(self, questions: Sequence[Question]) -> list[float | None]:
        asked = [constitution.comparison_request(question) for question in questions]
        return list(map(constitution.chance_from, self._ask(asked, LETTER_TOKENS)))

    def _write(self, conversations: Sequence[list[Message]]) -> list[str | None]:
        model, tokenizer = self._model()
        asked = [decoding.chat_ids(tokenizer, conversation) for conversation in conversations]
        room = decoding.longest(model) - self._max_new_tokens
        fits = [row for row, ids in enumerate(asked) if len(ids) <= room]
        said = decoding.respond(
            model,
            tokenizer,
            [asked[row] for row in fits],
            max_new_tokens=self._max_new_tokens,
            batch_size=BATCH_SIZE,
        )
        found: list[str | None] = [None] * len(asked)
        for row, response in zip(fits, said, strict=True):
            found[row] = response.text if response.finished and response.text else None
        return found

    def _let_write(self, conversations: Sequence[list[Message]]) -> list[str | None]:
        return self._ask(conversations, self._max_new_tokens)

    def _ask(self, conversations: Sequence[list[Message]], max_tokens: int) -> list[str | None]:
        assert self._client is not None  # noqa: S101  somebody asks it
        with self._tracker.progress("answers of the server", len(conversations), "answers") as bar:
            return self._client.answers(conversations, max_tokens=max_tokens, seed=self._seed, advance=bar.advance)


def _logistic(difference: float) -> float:
    return 0.5 * (1 + math.tanh(difference / 2))


def _reward_model(name: str | None) -> "tuple[Path, PreTrainedTokenizerBase]":
    key = "feedback.constitution.reward_model"
    folder = models.initial(name or "", key)
    models.refuse_unsafe(folder)
    try:
        tokenizer = models.load_tokenizer(folder)
    except (OSError, ValueError) as error:
        raise DataError(f"{key} is {name!r}, which holds no tokenizer: {str(error).splitlines()[0]}") from None
    if tokenizer.chat_template is None:
        raise ArtifactError(f"{key} is {name!r}, whose tokenizer has no chat template: choose another reward model")
    return folder, tokenizer
