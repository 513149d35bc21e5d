"""A release is let in by several doors, and each refuses everything that makes one unsound."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.adapters import examiner, files, registry, release, sandbox
from pipelines.errors import ArtifactError
from serving import loading
from serving.champion import Candidate, FolderSource, RegistrySource
from tests import releases


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return releases.small(tmp_path / "bundle", "sound")


def manifest_sha256(folder: Path) -> str:
    file = folder / release.MANIFEST
    return files.sha256(file) if file.is_file() else "0" * 64


def rotten(folder: Path) -> None:
    (folder / release.WEIGHTS).write_bytes((folder / release.WEIGHTS).read_bytes()[:-1] + b"x")


def incomplete(folder: Path) -> None:
    (folder / "figures.json").unlink()


def extended(folder: Path) -> None:
    (folder / "more.json").write_text("{}")


def leaving(folder: Path) -> None:
    shutil.move(folder / "figures.json", folder.parent / "outside.json")
    (folder / "figures.json").symlink_to(folder.parent / "outside.json")


def unlisted(folder: Path) -> None:
    (folder / release.MANIFEST).unlink()


def foreign(folder: Path) -> None:
    files.write_json(folder / release.MANIFEST, {"files": {}})


def wandering(folder: Path) -> None:
    manifest = json.loads((folder / release.MANIFEST).read_text())
    manifest["files"]["../canary"] = {"bytes": 6, "sha256": "0" * 64}
    files.write_json(folder / release.MANIFEST, manifest)


def pickled(folder: Path) -> None:
    (folder / "weights.pkl").write_bytes(b"\x80\x04N.")
    release.write_manifest(folder, name="x")


def programmed(folder: Path) -> None:
    files.write_json(folder / "config.json", {"auto_map": {"AutoModel": "evil.Model"}})
    release.write_manifest(folder, name="x")


def torn(folder: Path) -> None:
    (folder / release.WEIGHTS).write_bytes((folder / release.WEIGHTS).read_bytes()[:-1])
    release.write_manifest(folder, name="x")


def weightless(folder: Path) -> None:
    (folder / release.WEIGHTS).unlink()
    release.write_manifest(folder, name="x")


UNSOUND: list[tuple[Callable[[Path], None], str]] = [
    (rotten, "another sha256 than the manifest says"),
    (incomplete, r"figures\.json (is missing|cannot be fetched)|lacks release/figures\.json"),
    (extended, r"more\.json is not in the manifest"),
    (leaving, r"figures\.json is a link that leaves the folder"),
    (unlisted, r"manifest\.json (is missing|has the sha256 missing)|lacks release/manifest\.json"),
    (foreign, "lists no files"),
    (wandering, "no plain path inside a release"),
    (pickled, r"weights\.pkl can run code"),
    (programmed, "names code of its own"),
    (torn, "no sound safetensors file"),
    (weightless, "holds no safetensors file"),
]


def registered(bundle: Path) -> None:
    registry.open_registry(root=bundle.parent).register(bundle, {})


def copied(bundle: Path) -> None:
    loading.private_copy(bundle, bundle.parent / "private", manifest_sha256(bundle))


def served(bundle: Path) -> None:
    digest = manifest_sha256(bundle)
    FolderSource(bundle).fetch(Candidate("1", digest), bundle.parent / "served")


def asked(bundle: Path) -> None:
    sandbox.answer({"folder": str(bundle), "prompts": [], "max_new_tokens": 1})


def examined(bundle: Path) -> None:
    examiner.answer({"folder": str(bundle), "prompts": [], "max_new_tokens": 1})


def required(bundle: Path) -> None:
    release.require_sound(bundle)


@pytest.mark.parametrize("entry", [required, registered, copied, served, asked, examined])
@pytest.mark.parametrize(("spoil", "words"), UNSOUND)
def test_every_entry_refuses_every_unsound_release(
    bundle: Path,
    entry: Callable[[Path], None],
    spoil: Callable[[Path], None],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if spoil is leaving and entry in (copied, served):
        pytest.skip("a private copy holds what the link led to, and that is what the manifest says")
    monkeypatch.setattr(sandbox, "_forbid", lambda: pytest.fail("it was let in"))
    spoil(bundle)
    with pytest.raises(ArtifactError, match=words):
        entry(bundle)
    assert not (bundle.parent / "private").exists()


SMUGGLED = [(spoil, words) for spoil, words in UNSOUND if spoil not in (extended, leaving)]


@pytest.mark.parametrize(("spoil", "words"), SMUGGLED)
def test_what_became_unsound_in_the_registry_is_refused_on_the_way_out(
    bundle: Path, spoil: Callable[[Path], None], words: str
) -> None:
    """By someone who may write there, so that the tags fit; a file that the manifest does not name is never fetched."""
    found = registry.open_registry(root=bundle.parent)
    version = found.register(bundle, {})
    run = found._model_version(version.number).run_id
    (kept,) = bundle.parent.glob(f".moteur/mlartifacts/**/{run}/artifacts/{registry.FOLDER}")
    spoil(kept)
    found._client.set_model_version_tag(
        registry.MODEL, str(version.number), registry.MANIFEST_TAG, manifest_sha256(kept)
    )
    with pytest.raises(ArtifactError, match=words):
        found.fetch(version.number, bundle.parent / "out")
    assert not (bundle.parent / "out").exists()


def test_a_sound_release_is_let_in_and_named_by_its_manifest(bundle: Path) -> None:
    assert release.require_sound(bundle) == manifest_sha256(bundle)
    assert release.require_sound(bundle, manifest_sha256(bundle)) == manifest_sha256(bundle)
    registered(bundle)
    copied(bundle)


def test_what_the_registry_hands_out_is_checked_again_where_it_is_served(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Careless:
        def fetch(self, _version: int, folder: Path) -> Path:
            shutil.copytree(bundle, folder)
            return folder

    source = RegistrySource(bundle.parent)
    monkeypatch.setattr(source, "_opened", Careless())
    torn(bundle)
    with pytest.raises(ArtifactError, match="no sound safetensors file"):
        source.fetch(Candidate("1", manifest_sha256(bundle)), bundle.parent / "served")


def test_another_release_than_the_accepted_one_is_refused(bundle: Path) -> None:
    with pytest.raises(ArtifactError, match=r"but f{64} was accepted: the bundle was changed afterwards"):
        release.require_sound(bundle, "f" * 64)
