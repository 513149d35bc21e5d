"""What the server may be asked for, in params.yaml."""

from tests.params.changes import fault


def test_a_request_within_its_limits_that_never_finds_room_is_refused_with_all_keys() -> None:
    text = fault(serving__limits__queue=47)
    assert "serving.limits.choices x beams = 64 sequences but serving.slots + serving.limits.queue is 63" in text


def test_more_answers_of_one_request_than_slots_are_refused_with_both_keys() -> None:
    text = fault(serving__limits__choices=99)
    assert "serving.limits.choices is 99 but serving.slots is 16: lower the first or raise the second" in text
