"""New data that people or rules accepted, put into the workspace of a retraining and into its params."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path, PurePosixPath
from typing import Any

from flows import workspaces
from pipelines.artifacts import Artifact
from pipelines.errors import ParamsError

KINDS = ("corpus", "instructions", "preferences")
SPLITS = ("train", "valid", "test")
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
            case ("feedback", *_, _):
                yield FEEDBACK, "", path
            case (kind, _) if kind in KINDS:
                yield kind, "train", path
            case (kind, split, _) if kind in KINDS and split in SPLITS:
                yield kind, split, path
            case _:
                raise ParamsError(
                    f"{path} is in no folder of accepted data: move it to {folder}/corpus, instructions, preferences"
                    f" (or valid/ or test/ below one of them) or feedback; {folder}/README.md says what they are"
                )


def bring(found: list[tuple[str, str, Path]], folder: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Put the files into the workspace `folder`; return `values` (of params.yaml) with them as sources.

    Raises:
        ParamsError: when `ingestion.root` is not below the workspace.
    """
    changed = deepcopy(dict(values))
    root = PurePosixPath(changed["ingestion"]["root"])
    if found and (root.is_absolute() or ".." in root.parts):
        raise ParamsError(
            f"ingestion.root is {root}, outside of the checkout, so accepted data cannot be put beside the sources:"
            " give a folder below the checkout, or leave retraining.accepted empty"
        )
    for kind, split, path in found:
        if kind == FEEDBACK:
            target = folder / Artifact.FEEDBACK_BY_PEOPLE / f"{FOLDER}-{path.name}"
        else:
            target = folder / root / FOLDER / kind / split / path.name
            _add(changed, kind, split, f"{FOLDER}/{kind}/{split}/{path.name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        workspaces.place(path, target)
    return changed


def _add(values: dict[str, Any], kind: str, split: str, uri: str) -> None:
    sources = values["ingestion"].setdefault(kind, {}).setdefault(split, [])
    if {"uri": uri} not in sources:
        sources.append({"uri": uri})
