"""The graph as DVC sees it: order of the stages, what changed and why. DVC is the only cache."""

import contextlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from pipelines.errors import ArtifactError, DataError, ParamsError, ResourceError
from pipelines.params import Params

BASE = "pretraining"
"""The stage that makes the base model."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One stage of dvc.yaml."""

    name: str
    description: str
    needs: tuple[str, ...]
    """Names of the stages whose outputs it reads."""
    deps: tuple[str, ...]
    outs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """The stages in the order in which `dvc repro` runs them, and the reasons why some are out of date."""

    nodes: tuple[Node, ...]
    changes: dict[str, tuple[str, ...]]
    """Stage -> what is new in it, for instance `params.yaml: modified`. Stages below a changed one are not named."""
    running: dict[str, str] = field(default_factory=dict)
    """Stage -> id of the process of DVC that runs it now; it is among the changed ones."""

    @property
    def names(self) -> list[str]:
        """Stage names in order."""
        return [node.name for node in self.nodes]

    def below(self, names: set[str]) -> set[str]:
        """The stages in `names` and all that read, directly or not, what they make."""
        found = set(names)
        for node in self.nodes:
            if found & set(node.needs):
                found.add(node.name)
        return found

    def until(self, name: str) -> "Graph":
        """The stage `name` and those whose outputs it reads, directly or not."""
        kept = {name}
        for node in reversed(self.nodes):
            if node.name in kept:
                kept |= set(node.needs)
        nodes = tuple(node for node in self.nodes if node.name in kept)
        changes = {stage: why for stage, why in self.changes.items() if stage in kept}
        running = {stage: process for stage, process in self.running.items() if stage in kept}
        return Graph(nodes=nodes, changes=changes, running=running)

    @property
    def stale(self) -> set[str]:
        """Stages that may run: the changed ones and all below them."""
        return self.below(set(self.changes))


def lifecycle(params: Params) -> Graph:
    """The graph of the workspace that is the current folder, as far as a lifecycle with these params goes."""
    return load().until(BASE) if params.ends_with_base else load()


def ending(params: Params) -> list[str]:
    """Why a lifecycle with these params ends with the base model, and how to go on; nothing if it goes all the way."""
    if not params.ends_with_base:
        return []
    return [
        f"The lifecycle ends with the base model: {params.ends_with_base}, and nothing is built on it.",
        "To go on, set pretraining.objective to causal and model.architecture to llama in params.yaml.",
    ]


def load(root: Path = Path()) -> Graph:
    """Read the graph and its state; 0.3 to 1 s, most of it the import of DVC.

    Raises:
        ParamsError: when dvc.yaml cannot be read.
        ArtifactError: when DVC's own state is torn, or what holds its locks is not DVC.
        ResourceError: when DVC is at work and lets nobody look.
        DataError: when something that no stage makes, and that a stage reads, does not exist.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo
    from dvc.repo.reproduce import plan_repro

    try:
        with Repo(str(root)) as repo:
            stages = [stage for stage in plan_repro(repo.index.graph) if getattr(stage, "name", None)]
            makers = {str(out): stage.name for stage in stages for out in stage.outs}
            nodes = tuple(_node(stage, makers) for stage in stages)
            _refuse_missing(stages, makers)
            with repo.lock:
                changes, running = _state(stages, {node.name: node.needs for node in nodes})
    except LockError as error:
        raise ResourceError(f"DVC is at work here, try again in a moment: {_chain(error)}") from None
    except DvcException as error:
        text = _chain(error)
        if "dvc.lock" in text or "rwlock" in text:
            raise ArtifactError(
                f"DVC's state is torn: {text}. Restore the file it names (git checkout dvc.lock; or remove"
                " .dvc/tmp/rwlock) and run again: the cache keeps what was made."
            ) from None
        raise ParamsError(f"DVC cannot read the pipeline: {text}") from None
    return Graph(nodes=nodes, changes=changes, running=running)


def _state(stages: list[Any], needs: dict[str, tuple[str, ...]]) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Stage -> why it has changed, and stage -> the process that runs it; what reads from that one is not looked at."""
    from dvc.lock import LockError

    changes: dict[str, tuple[str, ...]] = {}
    running: dict[str, str] = {}
    below: set[str] = set()
    for stage in stages:
        try:
            found = [reason for reasons in stage.status(check_updates=True).values() for reason in reasons]
        except LockError as error:  # an output of it, or of a stage that it reads from, is being written
            found = []
            if not below & set(needs[stage.name]):
                running[stage.name] = _holder(stage.name, error)
                found = [f"process {running[stage.name]} runs it"]
            below.add(stage.name)
        if found:
            changes[stage.name] = _reasons(found)
    return changes, running


def _holder(stage: str, error: Exception) -> str:
    """The process of DVC that runs a stage; one that was killed leaves its number, which another may have by now."""
    found = re.search(r"PID (\d+)", str(error))
    if found is None:
        return "unknown"
    with contextlib.suppress(psutil.Error):
        if not any("dvc" in word.lower() for word in psutil.Process(int(found.group(1))).cmdline()):
            raise ArtifactError(
                f"DVC was killed in the stage {stage}, and the number of its process, {found.group(1)}, is another"
                " program's now: remove .dvc/tmp/rwlock and run again."
            )
    return found.group(1)


def _chain(error: BaseException | None) -> str:
    parts: list[str] = []
    while error is not None:
        if str(error) and str(error) not in parts:
            parts.append(str(error))
        error = error.__cause__
    return "; ".join(parts)


def _node(stage: Any, makers: dict[str, str]) -> Node:
    deps = tuple(str(dep) for dep in stage.deps if type(dep).__name__ != "ParamsDependency")
    return Node(
        name=stage.name,
        description=stage.desc or "",
        needs=tuple(dict.fromkeys(makers[dep] for dep in deps if dep in makers)),
        deps=deps,
        outs=tuple(str(out) for out in stage.outs),
    )


def _refuse_missing(stages: list[Any], makers: dict[str, str]) -> None:
    missing = [
        f"{stage.name} reads {dep}, which does not exist"
        for stage in stages
        for dep in stage.deps
        if str(dep) not in makers and not dep.exists
    ]
    if missing:
        raise DataError(
            "; ".join(missing)
            + ". Correct the path in params.yaml (ingestion.root for local data), or put the files there."
        )


def _reasons(found: list[Any]) -> tuple[str, ...]:
    reasons: list[str] = []
    for item in found:
        if isinstance(item, str):
            reasons.append(item)
            continue
        for changed in item.values():
            for what, how in changed.items():
                if isinstance(how, dict):
                    reasons += [f"{key} {_verb(state)}" for key, state in how.items()]
                else:
                    reasons.append(f"{what} {_verb(how)}")
    return tuple(reasons)


def _verb(state: Any) -> str:
    return "missing" if state == "deleted" else str(state)
