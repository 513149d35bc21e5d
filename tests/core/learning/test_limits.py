"""Where policy optimisation ends by itself."""

import pytest

from pipelines.core.learning import limits
from pipelines.params import Ppo
from tests.learning import params

SETTINGS = params(ppo={"kl_limit": 5.0, "length_collapse": 0.25, "length_explosion": 4.0}).ppo
HEALTHY = {"kl": 2.0, "length": 50.0, "first_length": 40.0, "reward": -1.0}


@pytest.mark.parametrize(
    ("seen", "stop"),
    [
        ({}, None),
        ({"kl": 5.0}, None),
        ({"kl": 5.1}, "kl"),
        ({"length": 10.0}, None),
        ({"length": 9.9}, "length collapse"),
        ({"length": 160.0}, None),
        ({"length": 160.1}, "length explosion"),
        ({"kl": float("nan")}, "not finite"),
        ({"kl": float("inf")}, "not finite"),
        ({"reward": float("nan"), "kl": 9.0}, "not finite"),
    ],
)
def test_a_policy_past_a_limit_is_told_which(seen, stop):
    assert limits.passed(SETTINGS, **HEALTHY | seen) == stop


def test_the_limits_of_the_checkout_leave_room():
    settings: Ppo = params().ppo
    assert limits.passed(settings, kl=10.0, length=75.0, first_length=30.0, reward=0.0) is None
    assert limits.passed(settings, kl=10.0, length=12.0, first_length=30.0, reward=0.0) is None
