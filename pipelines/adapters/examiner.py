"""Let a release sit an exam in a sandbox process: example by example, and how it behaves as a program.

The child is the one of `sandbox`: it hashes the release against its manifest, refuses what could run code, has no
network and no other programs, and limits on memory and time. Answers are greedy, on the CPU, and judged by the pure
scores of `core.judging`.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.adapters import release, sandbox
from pipelines.adapters.exams import Paper
from pipelines.core.judging import scores
from pipelines.core.judging.gates import Marks, Service

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What came of an exam."""

    marks: Marks
    service: Service


def examine(
    folder: Path,
    paper: Paper,
    *,
    prompts: Sequence[str],
    requests: int,
    max_new_tokens: int,
    room: sandbox.Room,
) -> Examined:
    """Let the release in `folder` sit the exam.

    Args:
        folder: A release with its manifest.
        paper: The exam.
        prompts: Asked in turn, one at a time, for the times of `requests` requests.
        requests: How many.
        max_new_tokens: Longest answer in tokens.
        room: Limits of the child.

    Raises:
        ArtifactError: when the release differs from its manifest, is unsafe, cannot be loaded or does not answer.
        ResourceError: when it needs more time or memory than it may have.
    """
    request = {
        "folder": str(folder.resolve()),
        "instructions": paper.instructions,
        "documents": paper.documents,
        "prompts": [prompts[number % len(prompts)] for number in range(requests)],
        "max_new_tokens": max_new_tokens,
    }
    reply = sandbox.converse(__name__, folder, request, room)
    return Examined(
        marks=Marks(manifest_sha256=reply["manifest_sha256"], scores=reply["scores"], nats=reply["nats"]),
        service=Service(**reply["service"]),
    )


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """What the child does.

    Raises:
        ArtifactError: when the release is not sound.
    """
    folder = Path(request["folder"])
    digest = sandbox.enter(folder)
    from pipelines.adapters import device

    began = time.perf_counter()
    model, tokenizer = release.load(folder)
    loaded = time.perf_counter() - began
    limit = request["max_new_tokens"]
    times, said = _timed(model, tokenizer, request["prompts"], limit)
    service = {
        "load_seconds": round(loaded, 4),
        "request_seconds": times,
        "peak_memory_mib": round(device.peak_memory_mib(), 1),
        "num_empty": sum(not text.strip() for text in said),
    }
    return {
        "manifest_sha256": digest,
        "service": service,
        "scores": _scores(model, tokenizer, request["instructions"], limit),
        "nats": {line["id"]: _nats(model, tokenizer, line["document"]) for line in request["documents"]},
    }


def _timed(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[str], limit: int
) -> tuple[list[float], list[str]]:
    from pipelines.core.learning import decoding

    times, said = [], []
    for prompt in prompts:
        began = time.perf_counter()
        ids = decoding.chat_ids(tokenizer, [{"role": "user", "content": prompt}])
        (response,) = decoding.respond(model, tokenizer, [ids], max_new_tokens=limit)
        times.append(round(time.perf_counter() - began, 4))
        said.append(response.text)
    return times, said


def _scores(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", asked: Sequence[Mapping[str, Any]], limit: int
) -> dict[str, float]:
    """Score by id; a prompt that leaves no room for an answer scores 0, as it would for a user."""
    from pipelines.core.learning import decoding

    room = model.config.max_position_embeddings - limit
    ids = [decoding.chat_ids(tokenizer, [{"role": "user", "content": line["prompt"]}]) for line in asked]
    fit = [row for row, tokens in enumerate(ids) if len(tokens) <= room]
    responses = decoding.respond(model, tokenizer, [ids[row] for row in fit], max_new_tokens=limit)
    found = {line["id"]: 0.0 for line in asked}
    for row, response in zip(fit, responses, strict=True):
        line = asked[row]
        score = scores.exact_match if line["metric"] == "exact_match" else scores.rouge_l
        found[line["id"]] = score(response.text, line["references"])
    return found


def _nats(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", text: str) -> float:
    """Negative log-likelihood of a document with the end token behind it, in windows of the model's context."""
    import numpy as np

    from pipelines.core.judging.likelihood import likelihood

    ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], model.config.eos_token_id]
    found = likelihood(model, np.asarray(ids), len(text.encode()), model.config.max_position_embeddings, batch=8)
    return found.nats if found.tokens == len(ids) else math.nan


if __name__ == "__main__":
    sandbox.serve(answer)
