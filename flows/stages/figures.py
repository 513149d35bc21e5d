"""The two or three figures of each stage that a reader wants first, and how they are written."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Write = Callable[[Any], str]


class OtherKind(Exception):  # noqa: N818  what is wrong, in two words
    """A figure of a report of another version: no number, or without the parts that are written."""


def count(value: Any) -> str:
    """1234567 -> 1,234,567."""
    return f"{value:,.0f}"


def short(value: Any) -> str:
    """1234567 -> 1.23M."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def share(value: Any) -> str:
    """0.123 -> 12.3 %."""
    return f"{100 * value:.1f} %"


def change(value: Any) -> str:
    """0.00123 -> +0.12 %."""
    return f"{100 * value:+.2f} %"


def won(value: Any) -> str:
    """The share of comparisons that were won."""
    return three(_number(_member(value, "win_rate")))


def agreeing(value: Any) -> str:
    """How often a judge prefers what others prefer, by who they are."""
    shares = {kind: _number(_member(found, "accuracy")) for kind, found in _members(_member(value, "agreement"))}
    return ", ".join(f"{three(share)} ({kind})" for kind, share in shares.items()) or "nobody"


def two(value: Any) -> str:
    """3.14159 -> 3.14."""
    return f"{value:.2f}"


def three(value: Any) -> str:
    """0.12345 -> 0.123."""
    return f"{value:.3f}"


def size(value: Any) -> str:
    """Bytes -> MB or GB, decimal."""
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.2f} MB"


def duration(seconds: float) -> str:
    """75 -> 1 min 15 s."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def total(value: Any) -> str:
    """The sum of the values of a mapping."""
    return count(sum(_number(each) for _, each in _members(value)))


def _plain(value: Any) -> str:
    return str(value)


COMPOUND: tuple[Write, ...] = (won, agreeing, total, _plain)
"""They write values that are no numbers."""


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OtherKind(f"{value!r} is no number")
    return value


def _members(value: Any) -> Iterable[tuple[str, Any]]:
    if not isinstance(value, dict):
        raise OtherKind(f"{value!r} has no parts")
    return value.items()


def _member(value: Any, name: str) -> Any:
    found = dict(_members(value))
    if name not in found:
        raise OtherKind(f"{name} is missing")
    return found[name]


FIGURES: dict[str, tuple[tuple[str, str, Write], ...]] = {
    "ingestion": (("num_records", "records", total), ("num_quarantined", "quarantined", count)),
    "data_validation": (
        ("num_documents", "documents", count),
        ("num_rejected", "rejected", count),
        ("expectations_met", "expectations met", count),
    ),
    "tokenization": (("vocab_size", "entries", count), ("bytes_per_token", "bytes/token", two)),
    "pretraining": (
        ("val_bits_per_byte", "bits/byte", three),
        ("val_accuracy", "hidden tokens restored", share),
        ("num_parameters", "parameters", short),
        ("num_tokens", "tokens", short),
    ),
    "finetuning": (
        ("exact_match", "exact match", three),
        ("exact_match_story_removed", "story removed", three),
        ("forgetting", "forgetting", share),
    ),
    "feedback": (
        ("num_pairs", "pairs", count),
        ("annotator_agreement", "agreement", three),
        ("best_reachable_accuracy", "best reachable", three),
        ("constitution", "constitution agrees", agreeing),
    ),
    "reward_modeling": (
        ("held_out_accuracy", "accuracy", three),
        ("expected_calibration_error", "calibration error", three),
    ),
    "ppo": (("reward_after", "reward", three), ("gold_after", "gold", three), ("kl", "KL nats", three)),
    "evaluation": (
        ("policy_exact_match", "exact match", three),
        ("policy_rouge_l", "ROUGE-L", three),
        ("win_rate_by_gold", "win rate by gold", won),
    ),
    "compression": (
        ("chosen", "chosen", _plain),
        ("bytes_ratio", "of float32", three),
        ("bits_per_byte_increase", "bits/byte", change),
    ),
    "deployment": (("num_files", "files", count), ("num_bytes", "size", size)),
}
"""Stage -> (field of its report, what a person calls it, how it is written). Absent fields are left out."""


def of(stage: str, report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The main figures of a stage as (label, text); those that are absent, null or of another version are left out."""
    found = []
    for field, label, write in FIGURES.get(stage, ()):
        value = report.get(field)
        if value is None:
            continue
        try:
            found.append((label, write(value if write in COMPOUND else _number(value))))
        except OtherKind:
            continue
    return found


def sentence(stage: str, report: Mapping[str, Any]) -> str:
    """The main figures in one line."""
    return " · ".join(f"{label} {text}" for label, text in of(stage, report))
