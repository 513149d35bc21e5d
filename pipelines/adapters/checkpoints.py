"""Checkpoints of a training stage: kept outside the tracked outputs, so that a killed run goes on where it was.

They lie in `.moteur/checkpoints/<stage>/<key>/<step>/`, where the key is a hash of what the training depends on:
other settings or other data never meet old state. A checkpoint appears whole or not at all, two are kept, and a lock
keeps a second trainer out. A training that is over removes its own, and those that lay beside them when it was opened.
"""

import hashlib
import json
import math
import shutil
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.adapters import files, locks
from pipelines.adapters.locks import BusyError
from pipelines.artifacts import State
from pipelines.errors import ArtifactError, ResourceError

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 2
FORMAT = 2
"""Of what trainings keep; raised when a stage keeps something else, so that it does not meet what it cannot read."""
PINNED = "pinned"
MANIFEST, TENSORS, VALUES = "manifest.json", "state.safetensors", "state.json"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state of a training after `step` steps."""

    step: int
    tensors: "dict[str, Tensor]"
    values: dict[str, Any]
    seconds: float
    """What the training had taken by then, of all the runs that it was spread over."""


class Checkpoints:
    """The checkpoints of one training; get it from `opened`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds_before = 0.0
        """What the training took in earlier runs, up to the checkpoint that `latest` found."""
        self._begun = time.monotonic()
        beside = (other for other in sorted(folder.parent.iterdir()) if other != folder)
        self._others = [other for other in beside if _steps(other) or (other / PINNED).is_dir()]

    @classmethod
    @contextmanager
    def opened(
        cls,
        stage: str,
        sections: Mapping[str, Any],
        inputs: Iterable[Path],
        root: Path = State.CHECKPOINTS.path,
    ) -> "Iterator[Checkpoints]":
        """Open the checkpoints of `stage` under these params sections (as plain values) and input artifacts.

        Says so on stderr when there are some of other params or inputs.

        Raises:
            ResourceError: when another process trains with the same params and inputs in this workspace.
        """
        folder = root / stage / key(stage, sections, inputs)

        def busy(holder: str) -> ResourceError:
            return ResourceError(
                f"Process {holder} is running {stage} with the same params and inputs in this workspace: wait for it,"
                " or stop it."
            )

        with locks.holding(folder / "lock", wait=0, busy=busy):
            _sweep(folder)
            store = cls(folder)
            store._tell_of_others(stage)
            yield store

    def _tell_of_others(self, stage: str) -> None:
        if self._others:
            print(  # noqa: T201  the user reads this
                f"{stage}: {'' if self._steps() else 'starting anew: '}{self.folder.parent} holds checkpoints of other"
                " params or inputs, which are removed once this training has finished",
                file=sys.stderr,
            )

    def require_space(self, state_bytes: int, pinned_bytes: int = 0) -> None:
        """Check that the kept checkpoints, the one being written and all that will be pinned fit on the disk.

        Raises:
            ResourceError: with the figures.
        """
        needed = (
            state_bytes * (KEPT + 1) + pinned_bytes - sum(file.stat().st_size for file in self.folder.rglob(TENSORS))
        )
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise ResourceError(
                f"Checkpoints need {math.ceil(needed / 2**20):,} MiB below {self.folder.parent} but {free // 2**20:,}"
                " MiB are free: free some space, or make the model smaller (section model in params.yaml)."
            )

    def latest(self) -> Checkpoint | None:
        """The newest whole checkpoint, where the training now goes on; a torn one is passed over with a warning."""
        self._begun = time.monotonic()
        for step in reversed(self._steps()):
            try:
                found = self._load(self._folder(step))
            except ArtifactError as error:
                warnings.warn(f"{error} Going back to the checkpoint before it.", stacklevel=2)
            else:
                self.seconds_before = found.seconds
                return found
        return None

    def save(self, step: int, tensors: "Mapping[str, Tensor]", values: Mapping[str, Any]) -> None:
        """Write a checkpoint atomically, then remove all but the newest two.

        Raises:
            ResourceError: when the disk is full; the checkpoints before are left as they are.
        """
        self._write(self._folder(step), step, tensors, values)
        for old in self._steps()[:-KEPT]:
            shutil.rmtree(self._folder(old))

    def _write(self, folder: Path, step: int, tensors: "Mapping[str, Tensor]", values: Mapping[str, Any]) -> None:
        from safetensors.torch import save_file

        seconds = self.seconds_before + time.monotonic() - self._begun
        with files.replacing(folder) as fresh:
            fresh.mkdir()
            save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, fresh / TENSORS)
            (fresh / VALUES).write_text(json.dumps({"step": step, "seconds": seconds, **values}), encoding="utf-8")
            digests = {name: files.sha256(fresh / name) for name in (TENSORS, VALUES)}
            (fresh / MANIFEST).write_text(json.dumps(digests, indent=2) + "\n", encoding="utf-8")

    def pin(self, step: int, tensors: "Mapping[str, Tensor]", values: Mapping[str, Any]) -> None:
        """Keep what came out of `step` until the training is over, beside the checkpoints that come and go.

        Raises:
            ResourceError: as in `save`.
        """
        self._write(self._pin(step), step, tensors, values)

    def pinned(self, step: int) -> Checkpoint:
        """What was pinned at `step`.

        Raises:
            ArtifactError: when it is torn.
        """
        try:
            return self._load(self._pin(step))
        except ArtifactError as error:
            raise ArtifactError(f"{error} Remove {self.folder} and run again: the training begins anew.") from None

    def discard(self) -> None:
        """Remove all, as the outputs are safe; also those of other params or inputs, unless a process uses them."""
        _clear(self.folder)
        for other in self._others:
            with suppress(BusyError), locks.holding(other / "lock", wait=0):
                _clear(other)

    def _steps(self) -> list[int]:
        return _steps(self.folder)

    def _folder(self, step: int) -> Path:
        return self.folder / f"{step:09}"

    def _pin(self, step: int) -> Path:
        return self.folder / PINNED / f"{step:09}"

    def _load(self, folder: Path) -> Checkpoint:
        from safetensors.torch import load_file

        manifest = files.read_json(folder / MANIFEST)
        for name in (TENSORS, VALUES):
            digest = manifest.get(name) if isinstance(manifest, dict) else None
            if not (folder / name).is_file() or files.sha256(folder / name) != digest:
                raise ArtifactError(f"{folder / name} is torn: its content is not what the manifest says.")
        values = files.read_json(folder / VALUES)
        step, seconds = values.pop("step"), values.pop("seconds", 0.0)  # one of an earlier version does not say
        return Checkpoint(step=step, tensors=load_file(folder / TENSORS), values=values, seconds=seconds)


def key(stage: str, sections: Mapping[str, Any], inputs: Iterable[Path]) -> str:
    """What a training depends on, as one name: the stage, its params, the content of its inputs."""
    facts = {
        "format": FORMAT,
        "stage": stage,
        "sections": dict(sections),
        "inputs": {str(path): files.sha256(path) for path in inputs},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _steps(folder: Path) -> list[int]:
    return sorted(int(item.name) for item in folder.glob("*") if item.name.isdigit() and item.is_dir())


def _sweep(folder: Path) -> None:
    """Remove what a killed writer has left."""
    for torn in folder.glob(".*"):
        if torn.is_dir():
            shutil.rmtree(torn)


def _clear(folder: Path) -> None:
    """Remove all but the lock, which another process may be about to take."""
    _sweep(folder)
    for step in _steps(folder):
        shutil.rmtree(folder / f"{step:09}")
    shutil.rmtree(folder / PINNED, ignore_errors=True)
