"""Windows are cut by count, so that no clock moves them."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.drift import windows
from pipelines.core.drift.windows import Span


@settings(deadline=None)
@given(st.integers(0, 2000), st.integers(1, 300))
def test_whole_windows_follow_one_another_and_leave_less_than_one(documents, size):
    found = windows.whole(documents, size)
    assert all(len(span) == size for span in found)
    assert [span.start for span in found] == [number * size for number in range(len(found))]
    assert 0 <= documents - len(found) * size < size


@settings(deadline=None)
@given(st.integers(1, 2000), st.integers(1, 300))
def test_a_finished_batch_is_cut_into_windows_of_nearly_one_length_with_nothing_left(documents, size):
    found = windows.even(documents, size)
    assert (found[0].start, found[-1].stop) == (0, documents)
    assert all(one.stop == other.start for one, other in itertools.pairwise(found))
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_nothing_has_no_window():
    assert windows.even(0, 10) == []
    assert windows.times([], Span(start=0, stop=0)) is None


def test_the_time_of_a_window_spans_its_documents_in_whatever_order_the_clock_gave_them():
    assert windows.times([5.0, 2.0, None, 9.0, 100.0], Span(start=0, stop=4)) == (2.0, 9.0)
