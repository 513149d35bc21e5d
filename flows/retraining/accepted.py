"""New data that people or rules accepted, put into the workspace of a retraining and into its params."""

import hashlib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path, PurePosixPath
from typing import Any

from flows.workspaces import folders
from pipelines.adapters.datasets import KINDS, SPLITS
from pipelines.artifacts import Artifact
from pipelines.errors import ParamsError

FEEDBACK = "feedback"
FOLDER = "accepted"
"""Name of the folder below `ingestion.root` in which the files lie."""


def files(folder: Path) -> list[tuple[str, str, Path]]:
    """(kind, split, file) of everything that was accepted, sorted; the split of feedback is empty.

    Raises:
        ParamsError: for a file in a folder that means nothing, which would be left out in silence.
    """
    return sorted(_classified(folder))


def _classified(folder: Path) -> Iterator[tuple[str, str, Path]]:
    for path in folder.rglob("*"):
        inner = path.relative_to(folder).parts
        if not path.is_file() or any(part.startswith(".") for part in inner) or path.name == "README.md":
            continue
        match inner:
            case ("feedback", *_, _) if path.suffix == ".jsonl":
                yield FEEDBACK, "", path
            case ("feedback", *_, _):
                raise ParamsError(f"{path} would not be read: feedback is *.jsonl, as data/feedback/README.md has it")
            case (kind, _) if kind in KINDS:
                yield kind, "train", path
            case (kind, split, _) if kind in KINDS and split in SPLITS:
                yield kind, split, path
            case _:
                raise ParamsError(
                    f"{path} is in no folder of accepted data: move it to {folder}/corpus, instructions, preferences"
                    f" (or valid/ or test/ below one of them) or feedback; {folder}/README.md says what they are"
                )


def fingerprint(found: list[tuple[str, str, Path]], source: Path) -> str:
    """Changes when a file below `source` comes, goes, or is written again."""
    facts = [
        (path.relative_to(source).as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for _, _, path in found
    ]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def bring(found: list[tuple[str, str, Path]], source: Path, folder: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Put the files found below `source` into the workspace `folder`; `values` of params.yaml with them as sources.

    The whole path of a file goes into its new name, so that two people may each have a `week1.jsonl`.

    Raises:
        ParamsError: when `ingestion.root` is not below the workspace, or two files would become one.
    """
    changed = deepcopy(dict(values))
    root = PurePosixPath(changed["ingestion"]["root"])
    if found and (root.is_absolute() or ".." in root.parts):
        raise ParamsError(
            f"ingestion.root is {root}, outside of the checkout, so accepted data cannot be put beside the sources:"
            f" give a folder below the checkout, or leave the folder {source} empty"
        )
    brought: dict[Path, Path] = {}
    for kind, split, path in found:
        inner = path.relative_to(source)
        if kind == FEEDBACK:  # one folder, without folders in it
            target = folder / Artifact.FEEDBACK_BY_PEOPLE / "-".join((FOLDER, *inner.parts[1:]))
        else:
            target = folder / root / FOLDER / inner
            _add(changed, kind, split, f"{FOLDER}/{inner.as_posix()}")
        if target.exists():
            raise ParamsError(
                f"{path} would take the place of {brought.get(target, target.relative_to(folder))} in the workspace of"
                " the retraining: rename one of them"
            )
        brought[target] = path
        target.parent.mkdir(parents=True, exist_ok=True)
        folders.link(path, target)
    return changed


def _add(values: dict[str, Any], kind: str, split: str, uri: str) -> None:
    sources = values["ingestion"].setdefault(kind, {}).setdefault(split, [])
    if {"uri": uri} not in sources:
        sources.append({"uri": uri})
