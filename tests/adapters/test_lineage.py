"""What dvc.lock says, read in one place."""

from pathlib import Path

import pytest

from pipelines.adapters import cache, lineage
from pipelines.errors import ArtifactError

LOCK = """
schema: '2.0'
stages:
  ppo:
    cmd: python -m pipelines.ppo
    deps:
    - {path: 'https://example.org/data', etag: abc}
    - {path: models/sft, md5: 11.dir}
    outs:
    - {path: models/policy, md5: 22.dir}
  deployment: {cmd: 'true'}
"""


def test_hashes_are_read_by_stage_and_kind(tmp_path: Path) -> None:
    (tmp_path / "dvc.lock").write_text(LOCK)
    assert lineage.locked(tmp_path) == {
        "ppo": {"deps": {"https://example.org/data": "", "models/sft": "11.dir"}, "outs": {"models/policy": "22.dir"}},
        "deployment": {"deps": {}, "outs": {}},
    }
    assert cache.outs(tmp_path) == [cache.Item(stage="ppo", path="models/policy", md5="22.dir")]


def test_without_a_lock_nothing_was_made(tmp_path: Path) -> None:
    assert lineage.locked(tmp_path) == {}
    with pytest.raises(ArtifactError, match=r"dvc\.lock is missing: run `moteur run`"):
        cache.outs(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "stages: {ppo: 3}", "stages: {ppo: {outs: [{path: a}]}}", "a: [", "\udce9"])
def test_a_torn_lock_is_named_with_the_remedy(tmp_path: Path, text: str) -> None:
    (tmp_path / "dvc.lock").write_bytes(text.encode(errors="surrogateescape"))
    for read in (lineage.locked, cache.outs):
        with pytest.raises(ArtifactError, match=r"dvc\.lock is torn \(\w+\): `git checkout dvc\.lock`"):
            read(tmp_path)
