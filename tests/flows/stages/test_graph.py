"""The graph as DVC sees it."""

import json
import subprocess
from pathlib import Path

import pytest

from flows.stages import graph
from pipelines.errors import ArtifactError
from tests.flows import toy


def test_a_lock_of_a_dvc_that_was_killed_whose_number_another_program_has_is_said_with_the_remedy(
    tmp_path: Path,
) -> None:
    root = toy.make(tmp_path / "checkout")
    other = subprocess.Popen(["sleep", "60"])
    try:
        lock = root / ".dvc/tmp/rwlock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        holder = {"pid": other.pid, "cmd": "dvc repro"}
        lock.write_text(json.dumps({"write": {str(root / "data/raw"): holder}}))
        with pytest.raises(ArtifactError, match=rf"its process, {other.pid}, is another program's now: remove"):
            graph.load(root)
    finally:
        other.kill()
        other.wait()
    assert not graph.load(root).running
