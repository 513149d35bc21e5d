import numpy as np

from pipelines.core.text.keys import KeyIndex
from pipelines.core.text.words import mix


def some_keys(count: int) -> np.ndarray:
    return mix(np.arange(count, dtype=np.uint64))


def test_every_entry_of_a_key_is_found_the_latest_first() -> None:
    index = KeyIndex(1 << 4)
    keys = some_keys(5)
    for places in ([0, 1, 0], [2], [0, 3, 4]):
        index.add(keys[places])
    assert [list(index.entries(int(key))) for key in keys] == [[4, 2, 0], [1], [3], [5], [6]]


def test_look_ups_stay_exact_when_there_are_many_more_entries_than_slots() -> None:
    index = KeyIndex(1 << 4)
    keys = some_keys(400)
    for batch in np.split(keys[:200], 8):
        index.add(batch)
    assert index.maybe(keys[:200]).all()
    assert [list(index.entries(int(key))) for key in keys] == [[place] for place in range(200)] + [[]] * 200


def test_few_new_keys_pass_the_filter_at_an_entry_a_slot() -> None:
    index = KeyIndex(1 << 14)
    keys = some_keys(1 << 15)
    index.add(keys[: 1 << 14])
    assert 0 < index.maybe(keys[1 << 14 :]).mean() < 0.05
