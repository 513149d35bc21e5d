"""The frame of a stage: load params, track, run `main`, write the report, turn errors into sentences."""

import dataclasses
import gc
import math
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from pipelines import params as schema
from pipelines.adapters import files, processes, quiet
from pipelines.adapters.tracking import NullTracker, SpoolTracker, Tracker
from pipelines.artifacts import Artifact, State
from pipelines.errors import MoteurError, ParamsError, Preempted, ResourceError
from pipelines.params import Params

RARELY = 10_000
"""New objects between two searches for cycles of garbage, 700 in Python: the libraries make millions, to stay, and the
searches among them took a fifth of the time of their imports."""

_preempted = False
_polled = False


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check params.yaml.

    Raises:
        ParamsError: when it is missing, not YAML, or does not fit the schema.
    """
    import yaml

    from pipelines.adapters import yaml_text

    try:
        values = yaml_text.load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path} is missing: run in the folder that holds params.yaml") from None
    except UnicodeDecodeError as error:
        raise ParamsError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise ParamsError(f"{path} is not YAML: {error}") from None
    return schema.parse(values, str(path))


def preempted() -> bool:
    """True once SIGTERM has arrived: a loop that can save its state does so and raises `Preempted`."""
    global _polled  # noqa: PLW0603  the signal handler must know that somebody listens
    _polled = True
    return _preempted


@contextmanager
def _noticing_sigterm() -> Iterator[None]:
    """Let a stage that asks `preempted()` save its state; end any other at once."""

    def notice(_number: int, _frame: FrameType | None) -> None:
        global _preempted  # noqa: PLW0603  a signal handler has no other way to speak
        if _preempted:
            raise SystemExit(Preempted.exit_code)
        _preempted = True
        if not _polled:
            raise Preempted("asked to stop; it has no state to save and starts again with the next run")

    before = signal.signal(signal.SIGTERM, notice)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def write_report(report: Any, path: Path) -> None:
    """Write a frozen report as JSON; numbers keep six significant digits so that the file is readable.

    Raises:
        ValueError: when a field is NaN or infinite; it is named.
    """
    values = {field.name: rounded(getattr(report, field.name), field.name) for field in dataclasses.fields(report)}
    files.write_json(path, values)


def rounded(value: Any, where: str) -> Any:
    """What JSON can hold, with six significant digits.

    Raises:
        ValueError: for a number that is NaN or infinite; `where` begins its name.
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"report field {where} is {value}")
        return float(f"{value:.6g}")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): rounded(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item, f"{where}[{index}]") for index, item in enumerate(value)]
    return value


def run(name: str, main: Callable[[Params, Tracker], Any], *, report: Artifact | State) -> NoReturn:
    """Run the stage `name` in this process and exit: 0, or the exit code of the error that ended it.

    Of several processes that run it together only the first tracks.
    """
    quiet.settle()
    gc.set_threshold(RARELY, *gc.get_threshold()[1:])
    processes.end_with_the_first()
    tracker: NullTracker | SpoolTracker = NullTracker()
    status, code = "failed", 1
    try:
        if processes.place().rank == 0:
            tracker = SpoolTracker(name)
        params = load_params()
        tracker.params({"seed": params.seed, name: params.model_dump(mode="json").get(name)})
        with _noticing_sigterm():
            result = main(params, tracker)
        write_report(result, report.path)
        tracker.log(_numbers(dataclasses.asdict(result)), step=0)
        tracker.artifact(report.path)
        status, code = "finished", 0
    except MoteurError as error:
        status, code = ("preempted" if isinstance(error, Preempted) else "failed"), _say(name, error)
    except KeyboardInterrupt:
        status, code = "preempted", INTERRUPTED
        print(f"{name}: interrupted", file=sys.stderr)  # noqa: T201  the user reads this
    except MemoryError:
        code = _say(name, ResourceError("Out of memory: lower batch sizes in params.yaml, or use a machine with more."))
    except Exception as error:
        if not files.disk_is_full(error):
            raise
        code = _say(
            name,
            ResourceError(
                f"No space on the disk ({error}). Free some and run again; temporary files lie in"
                f" {tempfile.gettempdir()}, or where the environment variable TMPDIR says."
            ),
        )
    finally:
        _close(tracker, name, status, code)
    sys.stderr.flush()
    gc.freeze()  # or Python looks through all that the libraries made, to free it, for up to a second
    sys.exit(code)


INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def _close(tracker: NullTracker | SpoolTracker, name: str, status: str, code: int) -> None:
    """End the tracking; that the disk is too full for it must not hide how the stage ended."""
    try:
        tracker.close(status, code)
    except OSError as error:
        print(  # noqa: T201  the user reads this
            f"{name}: the ledger ({State.EFFORT}) or the spool lacks the line on how this ended, {status} with exit"
            f" code {code}: {error}",
            file=sys.stderr,
        )


def _say(name: str, error: MoteurError) -> int:
    print(f"{name}: {error}", file=sys.stderr)  # noqa: T201  the user reads this
    return error.exit_code


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
