"""Assemble the release and ask it in a sandbox process."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import stage
from pipelines.adapters import files, models, references, release, sandbox
from pipelines.adapters.tracking import Tracker
from pipelines.artifacts import Artifact
from pipelines.core.judging import cards
from pipelines.errors import ArtifactError
from pipelines.params import Deployment, Params

REPORTS = {
    "ingestion": Artifact.INGESTION_REPORT,
    "data_validation": Artifact.DATA_VALIDATION_REPORT,
    "tokenization": Artifact.TOKENIZATION_REPORT,
    "pretraining": Artifact.PRETRAINING_REPORT,
    "finetuning": Artifact.FINETUNING_REPORT,
    "feedback": Artifact.FEEDBACK_REPORT,
    "reward_modeling": Artifact.REWARD_MODELING_REPORT,
    "ppo": Artifact.PPO_REPORT,
    "evaluation": Artifact.EVALUATION_REPORT,
    "compression": Artifact.COMPRESSION_REPORT,
}
"""What the model card and figures.json are drawn from, in the order of the pipeline."""


@dataclass(frozen=True, kw_only=True)
class DeploymentReport:
    """The release as it was verified."""

    name: str
    weights_format: str
    num_files: int
    """The manifest left out."""
    num_bytes: int
    manifest_sha256: str
    """Names the release: the manifest holds the sha256 of every other file."""
    verified: bool
    """Every file hashed, the model loaded and every prompt answered in a process of its own."""
    sandbox_answers: list[dict[str, Any]]
    """{prompt, answer, finished} each, greedy."""
    silent_share: float
    """Of the prompts, how many were answered with nothing."""
    figures: dict[str, dict[str, Any]]
    """Headline figures by stage, as the model card has them."""


def main(params: Params, tracker: Tracker) -> DeploymentReport:
    """Build the release beside its place, verify it in a sandbox, and only then put it there."""
    settings = params.deployment
    reports = {name: files.read_json(artifact.path) for name, artifact in REPORTS.items()}
    models.refuse_unsafe(Artifact.COMPRESSED.path)
    with files.replacing(Artifact.RELEASE.path) as fresh:
        weights_format = _assemble(fresh, settings, reports, params.threads)
        with tracker.progress("asking the release", 1, "sandbox") as bar:
            answers = sandbox.ask(
                fresh,
                settings.prompts,
                max_new_tokens=settings.max_new_tokens,
                timeout_seconds=settings.timeout_seconds,
                memory_mib=settings.memory_mib,
                threads=params.threads,
            )
            bar.advance()
        silent_share = _silent_share(settings, answers.answers)
        manifest = files.read_json(fresh / release.MANIFEST)["files"]
        digest = files.sha256(fresh / release.MANIFEST)
    tracker.log({"sandbox_peak_memory_mib": answers.peak_memory_mib}, step=0)
    return DeploymentReport(
        name=settings.name,
        weights_format=weights_format,
        num_files=len(manifest),
        num_bytes=sum(entry["bytes"] for entry in manifest.values()),
        manifest_sha256=digest,
        verified=True,
        sandbox_answers=[
            {"prompt": prompt, "answer": answer, "finished": finished}
            for prompt, answer, finished in zip(settings.prompts, answers.answers, answers.finished, strict=True)
        ],
        silent_share=silent_share,
        figures=cards.headlines(reports),
    )


def _assemble(folder: Path, settings: Deployment, reports: dict[str, Any], threads: int | None) -> str:
    """Fill `folder`; return the format of the weights."""
    shutil.copytree(Artifact.COMPRESSED.path, folder, copy_function=shutil.copyfile)
    compression = reports["compression"]
    chosen = [one for one in compression["candidates"] if one["name"] == compression["chosen"]]
    if len(chosen) != 1 or release.weight_bytes(folder) != chosen[0]["bytes"]:
        raise ArtifactError(
            f"{Artifact.COMPRESSED} is not the model of {Artifact.COMPRESSION_REPORT}: run compression again."
        )
    profile = files.read_json(Artifact.REFERENCE_PROFILE.path)
    answered = {name: compression[name] for name in ("unfinished_share", "empty_share", "answer_words")}
    files.write_json(folder / "reference_profile.json", {**profile, "responses": answered})
    files.write_json(folder / "figures.json", {name: cards.scalars(report) for name, report in reports.items()})
    about = cards.About(
        name=settings.name,
        licence=settings.licence,
        intended_use=settings.intended_use,
        weights_format=chosen[0]["format"],
    )
    (folder / "MODEL_CARD.md").write_text(cards.model_card(about, reports), encoding="utf-8")
    if settings.reference_documents:
        references.make(folder, Artifact.VALIDATED.path, most=settings.reference_documents, threads=threads)
    release.write_manifest(folder, format=1, name=settings.name, weights=about.weights_format)
    return about.weights_format


def _silent_share(settings: Deployment, answers: list[str]) -> float:
    """Share of the prompts that were answered with nothing.

    Raises:
        ArtifactError: when it is above `deployment.max_silent_share`.
    """
    silent = [prompt for prompt, answer in zip(settings.prompts, answers, strict=True) if not answer.strip()]
    share = len(silent) / len(answers)
    if share > settings.max_silent_share:
        raise ArtifactError(
            f"The release answers {len(silent)} of {len(answers)} prompts with nothing, {silent[0]!r} for one: the"
            " policy may have collapsed (lower ppo.learning_rate), or deployment.prompts asks for what it was not"
            f" trained on. deployment.max_silent_share is {settings.max_silent_share:g}."
        )
    return share


if __name__ == "__main__":
    stage.run("deployment", main, report=Artifact.DEPLOYMENT_REPORT)
