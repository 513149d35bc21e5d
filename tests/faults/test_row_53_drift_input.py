"""Row 53: an empty window, five documents, a constant feature, NaN: neither an alarm nor an all-clear."""

import numpy as np
import pytest

from pipelines.core.drift import policy
from pipelines.core.drift.comparison import Settings, compare
from pipelines.core.drift.policy import Policy
from pipelines.core.drift.sample import PERPLEXITY, Sample

SETTINGS = Settings(permutations=499)


def sample(count, seed, **columns):
    rng = np.random.default_rng(seed)
    return Sample(
        tokens=rng.integers(0, 20, 8 * count).astype(np.uint16),
        offsets=np.arange(count + 1) * 8,
        embeddings=rng.normal(size=(count, 4)).astype(np.float32),
        columns={
            PERPLEXITY: rng.normal(size=count).astype(np.float32),
            "words": rng.normal(size=count).astype(np.float32),
            **{name: np.broadcast_to(np.float32(value), (count,)) for name, value in columns.items()},
        },
        texts=tuple(" ".join(rng.choice(list("abcdefghij"), 4)) for _ in range(count)),
    )


REFERENCE = sample(200, 1)


def found(compared):
    return {finding.test: finding for finding in compared.findings}


@pytest.mark.parametrize("count", [0, 1, 5, 49])
def test_too_small_a_window_is_insufficient_data(count):
    compared = compare(REFERENCE, sample(count, 2), SETTINGS, seed=1)
    assert compared.outcome == "insufficient data"
    assert {finding.outcome for finding in compared.findings} == {"insufficient data"}
    assert f"the window has {count} usable documents, at least 50 are needed" in found(compared)["tokens"].detail
    assert policy.state(["same", "same", compared.outcome], Policy()) == "insufficient data"


def test_too_small_a_reference_is_insufficient_data():
    assert compare(sample(5, 1), sample(200, 2), SETTINGS, seed=1).outcome == "insufficient data"


def test_a_figure_that_is_nan_everywhere_is_insufficient_data():
    compared = compare(REFERENCE, sample(100, 2, **{PERPLEXITY: np.nan}), SETTINGS, seed=1)
    assert found(compared)["perplexity"].outcome == "insufficient data"
    assert found(compared)["words"].outcome == "same"
    assert compared.outcome == "insufficient data"


def test_more_than_a_few_nan_are_not_hidden():
    window = sample(100, 2)
    window.columns["words"][:20] = np.nan
    compared = compare(REFERENCE, window, SETTINGS, seed=1)
    assert found(compared)["descriptors"].detail == "20 of 100 documents of the window have no figure"
    assert compared.outcome == "insufficient data"


def test_a_descriptor_that_is_mostly_missing_silences_only_itself():
    window = sample(100, 2, nats_per_token=np.nan)
    compared = compare(sample(200, 1, nats_per_token=1.0), window, SETTINGS, seed=1)
    why = "nats_per_token: the window has 0 usable documents, at least 50 are needed"
    assert found(compared)["descriptors"].outcome == compared.outcome == "insufficient data"
    assert found(compared)["descriptors"].detail == why
    assert found(compared)["descriptors"].p_value is None
    window.columns["words"][:] += 3
    compared = compare(sample(200, 1, nats_per_token=1.0), window, SETTINGS, seed=1)
    assert (found(compared)["descriptors"].outcome, found(compared)["descriptors"].detail) == ("differs", "words")


def test_a_few_nan_are_left_out():
    window = sample(100, 2)
    window.columns["words"][:3] = np.nan
    window.embeddings[5] = np.nan
    assert compare(REFERENCE, window, SETTINGS, seed=1).outcome == "same"


def test_a_feature_that_is_constant_on_both_sides_says_nothing():
    compared = compare(sample(200, 1, **{PERPLEXITY: 2.5}), sample(100, 2, **{PERPLEXITY: 2.5}), SETTINGS, seed=1)
    assert found(compared)["perplexity"].outcome == "insufficient data"
    assert "2.5 everywhere" in found(compared)["perplexity"].detail
    assert compared.outcome == "insufficient data"


def test_a_feature_that_became_constant_is_a_difference():
    compared = compare(REFERENCE, sample(100, 2, **{PERPLEXITY: 2.5}), SETTINGS, seed=1)
    assert found(compared)["perplexity"].outcome == "differs"
    assert compared.outcome == "differs"


def test_one_constant_descriptor_among_others_does_not_silence_them():
    compared = compare(sample(200, 1, lines=1.0), sample(100, 2, lines=1.0), SETTINGS, seed=1)
    assert found(compared)["descriptors"].outcome == "same"


def test_embeddings_that_are_all_the_same_say_nothing():
    parts = [
        Sample(columns={}, embeddings=np.ones((100, 4), dtype=np.float32), tokens=part.tokens, offsets=part.offsets)
        for part in (sample(100, 1), sample(100, 2))
    ]
    compared = compare(*parts, SETTINGS, seed=1)
    assert found(compared)["meaning"].detail == "all embeddings are the same"
    assert compared.outcome == "insufficient data"
