"""tiktoken is given our merges."""

from benchmarks.tokenization import byte_of_letter, ranks
from pipelines.core.text import bpe, chat


def test_every_byte_has_a_letter_of_its_own() -> None:
    letters = byte_of_letter()
    assert sorted(letters.values()) == list(range(256))
    assert (letters["Ġ"], letters["Ċ"], letters["a"]) == (32, 10, 97)


def test_ranks_hold_every_byte_and_every_joined_pair_under_the_ids_of_the_tokenizer() -> None:
    tokenizer = bpe.train(["The cat sat on the mat, and the cat ate. Señor!"] * 5, 300)
    found = ranks(tokenizer.get_vocab(), chat.SPECIAL_TOKENS)
    assert {bytes([byte]) for byte in range(256)} <= set(found)
    assert len(found) == len(tokenizer) - len(chat.SPECIAL_TOKENS)
    ids = tokenizer(" the cat")["input_ids"]
    spelled = {number: token for token, number in found.items()}
    assert b"".join(spelled[number] for number in ids) == b" the cat"
