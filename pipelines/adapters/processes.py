"""Several processes that train one model: torch.distributed in a few verbs, with a null twin for a single process.

The stage's own process is the first of the group and starts the others, which end with it, however it ends; when one of
them is gone or does not answer, the first ends by saying which. A group that torchrun has made is joined as it is.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import DataError, ResourceError

if TYPE_CHECKING:
    from torch import Tensor

SECONDS = 600.0
"""So long a process waits for the others: for a validation or a checkpoint of the first, or one that hangs."""
MEETING = "MOTEUR_MEETING"
"""Names, for a process that we start, the file by which the group finds together."""
LOOPBACK = {"linux": "lo", "darwin": "lo0"}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a process stands in its group."""

    rank: int
    size: int
    local_rank: int
    """Among those of this machine."""
    local_size: int


def place(count: int = 1) -> Place:
    """As torchrun's variables say; without them this is the first of `count` on this machine."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return Place(rank=0, size=count, local_rank=0, local_size=count)
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    local_rank, local_size = os.environ.get("LOCAL_RANK", rank), os.environ.get("LOCAL_WORLD_SIZE", size)
    return Place(rank=rank, size=size, local_rank=int(local_rank), local_size=int(local_size))


class Alone:
    """The null twin: one process, nothing to agree about."""

    rank = 0
    size = 1

    def add_up(self, values: "Tensor") -> None:
        """Do nothing."""

    def any(self, *, flag: bool) -> bool:
        """The flag itself."""
        return flag

    def firsts(self, value: Any) -> Any:
        """The value itself."""
        return value

    def firsts_tensors(self, tensors: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
        """The tensors themselves."""
        return dict(tensors)

    def require_same(self, digest: str) -> None:
        """Do nothing."""


class Together:
    """One of several processes. All must ask the same in the same order.

    Raises:
        ResourceError: from each verb, when a process is gone or does not answer.
    """

    def __init__(self, here: Place, meeting: str | None, others: "Sequence[_Other]", seconds: float) -> None:
        import torch
        import torch.distributed as dist

        self.rank, self.size = here.rank, here.size
        self._others, self._seconds = others, seconds
        with self._answered():
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
                init_method=meeting,
                rank=here.rank,
                world_size=here.size,
                timeout=timedelta(seconds=seconds),
            )

    def add_up(self, values: "Tensor") -> None:
        """Put the sum over all processes into `values`, the same bits in each."""
        import torch.distributed as dist

        with self._answered():
            dist.all_reduce(values)

    def any(self, *, flag: bool) -> bool:
        """Whether any process says so."""
        import torch

        said = torch.tensor([float(flag)])
        self.add_up(said)
        return bool(said)

    def firsts(self, value: Any) -> Any:
        """What the first process gives: a plain value; what the others give is not looked at."""
        import torch.distributed as dist

        values = [value]
        with self._answered():
            dist.broadcast_object_list(values)
        return values[0]

    def firsts_tensors(self, tensors: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
        """The tensors that the first process gives, on the CPU; what the others give is not looked at."""
        import torch
        import torch.distributed as dist

        shapes = self.firsts([(name, tensor.shape, tensor.dtype) for name, tensor in tensors.items()])
        received = {
            name: torch.empty(shape, dtype=dtype) if self.rank else tensors[name].contiguous()
            for name, shape, dtype in shapes
        }
        with self._answered():
            for tensor in received.values():
                dist.broadcast(tensor, src=0)
        return received

    def require_same(self, digest: str) -> None:
        """Check that every process begins with the same settings and inputs, of which this is the digest.

        Raises:
            DataError: when one does not.
        """
        import torch.distributed as dist

        digests = [""] * self.size
        with self._answered():
            dist.all_gather_object(digests, digest)
        odd = [rank for rank, other in enumerate(digests) if other != digests[0]]
        if odd:
            raise DataError(
                f"Processes {odd} of {self.size} have other settings, tokens or another tokenizer than process 0: give"
                " every machine the same params.yaml and inputs (`dvc pull`), then run again."
            )

    def leave(self) -> None:
        """End the group."""
        import torch.distributed as dist

        dist.destroy_process_group()

    @contextmanager
    def _answered(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, ValueError) as error:  # the second where a variable of torchrun is missing
            lost = _lost(self._others, grace=5.0)
            words = lost.words(self.size) if lost else self._silence(error)
            raise ResourceError(f"{words} The next run goes on from the last checkpoint.") from error

    def _silence(self, error: Exception) -> str:
        return (
            f"A process of the {self.size} that train together is gone, or has not answered for {self._seconds:g} s"
            f" ({str(error).splitlines()[0]})."
        )


@contextmanager
def joined(stage: str, count: int, seconds: float = SECONDS) -> "Iterator[Alone | Together]":
    """The group that `count` processes of this stage form on this machine, or the one that torchrun has made.

    Raises:
        ResourceError: when another process is gone or has not answered for this many seconds.
    """
    here = place(count)
    if here.size == 1:
        yield Alone()
        return
    if here.rank or "RANK" in os.environ:
        meeting = os.environ.get(MEETING)
        if meeting:
            Path(f"{meeting}.{here.rank}").touch()
        group = Together(here, f"file://{meeting}" if meeting else None, [], seconds)
        yield group
        group.leave()
        return
    with tempfile.TemporaryDirectory(prefix="moteur-group-") as folder:
        meeting = f"{folder}/meeting"
        others = [_Other(stage, rank, count, meeting) for rank in range(1, count)]
        try:
            _await(others, count, time.monotonic() + seconds)
            group = Together(here, f"file://{meeting}", others, seconds)
            yield group
            group.leave()
        finally:
            for other in others:
                other.end()


class _Other:
    """A process of the group that this one has started; what it says is kept in case that it ends badly."""

    def __init__(self, stage: str, rank: int, count: int, meeting: str) -> None:
        self.rank, self.ready = rank, Path(f"{meeting}.{rank}")
        self._said = Path(f"{meeting}.{rank}.txt")
        os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK.get(sys.platform, "lo"))  # nobody else needs to hear us
        group = {"RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": count, MEETING: meeting}
        with self._said.open("wb") as said:
            self.child = subprocess.Popen(  # noqa: S603  ourselves
                [sys.executable, "-m", f"pipelines.{stage}"],
                env=os.environ | {name: str(value) for name, value in group.items()},
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
            )

    def words(self, size: int) -> str:
        """How it ended."""
        code = self.child.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        said = self._said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if len(said) > 1:
            print(*said, sep="\n", file=sys.stderr)  # noqa: T201  a fault of ours, with its traceback
        return f"Process {self.rank} of the {size} that train together {how}{f' ({said[-1]})' if said else ''}."

    def end(self) -> None:
        """Kill it, if it lives: it has nothing to save, nor anything left to do."""
        self.child.kill()
        self.child.communicate()


def end_with_the_first() -> None:
    """Let this process, if another one of ours has started it, end when that one does, even by SIGKILL.

    The first holds the other end of our standard input, which nobody writes to: what is read there is its end.
    """
    if MEETING not in os.environ:
        return

    def wait() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _await(others: Sequence[_Other], size: int, deadline: float) -> None:
    """Wait until all have started."""
    while not all(other.ready.exists() for other in others):
        if lost := _lost(others):
            raise ResourceError(lost.words(size))
        if time.monotonic() > deadline:
            raise ResourceError(f"The other processes of the {size} have not started in time: run again.")
        time.sleep(0.05)


def _lost(others: Sequence[_Other], grace: float = 0.0) -> _Other | None:
    """The first of them that has ended, or ends within this many seconds."""
    deadline = time.monotonic() + grace
    while True:
        for other in others:
            if other.child.poll() is not None:
                return other
        if not others or time.monotonic() >= deadline:
            return None
        time.sleep(0.05)
