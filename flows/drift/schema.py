"""The shape of the documents, held against that of the reference by Great Expectations."""

from dataclasses import dataclass
from pathlib import Path

from pipelines.artifacts import State
from pipelines.core.drift.sample import PERPLEXITY, Sample
from pipelines.params import Expectation

DOCS = State.DRIFT.path / "data_docs"


@dataclass(frozen=True, kw_only=True)
class SchemaRow:
    """One expectation about the shape of the documents."""

    column: str
    expected: str
    observed: str
    met: bool


def check(reference: Sample, window: Sample, *, expected_share: float, docs: Path = DOCS) -> list[SchemaRow]:
    """Whether enough documents lie between the least and greatest value that the reference has of each descriptor.

    Args:
        reference: Its values are the expectation.
        window: The documents.
        expected_share: Share that must lie within, in [0, 1].
        docs: Folder of the report that Great Expectations writes.
    """
    import numpy as np

    from pipelines.adapters import expectations
    from pipelines.adapters.tables import Tables

    names = [name for name in reference.columns if name in window.columns and name != PERPLEXITY]
    if not names or not len(window):
        return []
    contract = [
        Expectation(
            records="corpus",
            name="ExpectColumnValuesToBeBetween",
            arguments={
                "column": name,
                "min_value": float(np.nanmin(reference.columns[name])) - 1e-5,
                "max_value": float(np.nanmax(reference.columns[name])) + 1e-5,
                "mostly": expected_share,
            },
        )
        for name in names
        if np.isfinite(reference.columns[name]).any()
    ]
    columns = {name: window.columns[name].astype(float) for name in names}
    with Tables({"corpus": columns}) as tables:
        tables.add("corpus", "window", range(len(window)), np.arange(1, len(window) + 1), columns)
        outcomes = expectations.check(tables, contract, expectations.compile_contract(contract), docs)
    return [
        SchemaRow(
            column=str(item.expectation.arguments["column"]),
            expected=f"{item.expectation.arguments['min_value'] + 1e-5:.4g} to"
            f" {item.expectation.arguments['max_value'] - 1e-5:.4g} in {100 * expected_share:g} % of the documents",
            observed=f"{item.observed} outside" if item.num_unexpected is not None else item.observed,
            met=item.met,
        )
        for item in outcomes
    ]
