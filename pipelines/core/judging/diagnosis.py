"""Who is at fault: one verdict a stage, from its figures and from what its upstream stages were found to be.

A stage's rules (`fault_rules`) turn figures into findings. A finding that is a symptom (reward does not rise, say) may
come from further up; it is held against the stage only when nothing upstream that it builds on is at fault. A finding
about what the stage alone decides (its learning rate, the mask of its loss) is always its own. Where a figure is
missing no rule passes, and a stage with a missing needed figure is never called sound.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Stage = Literal["data", "sft", "reward model", "ppo", "evaluation"]
State = Literal["sound", "suspect", "at fault", "follows", "unknown"]
Level = Literal["sound", "suspect", "at fault"]

STAGES: tuple[Stage, ...] = ("data", "sft", "reward model", "ppo", "evaluation")
"""In the order in which they build on each other."""
UPSTREAM: dict[Stage, tuple[Stage, ...]] = {
    "data": (),
    "sft": ("data",),
    "reward model": ("data", "sft"),
    "ppo": ("data", "sft", "reward model"),
    "evaluation": ("sft",),
}
"""Whose faults show in a stage's figures. Evaluation measures: only a template saved with the SFT model misleads it."""
RANK: dict[Level, int] = {"sound": 0, "suspect": 1, "at fault": 2}


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is known of a lifecycle; what is not there is left out, never guessed."""

    reports: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Stage of the pipeline -> its report."""
    curve: Sequence[Mapping[str, float]] = ()
    """Iterations of PPO."""
    probes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Probe -> its figures; one that could not be made holds `error`."""
    reward_model_weight: float | None = None
    """`ppo.reward_model_weight` in params.yaml."""

    def number(self, source: str, name: str) -> float | None:
        """A figure of a report, or of a probe when `source` begins with `probe:`; None when there is no finite one."""
        kind, _, probe = source.partition("probe:")
        values = self.probes.get(probe, {}) if not kind and probe else self.reports.get(source, {})
        value = values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return None
        return float(value)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one rule says."""

    level: Level
    words: str
    """A sentence with figure and limit."""
    remedy: str = ""
    """What to try, where it is not sound."""
    own: bool = True
    """Decided by this stage alone; False: a symptom that may be inherited."""
    spoils: tuple[Stage, ...] = STAGES
    """The later stages that inherit from it."""


Rule = Callable[[Evidence], Finding | None]
"""None: a figure that it needs is missing."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """On one stage."""

    stage: Stage
    state: State
    follows_from: Stage | None
    """The stage that is to blame, where the state is `follows`."""
    evidence: tuple[str, ...]
    """Sentences; where the stage is not sound, only those that say why."""
    remedies: tuple[str, ...]


def diagnose(
    evidence: Evidence, rules: Mapping[Stage, Sequence[Rule]], needed: Mapping[Stage, Sequence[Rule]]
) -> tuple[Verdict, ...]:
    """A verdict for each stage, upstream first.

    Args:
        evidence: Figures.
        rules: Of each stage.
        needed: Those without whose finding a stage is not called sound.
    """
    verdicts: dict[Stage, Verdict] = {}
    spoilt: dict[Stage, Stage] = {}
    for stage in STAGES:
        findings = [finding for rule in rules[stage] if (finding := rule(evidence)) is not None]
        missing = any(rule(evidence) is None for rule in needed[stage])
        verdicts[stage] = _verdict(stage, findings, missing=missing, cause=spoilt.get(stage))
        if verdicts[stage].state == "at fault":
            for later in _spoilt_by(stage, findings):
                spoilt.setdefault(later, stage)
    return tuple(verdicts[stage] for stage in STAGES)


def _spoilt_by(stage: Stage, findings: Sequence[Finding]) -> list[Stage]:
    touched = {later for finding in findings if finding.level == "at fault" for later in finding.spoils}
    return [later for later in STAGES if stage in UPSTREAM[later] and later in touched]


def _verdict(stage: Stage, findings: Sequence[Finding], *, missing: bool, cause: Stage | None) -> Verdict:
    held = [finding for finding in findings if finding.own or cause is None]
    inherited = [finding for finding in findings if not finding.own and cause is not None and RANK[finding.level]]
    worst = max((RANK[finding.level] for finding in held), default=0)
    if worst == 2 or (worst == 1 and not inherited):
        state: State = "at fault" if worst == 2 else "suspect"
        shown = sorted((one for one in held if RANK[one.level]), key=lambda one: -RANK[one.level])
    elif inherited:
        state, shown = "follows", inherited + [finding for finding in held if RANK[finding.level]]
    else:
        state, shown = ("unknown" if missing else "sound"), held
    words = [finding.words for finding in shown]
    if state == "unknown":
        words.append("Not all that could speak against it is known: run `moteur diagnose`, after the stage itself.")
    return Verdict(
        stage=stage,
        state=state,
        follows_from=cause if state == "follows" else None,
        evidence=tuple(words),
        remedies=tuple(dict.fromkeys(finding.remedy for finding in held if RANK[finding.level])),
    )
