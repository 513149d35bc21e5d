"""What documents are compared with: the reference of a release, by the params of a workspace."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from flows.drift import schema
from flows.drift.schema import SchemaRow
from pipelines import stage
from pipelines.adapters import files, references, release
from pipelines.core.drift import comparison
from pipelines.core.drift.comparison import Comparison, Settings
from pipelines.core.drift.policy import Policy
from pipelines.core.drift.sample import Sample
from pipelines.errors import ArtifactError
from pipelines.params import Drift, Params


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What every comparison needs."""

    root: Path
    """The workspace."""
    params: Params
    folder: Path
    """The release."""
    sample: Sample
    """The documents that are normal."""
    manifest_sha256: str
    kind: str
    """Of the documents: corpus or requests."""

    @property
    def drift(self) -> Drift:
        """The section of the params."""
        return self.params.drift

    @property
    def settings(self) -> Settings:
        """Of the comparisons."""
        names = [item.name for item in dataclasses.fields(Settings)]
        return Settings(**{name: getattr(self.drift, name) for name in names})

    @property
    def policy(self) -> Policy:
        """When windows that differ are drift."""
        return Policy(recent=self.drift.recent_windows, needed=self.drift.needed_windows)

    def compare(self, window: Sample) -> Comparison:
        """Hold a window against the documents that are normal."""
        return comparison.compare(self.sample, window, self.settings, seed=self.params.seed)

    def shape(self, normal: Sample, window: Sample) -> tuple[SchemaRow, ...]:
        """Hold the shape of a window against that of `normal`."""
        docs = self.root / schema.DOCS
        return tuple(schema.check(normal, window, expected_share=self.drift.expected_share, docs=docs))


def of(root: Path, folder: Path, kind: str) -> Reference:
    """The reference that the release in `folder` carries for documents of this kind.

    Raises:
        ArtifactError: the release is not as its manifest says, or carries no reference of this kind.
    """
    if differences := release.verify(folder):
        raise ArtifactError(f"{folder} is not the release of its manifest: {'; '.join(differences)}.")
    return Reference(
        root=root,
        params=stage.load_params(root / "params.yaml"),
        folder=folder,
        sample=references.read(folder, kind),
        manifest_sha256=files.sha256(folder / release.MANIFEST),
        kind=kind,
    )
