"""Profiles: a YAML of overrides merged over params.yaml, strictly."""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipelines import params as schema
from pipelines.errors import ParamsError

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def variables(assignments: Iterable[str]) -> dict[str, str]:
    """Read `NAME=VALUE` pairs of the command line; a value that is a folder becomes absolute when it is put in.

    Raises:
        ParamsError: for one without `=`.
    """
    found: dict[str, str] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            raise ParamsError(f"--var {assignment}: write --var NAME=VALUE")
        found[name] = value
    return found


def read(path: Path, given: Mapping[str, str]) -> dict[str, Any]:
    """Read a profile and fill in `${NAME}` from `given`, else from the environment.

    Raises:
        ParamsError: when the file is missing, not a YAML mapping, or a variable has no value.
    """
    import yaml

    from pipelines.adapters import yaml_text

    try:
        values = yaml_text.load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise ParamsError(f"profile {path} is not a file{_alternatives(path)}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"profile {path} is not YAML: {error}") from None
    if not isinstance(values, dict):
        raise ParamsError(f"profile {path} must be a mapping of params.yaml's sections, for instance `model: {{...}}`")
    filled: dict[str, Any] = _fill(values, {**os.environ, **given}, path)
    return filled


def _alternatives(path: Path) -> str:
    known = sorted(str(item) for item in Path("profiles").glob("*.yaml"))
    close = difflib.get_close_matches(str(path), known, n=1, cutoff=0.4)
    return f"; did you mean {close[0]}?" if close else ""


def _fill(value: Any, known: Mapping[str, str], path: Path) -> Any:
    if isinstance(value, dict):
        return {key: _fill(item, known, path) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, known, path) for item in value]
    if not isinstance(value, str):
        return value

    def put(found: re.Match[str]) -> str:
        name = found[1]
        if name not in known:
            raise ParamsError(
                f"profile {path} needs {name}: add --var {name}=VALUE, or set the environment variable {name}"
            )
        return str(Path(known[name]).resolve()) if Path(known[name]).is_dir() else known[name]

    return VARIABLE.sub(put, value)


def merge(base: Mapping[str, Any], over: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`base` with the values of `over`, section by section; lists and scalars are replaced.

    Raises:
        ParamsError: naming every key of `over` that the schema does not know, with the closest one it does.
    """
    unknown: list[str] = []
    merged = _merge(base, over, (), unknown)
    if unknown:
        raise ParamsError(f"{where} is not valid:\n  " + "\n  ".join(unknown))
    schema.parse(merged, where)
    return merged


FREE = {"finetuning.task_weights"}
"""Mappings whose keys are the user's own."""


def _merge(base: Mapping[str, Any], over: Mapping[str, Any], at: tuple[str, ...], unknown: list[str]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        where = (*at, str(key))
        optional = _known(where)
        if key not in base and not optional and ".".join(at) not in FREE:
            close = difflib.get_close_matches(str(key), [*base, *_fields(at)], n=1)
            hint = (
                f"; did you mean {'.'.join((*at, close[0]))}?"
                if close
                else f"; known here: {', '.join(map(str, base))}"
            )
            unknown.append(f"{'.'.join(where)}: no such key{hint}")
        elif isinstance(value, dict) and isinstance(base.get(key), dict) and ".".join(where) not in FREE:
            merged[key] = _merge(base[key], value, where, unknown)
        else:
            merged[key] = value
    return merged


def _fields(at: tuple[str, ...]) -> list[str]:
    model: Any = schema.Params
    for key in at:
        field = model.model_fields.get(key) if hasattr(model, "model_fields") else None
        if field is None:
            return []
        model = field.annotation
    return list(getattr(model, "model_fields", {}))


def _known(where: tuple[str, ...]) -> bool:
    return where[-1] in _fields(where[:-1])
