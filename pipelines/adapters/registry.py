"""The model registry in MLflow: releases as numbered versions, and the names of those that matter.

A version is a run of the experiment `moteur-releases` that holds the release as plain files (nothing is ever pickled,
`log_model` is never called), the exam it was registered with, and its verdicts; and a version of the registered model
`moteur` whose tags say what it is. A version only comes to be when its copy has been read back and hashed.

The aliases `challenger`, `champion` and `previous_champion` name versions. MLflow moves one alias at a time and has no
compare-and-set, so only `flows.champions.succession` moves them, behind a lock.

What is fetched is what the manifest names, file by file, and the manifest is what the version's tag says it is: neither
a listing by the server nor a path in it is trusted.

`python -m pipelines.adapters.registry champion` prints the champion's number and the sha256 of its manifest,
nothing where there is no champion.
"""

import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipelines.adapters import files, mlflow_store, release, tracking
from pipelines.artifacts import State
from pipelines.core.text.secrets import credentials, redact
from pipelines.errors import ArtifactError, MoteurError, ResourceError

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

MODEL = "moteur"
EXPERIMENT = "moteur-releases"
Alias = Literal["champion", "challenger", "previous_champion"]
ALIASES: tuple[Alias, ...] = ("champion", "challenger", "previous_champion")
FOLDER, VERDICTS = "release", "verdicts"
"""Where a version's files lie among the artifacts of its run."""

MANIFEST_TAG, EXAM_TAG = "manifest_sha256", "exam_sha256"
MAX_TAG_CHARACTERS = 5000
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Version:
    """One release in the registry."""

    number: int
    manifest_sha256: str
    """Names the release: the manifest holds the sha256 of every file."""
    tags: dict[str, str]


def open_registry(uri: str | None = None, *, root: Path) -> "Registry":
    """The registry at `uri`, at MLFLOW_TRACKING_URI, or in the SQLite file below `root`.

    Raises:
        ResourceError: when it cannot be reached.
    """
    where = uri or mlflow_store.uri(root)
    tracking.settle_client(retries=2, seconds=30)
    with _reaching(where):
        from mlflow.tracking import MlflowClient

        (root / State.ROOT).mkdir(parents=True, exist_ok=True)
        client = MlflowClient(tracking_uri=where, registry_uri=where)
        return Registry(client, where)


def is_made(root: Path) -> bool:
    """False where nothing can have been registered: no server is named, and there is no database yet."""
    return bool(os.environ.get(mlflow_store.VARIABLE)) or (root / State.MLFLOW_DATABASE).exists()


@contextmanager
def _reaching(uri: str) -> Iterator[None]:
    """Turn what the client raises when the server is not there into a sentence."""
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, ConnectionError) as error:
        raise ResourceError(
            f"the registry at {redact(uri)} does not do what is asked ({type(error).__name__}: {_said(error, uri)})."
            " Start MLflow, or correct MLFLOW_TRACKING_URI, and run the command again."
        ) from None


def _said(error: Exception, uri: str) -> str:
    """The first line of an error, without the password; cut last, for half a password would not be known as one."""
    return redact((str(error).splitlines() or [type(error).__name__])[0], credentials(uri))[:300]


class Registry:
    """Versions, aliases, files. Every method raises ResourceError when MLflow does not answer."""

    def __init__(self, client: "MlflowClient", uri: str) -> None:
        self._client, self.uri = client, uri

    def register(self, bundle: Path, tags: Mapping[str, str], *, exam: Path | None = None) -> Version:
        """Copy the release in `bundle` into the registry as a new version; the same release again is the old version.

        Args:
            bundle: A release as the stage deployment makes it.
            tags: What is known about it.
            exam: The file that champions and challengers are examined with.

        Raises:
            ArtifactError: when the release differs from its manifest, or could run code, or cannot be read back.
        """
        digest = release.require_sound(bundle)
        known = {MANIFEST_TAG: digest, EXAM_TAG: files.sha256(exam) if exam else ""}
        with _reaching(self.uri):
            for version in self.versions():
                if {name: version.tags.get(name) for name in known} == known and self._readable(version):
                    return version
            experiment = mlflow_store.experiment(self._client, EXPERIMENT)
            run = self._client.create_run(experiment, run_name=f"release {digest[:12]}").info.run_id
            self._client.log_artifacts(run, str(bundle), FOLDER)
            if exam:
                self._client.log_artifact(run, str(exam))
            self._read_back(run, digest)
            self._client.set_terminated(run, "FINISHED")
            self._ensure_model()
            made = self._client.create_model_version(
                MODEL,
                source=f"runs:/{run}/{FOLDER}",
                run_id=run,
                tags={name: str(value)[:MAX_TAG_CHARACTERS] for name, value in {**tags, **known}.items()},
                await_creation_for=0,
            )
        return _version(made)

    def _readable(self, version: Version) -> bool:
        with tempfile.TemporaryDirectory(prefix="moteur-registry-") as scratch:
            try:
                self.fetch(version.number, Path(scratch) / FOLDER)
                if version.tags.get(EXAM_TAG):
                    self.fetch_exam(version.number, Path(scratch))
            except ArtifactError:
                return False
        return True

    def _read_back(self, run: str, digest: str) -> None:
        with tempfile.TemporaryDirectory(prefix="moteur-registry-") as scratch:
            self._copy(run, digest, Path(scratch) / FOLDER, "the copy just made")

    def _ensure_model(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(MODEL, description="Releases of Moteur, gated by `moteur promote`.")
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def versions(self) -> list[Version]:
        """Every version, oldest first."""
        with _reaching(self.uri):
            found: list[Any] = []
            token = None
            while True:
                page = self._client.search_model_versions(f"name='{MODEL}'", max_results=200, page_token=token)
                found += page
                token = page.token
                if not token:
                    break
        return sorted((_version(one) for one in found), key=lambda version: version.number)

    def version(self, number: int) -> Version:
        """One version.

        Raises:
            ArtifactError: when there is none of this number.
        """
        return _version(self._model_version(number))

    def _model_version(self, number: int) -> "ModelVersion":
        from mlflow.exceptions import MlflowException

        with _reaching(self.uri):
            try:
                return self._client.get_model_version(MODEL, str(int(number)))
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
        raise ArtifactError(
            f"the registry at {redact(self.uri)} has no version {number}: `moteur history` lists those that were live."
        )

    def aliases(self) -> dict[str, int]:
        """Alias -> version, of the aliases that are set."""
        from mlflow.exceptions import MlflowException

        with _reaching(self.uri):
            try:
                found = self._client.get_registered_model(MODEL).aliases
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return {}
        return {name: int(version) for name, version in found.items()}

    def alias(self, name: str) -> Version | None:
        """The version that `name` points to; None when it points nowhere."""
        number = self.aliases().get(name)
        return None if number is None else self.version(number)

    def set_alias(self, name: Alias, number: int | None) -> None:
        """Point an alias to a version, or to none. Only `flows.champions.succession` does this, behind its lock."""
        with _reaching(self.uri):
            if number is None:
                self._client.delete_registered_model_alias(MODEL, name)
            else:
                self._client.set_registered_model_alias(MODEL, name, str(number))

    def set_tag(self, number: int, name: str, value: str) -> None:
        """Say something about a version; the tags that name its bytes cannot be changed.

        Raises:
            ValueError: for the sha256 of its manifest or exam.
        """
        if name in (MANIFEST_TAG, EXAM_TAG):
            raise ValueError(f"{name} of a version is fixed when it is registered")
        with _reaching(self.uri):
            self._client.set_model_version_tag(MODEL, str(number), name, value[:MAX_TAG_CHARACTERS])

    def fetch(self, version: int, folder: Path) -> Path:
        """Copy a release out into `folder`, which is replaced, and check every byte of it; return `folder`.

        Raises:
            ArtifactError: when the copy is missing, or differs from the manifest that was registered (and gated), or
                could run code.
        """
        found = self._model_version(version)
        digest = found.tags.get(MANIFEST_TAG, "")
        gated = found.tags.get("gate.manifest_sha256", digest)
        if not SHA256.fullmatch(digest) or gated != digest:
            raise ArtifactError(
                f"version {version} has manifest sha256 {digest or 'none'} but was gated as {gated or 'none'}: its"
                f" tags were changed. {RESEAT}"
            )
        with files.replacing(folder) as fresh:
            self._copy(str(found.run_id), digest, fresh, f"version {version}")
        return folder

    def replace(self, version: int, copy: Path) -> None:
        """Put the files of `copy`, the same release, in the place of a version's damaged ones, and read them back.

        Raises:
            ArtifactError: when `copy` is damaged itself or another release, or the version stays damaged.
        """
        found = self._model_version(version)
        if release.require_sound(copy) != found.tags.get(MANIFEST_TAG, ""):
            raise ArtifactError(f"{copy} is another release than version {version}: `moteur promote` registers it.")
        try:
            with _reaching(self.uri):
                self._client.log_artifacts(str(found.run_id), str(copy), FOLDER)
        except OSError as error:
            raise ArtifactError(f"the copy of version {version} cannot be replaced ({error}). {MEND}") from None
        with tempfile.TemporaryDirectory(prefix="moteur-registry-") as scratch:
            self.fetch(version, Path(scratch) / FOLDER)

    def fetch_exam(self, version: int, folder: Path) -> Path:
        """Copy the exam of a version into `folder` and check it; return the file.

        Raises:
            ArtifactError: when the version has none, or it is not the one that was registered.
        """
        found = self._model_version(version)
        expected = found.tags.get(EXAM_TAG, "")
        if not expected:
            raise ArtifactError(f"version {version} was registered without an exam: register it with `moteur promote`.")
        file = self._download(str(found.run_id), "exam.jsonl", folder, f"version {version}", AGAIN)
        if files.sha256(file) != expected:
            raise ArtifactError(
                f"the exam of version {version} was changed since it was registered (its sha256 is not"
                f" {expected[:12]}...). {AGAIN}"
            )
        return file

    def _copy(self, run: str, digest: str, folder: Path, what: str) -> None:
        """Copy the files that the manifest names; the manifest must have the sha256 `digest`."""
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="moteur-registry-") as scratch:
            manifest = self._download(run, f"{FOLDER}/{release.MANIFEST}", Path(scratch), what)
            if files.sha256(manifest) != digest:
                raise ArtifactError(
                    f"{what} in the registry is not the release that was gated: its manifest has sha256"
                    f" {files.sha256(manifest)[:12]}..., not {digest[:12]}.... {MEND}"
                )
            names = release.listed(manifest)
            for number, name in enumerate(names):
                file = self._download(run, f"{FOLDER}/{name}", Path(scratch) / str(number), what)
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                file.replace(folder / name)
            manifest.replace(folder / release.MANIFEST)
        release.require_sound(folder, digest, what=f"{what} in the registry", remedy=MEND)

    def _download(self, run: str, path: str, folder: Path, what: str, remedy: str = "") -> Path:
        from mlflow.exceptions import MlflowException
        from requests import RequestException

        folder.mkdir(parents=True, exist_ok=True)
        remedy = remedy or MEND
        try:
            found = Path(self._client.download_artifacts(run, path, str(folder)))
        except RequestException:
            with _reaching(self.uri):
                raise
        except (MlflowException, OSError) as error:
            if self._knows(run):
                raise ArtifactError(
                    f"{what} in the registry lacks {path} ({_said(error, self.uri)}). {remedy}"
                ) from None
            raise ArtifactError(f"{what} in the registry lost its run {run}, which held its files. {RESEAT}") from None
        if not found.is_file() or found.is_symlink() or not found.resolve().is_relative_to(folder.resolve()):
            raise ArtifactError(f"{what} in the registry: {path} is not a plain file. {remedy}")
        return found

    def _knows(self, run: str) -> bool:
        from mlflow.exceptions import MlflowException

        with _reaching(self.uri):
            try:
                self._client.get_run(run)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return False
        return True

    def write_verdict(self, version: int, document: Mapping[str, Any]) -> None:
        """Keep a verdict with the version it is about, and say in its tags what came of it."""
        with _reaching(self.uri):
            run = str(self._model_version(version).run_id)
            self._client.log_dict(run, dict(document), f"{VERDICTS}/{document['sha256']}.json")
        tags = {
            "gate.verdict": "passed" if document["passed"] else "refused",
            "gate.kind": document["kind"],
            "gate.words": document["words"],
            "gate.verdict_sha256": document["sha256"],
            "gate.manifest_sha256": document["manifest_sha256"],
        }
        for name, value in tags.items():
            self.set_tag(version, name, str(value))

    def read_verdict(self, version: int) -> dict[str, Any] | None:
        """The last verdict about a version, checked against its sha256; None when it was never gated.

        Raises:
            ArtifactError: when it is missing or was changed.
        """
        from pipelines.core.judging import gates

        found = self._model_version(version)
        expected = found.tags.get("gate.verdict_sha256")
        if not expected:
            return None
        again = f"`moteur promote {version}` asks the gate again."
        with tempfile.TemporaryDirectory(prefix="moteur-registry-") as scratch:
            what = f"the verdict on version {version}"
            file = self._download(str(found.run_id), f"{VERDICTS}/{expected}.json", Path(scratch), what, again)
            try:
                document: dict[str, Any] = json.loads(file.read_bytes())
                same = document["sha256"] == gates.digest(document) == expected
            except (ValueError, LookupError, TypeError, AttributeError):  # torn, or another thing altogether
                same = False
        if not same:
            raise ArtifactError(f"the verdict on version {version} was changed: {again}")
        return document


MEND = (
    "`moteur verify --all --mend` puts an intact copy in its place, if models/release, DVC's cache or another version"
    " holds one; `moteur rollback --to VERSION` makes another version champion."
)
AGAIN = "Register the release again with `moteur promote`."
RESEAT = (
    "Register the same release again with `moteur promote`, then `moteur rollback --to VERSION` with its new number"
    " makes it champion in place of this copy."
)


def _version(found: "ModelVersion") -> Version:
    tags = dict(found.tags)
    return Version(number=int(found.version), manifest_sha256=tags.get(MANIFEST_TAG, ""), tags=tags)


def main(arguments: list[str]) -> int:
    """Run `champion` for the workspace that is the current folder; return the exit code."""
    if arguments != ["champion"]:
        print("usage: registry champion", file=sys.stderr)  # noqa: T201  a command
        return 2
    try:
        version = open_registry(root=Path.cwd()).alias("champion")
    except MoteurError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    if version:
        print(version.number, version.manifest_sha256)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
