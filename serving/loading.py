"""From a verified bundle to an engine that has answered: everything that must hold before a version is served."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipelines.adapters import device, files, release
from pipelines.core.text import chat
from pipelines.errors import ArtifactError, MoteurError
from serving.engine import Deliver, Engine, Generation, Piece, end_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Loaded:
    """A model that fits its tokenizer, on its device."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    name: str
    """As the manifest calls it."""


def private_copy(bundle: Path, target: Path, manifest_sha256: str) -> Path:
    """Copy a bundle to where nobody else writes and re-hash the copy, so that what was checked is what is loaded.

    Raises:
        ArtifactError: when the copy is not the bundle with this manifest, or not sound (`release.require_sound`).
    """
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        shutil.copytree(bundle, target, copy_function=shutil.copyfile)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(target, ignore_errors=True)
        raise ArtifactError(f"{bundle} cannot be copied ({error}): make the release again.") from None
    try:
        release.require_sound(target, manifest_sha256)
    except MoteurError:
        shutil.rmtree(target, ignore_errors=True)
        raise
    return target


def load(bundle: Path, *, precision: Literal["auto", "float32", "bfloat16"]) -> Loaded:
    """Load a verified bundle onto the device.

    Raises:
        ArtifactError: for what `release.load` refuses, and for a tokenizer that is not this model's.
    """
    import torch

    try:
        model, tokenizer = release.load(bundle)
    except MoteurError:
        raise
    except Exception as error:  # transformers and tokenizers raise whatever a torn file makes them raise
        raise ArtifactError(f"{bundle} cannot be loaded ({type(error).__name__}: {error}): make it again.") from None
    refuse_mismatch(model, tokenizer, bundle)
    where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind = torch.float32 if precision == "auto" and where.type == "cpu" else device.precision(precision)
    manifest = files.read_json(bundle / release.MANIFEST)
    return Loaded(model.to(where, kind), tokenizer, str(manifest.get("name", bundle.name)))


def refuse_mismatch(model: Any, tokenizer: Any, bundle: Path) -> None:
    """Refuse a tokenizer that was not made for this model.

    Raises:
        ArtifactError: when it has more entries than the model, or another end or padding token, or a special token of
            the chat template that is none here.
    """
    entries = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > entries:
        raise ArtifactError(
            f"{bundle}: the tokenizer has {len(tokenizer)} entries but the model {entries} embeddings: they do not"
            " belong together; run deployment again."
        )
    if tokenizer.eos_token_id not in end_tokens(model, tokenizer):
        raise ArtifactError(
            f"{bundle}: the tokenizer ends a text with token {tokenizer.eos_token_id} ({tokenizer.eos_token!r}), the"
            f" model with {sorted(end_tokens(model, tokenizer))}: they do not belong together; run deployment again."
        )
    template = tokenizer.chat_template or ""
    for token in chat.SPECIAL_TOKENS:
        if token in template and token not in tokenizer.all_special_tokens + list(tokenizer.get_added_vocab()):
            raise ArtifactError(
                f"{bundle}: the chat template uses {token}, which the tokenizer takes for plain text: they do not"
                " belong together; run deployment again."
            )


def warm_up(engine: Engine, answers: "Answers", prompts: list[str], *, max_tokens: int, seconds: float) -> None:
    """Let an engine answer `prompts` before anybody else asks.

    Raises:
        ArtifactError: when it is too slow, fails, or answers everything with nothing.
    """
    deadline = time.monotonic() + seconds
    asked = [chat_ids(engine.tokenizer, [{"role": "user", "content": prompt}]) for prompt in prompts]
    room = max(1, engine.context - max_tokens)
    jobs = [engine.submit(Generation(prompts=[ids[:room]], max_tokens=max_tokens)) for ids in asked]
    texts = []
    for job in jobs:
        piece = answers.wait(job, max(0.0, deadline - time.monotonic()))
        if piece is None:
            raise ArtifactError(
                f"warm-up: no answer within {seconds:g} s; the machine is too small or busy, or raise"
                " serving.warm_up_seconds in params.yaml"
            )
        if piece.error is not None:
            raise ArtifactError(f"warm-up: {piece.error}")
        texts.append(piece.text)
    if not any(text.strip() for text in texts):
        raise ArtifactError(f"warm-up: all of {len(texts)} prompts are answered with nothing")


def chat_ids(tokenizer: Any, messages: list[dict[str, str]]) -> list[int]:
    """A conversation as tokens, the assistant's turn begun.

    Raises:
        Whatever the template raises for messages it does not know.
    """
    ids: list[int] = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=False
    )
    return ids


class Answers:
    """Whole answers for callers that wait; anything else goes on to `other`."""

    def __init__(self, other: Deliver) -> None:
        import threading

        self._other, self._arrived = other, threading.Condition()
        self._pieces: dict[Any, Piece] | None = {}

    def deliver(self, batch: list[tuple[Any, Piece]]) -> None:
        """What the engine calls."""
        if self._pieces is None:
            self._other(batch)
            return
        with self._arrived:
            for job, piece in batch:
                if self._pieces is not None and piece.last:
                    self._pieces[job] = piece
            self._arrived.notify_all()

    def wait(self, job: Any, seconds: float) -> Piece | None:
        """The last piece of a job, or None when it takes longer."""
        with self._arrived:
            self._arrived.wait_for(lambda: self._pieces is None or job in self._pieces, seconds)
            return (self._pieces or {}).get(job)

    def open(self) -> None:
        """From now on everything goes to `other`."""
        with self._arrived:
            self._pieces = None
