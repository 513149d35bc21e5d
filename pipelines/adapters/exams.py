"""The exam of a release: test instructions and documents, drawn when it is registered, and kept with the version.

Champion and challenger sit the same one, whatever becomes of the workspace in between. One JSON object a line:
`{id, task, text, metric, prompt, references}` for an instruction (`text` names what it is about), `{id, document}` for
a held-out document. The sha256 of the file names the exam.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.adapters import datasets, files
from pipelines.core.judging import scores
from pipelines.core.judging.gates import Exam, Question
from pipelines.core.text.prompts import user_text
from pipelines.errors import ArtifactError, DataError

NAME = "exam.jsonl"


@dataclass(frozen=True, kw_only=True)
class Paper:
    """An exam with its texts."""

    exam: Exam
    instructions: list[dict[str, Any]]
    documents: list[dict[str, Any]]


def draw(validated: Path, target: Path, *, examples_per_task: int, documents: int) -> Paper:
    """Draw an exam from the split test of the validated data, write it to `target`, and return it.

    The draw goes by hashes of the ids, so that the same data give the same exam.

    Raises:
        DataError: when there is nothing to ask.
        ArtifactError: when the data cannot be read.
    """
    records = list(datasets.records(validated, "instructions", "test"))
    short = set(scores.short_answer_tasks(records))
    asked = scores.drawn(records, examples_per_task * len({record["task"] for record in records}))
    read = scores.drawn(list(datasets.records(validated, "corpus", "test")), documents)
    if not asked or not read:
        raise DataError(
            f"There is no exam to draw: {validated} has {len(records)} test instructions and {len(read)} test"
            " documents. Give ingestion.instructions.test and ingestion.corpus.test a source in params.yaml."
        )
    lines = [_instruction(record, "exact_match" if record["task"] in short else "rouge_l") for record in asked]
    files.write_jsonl(target, [*lines, *({"id": record["id"], "document": record["text"]} for record in read)])
    return load(target)


def _instruction(record: dict[str, Any], metric: str) -> dict[str, Any]:
    context = record.get("context") or ""
    about = hashlib.sha256(context.encode()).hexdigest()[:16] if context else str(record["id"])
    return {
        "id": record["id"],
        "task": record["task"],
        "text": about,
        "metric": metric,
        "prompt": user_text(context, record["prompt"]),
        "references": scores.references(record),
    }


def load(file: Path) -> Paper:
    """Read an exam.

    Raises:
        ArtifactError: when it is missing, torn, or has an id twice.
    """
    lines = list(files.read_jsonl(file))
    documents = [line for line in lines if "document" in line]
    instructions = [line for line in lines if "document" not in line]
    for kind in (documents, instructions):
        if len({line["id"] for line in kind}) != len(kind):
            raise ArtifactError(f"{file} asks something twice: register the release again with `moteur promote`.")
    try:
        questions = [Question(id=line["id"], task=line["task"], text=line["text"]) for line in instructions]
        sizes = {line["id"]: len(line["document"].encode()) for line in documents}
    except (KeyError, AttributeError) as error:
        raise ArtifactError(f"{file} is no exam ({error}): register the release again with `moteur promote`.") from None
    exam = Exam(sha256=files.sha256(file), questions=questions, documents=sizes)
    return Paper(exam=exam, instructions=instructions, documents=documents)
