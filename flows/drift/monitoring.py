"""Is what comes in still what the model was made from? A batch, or the requests, beside the release's reference."""

from pathlib import Path

from flows.drift import batch_check, reference, request_check
from flows.drift.verdict import Verdict
from pipelines import stage
from pipelines.adapters import files
from pipelines.artifacts import Artifact, Display, State

JSON = Display.DRIFT_REPORT.path


def check(
    *,
    root: Path = Path(),
    data: str | None = None,
    kind: str = "corpus",
    requests: Path = State.REQUESTS.path,
    folder: Path = Artifact.RELEASE.path,
    accept: bool = False,
) -> Verdict:
    """Look for drift in a workspace; write its reports/drift.html and reports/drift.json.

    Args:
        root: The workspace.
        data: A batch, in any form that ingestion reads. None: the requests.
        kind: Of the batch: corpus, or requests (instruction records, of which the prompts are taken).
        requests: Folder of the request log, in the workspace or elsewhere.
        folder: The release, whose reference is normal, in the workspace or elsewhere.
        accept: First declare the latest windows of requests to be normal, whatever was said of them.

    Raises:
        ArtifactError: the release is not as its manifest says, or carries no reference of this kind.
        DataError: the batch cannot be read.
    """
    from flows.drift import page

    normal = reference.of(root, root / folder, kind if data is not None else "requests")
    if data is not None:
        verdict = batch_check.check(normal, data)
    else:
        verdict = request_check.check(normal, requests, accept=accept)
    files.write_json(root / JSON, stage.rounded(verdict.document(), "drift"))
    page.write(verdict, root)
    return verdict
