"""The champion is followed: verified, warmed up beside the old one, swapped, and never at a request's cost."""

import os
import shutil
import subprocess
import sys
import threading
import types
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipelines.adapters import files, release
from pipelines.errors import ArtifactError
from serving import champion, loading
from serving.champion import Candidate, Champion, FolderSource, Refusal, RegistrySource
from tests.serving import live
from tests.serving.live import Server, wait_for


@dataclass
class Alias:
    """A source whose alias the test moves."""

    candidate: Candidate | None = None
    error: Exception | None = None

    def latest(self) -> Candidate | None:
        if self.error is not None:
            raise self.error
        return self.candidate

    def fetch(self, candidate: Candidate, folder: Path) -> Path:
        (folder / "bundle").mkdir()
        return folder / "bundle"


@dataclass
class Runner:
    """What serves, as far as a champion knows."""

    version: str
    retired: threading.Event = field(default_factory=threading.Event)

    def retire(self) -> None:
        self.retired.set()


class Desk:
    """A champion with a list of what it prepared and refused."""

    def __init__(self, root: Path) -> None:
        self.source, self.bad, self.prepared = Alias(), set[str](), list[str]()
        self.reported: list[Refusal] = []
        self.status = root / "status.json"
        self.champion: Champion[Runner] = Champion(
            self.source,
            self._prepare,
            poll_seconds=0.01,
            scratch=root / "scratch",
            status=self.status,
            report=self.reported.append,
        )

    def _prepare(self, bundle: Path, candidate: Candidate) -> Runner:
        assert bundle.is_dir()
        self.prepared.append(candidate.version)
        if candidate.version in self.bad:
            raise ArtifactError("warm-up: the model gave numbers that are not finite")
        return Runner(candidate.version)

    def move(self, version: str) -> bool:
        self.source.candidate = Candidate(version, version * 64)
        return self.champion.look()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_nothing_is_served_before_there_is_a_champion(desk: Desk) -> None:
    assert not desk.champion.look()
    assert desk.champion.current is None


def test_a_moved_alias_is_swapped_in_and_the_old_one_retires(desk: Desk, tmp_path: Path) -> None:
    assert desk.move("1")
    first = desk.champion.current
    assert not desk.champion.look()
    assert desk.move("2")
    assert desk.champion.current is not None
    assert desk.champion.current.version == "2"
    assert first is not None
    assert first.retired.wait(30)
    assert desk.prepared == ["1", "2"]
    assert files.read_json(desk.status)["serving"] == {"version": "2", "manifest_sha256": "2" * 64}
    assert list((tmp_path / "scratch").iterdir()) == []


def test_row_36_a_version_that_fails_its_warm_up_is_not_swapped_in_and_is_reported_once(desk: Desk) -> None:
    desk.move("1")
    desk.bad.add("2")
    assert not desk.move("2")
    assert not desk.champion.look()
    assert desk.champion.current is not None
    assert desk.champion.current.version == "1"
    assert not desk.champion.current.retired.is_set()
    assert [refusal.version for refusal in desk.reported] == ["2"]
    assert "not finite" in desk.reported[0].reason
    assert files.read_json(desk.status)["refused"][0]["version"] == "2"
    assert desk.prepared == ["1", "2"]


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A registry as far as serving knows it: aliases, versions, bundles."""
    held = types.SimpleNamespace(aliases={}, bundles={}, root=None)

    class Registry:
        def alias(self, name: str) -> types.SimpleNamespace | None:
            return held.aliases.get(name)

        def fetch(self, version: int, folder: Path) -> Path:
            return Path(shutil.copytree(held.bundles[version], folder))

    def open_registry(uri: str | None = None, *, root: Path) -> Registry:
        held.root = root
        return Registry()

    module = types.ModuleType("pipelines.adapters.registry")
    module.open_registry = open_registry  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pipelines.adapters.registry", module)
    return held


def test_the_alias_champion_is_resolved_to_a_version_with_its_sha(
    registry: types.SimpleNamespace, bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    source = RegistrySource(tmp_path)
    assert source.latest() is None
    sha = files.sha256(bundles[0] / release.MANIFEST)
    registry.aliases["champion"] = types.SimpleNamespace(number=4, manifest_sha256=sha, tags={})
    registry.bundles[4] = bundles[0]
    assert source.latest() == Candidate("4", sha)
    assert registry.root == tmp_path
    fetched = source.fetch(Candidate("4", sha), tmp_path)
    assert release.verify(fetched) == []


def test_row_47_a_version_whose_bundle_is_not_the_gated_one_is_refused(
    registry: types.SimpleNamespace, bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    registry.bundles[4] = bundles[1]
    gated = files.sha256(bundles[0] / release.MANIFEST)
    with pytest.raises(ArtifactError, match="the bundle was changed afterwards"):
        RegistrySource(tmp_path).fetch(Candidate("4", gated), tmp_path)


def test_row_36_a_refusal_becomes_one_alert_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    put: list[tuple[str, ...]] = []

    class Outbox:
        def put(self, *arguments: str) -> None:
            put.append(arguments)

    module = types.ModuleType("pipelines.adapters.alerts")
    module.Outbox = Outbox  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pipelines.adapters.alerts", module)
    champion.alert(Refusal("7", "ab", "warm-up: too slow", "2026-01-01T00:00:00Z"))
    ((key, title, body, severity),) = put
    assert key == "serving refused 7 ab"
    assert title == "Version 7 is not served"
    assert body.startswith("warm-up: too slow\n")
    assert severity == "failure"


def test_row_36_a_report_that_fails_ends_nothing(desk: Desk) -> None:
    def fail(_refusal: Refusal) -> None:
        raise ConnectionError("no outbox")

    monitored = Champion(
        desk.source,
        desk._prepare,
        poll_seconds=1.0,
        scratch=desk.status.parent / "s",
        status=desk.status,
        report=fail,
    )
    desk.bad.add("1")
    desk.source.candidate = Candidate("1", "1" * 64)
    assert not monitored.look()
    desk.source.candidate = Candidate("2", "2" * 64)
    assert monitored.look()


def test_row_36_an_alias_that_is_taken_back_clears_the_refusal(desk: Desk) -> None:
    desk.move("1")
    desk.bad.add("2")
    desk.move("2")
    desk.move("1")
    assert desk.champion.refusals == {}
    assert files.read_json(desk.status)["refused"] == []
    assert desk.prepared == ["1", "2"]


def test_a_refused_version_is_tried_again_later(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(champion.time, "monotonic", lambda: clock[0])
    desk.bad.add("1")
    desk.move("1")
    tried = []
    for second in range(1, 40):
        clock[0] = float(second)
        desk.champion.look()
        tried.append(len(desk.prepared))
    assert tried.index(2) + 1 == 5
    assert tried.index(3) + 1 == 15
    assert tried.index(4) + 1 == 35
    desk.bad.clear()
    clock[0] = 400.0
    assert desk.champion.look()


def test_a_registry_that_is_down_ends_nothing_and_is_reported_once(desk: Desk) -> None:
    desk.move("1")
    desk.source.error = ConnectionError("refused")
    for _ in range(5):
        assert not desk.champion.look()
    assert desk.champion.current is not None
    assert len(desk.reported) == 1
    desk.source.error = None
    assert desk.move("2")
    assert desk.champion.refusals == {}


def test_row_47_a_file_changed_after_the_gate_is_refused(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    bundle = shutil.copytree(bundles[0], tmp_path / "bundle")
    accepted = files.sha256(bundle / release.MANIFEST)
    weights = bundle / release.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactError, match=r"model\.safetensors has another sha256"):
        FolderSource(bundle, accepted).fetch(Candidate("1", accepted), tmp_path / "private")
    assert not (tmp_path / "private" / "bundle").exists()


def test_row_47_a_bundle_resealed_after_the_gate_is_refused(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    accepted = files.sha256(bundles[0] / release.MANIFEST)
    source = FolderSource(bundles[1], accepted)
    with pytest.raises(ArtifactError, match="it was changed after it was accepted"):
        source.latest()
    with pytest.raises(ArtifactError, match="the bundle was changed afterwards"):
        source.fetch(Candidate("1", accepted), tmp_path)


def test_row_47_what_is_loaded_is_a_private_copy(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    bundle = shutil.copytree(bundles[0], tmp_path / "bundle")
    accepted = files.sha256(bundle / release.MANIFEST)
    copy = FolderSource(bundle).fetch(Candidate("1", accepted), tmp_path / "private")
    (bundle / release.WEIGHTS).write_bytes(b"swapped")
    assert release.verify(copy) == []


def test_row_45_code_in_a_bundle_is_refused_before_it_is_loaded(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    bundle = shutil.copytree(bundles[0], tmp_path / "bundle")
    (bundle / "modeling.py").write_text("raise SystemExit('executed')")
    release.write_manifest(bundle, format=1, name="x")
    with pytest.raises(ArtifactError, match="can run code when it is loaded"):
        loading.private_copy(bundle, tmp_path / "copy", files.sha256(bundle / release.MANIFEST))


def reseal(bundle: Path, change: dict[str, object], file: str) -> Path:
    values = files.read_json(bundle / file)
    files.write_json(bundle / file, {**values, **change})
    release.write_manifest(bundle, format=1, name="x")
    return bundle


def test_row_40_a_tokenizer_with_more_entries_than_the_model_is_refused(
    bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    bundle = shutil.copytree(bundles[0], tmp_path / "bundle")
    model, tokenizer = release.load(bundle)
    tokenizer.add_tokens([f"<new{number}>" for number in range(5)])
    with pytest.raises(ArtifactError, match=r"the tokenizer has \d+ entries but the model \d+ embeddings"):
        loading.refuse_mismatch(model, tokenizer, bundle)
    tokenizer.save_pretrained(str(bundle))
    with pytest.raises(ArtifactError, match="do not belong together"):
        loading.load(bundle, precision="float32")


def test_row_40_another_end_token_than_the_models_is_refused(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    bundle = shutil.copytree(bundles[0], tmp_path / "bundle")
    reseal(bundle, {"eos_token": "<|pad|>"}, "tokenizer_config.json")
    with pytest.raises(ArtifactError, match=r"the tokenizer ends a text with token 0 .* the model with \[1\]"):
        loading.load(bundle, precision="float32")


def test_row_40_a_special_token_that_has_become_text_is_refused(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    bundle = shutil.copytree(bundles[0], tmp_path / "bundle")
    values = files.read_json(bundle / "tokenizer.json")
    values["added_tokens"] = [token for token in values["added_tokens"] if token["content"] != "<|user|>"]
    files.write_json(bundle / "tokenizer.json", values)
    with pytest.raises(ArtifactError, match=r"<\|user\|>, which the tokenizer takes for plain text"):
        loading.load(bundle, precision="float32")


def test_row_46_a_torn_weights_file_is_an_error_with_a_sentence(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    for number, content in enumerate([b"", b"\xff" * 8 + b"{}", b"\x10" + b"\0" * 7 + b'{"a":{"dtype":1}'.ljust(16)]):
        bundle = shutil.copytree(bundles[0], tmp_path / str(number))
        (bundle / release.WEIGHTS).write_bytes(content)
        with pytest.raises(ArtifactError, match="make it again"):
            loading.load(bundle, precision="float32")


def put(bundle: Path, target: Path) -> None:
    """Replace a bundle in one step, as the stage deployment does."""
    with files.replacing(target) as fresh:
        shutil.copytree(bundle, fresh)


def ready(server: Server) -> dict[str, object]:
    body: dict[str, object] = server.ask("GET", "/health/ready", token=None)[2]
    return body


def said(server: Server) -> tuple[int, str]:
    status, _, body = server.complete(max_tokens=12)
    return status, body["choices"][0]["text"] if status == 200 else str(body)


def test_no_request_fails_over_20_swaps_under_load(server: Server, bundles: tuple[Path, Path]) -> None:
    shas = [files.sha256(bundle / release.MANIFEST) for bundle in bundles]
    assert wait_for(lambda: ready(server)["manifest_sha256"]) == shas[0]
    stopping = threading.Event()
    answers: list[list[tuple[int, str]]] = [[] for _ in range(3)]

    def load(own: list[tuple[int, str]]) -> None:
        while not stopping.is_set():
            own.append(said(server))

    clients = [threading.Thread(target=load, args=(own,)) for own in answers]
    first = said(server)
    for client in clients:
        client.start()
    texts = set()
    for swap in range(1, 21):
        put(bundles[swap % 2], server.bundle)
        wait_for(lambda now=swap % 2: ready(server)["manifest_sha256"] == shas[now])  # type: ignore[misc]
        texts.add(said(server))
    stopping.set()
    for client in clients:
        client.join()
    every = [answer for own in answers for answer in own]
    assert {status for status, _ in every} == {200}
    assert {text for _, text in every} == {text for _, text in texts}
    assert len(texts) == 2
    assert said(server) == first
    assert len(every) > 60


def test_row_36_a_bundle_whose_weights_are_broken_leaves_the_old_one_answering(
    server: Server, bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    before = said(server)
    swaps = ready(server)["swaps"]
    bad = shutil.copytree(bundles[1], tmp_path / "bad")
    state = load_file(bad / release.WEIGHTS)
    state["model.norm.weight"] = torch.full_like(state["model.norm.weight"], float("nan"))
    save_file(state, bad / release.WEIGHTS, metadata={"format": "pt"})
    release.write_manifest(bad, format=1, name="tiny", weights="int8")
    sha = files.sha256(bad / release.MANIFEST)
    put(bad, server.bundle)
    assert wait_for(lambda: ready(server)["refused"] or None) == [sha[:12]]
    assert said(server) == before
    assert ready(server)["swaps"] == swaps
    assert server.metric("moteur_versions_refused") == 1
    (refused,) = files.read_json(server.root / ".moteur/serving/status.json")["refused"]
    assert refused["manifest_sha256"] == sha
    assert refused["reason"] == "warm-up: the model gave numbers that are not finite"
    put(bundles[0], server.bundle)
    wait_for(lambda: ready(server)["refused"] == [])
    assert said(server) == before


def test_row_48_no_secret_and_no_text_reaches_any_log_or_file(server: Server) -> None:
    planted = "canary-in-a-prompt ann@example.org"
    server.ask("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": planted}], "max_tokens": 3})
    server.ask("POST", "/v1/chat/completions", {"messages": [{"role": planted, "content": "a"}]})
    server.ask("GET", f"/v1/models?key={live.TOKEN}", token="wrong-canary-0123")  # noqa: S106
    written = [path for path in server.root.rglob("*") if path.is_file() and "bundle" not in path.parts]
    content = {path: path.read_bytes() for path in written}
    assert any(path.parent.name == "requests" for path in written)
    for secret in (live.TOKEN, "canary", "ann@example.org"):
        assert [path for path, data in content.items() if secret.encode() in data] == []


def test_a_folder_that_is_no_release_ends_the_server_with_a_sentence(tmp_path: Path) -> None:
    live.write_params(tmp_path)
    (tmp_path / "empty").mkdir()
    command = [sys.executable, "-m", "serving", "--model", "empty", "--port", "0"]
    done = subprocess.run(command, cwd=tmp_path, env=live.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "moteur serve: empty is not a release: it has no manifest.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_row_47_copies_that_a_killed_server_left_are_removed_and_those_of_others_kept(tmp_path: Path) -> None:
    from serving.__main__ import _remove_left_behind

    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    for name in (f"load-{ended.pid}-x", f"load-{os.getpid()}-x", "champion"):
        (tmp_path / name / "bundle").mkdir(parents=True)
    _remove_left_behind(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["champion", f"load-{os.getpid()}-x"]
