"""Monitoring: batches and requests beside the release, the state, what is remembered, the page."""

import html
import json
import random
import re
import shutil
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from flows import cli
from flows.cli import drift as commands
from flows.drift import batch, monitoring, traffic, watch
from flows.drift import page as drift_report
from flows.drift.schema import SchemaRow
from pipelines import stage
from pipelines.adapters import datasets, files, reader, references, release
from pipelines.core.drift.policy import Policy
from pipelines.errors import ArtifactError, DataError, MoteurError
from tests.fixtures import corpus_records, tiny_model, tiny_tokenizer
from tests.flows.examples import ROOT
from tests.flows.reporting.test_page import Strict

DRIFT = {"permutations": 499, "window_documents": 60, "min_documents": 30, "max_documents": 400}


def texts(count, seed, *, foreign=0.0):
    """Stories of the fixtures, the share `foreign` of them about the sea."""
    draw = random.Random(seed)
    made = [record["text"] for record in corpus_records(count, seed=seed)]
    return [text.replace("went to", "sailed past the whale to") if draw.random() < foreign else text for text in made]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A release whose reference was read by the model in it."""
    place = tmp_path_factory.mktemp("monitoring") / "release"
    tokenizer = tiny_tokenizer(texts(60, 1))
    release.save_quantised(tiny_model(tokenizer), tokenizer, place)
    normal = reader.read(place, texts(150, 2), threads=1)
    references.write(place, {"corpus": normal, "requests": normal})
    release.write_manifest(place, format=1, name="tiny", weights="int8")
    return place


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["drift"] |= DRIFT
    values["threads"] = 1
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def quick(monkeypatch, folder):
    """Read in this process, with a model that is loaded once; tests/adapters/test_references.py covers the process."""
    from pipelines.adapters.reader import LARGEST_HALF, PERPLEXITY, Sample, descriptors
    from pipelines.core.learning import reading

    model, tokenizer = release.load(folder)

    def read(_folder, given, *, threads=None):
        done = reading.read(model, tokenizer, given)
        return Sample(
            tokens=done.tokens,
            offsets=done.offsets,
            embeddings=done.embeddings.clip(-LARGEST_HALF, LARGEST_HALF).astype("float16"),
            columns={
                **descriptors(given),
                "bytes_per_token": done.bytes_per_token,
                PERPLEXITY: done.nats_per_byte,
            },
        )

    monkeypatch.setattr(reader, "read", read)


def write_batch(path, documents):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents), encoding="utf-8")
    return str(path)


def log(folder, documents, *, start, answered_by=None, text=True, step=60):
    """One segment of the request log, a request a minute from `start` (seconds since 1970)."""
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.glob("*.jsonl"))) + 1
    described = reader.descriptors(documents)
    manifest = files.sha256(answered_by / release.MANIFEST) if answered_by else None
    with (folder / f"requests-20260101T000000-7-{number}.jsonl").open("w", encoding="utf-8") as file:
        for row, document in enumerate(documents):
            record = {
                "id": f"{number}-{row}",
                "time": traffic.datetime.fromtimestamp(start + step * row, tz=monitoring.UTC).isoformat(),
                "manifest_sha256": manifest,
                "prompt_descriptors": {name: round(float(values[row]), 6) for name, values in described.items()},
                "response_descriptors": {},
                "seconds": 0.5,
            }
            file.write(json.dumps(record | ({"prompt": document} if text else {})) + "\n")


def check(folder, **options):
    return monitoring.check(folder=folder, **options)


def test_a_batch_of_the_same_kind_is_ok(workspace, folder, quick):
    verdict = check(folder, data=write_batch(workspace / "same.jsonl", texts(150, 3)))
    assert (verdict.state, verdict.exit_code) == ("ok", 0)
    assert len(verdict.findings) == 5
    assert all(row.met for row in verdict.schema)
    assert verdict.words.startswith("No drift in 150 documents")


def test_a_changed_batch_is_drift_with_its_words_and_since_when(workspace, folder, quick):
    changed = [*texts(120, 4), *texts(120, 5, foreign=0.6)]
    verdict = check(folder, data=write_batch(workspace / "sea.jsonl", changed))
    assert (verdict.state, verdict.exit_code) == ("drift", 11)
    assert verdict.since == "part 3"
    assert {"whale", "sailed"} <= {item["word"] for item in verdict.changes["words"]}
    assert "whale" in verdict.words
    kept = json.loads(Path("reports/drift.json").read_text())
    assert kept["state"] == "drift"
    assert [row["outcome"] for row in kept["windows"]] == ["same", "same", "differs", "differs"]
    page = drift_report.PATH.read_text(encoding="utf-8")
    assert "<mark>whale</mark>" in page


def test_a_batch_that_changes_towards_its_end_is_drift_though_its_whole_hardly_differs():
    rule = Policy()
    assert monitoring._batch_state("same", ["same"] * 6 + ["differs"] * 2, [], rule) == "drift"
    assert monitoring._batch_state("same", ["differs"] * 2 + ["same"] * 2, [], rule) == "watch"
    assert monitoring._batch_state("same", ["same", "differs"], [], rule) == "ok"
    assert monitoring._batch_state("insufficient data", ["differs"] * 2, [], rule) == "insufficient data"


def test_the_page_is_well_formed_asks_for_nothing_outside_and_shows_texts_as_texts(workspace, folder, quick):
    nasty = [text + " <script>alert(1)</script>" for text in texts(80, 6, foreign=1.0)]
    check(folder, data=write_batch(workspace / "nasty.jsonl", nasty))
    page = drift_report.PATH.read_text(encoding="utf-8")
    parser = Strict()
    parser.feed(page)
    assert not parser.open
    assert all(link.startswith("#") for link in parser.links)
    assert not re.search(r"https?://|@import|url\(http", page)
    assert "<script>" not in page
    assert all(f'<section id="{name}">' in page for name in ("tests", "words", "map", "examples", "shape"))
    assert 'class="missing"' not in page


def test_row_53_five_documents_are_insufficient_data(workspace, folder, quick):
    verdict = check(folder, data=write_batch(workspace / "few.jsonl", texts(5, 7)))
    assert (verdict.state, verdict.exit_code) == ("insufficient data", 12)
    assert "neither an alarm nor an all-clear" in verdict.words
    assert "</html>" in drift_report.PATH.read_text(encoding="utf-8")


def test_rows_that_are_no_records_are_counted_and_watched(workspace, folder, quick):
    path = workspace / "torn.jsonl"
    write_batch(path, texts(100, 8))
    path.write_text(path.read_text() + '{"txt": 1}\n' * 20)
    verdict = check(folder, data=str(path))
    assert verdict.state == "watch"
    assert verdict.schema[0].observed == "16.7 %: 20 field missing"


def test_another_shape_is_outside_of_the_expectations(workspace, folder, quick):
    long = [" ".join(texts(6, seed)) for seed in range(40)]
    verdict = check(folder, data=write_batch(workspace / "long.jsonl", long))
    assert "words" in {row.column for row in verdict.schema if not row.met}


def test_a_batch_that_is_not_there_is_named(workspace, folder):
    with pytest.raises(DataError, match=r"nothing\.jsonl is not there"):
        check(folder, data=str(workspace / "nothing.jsonl"))
    with pytest.raises(DataError, match="is no folder"):
        check(folder, data=str(workspace / "no" / "where.jsonl"))


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("tales://?season=moon", "--data: season is 'moon'"),
        ("/nowhere.jsonl", r"nowhere\.jsonl is not there below / \(--data\)"),
        ("/nowhere*.jsonl", r"nowhere\*\.jsonl matches no file below / \(--data\)"),
    ],
)
def test_what_is_wrong_with_a_batch_is_said_of_the_option_and_not_of_params(uri, said):
    with pytest.raises(MoteurError, match=said) as caught:
        batch.read(uri, "corpus", stage.load_params(ROOT / "params.yaml").ingestion)
    assert "ingestion" not in str(caught.value)


def test_a_batch_of_many_files_is_cut_as_a_whole_and_says_so(workspace, monkeypatch):
    for number in range(3):
        write_batch(workspace / f"part-{number}.jsonl", texts(4, number))
    settings = stage.load_params().ingestion
    glob = str(workspace / "part-*.jsonl")
    monkeypatch.setattr(batch, "MOST_READ", 6)
    cut = batch.read(glob, "corpus", settings)
    assert (cut.name, len(cut.texts)) == (f"the first 6 rows of {glob}", 6)
    monkeypatch.setattr(batch, "MOST_READ", 12)
    whole = batch.read(glob, "corpus", settings)
    assert (whole.name, len(whole.texts)) == (glob, 12)


def test_a_release_that_is_not_as_its_manifest_says_is_refused(workspace, folder, tmp_path):
    with pytest.raises(ArtifactError, match="is missing"):
        check(tmp_path / "none", data="tales://")
    with pytest.raises(ArtifactError, match="no documents of kind 'other'"):
        references.read(folder, "other")


def test_no_request_yet_is_insufficient_data(workspace, folder):
    verdict = check(folder)
    assert verdict.state == "insufficient data"
    assert verdict.windows == ()


def test_requests_are_judged_in_whole_windows_once_and_drift_needs_two(workspace, folder, quick):
    requests = workspace / ".moteur" / "requests"
    log(requests, texts(130, 10), start=1_767_225_600, answered_by=folder)
    first = check(folder)
    assert (first.state, [row.outcome for row in first.windows]) == ("ok", ["same", "same"])
    assert "(10 wait for a whole window)" in first.subject
    log(requests, texts(50, 11, foreign=0.8), start=1_767_312_000, answered_by=folder)
    assert check(folder).state == "watch"
    log(requests, texts(60, 12, foreign=0.8), start=1_767_398_400, answered_by=folder)
    last = check(folder)
    assert last.state == "drift"
    assert [row.outcome for row in last.windows] == ["same", "same", "differs", "differs"]
    assert last.since is not None
    assert last.since.startswith("2026-01-01")
    again = check(folder)
    assert (again.state, len(again.windows)) == ("drift", 4)


def test_a_new_release_is_not_judged_by_what_its_predecessor_was_asked(workspace, folder, quick):
    requests = workspace / ".moteur" / "requests"
    for number in range(2):
        foreign = texts(60, 40 + number, foreign=0.8)
        log(requests, foreign, start=1_767_225_600 + 86_400 * number, answered_by=folder)
    assert check(folder).state == "drift"
    promoted = workspace / "promoted"
    shutil.copytree(folder, promoted)
    release.write_manifest(promoted, format=1, name="its successor", weights="int8")
    fresh = check(promoted)
    assert (fresh.state, fresh.windows) == ("insufficient data", ())
    log(requests, texts(60, 42), start=1_767_500_000, answered_by=promoted)
    assert [row.documents for row in check(promoted).windows] == [60]


def test_windows_that_are_accepted_become_what_is_normal(workspace, folder, quick):
    requests = workspace / ".moteur" / "requests"
    for number in range(4):
        log(requests, texts(60, 20 + number, foreign=0.7), start=1_767_225_600 + 86_400 * number, answered_by=folder)
    assert check(folder).state == "drift"
    assert check(folder, accept=True).state != "drift"
    log(requests, texts(60, 30, foreign=0.7), start=1_767_700_000, answered_by=folder)
    usual = check(folder)
    assert (usual.windows[-1].outcome, usual.against) == ("same", "the last 4 accepted windows of requests")


def test_without_texts_the_logged_descriptors_alone_are_judged(workspace, folder):
    log(workspace / ".moteur" / "requests", texts(60, 13), start=1_767_225_600, answered_by=folder, text=False)
    verdict = check(folder)
    assert [finding.test for finding in verdict.findings] == ["descriptors"]
    assert (verdict.state, verdict.changes) == ("ok", {})
    assert "the texts are not kept" in drift_report.PATH.read_text(encoding="utf-8")


def test_row_49_what_is_remembered_of_requests_holds_no_text(workspace, folder, quick):
    asked = [text for number in range(6) for text in texts(60, 50 + number, foreign=0.9 * (number > 4))]
    log(workspace / ".moteur" / "requests", asked, start=1_767_225_600, answered_by=folder)
    verdict = check(folder)
    assert verdict.against == "the last 4 accepted windows of requests"
    assert verdict.changes["map"]
    kept = [path.read_text() for path in (workspace / ".moteur" / "drift").rglob("window-*.json")]
    assert len(kept) == 6
    assert not any("played" in text for text in kept)
    shown = monitoring.JSON.read_text() + html.unescape(drift_report.PATH.read_text(encoding="utf-8"))
    assert not any(text[:30] in shown for text in asked)
    assert "it is not copied here" in shown


def test_requests_of_another_shape_are_watched(workspace, folder, quick, monkeypatch):
    row = SchemaRow(column="words", expected="4 to 90", observed="20 % outside", met=False)
    monkeypatch.setattr(monitoring.drift_schema, "check", lambda *_parts, **_options: [row])
    log(workspace / ".moteur" / "requests", texts(60, 13), start=1_767_225_600, answered_by=folder)
    verdict = check(folder)
    assert (verdict.state, verdict.windows[0].outcome) == ("watch", "same")
    assert verdict.words.endswith("Outside of the expected shape: words.")


@pytest.mark.parametrize("jump", [-86_400, 86_400])
def test_row_51_a_clock_that_jumps_moves_no_window(workspace, folder, quick, jump):
    requests = workspace / ".moteur" / "requests"
    log(requests, texts(70, 15), start=1_767_225_600, answered_by=folder)
    log(requests, texts(70, 16), start=1_767_225_600 + jump, answered_by=folder)
    verdict = check(folder)
    assert [row.documents for row in verdict.windows] == [60, 60]
    assert verdict.state == "ok"


def test_a_torn_last_line_of_the_log_is_no_request(tmp_path):
    log(tmp_path, texts(3, 17), start=0)
    (path,) = tmp_path.glob("*.jsonl")
    path.write_bytes(path.read_bytes()[:-40])
    assert [request.id for request in traffic.read(tmp_path)] == ["1-0", "1-1"]
    assert traffic.read(tmp_path / "none") == []


RECORDS = st.fixed_dictionaries(
    {
        "id": st.text(min_size=1),
        "prompt_descriptors": st.dictionaries(st.text(), st.none() | st.floats() | st.integers()),
    },
    optional={
        name: st.none() | st.integers() | st.text() | st.lists(st.text()) | st.dictionaries(st.text(), st.floats())
        for name in ("time", "prompt", "response_descriptors", "finish", "status", "seconds")
    },
)


@settings(max_examples=60, deadline=None)
@given(st.lists(RECORDS.map(json.dumps).map(str.encode) | st.binary(max_size=40), max_size=6))
def test_any_line_of_the_log_is_a_request_or_is_left_out(lines):
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "requests-20260101T000000-7-1.jsonl").write_bytes(b"\n".join(lines))
        found = traffic.read(Path(name))
    assert len({request.id for request in found}) == len(found) <= len(lines) + sum(line.count(b"\r") for line in lines)
    assert all(isinstance(value, float) for request in found for value in request.columns.values())


def test_the_command_says_what_it_found_and_exits_with_the_state(workspace, folder, quick, monkeypatch):
    monkeypatch.setattr(commands, "enter", lambda _workspace: Path.cwd())
    sea = write_batch(workspace / "sea.jsonl", texts(80, 18, foreign=0.9))
    done = CliRunner().invoke(cli.app, ["drift", "--data", sea, "--release", str(folder)])
    assert done.exit_code == 11
    assert "differs" in done.output
    assert "reports/drift.html" in done.output.replace("\n", "")
    wrong = CliRunner().invoke(cli.app, ["drift", "--data", sea, "--accept"])
    assert wrong.exit_code == 2


def test_the_command_judges_requests_by_the_champion_as_the_watch_does(workspace, folder, quick, monkeypatch):
    champion = workspace / "promoted"
    shutil.copytree(folder, champion)
    release.write_manifest(champion, format=1, name="its successor", weights="int8")
    shutil.copytree(folder, workspace / "models" / "release")
    monkeypatch.setattr(commands, "enter", lambda _workspace: Path.cwd())
    monkeypatch.setattr(watch, "champion", {workspace: champion}.get)
    done = CliRunner().invoke(cli.app, ["drift"])
    assert done.exit_code == 12
    judged = json.loads(monitoring.JSON.read_text())["manifest_sha256"]
    assert judged == files.sha256(champion / release.MANIFEST)


def test_a_batch_of_instructions_is_drawn_as_the_reference_is(tmp_path):
    """The first question about each text is often of one kind, which alone would look like drift."""
    base = {"task": "qa", "completion": "yes", "source": "here", "gold": None}
    rows = [
        {**base, "id": f"{story}-{number}", "context": f"story {story}", "prompt": f"question {number}"}
        for story in range(60)
        for number in range(1 + story % 4)
    ]
    files.write_jsonl(tmp_path / "asked.jsonl", rows)
    for split in ("valid", "test"):
        files.write_jsonl(datasets.file(tmp_path, "instructions", split), rows if split == "test" else [])
    found = batch.read(str(tmp_path / "asked.jsonl"), "requests", stage.load_params(ROOT / "params.yaml").ingestion)
    assert sorted(found.texts) == sorted(references.texts(tmp_path, "requests", 1000))
    assert any("question 0" not in text for text in found.texts)
