"""params.yaml with some values changed."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import params
from pipelines.errors import ParamsError

PATH = Path(__file__).resolve().parents[2] / "params.yaml"
VALUES: dict[str, Any] = yaml.safe_load(PATH.read_text(encoding="utf-8"))


def changed(**settings: Any) -> dict[str, Any]:
    """The values with `section__key=value` put in; `...` removes a key."""
    values = copy.deepcopy(VALUES)
    for where, value in settings.items():
        *sections, key = where.split("__")
        at = values
        for section in sections:
            at = at[section]
        if value is ...:
            del at[key]
        else:
            at[key] = value
    return values


def fault(**settings: Any) -> str:
    with pytest.raises(ParamsError) as caught:
        params.parse(changed(**settings))
    return str(caught.value)
