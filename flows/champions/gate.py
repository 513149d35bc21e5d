"""The gate: challenger and champion sit the challenger's exam, and the outcome is held against the rules in params.

Nothing is moved here and nothing written down: what comes out is a verdict.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flows.champions.succession import WITHDRAWN
from pipelines.adapters import examiner, exams, files, sandbox
from pipelines.adapters.examiner import Examined
from pipelines.adapters.exams import Paper
from pipelines.adapters.registry import Registry, Version
from pipelines.core.judging import gates
from pipelines.core.judging.gates import Candidate, Champion, Exam, Verdict
from pipelines.errors import ArtifactError, ResourceError
from pipelines.params import Params

Say = Callable[[str], None]
Examine = Callable[[Path, Paper, Params], Examined]


class Gate:
    """Examines and judges; remembers what the challenger reached, for the case that the champion changes."""

    def __init__(self, found: Registry, params: Params, examine: Examine | None, say: Say) -> None:
        self._registry, self._params = found, params
        self._examine, self._say = examine or _examine, say
        self._known: dict[int, tuple[Examined | None, Mapping[str, Any], list[str]]] = {}

    def judge(
        self, challenger: Version, champion: Version | None, known: Sequence[str], *, again: bool
    ) -> dict[str, Any]:
        """The verdict on the challenger beside the champion; `known` is what is wrong with history and aliases."""
        faults = list(known)
        if challenger.tags.get(WITHDRAWN) and not again:
            faults.append(
                f"it was rolled back on {challenger.tags[WITHDRAWN]}; `moteur promote {challenger.number} --again` lets"
                " it stand once more"
            )
        paper, missing = self._paper(challenger)
        examined, figures, own = self._sit(challenger, paper, "challenger")
        held = self._champion(champion, paper, faults) if champion else None
        verdict: Verdict = gates.judge(
            Candidate(
                version=challenger.number,
                manifest_sha256=challenger.manifest_sha256,
                figures=figures,
                marks=examined.marks if examined else None,
                service=examined.service if examined else None,
                faults=[*faults, *missing, *own],
            ),
            held,
            paper.exam,
            self._params.promotion,
            seed=self._params.seed,
        )
        return verdict.document()

    def _paper(self, challenger: Version) -> tuple[Paper, list[str]]:
        with TemporaryDirectory(prefix="moteur-exam-") as scratch:
            try:
                return exams.load(self._registry.fetch_exam(challenger.number, Path(scratch))), []
            except ArtifactError as error:
                nothing = Exam(sha256="", questions=[], documents={})
                return Paper(exam=nothing, instructions=[], documents=[]), [str(error)]

    def _sit(self, version: Version, paper: Paper, role: str) -> tuple[Examined | None, Mapping[str, Any], list[str]]:
        """Marks, figures of its reports, and what went wrong."""
        if version.number not in self._known:
            self._say(f"Version {version.number}, {role}, sits the exam: {len(paper.instructions)} instructions,"
                      f" {len(paper.documents)} documents.")  # fmt: skip
            self._known[version.number] = self._sat(version, paper)
        return self._known[version.number]

    def _sat(self, version: Version, paper: Paper) -> tuple[Examined | None, Mapping[str, Any], list[str]]:
        with TemporaryDirectory(prefix="moteur-gate-") as scratch:
            try:
                folder = self._registry.fetch(version.number, Path(scratch) / "release")
                figures = files.read_json(folder / "figures.json")
            except ArtifactError as error:
                return None, {}, [str(error)]
            try:
                return self._examine(folder, paper, self._params), figures, []
            except (ArtifactError, ResourceError) as error:
                return None, figures, [f"version {version.number} could not be examined: {error}"]

    def _champion(self, champion: Version, paper: Paper, faults: list[str]) -> Champion:
        examined, _, own = self._sit(champion, paper, "champion")
        faults += own
        try:
            last = self._registry.read_verdict(champion.number) or {}
        except ArtifactError as error:
            faults.append(str(error))
            last = {}
        return Champion(
            version=champion.number,
            manifest_sha256=champion.manifest_sha256,
            marks=examined.marks if examined else None,
            exam_tasks=last.get("exam_tasks", {}),
            exam_documents=last.get("exam_documents", 0),
        )


def _examine(folder: Path, paper: Paper, params: Params) -> Examined:
    """Let a release sit the exam, in a sandbox process."""
    settings = params.promotion
    if not paper.instructions:
        raise ArtifactError("there is no exam to sit")
    return examiner.examine(
        folder,
        paper,
        prompts=params.deployment.prompts,
        requests=settings.infra.requests,
        max_new_tokens=settings.max_new_tokens,
        room=sandbox.Room(
            timeout_seconds=settings.infra.timeout_seconds,
            memory_mib=settings.infra.address_space_mib,
            threads=params.threads,
            timeout_key="promotion.infra.timeout_seconds",
            memory_key="promotion.infra.address_space_mib",
        ),
    )
