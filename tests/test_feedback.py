"""Feedback: from samples, people and ready pairs to preference pairs."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from pipelines import feedback
from pipelines.adapters import files, models
from pipelines.adapters.tracking import NullTracker
from pipelines.core.learning import decoding
from pipelines.core.text import records
from pipelines.core.world.corpus import TalesSource, instruction_records
from pipelines.errors import DataError, ParamsError
from tests.core.learning import architectures
from tests.fixtures import tiny_model, tiny_tokenizer
from tests.learning import ROOT, params, write_model, write_validated

SETTINGS = {"num_prompts": 60, "max_new_tokens": 8, "overlap_share": 0.5, "held_out_share": 0.3}
PERSON = {"prompt": "Sing.", "responses": ["la", "lo", "no"], "ranks": [1, 1, None], "annotator": "ann"}
PAIR = {"prompt": "Debate.", "chosen": "good", "rejected": "bad", "source": "debates"}


@pytest.fixture(scope="module")
def tales():
    return [asdict(record) for record in instruction_records(TalesSource(), "train", 150)]


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def with_model(workspace, tales):
    texts = [record["completion"] for record in tales]
    tokenizer = tiny_tokenizer(texts)
    write_model(Path("models/sft"), tiny_model(tokenizer, context=512), tokenizer)
    return workspace


@pytest.fixture
def storyteller(monkeypatch, tales):
    """Instead of the untrained model somebody answers who stops after a quarter, a half, ... of a story."""
    said: dict[tuple[int, ...], str] = {}
    stories = [record["completion"] for record in tales if record["task"] == "story_writing"]

    def respond(_model, tokenizer, prompts, *, advance=lambda _count: None, **_options):
        made = []
        for number, ids in enumerate(prompts):
            key = tuple(ids)
            completion = said.setdefault(key, stories[len(said) % len(stories)])
            words = completion.split()
            text = " ".join(words[: max(1, len(words) * (1 + number % 4) // 4)])
            made.append(decoding.Response(tokens=[1, 2, 3], text=text, finished=number % 2 == 0))
        advance(len(made))
        return made

    monkeypatch.setattr(decoding, "respond", respond)


def rows(name):
    return list(files.read_jsonl(Path("data/preferences") / name))


def run(**changes):
    return feedback.main(params(feedback={**SETTINGS, **changes}), NullTracker())


class TestSampled:
    @pytest.fixture(autouse=True)
    def _data(self, with_model, storyteller, tales):
        write_validated(Path("data/validated"), instructions={"train": tales})

    def test_rankings_of_samples_become_pairs_with_gold_scores_and_a_ceiling(self):
        report = run()
        train, valid = rows("preferences.train.jsonl"), rows("preferences.valid.jsonl")
        assert report.num_pairs == len(train) + len(valid) > 100
        assert (report.num_train_pairs, report.num_valid_pairs) == (len(train), len(valid))
        assert report.pairs_by_source == {"simulated": report.num_pairs}
        assert 0.6 < report.best_reachable_accuracy <= 1
        assert report.num_rankings == len(rows("rankings.jsonl"))
        assert report.num_sampled == 4 * len({row["prompt"] for row in rows("rankings.jsonl")})
        hits = [row["gold_chosen"] > row["gold_rejected"] for row in train]
        assert sum(hits) / len(hits) > 0.6

    def test_the_pairs_of_a_prompt_are_all_on_one_side(self):
        run()
        train = {row["prompt"] for row in rows("preferences.train.jsonl")}
        valid = {row["prompt"] for row in rows("preferences.valid.jsonl")}
        assert train
        assert valid
        assert not train & valid

    def test_only_the_chosen_tasks_are_asked_unless_none_of_them_occurs(self):
        run(tasks=["continuation"])
        assert {row["task"] for row in rows("preferences.train.jsonl")} == {"continuation"}
        run(tasks=["chess"])
        assert {row["task"] for row in rows("rankings.jsonl")} - {"continuation", "story_writing"}

    def test_less_noise_means_more_agreement_and_a_higher_ceiling(self):
        calm, loud = run(annotator_noise=0.01), run(annotator_noise=0.5)
        assert calm.annotator_agreement > loud.annotator_agreement + 0.2
        assert calm.best_reachable_accuracy > loud.best_reachable_accuracy

    def test_without_overlap_there_is_no_agreement_to_report(self):
        assert run(overlap_share=0.0).annotator_agreement is None

    def test_the_same_seed_gives_the_same_bytes(self):
        run()
        before = files.sha256(Path("data/preferences"))
        run()
        assert files.sha256(Path("data/preferences")) == before

    def test_a_held_out_annotator_ranks_held_out_prompts_and_trains_nobody(self):
        run(held_out_annotators=["simulated-1", "simulated-2"])
        train, valid = rows("preferences.train.jsonl"), rows("preferences.valid.jsonl")
        assert {row["annotator"] for row in train} == {"simulated-3", "simulated-4", "simulated-5"}
        assert {"simulated-1", "simulated-2"} & {row["annotator"] for row in valid}
        prompts = {row["prompt"] for row in valid}
        own = [row for row in rows("rankings.jsonl") if row["annotator"] in ("simulated-1", "simulated-2")]
        assert {row["prompt"] for row in own} <= prompts

    def test_what_a_held_out_person_says_of_other_prompts_is_left_out(self):
        write_people(*(PERSON | {"id": f"r{number}", "prompt": f"Sing {number}."} for number in range(30)))
        report = run(held_out_annotators=["ann"])
        assert 0 < report.pairs_by_source["human"] < 60
        assert report.num_not_learnt_from == 30 - len(
            {row["prompt"] for row in rows("preferences.valid.jsonl") if row["annotator"] == "ann"}
        )
        assert "ann" not in {row["annotator"] for row in rows("preferences.train.jsonl")}
        assert "ann" in {row["annotator"] for row in rows("preferences.valid.jsonl")}

    def test_a_held_out_annotator_whom_nobody_knows_is_refused_with_those_there_are(self):
        write_people(PERSON | {"id": "r1"})
        with pytest.raises(ParamsError, match=r"names bne, but the annotators are ann, simulated-1, .*simulated-5:"):
            run(held_out_annotators=["ann", "bne"])

    def test_what_a_person_says_twice_counts_once(self):
        turned = {"responses": PERSON["responses"][::-1], "ranks": PERSON["ranks"][::-1]}
        write_people(PERSON | {"id": "r1"}, PERSON | {"id": "r2"}, PERSON | {"id": "r3"} | turned)
        report = run()
        assert report.pairs_by_source["human"] == 2
        assert (report.num_repeated, report.num_quarantined) == (2, 0)

    def test_prompts_that_leave_no_room_for_a_response_are_left_out_and_counted(self, tales):
        long = [{**record, "id": f"long-{record['id']}", "prompt": "so " * 600} for record in tales[:1]]
        write_validated(Path("data/validated"), instructions={"train": [*tales, *long]})
        assert run(num_prompts=1000, tasks=[tales[0]["task"]]).num_too_long == 1
        write_validated(Path("data/validated"), instructions={"train": tales})
        assert run(num_prompts=1000, tasks=[tales[0]["task"]]).num_too_long == 0

    def test_a_model_whose_positions_have_no_end_answers_prompts_of_any_length(self, tales):
        tokenizer = models.load_tokenizer(Path("models/sft"))
        bloom = architectures.causal(
            "bloom", vocab_size=len(tokenizer), eos=tokenizer.eos_token_id, pad=tokenizer.pad_token_id
        )
        write_model(Path("models/sft"), bloom, tokenizer)
        assert run().num_too_long == 0

    def test_people_are_heard_beside_simulated_annotators(self):
        write_people(PERSON | {"id": "r1"})
        report = run()
        assert report.pairs_by_source["human"] == 2
        assert report.num_failed >= 1

    def test_instructions_stand_in_rankings_by_people_only(self):
        write_people(PERSON | {"id": "r1", "instructions": "a" * 64}, PERSON | {"id": "r2", "prompt": "Hum."})
        run()
        by_id = {row["id"]: row for row in rows("rankings.jsonl")}
        assert by_id["r1"]["instructions"] == "a" * 64
        assert not [name for name, row in by_id.items() if name != "r1" and "instructions" in row]

    def test_nothing_held_out_is_an_error_with_the_key(self):
        with pytest.raises(DataError, match=r"The valid side .* about 0 prompts.*feedback\.held_out_share"):
            run(held_out_share=0.0)
        assert not Path("data/preferences").exists()


class TestConstitution:
    @pytest.fixture(autouse=True)
    def _data(self, with_model, storyteller, tales):
        write_validated(Path("data/validated"), instructions={"train": tales})
        shutil.copy(ROOT / "constitution.yaml", "constitution.yaml")
        tokenizer = models.load_tokenizer(Path("models/sft"))
        write_model(Path("models/sft"), tiny_model(tokenizer, context=2048), tokenizer)  # it reads two stories

    def switched_on(self, share=0.5, **changes):
        settings = params().feedback.constitution.model_dump()
        return {"num_prompts": 30, "constitution": {**settings, "share": share, **changes}}

    def test_switched_off_it_is_neither_read_nor_written(self):
        Path("constitution.yaml").unlink()
        assert run().constitution is None
        assert {path.name for path in Path("data/preferences").iterdir()} == {
            "rankings.jsonl",
            "rejects.jsonl",
            *(f"preferences.{split}.jsonl" for split in ("train", "valid", "test")),
        }

    def test_a_share_of_the_prompts_is_ranked_by_it_and_some_of_them_by_annotators_too(self):
        report = run(**self.switched_on())
        by_kind = {
            kind: {row["prompt"] for row in rows("rankings.jsonl") if row["kind"] == kind}
            for kind in ("simulated", "constitution")
        }
        prompts = set().union(*by_kind.values())
        both = set.intersection(*by_kind.values())
        assert 0.25 < len(by_kind["constitution"]) / len(prompts) < 0.75
        assert 0 < len(both) < len(by_kind["constitution"])
        assert report.constitution.agreement["simulated"].num_prompts == len(both)
        assert report.constitution.num_rankings == len(by_kind["constitution"])
        assert report.pairs_by_source["constitution"] > 0
        assert not [name for name in report.annotators if name.startswith("constitution")]

    def test_its_rankings_carry_the_hash_of_the_principles_and_annotators_rank_as_without_it(self):
        run(num_prompts=30)
        without = {row["id"]: row for row in rows("rankings.jsonl")}
        run(**self.switched_on())
        rankings = rows("rankings.jsonl")
        digests = {row["instructions"] for row in rankings if row["kind"] == "constitution"}
        assert digests == {files.sha256(Path("constitution.yaml"))}
        assert [row for row in rankings if row["kind"] == "simulated"] == [
            without[row["id"]] for row in rankings if row["kind"] == "simulated"
        ]

    def test_the_same_seed_gives_the_same_bytes(self):
        run(**self.switched_on())
        before = files.sha256(Path("data/preferences"))
        run(**self.switched_on())
        assert files.sha256(Path("data/preferences")) == before

    def test_kept_revisions_are_instruction_records_and_all_critiques_are_there(self):
        report = run(**self.switched_on())
        critiques, kept = rows("critiques.jsonl"), rows("revisions.jsonl")
        assert (len(critiques), len(kept)) == (
            report.constitution.num_revisions,
            report.constitution.num_revisions_kept,
        )
        assert all(row["critiques"] and row["principles"] for row in critiques)
        for row in kept:
            conformed = records.conform("instructions", row, columns={}, constants={}, source="constitution")
            assert conformed["completion"] == row["completion"]

    def test_what_people_ranked_is_ranked_too_and_the_agreement_with_them_told(self):
        write_people(*[PERSON | {"id": f"r{number}", "prompt": f"Sing {number}."} for number in range(30)])
        report = run(**self.switched_on(), overlap_share=1.0)
        assert report.constitution.agreement["human"].num_prompts == 30
        assert not {row["prompt"] for row in rows("critiques.jsonl")} & {f"Sing {number}." for number in range(30)}

    def test_what_it_says_of_responses_that_people_ranked_serves_the_agreement_and_teaches_nobody(self):
        write_people(*[PERSON | {"id": f"r{number}", "prompt": f"Sing {number}."} for number in range(30)])
        run(**self.switched_on(), overlap_share=1.0)
        of_people = {f"Sing {number}." for number in range(30)}
        said = [row for row in rows("rankings.jsonl") if row["kind"] == "constitution"]
        learnt = [*rows("preferences.train.jsonl"), *rows("preferences.valid.jsonl")]
        taught = {row["prompt"] for row in learnt if row["source"] == "constitution"}
        assert of_people < {row["prompt"] for row in said}
        assert taught
        assert not of_people & taught

    def test_a_revision_of_an_earlier_run_does_not_hide_the_gold_facts_of_its_prompt(self, tales):
        again = [{**record, "id": f"{record['id']}-revision", "gold": None} for record in tales]
        write_validated(Path("data/validated"), instructions={"train": [*tales, *again]})
        settings = params(feedback={**SETTINGS, **self.switched_on()})
        assert all(record["gold"] for record in feedback.chosen_records(settings.feedback, 7))

    def test_prompts_without_gold_facts_suffice_where_it_judges(self, tales):
        bare = [{**record, "gold": None} for record in tales]
        write_validated(Path("data/validated"), instructions={"train": bare})
        report = run(**self.switched_on(share=0.1))
        assert {row["kind"] for row in rows("rankings.jsonl")} == {"constitution"}
        assert (report.mean_gold, report.best_reachable_accuracy) == (None, None)
        assert report.constitution.num_rankings == report.num_sampled / 4 > 20


def write_people(*lines):
    Path("data/feedback").mkdir(parents=True, exist_ok=True)
    Path("data/feedback/people.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


class TestWithoutGold:
    def test_rankings_by_people_suffice(self, workspace):
        write_validated(Path("data/validated"))
        write_people(*[PERSON | {"id": f"r{number}", "prompt": f"Sing {number}."} for number in range(30)])
        report = run()
        assert (report.num_rankings, report.num_pairs, report.num_ties, report.num_failed) == (30, 60, 30, 30)
        assert report.best_reachable_accuracy is None
        assert (report.num_sampled, report.mean_gold) == (0, None)
        assert rows("preferences.train.jsonl")[0]["chosen"] in ("la", "lo")

    def test_each_annotator_has_a_count_and_an_agreement_with_those_who_ranked_the_same(self, workspace):
        write_validated(Path("data/validated"))
        people = [PERSON | {"id": f"r{number}", "prompt": f"Sing {number}."} for number in range(30)]
        again = [one | {"id": f"{one['id']}-ben", "annotator": "ben"} for one in people[:10]]
        write_people(*people, *again, PERSON | {"id": "alone", "prompt": "Hum.", "annotator": "cleo"})
        assert {name: asdict(one) for name, one in run().annotators.items()} == {
            "ann": {"num_rankings": 30, "agreement_with_others": 1.0},
            "ben": {"num_rankings": 10, "agreement_with_others": 1.0},
            "cleo": {"num_rankings": 1, "agreement_with_others": None},
        }

    def test_a_bad_line_is_kept_with_its_reason(self, workspace):
        write_validated(Path("data/validated"))
        people = [PERSON | {"id": f"r{number}", "prompt": f"Sing {number}."} for number in range(30)]
        write_people(*people, PERSON | {"id": "bad", "ranks": [1]})
        assert run(max_bad_line_share=0.1).num_quarantined == 1
        (reject,) = rows("rejects.jsonl")
        assert (reject["file"], reject["line"]) == ("data/feedback/people.jsonl", 31)

    def test_a_ranking_follows_the_ready_pairs_about_its_prompt_so_that_no_prompt_is_on_both_sides(self, workspace):
        prompts = [f"Sing {number}." for number in range(40)]
        ready = {
            "train": [PAIR | {"id": f"t{row}", "prompt": prompt} for row, prompt in enumerate(prompts[:15])],
            "valid": [PAIR | {"id": f"v{row}", "prompt": prompt} for row, prompt in enumerate(prompts[15:30])],
        }
        write_validated(Path("data/validated"), preferences=ready)
        write_people(*(PERSON | {"id": f"r{row}", "prompt": prompt} for row, prompt in enumerate(prompts)))
        run()
        train, valid = ({row["prompt"] for row in rows(f"preferences.{side}.jsonl")} for side in ("train", "valid"))
        assert not train & valid
        assert train >= set(prompts[:15])
        assert valid >= set(prompts[15:30])

    def test_ready_pairs_suffice_and_stay_in_their_splits(self, workspace):
        ready = {
            split: [PAIR | {"id": f"{split}{number}", "prompt": f"Debate {number} of {split}."} for number in range(3)]
            for split in ("train", "valid", "test")
        }
        write_validated(Path("data/validated"), preferences=ready)
        report = run()
        assert (report.num_train_pairs, report.num_valid_pairs, report.num_test_pairs) == (3, 3, 3)
        assert report.pairs_by_source == {"debates": 9}
        for split, expected in ready.items():
            found = rows(f"preferences.{split}.jsonl")
            assert [row["id"] for row in found] == [row["id"] for row in expected]
            assert all(row["ranking_id"] == row["id"] for row in found)

    def test_nothing_at_all_is_an_error_that_names_the_three_ways(self, workspace):
        write_validated(Path("data/validated"))
        with pytest.raises(DataError) as caught:
            run()
        for way in ("gold facts", "data/feedback/*.jsonl", "ingestion.preferences"):
            assert way in str(caught.value)
