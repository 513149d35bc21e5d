"""What is asked of a release, in params.yaml."""

from tests.params.changes import fault


def test_a_floor_on_a_figure_that_does_not_exist_comes_with_the_one_that_was_meant() -> None:
    floors = [{"figure": "evaluation.exact_match", "at_least": 0.5}]
    words = fault(promotion__floors=floors)
    assert "there is no figure 'evaluation.exact_match'; did you mean evaluation.policy_exact_match?" in words


def test_a_floor_without_a_limit_is_refused() -> None:
    words = fault(promotion__floors=[{"figure": "ppo.kl"}])
    assert "promotion.floors: ppo.kl has no limit: give at_least or at_most" in words
