"""Documents for the tests of drift: stories, batches of them, logs of requests."""

import json
import random
from datetime import UTC, datetime

from flows.drift import monitoring
from pipelines.adapters import files, reader, release
from tests.fixtures import corpus_records

DRIFT = {"permutations": 499, "window_documents": 60, "min_documents": 30, "max_documents": 400}


def texts(count, seed, *, foreign=0.0):
    """Stories of the fixtures, the share `foreign` of them about the sea."""
    draw = random.Random(seed)
    made = [record["text"] for record in corpus_records(count, seed=seed)]
    return [text.replace("went to", "sailed past the whale to") if draw.random() < foreign else text for text in made]


def write_batch(path, documents):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents), encoding="utf-8")
    return str(path)


def log(folder, documents, *, start, answered_by=None, text=True, step=60):
    """One segment of the request log, a request a minute from `start` (seconds since 1970)."""
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.glob("*.jsonl"))) + 1
    described = reader.descriptors(documents)
    manifest = files.sha256(answered_by / release.MANIFEST) if answered_by else None
    with (folder / f"requests-20260101T000000-7-{number}.jsonl").open("w", encoding="utf-8") as file:
        for row, document in enumerate(documents):
            record = {
                "id": f"{number}-{row}",
                "time": datetime.fromtimestamp(start + step * row, tz=UTC).isoformat(),
                "manifest_sha256": manifest,
                "prompt_descriptors": {name: round(float(values[row]), 6) for name, values in described.items()},
                "response_descriptors": {},
                "seconds": 0.5,
            }
            file.write(json.dumps(record | ({"prompt": document} if text else {})) + "\n")


def check(folder, **options):
    return monitoring.check(folder=folder, **options)
