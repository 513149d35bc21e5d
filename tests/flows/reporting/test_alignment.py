from flows.reporting import alignment
from tests.flows import examples

PPO = examples.REPORTS["ppo"]
CURVE = {"kl": [(1.0, 0.0), (2.0, 0.5)], "reward": [(1.0, 0.1), (2.0, 0.4)]}


def titles(part):
    return [title for title, _, _ in part["charts"]]


def test_without_anything_to_draw_there_is_no_part():
    assert alignment.part({}, {}) is None


def test_a_report_of_before_the_axis_still_shows_its_iterations():
    old = {name: value for name, value in PPO.items() if name not in ("axis", "laws", "spreads")}
    assert titles(alignment.part(old, CURVE)) == ["While it learnt"]


def test_each_reward_has_a_line_and_each_fitted_law_a_dashed_one():
    (_, chart, told), _ = alignment.part(PPO, CURVE)["charts"]
    assert chart.count("<polyline") == 3 + 2
    assert chart.count("stroke-dasharray") == 2
    assert "after 20 of 30 iterations, at 6.2 nats, with 100.0 % of the best gold score" in told


def test_the_chosen_policy_is_marked_at_the_root_of_its_divergence():
    (_, chart, _), _ = alignment.part(PPO, CURVE)["charts"]
    x = 66 + (6.2**0.5 / 11.9**0.5) * (520 - 66 - 14)
    assert f'class="mark" x1="{x:.1f}"' in chart


def test_where_no_policy_was_taken_the_two_limits_that_may_be_the_reason_are_named():
    (_, _, told), _ = alignment.part({**PPO, "chosen_updates": 0}, CURVE)["charts"]
    assert "the instruction model itself" in told
    assert "ppo.kl_price" in told
    assert "ppo.max_length_change" in told


def test_where_there_is_no_gold_scorer_it_is_not_drawn():
    bare = [{**point, "gold": None} for point in PPO["axis"]]
    (_, chart, told), _ = alignment.part({**PPO, "axis": bare, "share_of_best_gold": None}, CURVE)["charts"]
    assert "gold scorer" not in chart
    assert "best gold" not in told
