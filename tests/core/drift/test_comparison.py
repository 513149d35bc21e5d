"""A window beside its reference: found when something changed, silent when nothing did."""

import random

import numpy as np
import pytest

from pipelines.core.drift import comparison, watch
from pipelines.core.drift.comparison import Settings, compare
from pipelines.core.drift.sample import PERPLEXITY, Sample

QUICK = Settings(permutations=499, min_documents=20)
OLD = ["barn", "hill", "park", "lake", "shop", "wood", "ball", "cake", "drum", "kite", "boat", "hat"]
NEW = ["whale", "tide", "reef", "anchor"]


def sample(count, seed, *, foreign=0.0):
    """Documents of twelve words each, the share `foreign` of them with words of their own and a shifted embedding."""
    draw = random.Random(seed)
    rng = np.random.default_rng(seed)
    texts, strange = [], np.zeros(count)
    for number in range(count):
        strange[number] = draw.random() < foreign
        texts.append(" ".join(draw.choices(OLD + (NEW if strange[number] else []), k=12)))
    vocabulary = {word: number for number, word in enumerate(OLD + NEW)}
    return Sample(
        tokens=np.array([vocabulary[word] for text in texts for word in text.split()], dtype=np.uint16),
        offsets=np.arange(count + 1) * 12,
        embeddings=(rng.normal(size=(count, 6)) + strange[:, None]).astype(np.float32),
        columns={
            PERPLEXITY: (rng.normal(size=count) + 2 * strange).astype(np.float32),
            "characters": np.array([len(text) for text in texts], dtype=np.float32),
            "lines": np.ones(count, dtype=np.float32),
        },
        texts=tuple(texts),
    )


def by_test(compared):
    return {finding.test: finding for finding in compared.findings}


def test_every_test_sees_a_window_that_is_another_world():
    compared = compare(sample(150, 1), sample(80, 2, foreign=1.0), QUICK, seed=1)
    assert compared.outcome == "differs"
    found = by_test(compared)
    assert {test for test in ("tokens", "words", "meaning", "perplexity") if found[test].outcome == "differs"} == {
        "tokens",
        "words",
        "meaning",
        "perplexity",
    }
    assert found["words"].detail in NEW
    assert found["descriptors"].detail == "characters"


def test_a_fifth_of_foreign_documents_is_found():
    compared = compare(sample(400, 3), sample(200, 4, foreign=0.2), QUICK, seed=1)
    assert by_test(compared)["words"].p_value == pytest.approx(1 / 500)
    assert compared.outcome == "differs"


def test_unchanged_windows_are_rarely_called_different():
    settings = Settings(alpha=0.05, permutations=99, min_documents=20)
    outcomes = [
        compare(sample(60, 1000 + seed), sample(40, 5000 + seed), settings, seed=seed).outcome for seed in range(120)
    ]
    assert outcomes.count("differs") <= 14  # at 5 % more than 14 of 120 come up once in a thousand times


def test_the_same_seed_gives_the_same_figures():
    one, other = (compare(sample(60, 1), sample(40, 2), QUICK, seed=9) for _ in range(2))
    assert one == other


def test_a_difference_within_the_references_own_variation_is_none():
    reference, window = sample(300, 1), sample(150, 2, foreign=0.5)
    loud = compare(reference, window, QUICK, seed=1)
    assert loud.outcome == "differs"
    usual = {test: 2 * effect for test, effect in loud.effects.items()}
    quiet = compare(reference, window, QUICK, seed=1, variation=usual)
    assert quiet.outcome == "same"
    assert by_test(quiet)["words"].p_value == by_test(loud)["words"].p_value
    assert by_test(quiet)["words"].own_variation == usual["words"]


def test_the_alarm_is_adjusted_for_the_number_of_tests():
    for finding in compare(sample(60, 1), sample(40, 2), QUICK, seed=1).findings:
        assert finding.alarm_p_value == pytest.approx(min(1, 5 * finding.p_value))
        assert finding.p_value <= finding.q_value <= finding.alarm_p_value


def test_without_texts_the_descriptors_alone_are_tested():
    bare = [Sample(columns={"characters": part.columns["characters"]}) for part in (sample(60, 1), sample(40, 2))]
    compared = compare(*bare, QUICK, seed=1)
    assert [finding.test for finding in compared.findings] == ["descriptors"]
    assert compared.outcome == "same"


def test_columns_are_told_one_by_one_with_those_that_changed_first():
    first, *_ = comparison.compare_columns(sample(150, 1), sample(80, 2, foreign=1.0), QUICK, seed=1)
    assert first.column == PERPLEXITY
    assert first.window_median > first.reference_median + 1
    assert "lines" not in {
        item.column for item in comparison.compare_columns(sample(60, 1), sample(40, 2), QUICK, seed=1)
    }


def test_figures_kept_to_other_precision_are_the_same_figures():
    shares = np.arange(60) % 7 / 7
    reference = Sample(columns={"share": shares.astype(np.float32)})
    window = Sample(columns={"share": shares.round(6)})
    (found,) = compare(reference, window, QUICK, seed=1).findings
    assert found.p_value == 1


def test_traffic_that_was_never_like_the_release_is_judged_by_its_accepted_weeks():
    release = sample(300, 1)
    weeks = [sample(150, 10 + number, foreign=0.5) for number in range(4)]
    usual = watch.judge(release, weeks, sample(150, 20, foreign=0.5), QUICK, past_effects=[], most=500, seed=1)
    assert (usual.by_weeks, usual.decided.outcome, usual.by_release.outcome) == (True, "same", "differs")
    changed = watch.judge(release, weeks, sample(150, 21, foreign=1.0), QUICK, past_effects=[], most=500, seed=1)
    assert changed.decided.outcome == "differs"


def test_what_was_accepted_long_ago_is_no_variation_any_more():
    for later, counts in ((watch.PAST - 1, True), (watch.PAST, False)):
        past = [{"words": 1e9}, *[{"words": 0.0}] * later]
        judged = watch.judge(sample(100, 1), [], sample(60, 2), QUICK, past_effects=past, most=500, seed=1)
        assert (by_test(judged.by_release)["words"].own_variation == 1e9) == counts


def test_without_accepted_weeks_the_release_decides():
    judged = watch.judge(sample(100, 1), [], sample(60, 2), QUICK, past_effects=[], most=500, seed=1)
    assert not judged.by_weeks
    assert judged.decided is judged.by_release


def test_the_largest_effect_of_each_test_is_the_variation():
    assert watch.largest([{"words": 0.1, "tokens": 0.2}, {"words": 0.3}]) == {"words": 0.3, "tokens": 0.2}
