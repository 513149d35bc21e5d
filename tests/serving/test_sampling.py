"""The next token: greedy, nucleus, its log-probability."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from serving import sampling

LOGITS = torch.tensor([[1.0, 3.0, 2.0, -1.0]])
CHANCES = LOGITS.softmax(-1)[0].tolist()


def chosen(temperature: float, top_p: float, draw: float, logits: torch.Tensor = LOGITS) -> int:
    return int(sampling.choose(logits, [temperature], [top_p], [draw])[0])


def test_temperature_0_takes_the_likeliest() -> None:
    assert chosen(0.0, 0.1, 0.999) == 1


def test_draws_fall_on_tokens_by_their_chances() -> None:
    drawn = [chosen(1.0, 1.0, (step + 0.5) / 1000) for step in range(1000)]
    for token, chance in enumerate(CHANCES):
        assert drawn.count(token) / 1000 == pytest.approx(chance, abs=0.002)


def test_the_nucleus_is_the_fewest_tokens_that_hold_top_p() -> None:
    drawn = {chosen(1.0, CHANCES[1] + 0.01, step / 100) for step in range(100)}
    assert drawn == {1, 2}
    assert {chosen(1.0, CHANCES[1] - 0.01, step / 100) for step in range(100)} == {1}


def test_a_low_temperature_does_not_overflow() -> None:
    assert chosen(1e-9, 1.0, 0.5, LOGITS * 1e6) == 1


def test_a_row_does_not_depend_on_the_others() -> None:
    rows = torch.cat([LOGITS, LOGITS.flip(1), LOGITS])
    assert sampling.choose(rows, [1.0, 0.0, 0.7], [1.0, 1.0, 0.9], [0.2, 0.9, 0.7]).tolist() == [
        chosen(1.0, 1.0, 0.2),
        chosen(0.0, 1.0, 0.9, LOGITS.flip(1)),
        chosen(0.7, 0.9, 0.7),
    ]


@given(
    st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=20),
    st.floats(0.01, 2),
    st.floats(0.001, 1),
    st.floats(0, 1, exclude_max=True),
)
def test_what_is_chosen_lies_in_the_nucleus(logits: list[float], temperature: float, top_p: float, draw: float) -> None:
    token = chosen(temperature, top_p, draw, torch.tensor([logits]))
    chances = (torch.tensor(logits, dtype=torch.float64) / temperature).softmax(-1)
    assert float(chances[chances > chances[token]].sum()) < top_p + 1e-6


def test_log_probabilities_are_those_of_the_model_and_the_top_is_sorted() -> None:
    (score,) = sampling.scored(LOGITS, torch.tensor([2]), [3])
    assert score.token == 2
    assert score.logprob == pytest.approx(math.log(CHANCES[2]), abs=1e-5)
    assert [token for token, _ in score.top] == [1, 2, 0]
