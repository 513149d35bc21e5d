"""What the server says of itself."""

from pathlib import Path

import pytest

from pipelines.adapters import serving_status
from pipelines.adapters.serving_status import Refused, Serving, Status
from pipelines.artifacts import State


def test_what_was_written_is_read(tmp_path: Path) -> None:
    refused = Refused(version="2", manifest_sha256="b" * 64, reason="torn", time="2026-01-31T14:40:00Z")
    status = Status(serving=Serving(version="1", manifest_sha256="a" * 64), refused=[refused])
    serving_status.write(tmp_path / State.SERVING_STATUS, status)
    assert serving_status.read(tmp_path) == status


@pytest.mark.parametrize("text", [None, "{"])
def test_without_a_whole_file_nothing_is_known(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / State.SERVING).mkdir(parents=True)
        (tmp_path / State.SERVING_STATUS).write_text(text)
    assert serving_status.read(tmp_path) == {"serving": None, "refused": []}
