"""Datasets of the Hugging Face hub, streamed: `hf://owner/name[/config][@revision][:split]`."""

import os
import re
import socket
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from pipelines.core.text.lines import Bad, Good
from pipelines.errors import DataError, ParamsError

FORM = "hf://owner/name[/config][@revision][:split]"
SPLITS = {"train": "train", "valid": "validation", "test": "test"}
"""Our split -> the hub's usual name, where the URI names none."""

_PATTERN = re.compile(
    r"hf://(?P<name>[\w.-]+/[\w.-]+)(?:/(?P<config>[\w.-]+))?(?:@(?P<revision>[\w./-]+))?(?::(?P<split>[\w.-]+))?"
)


class HubInput:
    """One split of a hub dataset."""

    num_byte_order_marks = 0

    def __init__(self, uri: str, split: str) -> None:
        match = _PATTERN.fullmatch(uri)
        if match is None:
            raise ParamsError(
                f"{uri!r} is no hub dataset: write {FORM}, for instance hf://roneneldan/TinyStories:train"
            )
        self.name = uri
        self._dataset = _open(uri, **match.groupdict(), default=SPLITS[split])

    def rows(self) -> Iterator[Good | Bad]:
        """Stream the rows.

        Raises:
            DataError: the connection breaks.
        """
        number = 0
        try:
            for number, row in enumerate(self._dataset, 1):
                yield Good(number, dict(row))
        except Exception as error:  # the transport raises errors of its own kinds
            raise DataError(f"{self.name}: reading broke off after {number:,} rows ({error}). Run again.") from None


def _open(uri: str, name: str, config: str | None, revision: str | None, split: str | None, default: str) -> Any:
    if not _reachable():
        raise DataError(_remedy(uri, name, "the hub is out of reach"))
    import datasets

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(name, config, split=split or default, revision=revision, streaming=True)
    except Exception as error:  # the same
        raise DataError(_remedy(uri, name, str(error).split("\n", 1)[0])) from None


def _remedy(uri: str, name: str, reason: str) -> str:
    return (
        f"{uri}: the dataset {name} cannot be opened ({reason}). Check the name, the split and the connection"
        f" (HF_ENDPOINT, HF_HUB_OFFLINE, proxies); or fetch it elsewhere with `hf download {name} --repo-type dataset`,"
        " and name its parquet files instead; those that params.yaml names lie below ingestion.root."
    )


def _reachable() -> bool:
    """False where a look at settings and names shows it at once; the library itself would try for half a minute."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return False
    if urllib.request.getproxies():
        return True
    endpoint = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    try:
        socket.getaddrinfo(endpoint.hostname, endpoint.port or 443)
    except OSError:
        return False
    return True
