"""Rows 44, 45 and 47, and the registry as such: on SQLite and behind a real server."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.adapters import files, registry, release
from pipelines.adapters.registry import Registry
from pipelines.artifacts import State
from pipelines.errors import ArtifactError, ResourceError
from tests import releases


@pytest.fixture(scope="module", params=["sqlite", "server"])
def found(request, tmp_path_factory) -> Registry:
    root = tmp_path_factory.mktemp("root")
    if request.param == "server":
        return registry.open_registry(request.getfixturevalue("mlflow_uri"), root=root)
    (root / State.MLFLOW_DATABASE).parent.mkdir()
    shutil.copy2(request.getfixturevalue("database"), root / State.MLFLOW_DATABASE)
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        return registry.open_registry(root=root)


@pytest.fixture
def bundle(tmp_path):
    return releases.small(tmp_path / "bundle", tmp_path.name)


def kept(found: Registry, number: int, name: str = "release") -> Path:
    """Where the server keeps the files of a version, as someone with access to its disk would find them."""
    run = found._client.get_run(found._client.get_model_version("moteur", str(number)).run_id)
    place = run.info.artifact_uri
    if place.startswith("mlflow-artifacts:"):
        path = place.removeprefix("mlflow-artifacts:").lstrip("/")
        (folder,) = Path(found.server_artifacts).glob(path)  # type: ignore[attr-defined]
        return folder / name
    return Path(place.removeprefix("file://")) / name


@pytest.fixture(autouse=True)
def where_the_server_keeps_its_files(request, tmp_path_factory, found):
    base = tmp_path_factory.getbasetemp()
    found.server_artifacts = next(iter(base.glob("mlflow-server*/artifacts")), base)


def test_a_version_comes_back_byte_by_byte_with_its_tags(found, bundle, tmp_path):
    version = found.register(bundle, {"git.commit": "abc", "figure.ppo.kl": "3.1"})
    folder = found.fetch(version.number, tmp_path / "out")
    assert files.sha256(folder) == files.sha256(bundle)
    assert version.manifest_sha256 == files.sha256(bundle / release.MANIFEST)
    assert found.version(version.number).tags["figure.ppo.kl"] == "3.1"


def test_the_same_release_again_is_the_same_version_unless_its_copy_was_lost(found, bundle):
    first = found.register(bundle, {})
    assert found.register(bundle, {}).number == first.number
    (kept(found, first.number) / "config.json").unlink()
    again = found.register(bundle, {})
    assert again.number > first.number
    assert again.manifest_sha256 == first.manifest_sha256


def test_aliases_point_to_one_version_or_to_none(found, bundle):
    version = found.register(bundle, {})
    found.set_alias("challenger", version.number)
    pointed = found.alias("challenger")
    assert pointed is not None
    assert pointed.number == version.number
    found.set_alias("challenger", None)
    assert found.alias("challenger") is None
    assert found.alias("nobody") is None


def test_a_version_that_does_not_exist_is_named(found):
    with pytest.raises(ArtifactError, match="has no version 9999"):
        found.fetch(9999, Path("nowhere"))


def test_a_verdict_is_kept_and_a_changed_one_is_noticed(found, bundle):
    from pipelines.core.judging import gates

    version = found.register(bundle, {})
    values = {"passed": True, "kind": "bootstrap", "words": "fine", "manifest_sha256": version.manifest_sha256}
    document = {**values, "sha256": gates.digest(values)}
    assert found.read_verdict(version.number) is None
    found.write_verdict(version.number, document)
    assert found.read_verdict(version.number) == document
    (file,) = kept(found, version.number, "verdicts").glob("*.json")
    file.write_text(json.dumps({**document, "words": "finer"}))
    with pytest.raises(ArtifactError, match=r"the verdict on version \d+ was changed"):
        found.read_verdict(version.number)


def test_the_tags_that_name_the_bytes_cannot_be_set(found, bundle):
    version = found.register(bundle, {registry.MANIFEST_TAG: "f" * 64})
    assert version.manifest_sha256 != "f" * 64
    with pytest.raises(ValueError, match="fixed when it is registered"):
        found.set_tag(version.number, registry.MANIFEST_TAG, "f" * 64)


def test_row_47_a_file_swapped_after_the_gate_is_refused(found, bundle, tmp_path):
    version = found.register(bundle, {})
    weights = kept(found, version.number) / release.WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"damaged: model\.safetensors has another sha256"):
        found.fetch(version.number, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_copy_is_replaced_by_an_intact_one_of_the_same_release_and_by_no_other(found, bundle, tmp_path):
    version = found.register(bundle, {})
    copy = kept(found, version.number)
    (copy / "config.json").unlink()
    (copy / release.WEIGHTS).write_bytes(b"rotten")
    other = releases.small(tmp_path / "other", "no copy of it")
    with pytest.raises(ArtifactError, match=r"is another release than version \d+"):
        found.replace(version.number, other)
    damaged = shutil.copytree(bundle, tmp_path / "damaged")
    (damaged / release.WEIGHTS).write_bytes(b"rotten too")
    with pytest.raises(ArtifactError, match=r"is damaged: model\.safetensors has 10 bytes"):
        found.replace(version.number, damaged)
    with pytest.raises(ArtifactError, match=r"in the registry lacks release/config\.json"):
        found.fetch(version.number, tmp_path / "out")
    found.replace(version.number, bundle)
    assert files.sha256(found.fetch(version.number, tmp_path / "out")) == files.sha256(bundle)


def test_row_47_a_whole_release_swapped_after_the_gate_is_refused(found, bundle, tmp_path):
    """Files and manifest agree with each other, but it is not what was gated."""
    version = found.register(bundle, {})
    other = releases.small(tmp_path / "other", "another release")
    shutil.rmtree(kept(found, version.number))
    shutil.copytree(other, kept(found, version.number))
    with pytest.raises(ArtifactError, match="is not the release that was gated"):
        found.fetch(version.number, tmp_path / "out")


def test_row_47_tags_changed_after_the_gate_are_refused(found, bundle, tmp_path):
    version = found.register(bundle, {})
    found.set_tag(version.number, "gate.manifest_sha256", version.manifest_sha256)
    other = releases.small(tmp_path / "other", "yet another release")
    shutil.rmtree(kept(found, version.number))
    shutil.copytree(other, kept(found, version.number))
    digest = files.sha256(other / release.MANIFEST)
    found._client.set_model_version_tag("moteur", str(version.number), registry.MANIFEST_TAG, digest)
    with pytest.raises(ArtifactError, match="its tags were changed"):
        found.fetch(version.number, tmp_path / "out")


@pytest.mark.parametrize("name", ["weights.pkl", "pytorch_model.bin", "modeling_evil.py", "state.pt"])
def test_row_45_what_could_run_code_is_not_registered(found, bundle, name):
    canary = bundle.parent / "canary"
    (bundle / name).write_bytes(f"cos\nsystem\n(S'touch {canary}'\ntR.".encode())
    release.write_manifest(bundle, name="x")
    with pytest.raises(ArtifactError, match=r"can run code when it is loaded"):
        found.register(bundle, {})
    assert not canary.exists()


def test_row_45_a_config_that_names_code_is_not_registered(found, bundle):
    (bundle / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "evil.Model"}}))
    release.write_manifest(bundle, name="x")
    with pytest.raises(ArtifactError, match="names code of its own"):
        found.register(bundle, {})


def test_row_45_code_smuggled_into_the_registry_is_refused_when_it_is_fetched(found, bundle, tmp_path):
    """The registry's own copy and tags are replaced by someone with access to the server."""
    version = found.register(bundle, {})
    copy = kept(found, version.number)
    (copy / "weights.pkl").write_bytes(b"\x80\x04N.")
    release.write_manifest(copy, name="x")
    digest = files.sha256(copy / release.MANIFEST)
    found._client.set_model_version_tag("moteur", str(version.number), registry.MANIFEST_TAG, digest)
    with pytest.raises(ArtifactError, match=r"weights\.pkl can run code"):
        found.fetch(version.number, tmp_path / "out")


TRAVERSALS = [
    "../canary",
    "a/../../canary",
    "/etc/passwd",
    "%2e%2e/canary",
    "a/%2e%2e/%2e%2e/canary",
    "..%2fcanary",
    "..\\canary",
    "a//b",
    "./a",
    "a/.",
    ".hidden",
    "file:///etc/passwd",
    "a?path=/etc/passwd",
    "a#/../../etc/passwd",
    "a\0b",
    "",
    "~/canary",
    "a\nb",
]


@pytest.mark.parametrize("name", TRAVERSALS)
def test_row_44_a_manifest_that_leads_elsewhere_is_refused_on_the_way_in(found, bundle, name):
    (bundle.parent / "canary").write_text("secret")
    manifest = json.loads((bundle / release.MANIFEST).read_text())
    manifest["files"][name] = {"bytes": 6, "sha256": "0" * 64}
    (bundle / release.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="no plain path inside a release"):
        found.register(bundle, {})


@pytest.mark.parametrize("name", ["../canary", "%2e%2e/canary", "/etc/passwd", "a?b", "a#b"])
def test_row_44_a_manifest_that_leads_elsewhere_is_refused_on_the_way_out(found, bundle, tmp_path, name):
    version = found.register(bundle, {})
    copy = kept(found, version.number)
    (copy.parent / "canary").write_text("secret")
    manifest = json.loads((copy / release.MANIFEST).read_text())
    manifest["files"][name] = {"bytes": 6, "sha256": "0" * 64}
    (copy / release.MANIFEST).write_text(json.dumps(manifest))
    digest = files.sha256(copy / release.MANIFEST)
    found._client.set_model_version_tag("moteur", str(version.number), registry.MANIFEST_TAG, digest)
    out = tmp_path / "deep" / "out"
    with pytest.raises(ArtifactError, match="no plain path inside a release"):
        found.fetch(version.number, out)
    assert not out.exists()
    assert not list(tmp_path.rglob("canary"))


def test_row_44_a_link_in_the_bundle_that_leaves_it_is_refused(found, bundle):
    secret = bundle.parent / "secret.json"
    secret.write_text("{}")
    (bundle / "config.json").unlink()
    (bundle / "config.json").symlink_to(secret)
    with pytest.raises(ArtifactError, match=r"config\.json is a link that leaves the folder"):
        found.register(bundle, {})


@given(st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_row_44_a_plain_name_stays_below_any_folder(name):
    if release.is_plain(name):
        folder = Path("/some/where")
        assert (folder / name).resolve().is_relative_to(folder)
        assert not set(name) & set("%?#\\:~\0 \n")


@pytest.mark.parametrize(
    "uri",
    [
        "http://user:hunter2@127.0.0.1:9",
        "http://user:@/hunter2@127.0.0.1:9",
        "http://user:hunter2",
        "user:hunter2@127.0.0.1:9",
        "http://127.0.0.1:9/?pw=hunter2",
        "http://user:hunter2@127.0.0.1:9/" + 200 * "x",
    ],
)
def test_a_registry_that_is_down_is_a_sentence_without_the_password(tmp_path, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ResourceError, match=r"does not do what is asked .* Start MLflow") as caught:
        registry.open_registry(uri, root=tmp_path).aliases()
    assert "hunter2" not in str(caught.value)


def test_a_release_goes_live_and_back_again(found, tmp_path, monkeypatch):
    """The whole way in this registry; only the exam is not really sat."""
    from flows.champions import history, promotion, succession

    monkeypatch.setenv("MLFLOW_TRACKING_URI", found.uri)
    for alias in found.aliases():
        found.set_alias(alias, None)
    root, sit = tmp_path / "workspace", releases.sitting(1.0)
    for name in ("old", "new"):
        bundle = releases.small(tmp_path / name, f"{tmp_path.name} {name}")
        if name == "old":
            releases.workspace(root, bundle)
        else:
            releases.put(root, bundle)
        assert promotion.promote(root, examine=sit, say=lambda _: None).moved
    old, new = (entry.to_version for entry in history.read(root))
    assert found.aliases() == {"champion": new, "previous_champion": old}
    assert promotion.rollback(root, why="a test").version == old
    assert found.aliases() == {"champion": old}
    succession.loadable(found, old)
