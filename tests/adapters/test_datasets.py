"""Kinds and splits of records, as every room names them."""

from pipelines.adapters import datasets
from pipelines.core.text import ledger
from pipelines.core.world import corpus


def test_the_rooms_of_the_core_have_the_same_kinds_and_splits() -> None:
    assert set(datasets.KINDS) == set(ledger.KINDS)
    assert set(datasets.SPLITS) == set(ledger.SPLITS) == set(corpus.SPLITS)
