"""Judges and writers: the instruction model, a reward model, a server."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
import yaml

from pipelines import params as schema
from pipelines.adapters import judges, models
from pipelines.adapters.judges import Panel
from pipelines.adapters.tracking import NullTracker
from pipelines.core.learning import rewards
from pipelines.core.learning.constitution import Case, Question
from pipelines.errors import ArtifactError, DataError, ParamsError
from tests.core.learning.architectures import causal
from tests.fixtures import corpus_records, tiny_model, tiny_tokenizer
from tests.learning import ROOT, reward_model, write_model

TEXTS = [record["text"] for record in corpus_records(40)]
PRINCIPLE = {"name": "n", "critique": "c", "revision": "r", "comparison": "?"}
CASES = [
    Case(id=f"case {number}", prompt="Go on.", responses=tuple(TEXTS[3 * number : 3 * number + 3]), task="t")
    for number in range(4)
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    tokenizer = tiny_tokenizer(TEXTS)
    model = tiny_model(tokenizer, context=256)
    write_model(root / "sft", model, tokenizer)
    write_model(root / "reward", reward_model(model), tokenizer)
    return root


@pytest.fixture
def panel(folders, tmp_path):
    def make(**changes):
        settings = {"share": 1.0, "judge": "self", "writer": "self", "principles_per_prompt": 1}
        values = {"reward_model": None, "endpoint": None, **settings, **changes}
        return Panel(
            schema.Constitution.model_validate(values),
            judges.load(ROOT / "constitution.yaml"),
            model=folders / "sft",
            kept=tmp_path / "answers",
            device=torch.device("cpu"),
            max_new_tokens=12,
            seed=7,
            tracker=NullTracker(),
        )

    return make


class TestPrinciples:
    def write(self, tmp_path, value):
        path = tmp_path / "constitution.yaml"
        path.write_bytes(value if isinstance(value, bytes) else yaml.safe_dump(value).encode())
        return path

    def test_ours_are_read_and_carry_the_hash_of_the_file(self):
        found = judges.load(ROOT / "constitution.yaml")
        assert {"kindness", "an ending", "no loops"} <= {one.name for one in found.principles}
        assert all(one.comparison.endswith("?") for one in found.principles)
        assert len(found.sha256) == 64

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            (b"", "one list `principles:`"),
            ([PRINCIPLE], "one list `principles:`"),
            ({"principles": []}, "one list `principles:`"),
            ({"principles": [PRINCIPLE], "more": 1}, "one list `principles:`"),
            ({"principles": ["be kind"]}, "principle 1: str instead of name, critique, revision, comparison"),
            ({"principles": [PRINCIPLE, {"name": "x"}]}, r"principle 2: \['name'\] instead of"),
            ({"principles": [PRINCIPLE | {"critique": " "}]}, "principle 1: critique is ' '"),
            ({"principles": [PRINCIPLE | {"name": 3}]}, "principle 1: name is 3"),
            ({"principles": [PRINCIPLE, PRINCIPLE]}, "two principles of the name 'n'"),
            (b"principles: [", "is not YAML"),
            (b"principles: \xff", "is not UTF-8"),
        ],
    )
    def test_a_file_of_another_form_is_refused_with_the_place(self, tmp_path, value, said):
        with pytest.raises(DataError, match=said):
            judges.load(self.write(tmp_path, value))

    def test_a_missing_file_is_named_with_the_way_back(self, tmp_path):
        with pytest.raises(DataError, match=r"git checkout -- constitution\.yaml"):
            judges.load(tmp_path / "constitution.yaml")


class TestSelf:
    def test_ranks_by_its_letters_and_revises_and_says_by_which_constitution(self, panel):
        given = panel().give(CASES, CASES[:2])
        assert [one.id for one in given.rankings] == [f"{case.id}-constitution" for case in CASES]
        assert {one.annotator for one in given.rankings} == {"constitution:self"}
        assert {one.kind for one in given.rankings} == {"constitution"}
        assert {one.instructions for one in given.rankings} == {judges.load(ROOT / "constitution.yaml").sha256}
        assert given.tally.num_unusable == 0

    def test_says_the_same_each_time(self, panel):
        first, second = panel().give(CASES, CASES), panel().give(CASES, CASES)
        assert (first.rankings, first.revisions) == (second.rankings, second.revisions)

    def test_leaves_out_what_is_too_long_for_the_model_and_counts_it(self, panel):
        long = Case(id="long", prompt="Go on. " * 400, responses=("la", "no"))
        given = panel().give([*CASES, long], [long])
        assert len(given.rankings) == len(CASES)
        assert (len(given.cases), given.tally.num_unusable, given.revisions) == (len(CASES) + 1, 2, [])


def test_a_judge_and_writer_whose_positions_have_no_end_reads_all_that_it_is_given(
    panel, folders, tmp_path, monkeypatch
):
    tokenizer = models.load_tokenizer(folders / "sft")
    bloom = causal("bloom", vocab_size=len(tokenizer), eos=tokenizer.eos_token_id, pad=tokenizer.pad_token_id)
    write_model(tmp_path / "bloom", bloom, tokenizer)
    judge = panel()
    monkeypatch.setattr(judge, "_folder", tmp_path / "bloom")
    long = Case(id="long", prompt="Go on. " * 400, responses=("la", "no"))
    given = judge.give([long], [long])
    assert (len(given.rankings), given.tally.num_unusable) == (1, 0)


class TestRewardModel:
    def test_whose_positions_have_no_end_reads_all_that_it_is_given(self, panel, folders, tmp_path):
        from transformers import BloomConfig, BloomForSequenceClassification

        tokenizer = models.load_tokenizer(folders / "sft")
        config = BloomConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            n_layer=2,
            n_head=4,
            num_labels=1,
            pad_token_id=tokenizer.pad_token_id,
        )
        write_model(tmp_path / "bloom", BloomForSequenceClassification(config).eval(), tokenizer)
        long = Case(id="long", prompt="Go on. " * 400, responses=("la", "no"))
        given = panel(judge="reward_model", reward_model=str(tmp_path / "bloom")).give([long], [])
        assert given.tally.num_unusable == 0

    def test_ranks_as_the_rewards_do(self, panel, folders):
        given = panel(judge="reward_model", reward_model=str(folders / "reward")).give(CASES, [])
        model, tokenizer = models.load_reward(folders / "reward"), models.load_tokenizer(folders / "reward")
        for case, ranking in zip(CASES, given.rankings, strict=True):
            scores = rewards.score(model, tokenizer, [case.prompt] * 3, case.responses)
            assert [1 + sum(other > score for other in scores) for score in scores] == list(ranking.ranks)
        assert all(given.tally.consistent)

    def test_chances_are_those_of_bradley_and_terry(self, panel, folders):
        principle = judges.load(ROOT / "constitution.yaml").principles[0]
        judge = panel(judge="reward_model", reward_model=str(folders / "reward")).judge
        (chance,) = judge([Question(prompt="Go on.", first=TEXTS[0], second=TEXTS[1], principle=principle)])
        model, tokenizer = models.load_reward(folders / "reward"), models.load_tokenizer(folders / "reward")
        first, second = rewards.score(model, tokenizer, ["Go on."] * 2, TEXTS[:2])
        assert chance == pytest.approx(torch.sigmoid(torch.tensor(first - second)).item(), abs=1e-6)

    def test_whose_rewards_are_no_numbers_is_refused_by_name(self, panel, folders, monkeypatch):
        judge = panel(judge="reward_model", reward_model=str(folders / "reward"))
        monkeypatch.setattr(rewards, "score_ids", lambda _model, ids, **_: [float("nan")] * len(ids))
        with pytest.raises(DataError, match=r"gives rewards that are no numbers.*feedback\.constitution\.reward_model"):
            judge.give(CASES, [])

    def test_that_is_none_is_refused_before_anything_is_judged(self, panel, folders, tmp_path):
        with pytest.raises(DataError, match=r"feedback\.constitution\.reward_model is 'nowhere'"):
            panel(judge="reward_model", reward_model="nowhere")
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError, match="holds no tokenizer"):
            panel(judge="reward_model", reward_model=str(tmp_path / "empty"))
        with pytest.raises(ArtifactError, match="not a trained reward model"):
            panel(judge="reward_model", reward_model=str(folders / "sft")).give(CASES, [])


@pytest.fixture
def server():
    """Prefers the shorter response by its letter, with reasons where `explains` stands in the text; writes briefly."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.server.asked.append(body)
            text = body["messages"][-1]["content"]
            if "\n\n(A) " in text:
                first, second = text.split("\n\n(A) ")[1].split("\n\nSay A or B")[0].split("\n\n(B) ")
                said = "A" if len(first) < len(second) else "B"
                said += " is kinder." if self.server.explains and self.server.explains in text else ""
            else:
                said = "Too long." if len(body["messages"]) == 3 else "Short."
            content = json.dumps({"choices": [{"message": {"content": said}, "finish_reason": "stop"}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    one = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    one.asked, one.explains = [], None
    threading.Thread(target=one.serve_forever, daemon=True).start()
    yield one
    one.shutdown()
    one.server_close()


class TestServer:
    def settings(self, server, **changes):
        base_url = f"http://127.0.0.1:{server.server_port}/v1"
        return {"judge": "endpoint", "writer": "endpoint", "endpoint": {"base_url": base_url, "model": "m", **changes}}

    def test_judges_and_writes(self, panel, server):
        given = panel(**self.settings(server)).give(CASES, CASES[:1])
        for case, ranking in zip(CASES, given.rankings, strict=True):
            lengths = list(map(len, case.responses))
            assert list(ranking.ranks) == [1 + sum(other < length for other in lengths) for length in lengths]
        (made,) = given.revisions
        assert (made.critiques, made.revision, made.kept) == (("Too long.",), "Short.", True)

    def test_is_asked_no_more_than_was_reckoned_and_nothing_twice(self, panel, server):
        panel(**self.settings(server, max_requests=4 * 6 + 2 + 2)).give(CASES, CASES[:1])
        assert len(server.asked) == 4 * 6 + 2 + 2
        panel(**self.settings(server)).give(CASES, CASES[:1])
        assert len(server.asked) == 4 * 6 + 2 + 2

    def test_is_not_asked_at_all_where_that_would_be_too_often(self, panel, server):
        with pytest.raises(ParamsError, match=r"up to 28 answers .*endpoint\.max_requests is 27: raise it"):
            panel(**self.settings(server, max_requests=27)).give(CASES, CASES[:1])
        assert server.asked == []

    def test_that_explains_itself_is_not_understood_and_that_is_counted(self, panel, server):
        server.explains = CASES[0].responses[0]
        given = panel(**self.settings(server)).give(CASES[:2], CASES[:1])
        assert [ranking.id for ranking in given.rankings] == ["case 1-constitution"]
        assert (given.tally.num_asked, given.tally.num_unusable) == (2 * 6 + 2, 4 + 2)
        assert (given.revisions[0].chance, given.revisions[0].kept) == (None, False)

    def test_that_is_never_understood_ends_the_stage(self, panel, server):
        server.explains = "\n"
        with pytest.raises(DataError, match=r"endpoint gave no usable answer to any of 24 comparisons.*constitution"):
            panel(**self.settings(server)).give(CASES, CASES[:1])

    def test_may_write_what_the_model_judges(self, panel, server):
        given = panel(**self.settings(server) | {"judge": "self"}).give(CASES, CASES[:1])
        assert len(server.asked) == 2
        assert given.rankings[0].annotator == "constitution:self"
