"""The page: one file, nothing outside, every part or what is missing."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from flows.reporting import charts
from flows.reporting import page as report
from flows.stages import graph, ledger
from pipelines import stage
from tests.flows import examples

SECTIONS = ["graph", "curves", "tasks", "reward", "alignment", "compression", "samples", "effort"]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(examples.checkout(tmp_path))
    return tmp_path


@pytest.fixture
def base_only(workspace: Path) -> Path:
    return examples.end_with_base(workspace)


@pytest.fixture
def page(workspace: Path) -> str:
    examples.fill(workspace)
    return report.write().read_text(encoding="utf-8")


class Strict(HTMLParser):
    """Fails when tags do not close in order."""

    VOID = frozenset({"meta", "br", "img", "input", "hr", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_asks_for_nothing_outside(page: str) -> None:
    parser = Strict()
    parser.feed(page)
    assert not parser.open
    assert all(link.startswith("#") for link in parser.links)
    assert not re.search(r"https?://|@import|url\(http", page)


def test_every_part_is_there_when_everything_was_made(page: str) -> None:
    assert all(f'<section id="{name}">' in page for name in SECTIONS)
    assert 'class="missing"' not in page


def test_an_empty_workspace_says_what_is_missing_and_how_to_make_it(workspace: Path) -> None:
    text = report.write().read_text(encoding="utf-8")
    assert all(f'<section id="{name}">' in text for name in SECTIONS)
    assert text.count('class="missing"') >= 6
    assert "<code>moteur run</code>" in text


def test_a_torn_or_foreign_report_does_not_stop_the_page(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = graph.load()
    monkeypatch.setattr(graph, "load", lambda: pipeline)
    for name in examples.REPORTS:
        for text in ("{", '{"chosen": 3, "tasks": [], "candidates": 1, "shots": 4}', "[]"):
            examples.fill(workspace)
            (workspace / f"reports/{name}.json").write_text(text)
            assert "</html>" in report.write().read_text(encoding="utf-8")


def test_the_page_says_which_part_could_not_be_drawn_and_why(workspace: Path) -> None:
    examples.fill(workspace)
    (workspace / "reports/compression.json").write_text('{"chosen": 3}')
    (workspace / "reports/reward_modeling.json").write_text("{")
    (workspace / "reports/curves/finetuning.csv").write_text("step,loss\n1,0.5\n2,0.")
    (workspace / "reports/curves/pretraining.csv").write_text("step,loss\n1,0.5\n2,x")
    (workspace / "reports/samples.jsonl").write_text('{"task": "mood", "prompt": "Why?"}\n{"task": ')
    text = report.write().read_text(encoding="utf-8")
    assert (
        "Could not be drawn: Figures of compression, Compression. reports/compression.json is of another version"
        " (candidates: field required). `moteur run --from compression` writes it again."
    ) in text
    assert "Reward model. reports/reward_modeling.json is not JSON. `moteur run --from reward_modeling`" in text
    assert "Pretraining, loss, Pretraining, held out. reports/curves/pretraining.csv is torn." in text
    assert "Samples side by side. reports/samples.jsonl:2 is not JSON." in text
    assert "Fine-tuning, loss</h3><svg" in text.replace("\n", "")


def test_a_whole_page_says_of_no_part_that_it_could_not_be_drawn(page: str) -> None:
    assert "Could not be drawn" not in page


def test_a_mistake_in_a_part_is_not_taken_for_an_old_report(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mistaken(found: object) -> str:
        raise KeyError("chosne")

    examples.fill(workspace)
    monkeypatch.setattr(report, "compression", mistaken)
    with pytest.raises(KeyError, match="chosne"):
        report.write()


def test_a_divergence_that_was_estimated_below_zero_is_drawn(workspace: Path) -> None:
    examples.fill(workspace)
    axis = [{**point, "kl": -0.01} if not point["updates"] else point for point in examples.REPORTS["ppo"]["axis"]]
    (workspace / "reports/ppo.json").write_text(json.dumps(examples.REPORTS["ppo"] | {"axis": axis}))
    assert "On held-out prompts" in report.write().read_text(encoding="utf-8")


def test_a_chosen_policy_that_is_not_on_the_axis_is_told(workspace: Path) -> None:
    examples.fill(workspace)
    (workspace / "reports/ppo.json").write_text(json.dumps(examples.REPORTS["ppo"] | {"chosen_updates": 7}))
    assert "chosen_updates names no policy of its axis" in report.write().read_text(encoding="utf-8")


BASE_STAGES = ["ingestion", "data_validation", "tokenization", "pretraining"]


def test_a_lifecycle_that_ends_with_the_base_model_has_the_stages_up_to_it(base_only: Path) -> None:
    params = stage.load_params()
    assert graph.lifecycle(params).names == BASE_STAGES
    assert set(graph.lifecycle(params).changes) <= set(BASE_STAGES)
    causal = params.model_copy(update={"pretraining": params.pretraining.model_copy(update={"objective": "causal"})})
    assert len(graph.lifecycle(causal).names) == 11


def test_the_page_of_such_a_lifecycle_says_why_it_ends_and_shows_nothing_of_later_stages(base_only: Path) -> None:
    text = report.write().read_text(encoding="utf-8")
    assert "The lifecycle ends with the base model: pretraining.objective is masked" in text
    assert "set pretraining.objective to causal and model.architecture to llama in params.yaml" in text
    assert "31.2 % of hidden tokens restored" in text
    assert "nats a hidden token" in text
    assert "The lifecycle ends before the stage ppo." in text
    assert text.count('class="node"') == 4
    assert "Fine-tuning, loss" not in text
    assert "int8" not in text


def test_what_models_say_is_text_and_never_markup(page: str) -> None:
    assert "&lt;now&gt;" in page
    assert "<now>" not in page


def test_the_chosen_candidate_is_marked(page: str) -> None:
    (row,) = re.findall(r'<tr class="chosen">.*?</td>', page, flags=re.DOTALL)
    assert "int8" in row


def test_a_policy_that_stopped_by_itself_says_why(workspace: Path) -> None:
    examples.fill(workspace)
    path = workspace / "reports/ppo.json"
    assert "It stopped by itself" not in report.write().read_text(encoding="utf-8")
    path.write_text(json.dumps(examples.REPORTS["ppo"] | {"stopped": "length collapse"}))
    assert "It stopped by itself (length collapse)" in report.write().read_text(encoding="utf-8")


def test_the_graph_draws_every_stage_and_no_edge_that_others_imply(page: str) -> None:
    pipeline = graph.load()
    assert page.count('class="node"') == len(pipeline.nodes) == 11
    assert page.count('class="edge"') == 11
    assert sorted(charts.direct(pipeline, "deployment")) == ["compression", "evaluation"]


def test_a_browser_shows_the_page(workspace: Path, page: str) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium or google-chrome on the path")
    picture = workspace / "page.png"
    subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--disable-sync", "--disable-component-update", "--no-first-run", "--hide-scrollbars",
            f"--user-data-dir={workspace / 'browser'}", "--window-size=1280,2400", f"--screenshot={picture}",
            (workspace / report.PATH).as_uri(),
        ],
        check=True, capture_output=True, timeout=240,
    )  # fmt: skip
    from PIL import Image

    image = Image.open(picture).convert("RGB")
    colours = {colour for _, colour in image.getcolors(2**24) or []}
    assert image.size == (1280, 2400)
    assert (0x2F, 0x6F, 0xDE) in colours, "the first colour of the charts"
    assert len(colours) > 100


def test_smoothing_keeps_the_mean_and_the_last_step() -> None:
    points = [(float(step), float(step % 2)) for step in range(1, 1001)]
    smoothed = report.smooth(points, most=100)
    assert len(smoothed) == 100
    assert smoothed[-1] == (1000.0, 0.5)


def test_effort_shows_what_was_planned_beside_what_was_used(workspace: Path) -> None:
    examples.fill(workspace)
    used = ledger.last_finished()["pretraining"]
    ledger.plan([{"run": used["run"], "stage": "pretraining", "tokens": 4e6, "flops": None, "seconds": 125.0}])
    rows = {row["stage"]: row for row in report.effort(graph.load(), ledger.last_finished())}
    assert rows["pretraining"]["planned"] == {"tokens": "4M", "seconds": "2 min 05 s"}
    assert rows["pretraining"]["ratio"] == f"{used['tokens'] / 871_296:.2g}"
    assert rows["ppo"]["planned"] == {}
    page = report.write().read_text(encoding="utf-8")
    assert "<small>(2 min 05 s)</small>" in page
    assert page.count("<small>(") == 2


def test_the_reward_model_is_shown_with_its_curve_its_annotators_and_its_rewards(page: str) -> None:
    part = page[page.index('<section id="reward">') : page.index('<section id="alignment">')]
    assert "as right as sure" in part
    assert "simulated-1" in part
    assert ">0.742<" in part
    assert ">-0.40<" in part
    assert "None" not in part
