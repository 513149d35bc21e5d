"""Releases, workspaces and exams that the tests of gate and registry share."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipelines.adapters import cache, exams, files, release
from pipelines.adapters.examiner import Examined
from pipelines.artifacts import Artifact
from pipelines.core.judging.gates import Marks, Service
from tests import fixtures

ROOT = Path(__file__).parent.parent

FIGURES: dict[str, dict[str, Any]] = {
    "data_validation": {"expectations_met": 6, "expectations_total": 6},
    "tokenization": {"mask_audit_errors": 0},
    "reward_modeling": {
        "held_out_accuracy": 0.75,
        "held_out_accuracy_low": 0.70,
        "length_baseline_accuracy": 0.5,
        "expected_calibration_error": 0.05,
    },
    "ppo": {"distinct_after": 0.9},
    "evaluation": {"policy_forgetting": 0.05},
    "compression": {"test_bits_per_byte_increase": 0.001, "empty_share": 0.0},
}
"""Of a release that every floor of the repository's params.yaml lets through."""


def safetensors(header: Mapping[str, Any] | bytes, data: bytes = b"") -> bytes:
    """A safetensors file, written by hand."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def small(folder: Path, name: str, figures: Mapping[str, Any] = FIGURES) -> Path:
    """A release that is whole in every way but that nobody could talk to: one tensor of four bytes."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    tensor = {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    (folder / release.WEIGHTS).write_bytes(safetensors(tensor, b"\0\0\x80?"))
    files.write_json(folder / "figures.json", figures)
    release.write_manifest(folder, format=1, name=name)
    return folder


def real(folder: Path, *, seed: int, figures: Mapping[str, Any] = FIGURES, broken: bool = False) -> Path:
    """A release that can be loaded and asked: a tiny Llama that has read stories; `broken`: and forgot them all."""
    records = fixtures.corpus_records(200, seed=9)
    tokenizer = fixtures.tiny_tokenizer([record["text"] for record in records])
    model = fixtures.tiny_model(tokenizer, seed=seed)
    _train(model, tokenizer, [record["text"] for record in records])
    if broken:
        for weight in model.model.layers.parameters():
            weight.data = weight.data.flip(0)
    release.save_quantised(model, tokenizer, folder)
    files.write_json(folder / "figures.json", figures)
    release.write_manifest(folder, format=1, name=f"tiny {seed}")
    return folder


def _train(model: Any, tokenizer: Any, texts: list[str], steps: int = 40) -> None:
    import torch

    torch.manual_seed(0)
    row = tokenizer(" ".join(texts))["input_ids"]
    ids_BT = torch.tensor(row[: len(row) // 32 * 32]).view(-1, 32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(steps):
        batch_BT = ids_BT[torch.randint(len(ids_BT), (16,))]
        optimizer.zero_grad()
        loss = model(input_ids=batch_BT, labels=batch_BT).loss
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss), step
    model.eval()


def workspace(root: Path, bundle: Path, **promotion: Any) -> Path:
    """A workspace as after a run that made `bundle`: data, release, report, dvc.lock and DVC's cache."""
    fixtures.write_records(root / Artifact.VALIDATED, stories=120)
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["threads"] = 1
    values["promotion"] |= {"max_new_tokens": 4, "min_examples": 20, "floors": [], **promotion}
    (root / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    (root / "dvc.yaml").write_text("stages: {}\n")
    (root / ".dvc").mkdir(exist_ok=True)
    (root / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    put(root, bundle)
    return root


def put(root: Path, bundle: Path) -> None:
    """Make `bundle` the release of the workspace, recorded as DVC would."""
    shutil.rmtree(root / Artifact.RELEASE, ignore_errors=True)
    shutil.copytree(bundle, root / Artifact.RELEASE)
    digest = files.sha256(bundle / release.MANIFEST)
    files.write_json(root / Artifact.DEPLOYMENT_REPORT, {"manifest_sha256": digest})
    record(root, {"data_validation": [Artifact.VALIDATED], "deployment": [Artifact.RELEASE]})


def record(root: Path, stages: Mapping[str, list[Artifact]]) -> None:
    """Write dvc.lock and the objects behind it."""
    objects = root / ".dvc/cache/files/md5"
    lock: dict[str, Any] = {"schema": "2.0", "stages": {}}
    for stage, artifacts in stages.items():
        outs = []
        for artifact in artifacts:
            md5 = cache.digest(root / artifact)
            outs.append({"path": artifact.value, "hash": "md5", "md5": md5})
            store(objects, md5, cache._listing(root / artifact))
            for file in (root / artifact).rglob("*"):
                if file.is_file():
                    store(objects, cache.digest(file), file.read_bytes())
        lock["stages"][stage] = {"cmd": "true", "outs": outs}
    (root / "dvc.lock").write_text(yaml.safe_dump(lock), encoding="utf-8")


def store(objects: Path, md5: str, content: bytes) -> None:
    file = objects / md5[:2] / md5[2:]
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(0o444)


def exam(folder: Path) -> Path:
    """An exam of eighty stories in a file."""
    fixtures.write_records(folder / "validated", stories=320)
    exams.draw(folder / "validated", folder / exams.NAME, examples_per_task=200, documents=40)
    return folder / exams.NAME


def sitting(score: float) -> Any:
    """An examiner that asks nobody: every question scores `score`, every document has ten nats."""

    def examine(folder: Path, paper: exams.Paper, _params: Any) -> Examined:
        return Examined(
            marks=Marks(
                manifest_sha256=files.sha256(folder / release.MANIFEST),
                scores={question.id: score for question in paper.exam.questions},
                nats=dict.fromkeys(paper.exam.documents, 10.0),
            ),
            service=Service(load_seconds=1, request_seconds=[0.1] * 20, peak_memory_mib=500, num_empty=0),
        )

    return examine
