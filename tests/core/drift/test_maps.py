"""The map: groups that lie together, named by their words."""

import numpy as np

from pipelines.core.drift import maps


def blobs():
    rng = np.random.default_rng(1)
    inland = rng.normal(size=(40, 5)) * 0.1
    coast = rng.normal(size=(20, 5)) * 0.1 + [3, 0, 0, 0, 0]
    return np.concatenate([inland[:30], coast[:2]]), np.concatenate([inland[30:], coast[2:]])


def texts(*parts):
    return [text for count, text in parts for _ in range(count)]


def test_two_groups_are_found_and_named_with_their_shares():
    old, new = blobs()
    said = texts((30, "barn hill"), (2, "wave tide"), (10, "barn hill"), (18, "wave tide"))
    drawn = maps.draw(old, new, said, clusters=2, seed=1)
    first, second = drawn.clusters
    assert set(first.name.split(", ")) == {"wave", "tide"}
    assert (round(first.reference_share, 3), round(first.window_share, 3)) == (round(2 / 32, 3), round(18 / 28, 3))
    assert set(second.name.split(", ")) == {"barn", "hill"}
    assert said[32 + first.example] == "wave tide"
    assert drawn.reference.shape == (32, 2)
    assert drawn.window.shape == (28, 2)


def test_the_same_seed_draws_the_same_map():
    old, new = blobs()
    one, other = (maps.draw(old, new, ["a b"] * 60, clusters=3, seed=4) for _ in range(2))
    assert (one.window == other.window).all()
    assert one.clusters == other.clusters


def test_documents_that_are_all_the_same_have_no_map():
    assert maps.draw(np.ones((9, 3)), np.ones((9, 3)), ["a"] * 18, clusters=2, seed=1) is None
    assert maps.draw(np.ones((9, 3)), np.ones((0, 3)), ["a"] * 9, clusters=2, seed=1) is None
