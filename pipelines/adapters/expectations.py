"""Great Expectations: the contract of params over tables of descriptors, and its Data Docs."""

import difflib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipelines.adapters.tables import INDEX, Tables
from pipelines.errors import ParamsError
from pipelines.params import Expectation

_NO_SQL: Final = "No provider found"
"""What the library says of an expectation that it computes in memory only, such as increasing values."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one expectation; `rows` holds up to three rows that break it, or the extreme ones."""

    expectation: Expectation
    met: bool
    observed: str
    num_unexpected: int | None
    rows: list[dict[str, Any]]


def compile_contract(expectations: Sequence[Expectation]) -> list[Any]:
    """The library's expectation objects, in order.

    Raises:
        ParamsError: a name or an argument is not one of the library's.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    from great_expectations import expectations as library

    return [_compiled(library, number, item) for number, item in enumerate(expectations)]


def _compiled(library: Any, number: int, item: Expectation) -> Any:
    where = f"data_validation.expectations.{number} ({item.name})"
    known = [name for name in dir(library) if name.startswith(("Expect", "Unexpected"))]
    if item.name not in known:
        close = difflib.get_close_matches(item.name, known, n=3)
        raise ParamsError(f"{where}: Great Expectations has no such class. Did you mean {' or '.join(close) or known}?")
    try:
        return getattr(library, item.name)(**item.arguments)
    except Exception as error:  # its own, older pydantic
        raise ParamsError(f"{where}: {' '.join(str(error).split())}") from None


def check(tables: Tables, expectations: Sequence[Expectation], compiled: Sequence[Any], docs: Path) -> list[Outcome]:
    """Check every expectation against the table of its kind and write the Data Docs.

    Args:
        tables: Of the records.
        expectations: The contract.
        compiled: From `compile_contract`.
        docs: Folder of the HTML; what is there is replaced.

    Raises:
        ParamsError: an expectation cannot be computed, for instance because it names a column that is not there.
    """
    import great_expectations as gx

    shutil.rmtree(docs, ignore_errors=True)
    tables.commit()
    context = _context(gx, docs)
    outcomes: dict[int, Outcome] = {}
    for kind, columns in tables.columns.items():
        numbers = [number for number, item in enumerate(expectations) if item.records == kind]
        _check_columns(columns, [(number, expectations[number]) for number in numbers])
        if numbers:
            results = _run(gx, context, kind, tables.path, [compiled[number] for number in numbers])
            for number, result in zip(numbers, results, strict=True):
                outcomes[number] = _outcome(expectations[number], number, result, tables)
    context.build_data_docs()
    return [outcomes[number] for number in sorted(outcomes)]


def _context(gx: Any, docs: Path) -> Any:
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    context.add_data_docs_site(
        "local",
        {
            "class_name": "SiteBuilder",
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.resolve())},
            "show_how_to_buttons": False,
        },
    )
    return context


def _check_columns(columns: Sequence[str], items: Sequence[tuple[int, Expectation]]) -> None:
    for number, item in items:
        column = item.arguments.get("column")
        if column is not None and column not in columns:
            raise ParamsError(
                f"data_validation.expectations.{number} ({item.name}): {item.records} have no column {column!r}; there"
                f" are {', '.join(columns)}"
            )


def _run(gx: Any, context: Any, kind: str, database: Path, compiled: Sequence[Any]) -> list[Any]:
    """The results in the order of `compiled`: the library sorts them by column, the `meta` says which is which."""
    source = context.data_sources.add_sqlite(kind, connection_string=f"sqlite:///{database}")
    batch = source.add_table_asset("descriptors", table_name=kind).add_batch_definition_whole_table("accepted")
    suite = context.suites.add(gx.ExpectationSuite(name=kind))
    for number, item in enumerate(compiled):
        item.meta = {**(item.meta or {}), "number": number}
        suite.add_expectation(item)
    definition = context.validation_definitions.add(gx.ValidationDefinition(name=kind, data=batch, suite=suite))
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(
            name=kind,
            validation_definitions=[definition],
            result_format={"result_format": "SUMMARY", "unexpected_index_column_names": list(INDEX)},
        )
    )
    try:
        (outcome,) = checkpoint.run().run_results.values()
    except TypeError as error:  # of a result that it cannot write down: its quantiles, for one
        names = ", ".join(type(item).__name__ for item in compiled)
        raise ParamsError(
            f"data_validation.expectations: Great Expectations fails on one of {names}, of {kind}: {error}."
            " Leave it out."
        ) from error
    finally:
        source.get_execution_engine().close()
    return sorted(outcome.results, key=lambda result: result.expectation_config.meta["number"])


def _outcome(expectation: Expectation, number: int, result: Any, tables: Tables) -> Outcome:
    if result.exception_info and _raised(result.exception_info):
        reason = _raised(result.exception_info)
        if _NO_SQL in reason:
            reason += ". Great Expectations cannot compute it in SQL, where the tables are: take another class"
        raise ParamsError(f"data_validation.expectations.{number} ({expectation.name}) cannot be computed: {reason}")
    values = result.result
    unexpected = values.get("unexpected_count")
    observed = values.get("observed_value")
    rows = values.get("partial_unexpected_index_list") or []
    column = expectation.arguments.get("column")
    if not rows and not result.success and column is not None:
        rows = list(tables.extremes(expectation.records, column))
    return Outcome(
        expectation=expectation,
        met=bool(result.success),
        observed=f"{unexpected:,} of {values['element_count']:,} rows" if unexpected is not None else f"{observed}",
        num_unexpected=unexpected,
        rows=[dict(row) for row in rows[:3]],
    )


def _raised(info: Mapping[str, Any]) -> str:
    entries = [info] if "raised_exception" in info else list(info.values())
    return next((str(entry["exception_message"]) for entry in entries if entry.get("raised_exception")), "")
