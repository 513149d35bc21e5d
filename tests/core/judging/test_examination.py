import pytest

from pipelines.core.judging import examination, scores
from tests import fixtures

RECORDS = fixtures.instruction_records(30)


@pytest.fixture(scope="module")
def tokenizer():
    return fixtures.tiny_tokenizer(record["context"] for record in RECORDS)


@pytest.fixture(scope="module")
def asked(tokenizer):
    return examination.questions(tokenizer, RECORDS, room=10_000)


@pytest.fixture(scope="module")
def examiner(tokenizer):
    def score(metric, answers, references):
        return [getattr(scores, metric)(*pair) for pair in zip(answers, references, strict=True)]

    return examination.Examiner(tokenizer=tokenizer, score=score, max_new_tokens=8, seed=0)


def test_records_are_parted_by_the_length_of_their_answers(asked):
    assert {record["task"] for record in asked.short} == {"question_answering"}
    assert {record["task"] for record in asked.long} == {"summarisation"}
    assert asked.main == asked.short


def test_prompts_that_leave_no_room_are_left_out_and_counted(tokenizer):
    lengths = [len(examination.decoding.chat_ids(tokenizer, examination.single_turn(r)[:1])) for r in RECORDS]
    room = sorted(lengths)[len(lengths) // 2]
    fitting = examination.questions(tokenizer, RECORDS, room)
    assert len(fitting.every) == sum(length <= room for length in lengths)
    assert fitting.num_left_out == len(RECORDS) - len(fitting.every)


def test_a_draw_has_so_many_records_a_task_and_lies_within_a_larger_one(asked):
    few, many = asked.some(5), asked.some(10)
    assert (len(few.short), len(few.long)) == (5, 5)
    assert all(record in many.every for record in few.every)


def test_perfect_answers_score_one_and_wrong_ones_zero(asked, examiner):
    right = {record["id"]: record["completion"] for record in RECORDS}
    wrong = dict.fromkeys(right, "nonsense")
    assert examiner.main_score(asked, right) == {"metric": "exact_match", "mean": 1, "low": 1, "high": 1, "count": 60}
    assert examiner.main_score(asked, wrong)["mean"] == 0
    assert examiner.by_task(asked, right)["summarisation"]["rouge_l"]["mean"] == pytest.approx(1)


def test_where_no_answers_are_short_models_are_compared_by_rouge(asked, examiner):
    long = examination.Questions(short=[], long=asked.long, num_left_out=0)
    right = {record["id"]: record["completion"] for record in RECORDS}
    assert examiner.main_score(long, right)["metric"] == "rouge_l"
    assert examination.story_removed(examiner, None, long) is None


def test_only_questions_that_have_a_text_are_asked_without_it(asked, examiner, monkeypatch):
    told = asked.short[:3]
    bare = [{**told[0], "id": "empty", "context": ""}, {**told[0], "id": "none", "context": None}]
    monkeypatch.setattr(
        examination.Examiner, "answers", lambda _self, _model, records: {one["id"]: one["prompt"] for one in records}
    )

    def removed(short):
        return examination.story_removed(examiner, None, examination.Questions(short=short, long=[], num_left_out=0))

    assert removed([*told, *bare])["count"] == len(told)
    assert removed(bare) is None


def test_the_interval_is_wider_when_questions_share_a_story(examiner):
    alone = [{"id": f"r{n}", "task": "t", "context": f"story {n}", "completion": "yes"} for n in range(80)]
    shared = [{**record, "context": f"story {n // 8}"} for n, record in enumerate(alone)]
    said = {record["id"]: "yes" if n // 8 % 2 else "no" for n, record in enumerate(alone)}

    def width(records):
        figures = examiner.measured("exact_match", records, said)
        return figures["high"] - figures["low"]

    assert width(shared) > 2 * width(alone)


def test_greedy_answers_that_are_known_are_not_asked_again(asked, examiner):
    known = {record["id"]: record["completion"] for record in RECORDS}
    way = {"name": "greedy", "temperature": 0.0, "top_p": 1.0, "beams": 1}
    (row,) = examination.decodings(examiner, None, asked, [way], known)
    assert (row["exact_match"], row["rouge_l"]) == (1, pytest.approx(1))


def test_diverse_records_take_every_task_in_turn():
    records = [{"id": n, "task": task} for n, task in enumerate("aaabbc")]
    assert [record["task"] for record in examination.diverse(records, 5)] == ["a", "b", "c", "a", "b"]
