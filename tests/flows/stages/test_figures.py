"""Figures are written as people read them."""

import pytest

from flows.stages import figures


@pytest.mark.parametrize(
    ("value", "text"), [(9.95, "9.9 s"), (59.96, "1 min 00 s"), (75, "1 min 15 s"), (3725, "1 h 02 min")]
)
def test_durations_read_well(value: float, text: str) -> None:
    assert figures.duration(value) == text


def test_the_agreement_of_a_constitution_is_told_where_there_is_one() -> None:
    told = {"constitution": {"agreement": {"human": {"accuracy": 0.7126}, "simulated": {"accuracy": 0.5}}}}
    assert figures.sentence("feedback", told) == "constitution agrees 0.713 (human), 0.500 (simulated)"
    assert figures.sentence("feedback", {"constitution": None}) == ""


def test_a_figure_of_another_version_is_left_out_and_the_others_are_told() -> None:
    foreign = {"num_documents": "many", "num_rejected": 3, "expectations_met": [6]}
    assert figures.of("data_validation", foreign) == [("rejected", "3")]
    assert figures.of("ingestion", {"num_records": 7}) == []
    assert figures.of("evaluation", {"win_rate_by_gold": {"share": 0.5}}) == []


def test_a_mistake_in_how_a_figure_is_written_is_not_taken_for_an_old_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(value: int) -> str:
        return value.no_such_method()  # type: ignore[attr-defined,no-any-return]

    monkeypatch.setitem(figures.FIGURES, "tokenization", (("vocab_size", "entries", write),))
    with pytest.raises(AttributeError):
        figures.of("tokenization", {"vocab_size": 3})
