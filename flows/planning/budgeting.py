"""`moteur plan --apply`: settle what a budget comes to on this machine, and write it where the values stand.

What is written is in params.yaml (or the profile) and so under version control: stages read it and measure nothing.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from flows.planning import scaling
from flows.planning.speed import Speed
from flows.stages import figures
from flows.workspaces import folders
from pipelines import budget as written
from pipelines import params as schema
from pipelines.adapters import files, vocabulary
from pipelines.core.judging import budgets, sizes
from pipelines.errors import ParamsError
from pipelines.params import Model, Params

Measure = Callable[[Params, Model], Speed]
What = Literal["tokens", "size"]
ROUNDS = 4
"""A larger model trains at another speed, so that time pays for another compute: sizes settle in two or three."""
SHAPE = ("hidden_size", "num_layers", "num_heads", "intermediate_size", "look_back")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What to write, and why."""

    changes: Mapping[str, Mapping[str, Any]]
    """Section -> key -> value."""
    reason: str


def is_settled(params: Params) -> bool:
    """False for a time without a speed."""
    text = params.pretraining.budget
    return text is None or written.parse(text).is_settled


def chosen(params: Params, what: What, known: scaling.Known, measure: Measure) -> Choice:
    """What `params` should say for their budget to be settled.

    Args:
        params: With a budget of time (what "tokens"), or with none, FLOPs or time (what "size").
        what: "tokens": the model stays, and a time gets its speed. "size": the law chooses the model too.
        known: The law.
        measure: The speed of a shape on this machine.

    Raises:
        ParamsError: when there is nothing to choose.
    """
    if what == "tokens":
        return _for_this_model(params, measure)
    return _for_the_best_model(params, known, measure)


def _for_this_model(params: Params, measure: Measure) -> Choice:
    text = params.pretraining.budget
    if text is None or written.parse(text).seconds is None:
        raise ParamsError(
            f"--apply tokens measures the speed for a budget of time, but pretraining.budget is {_shown(text)}, which"
            ' needs none: there is nothing to write. (A time is for instance "10 minutes".)'
        )
    found = measure(params, params.model)
    return Choice(
        changes={"pretraining": {"budget": written.at_speed(text, found.flops_per_second)}},
        reason=f"measured with {figures.short(found.parameters)} parameters",
    )


def _for_the_best_model(params: Params, known: scaling.Known, measure: Measure) -> Choice:
    settings = params.pretraining
    meant = written.parse(settings.budget) if settings.budget else None
    if settings.init is not None or (meant and meant.tokens_per_parameter):
        which = f"init is {settings.init!r}" if settings.init is not None else f"budget is {settings.budget!r}"
        raise ParamsError(
            f"--apply size chooses a model for a compute, but pretraining.{which}: give FLOPs or a time, for instance"
            ' "10 minutes", and no init, in params.yaml'
        )
    if meant is not None and meant.seconds is not None:
        shape, speed_there = _settled(params, meant.seconds, known, measure)
        rest: dict[str, Any] = {"budget": written.at_speed(str(settings.budget), speed_there.flops_per_second)}
        flops = meant.seconds * speed_there.flops_per_second
    else:
        flops = meant.compute if meant and meant.compute else scaling.planned_flops(params)
        shape = best_shape(params, flops, known)
        parameters = sizes.parameters(shape, vocabulary.size(params))
        rest = {"budget": settings.budget} if meant else {"max_tokens": int(budgets.affordable(flops, parameters))}
    parameters = sizes.parameters(shape, vocabulary.size(params))
    return Choice(
        changes={"model": {key: getattr(shape, key) for key in SHAPE}, "pretraining": rest},
        reason=f"{figures.short(parameters)} parameters for {flops:.2e} FLOPs by {known.source}",
    )


def best_shape(params: Params, flops: float, known: scaling.Known) -> Model:
    """The shape nearest to the law's size, in the proportions of section model."""
    return sizes.resized(params.model, known.law.parameters(flops), vocabulary.size(params))


def _settled(params: Params, seconds: float, known: scaling.Known, measure: Measure) -> tuple[Model, Speed]:
    """A shape that is the law's for the compute that the time gives at that shape's own speed."""
    shape, found = params.model, measure(params, params.model)
    for _ in range(ROUNDS):
        better = best_shape(params, seconds * found.flops_per_second, known)
        if better == shape:
            break
        shape, found = better, measure(params, better)
    return shape, found


def _shown(text: str | None) -> str:
    return "null" if text is None else repr(text)


def write(path: Path, choice: Choice, params: Params) -> Params:
    """Put the choice into the YAML file `path`, whose other lines stay as they are; return the new params.

    Raises:
        ParamsError: when the result would not be valid, or the file is not written a key a line.
    """
    import yaml

    values = params.model_dump()
    for section, changes in choice.changes.items():
        values[section] |= changes
    fresh = schema.parse(values, str(path))
    text = path.read_text(encoding="utf-8")
    if text.startswith(folders.MADE):
        raise ParamsError(f"{path} is made from a profile, and would be made again: give --profile FILE too")
    wanted = yaml.safe_load(text)
    for section, changes in choice.changes.items():
        wanted[section] = {**wanted.get(section, {}), **changes}
        for key, value in changes.items():
            reason = choice.reason if section == "pretraining" else ""
            text = with_value(text, section, key, value, f"  # moteur plan: {reason}" if reason else "")
    if _loaded(text) != wanted:
        lines = [f"{section}.{key}: {value}" for section, keys in choice.changes.items() for key, value in keys.items()]
        raise ParamsError(
            f"{path} has not one key a line in section {' or '.join(choice.changes)}, so that nothing was written: put"
            " in by hand\n  " + "\n  ".join(lines)
        )
    with files.replacing(path) as new:
        new.write_text(text, encoding="utf-8")
    return fresh


def with_value(text: str, section: str, key: str, value: Any, comment: str = "") -> str:
    """YAML with one line of a section replaced, or added at its head; a missing section is added at the end."""
    line = f"  {key}: {json.dumps(value)}{comment}\n"
    if not text.endswith("\n"):
        text += "\n"
    head = re.search(rf"^{section}:[^\S\n]*(#.*)?\n", text, re.MULTILINE)
    if head is None:
        is_elsewhere = re.search(rf"^{section}:", text, re.MULTILINE)  # in one line, as {key: value}
        return text if is_elsewhere else f"{text}{section}:\n{line}"
    rest = text[head.end() :]
    end = next((found.start() for found in re.finditer(r"^\S", rest, re.MULTILINE) if found[0] != "#"), len(rest))
    body, after = rest[:end], rest[end:]
    replaced, count = re.subn(rf"^  {key}:.*\n", lambda _old: line, body, count=1, flags=re.MULTILINE)
    return text[: head.end()] + (replaced if count else line + body) + after


def _loaded(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None
