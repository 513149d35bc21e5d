"""What a look for drift came to: the state, its reasons, and what they rest on."""

from dataclasses import asdict, dataclass, field
from typing import Any

from flows.drift.schema import SchemaRow
from pipelines.core.drift import comparison
from pipelines.core.drift.policy import Outcome
from pipelines.core.drift.policy import State as DriftState

EXIT_CODES: dict[DriftState, int] = {"ok": 0, "watch": 10, "drift": 11, "insufficient data": 12}


@dataclass(frozen=True, kw_only=True)
class WindowRow:
    """One window on the time line."""

    name: str
    documents: int
    outcome: Outcome
    began: str | None
    """ISO 8601, UTC; None for a batch, which has no clock."""
    ratios: dict[str, float]
    """Test -> effect over the reference's own variation: above 1 it counts."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a look for drift came to."""

    state: DriftState
    subject: str
    """What was looked at."""
    manifest_sha256: str
    """Of the release whose reference it was compared with."""
    against: str
    documents: int
    since: str | None
    """When the present run of differing windows began, or its window's name."""
    findings: tuple[comparison.Finding, ...]
    columns: tuple[comparison.ColumnFinding, ...]
    windows: tuple[WindowRow, ...]
    schema: tuple[SchemaRow, ...]
    changes: dict[str, Any] = field(default_factory=dict)
    """Words, tokens, map and, of a batch, examples, from `flows.drift.changes`; empty where texts are not kept."""

    @property
    def exit_code(self) -> int:
        """0 ok, 10 watch, 11 drift, 12 insufficient data."""
        return EXIT_CODES[self.state]

    @property
    def words(self) -> str:
        """The state and its reasons in a few sentences."""
        differing = [finding for finding in self.findings if finding.outcome == "differs"]
        opening = {
            "ok": f"No drift in {self.documents:,} documents of {self.subject}.",
            "watch": f"Something in {self.subject} differs, but not yet often enough for an alarm.",
            "drift": f"Drift: {self.subject} is not what the model was made from.",
            "insufficient data": f"Too little is known of {self.subject}: neither an alarm nor an all-clear.",
        }[self.state]
        parts = [opening]
        if self.since:
            parts.append(f"Since {self.since}.")
        if differing:
            tests = ", ".join(
                f"{item.test} (p {item.p_value:.2g}{', ' + item.detail if item.detail else ''})" for item in differing
            )
            parts.append(f"Different: {tests}.")
        if more := [item["word"] for item in self.changes.get("words", []) if item["score"] > 0][:6]:
            parts.append(f"More of: {', '.join(more)}.")
        parts += [f"{item.test}: {item.detail}." for item in self.findings if item.outcome == "insufficient data"]
        if unmet := [row.column for row in self.schema if not row.met]:
            parts.append(f"Outside of the expected shape: {', '.join(unmet)}.")
        return " ".join(parts)

    def document(self) -> dict[str, Any]:
        """What is kept of it as JSON."""
        return {"state": self.state, "words": self.words, **asdict(self)}
