"""What is learnt from, in params.yaml."""

from tests.params.changes import fault


def test_a_vocabulary_below_the_bytes_is_refused() -> None:
    assert "tokenization.vocab_size is 200" in fault(tokenization__vocab_size=200)
