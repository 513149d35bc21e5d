import pytest

from pipelines.core.learning.schedules import warmup_cosine


def rates(steps, warmup_share=0.1, final_share=0.1):
    return [
        warmup_cosine(step, steps, peak=1.0, warmup_share=warmup_share, final_share=final_share)
        for step in range(steps)
    ]


def test_the_rate_rises_in_a_straight_line_from_above_zero_to_the_peak():
    assert rates(30)[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_the_rate_falls_from_the_peak_to_the_final_share_in_the_last_step():
    falling = rates(100)[10:]
    assert falling == sorted(falling, reverse=True)
    assert falling[0] == 1.0
    assert falling[-1] == pytest.approx(0.1)


def test_half_way_down_the_cosine_stands_between_peak_and_final_share():
    assert rates(101, warmup_share=0.0)[50] == pytest.approx(0.55)


def test_a_run_of_one_step_is_taken_at_the_peak():
    assert rates(1) == [1.0]
