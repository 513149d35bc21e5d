"""Every path of the pipeline, once. dvc.yaml reads this file through `vars` without running it."""

from enum import StrEnum
from pathlib import Path


class _Place(StrEnum):
    @property
    def path(self) -> Path:
        """The path relative to the working directory, which is the workspace."""
        return Path(self.value)


class Artifact(_Place):
    """A file or folder that a stage reads or writes, relative to the workspace; DVC tracks it."""

    FEEDBACK_BY_PEOPLE = "data/feedback"
    CONSTITUTION = "constitution.yaml"
    REWARD_FUNCTIONS = "reward_functions"
    RAW = "data/raw"
    VALIDATED = "data/validated"
    REFERENCE_PROFILE = "data/reference_profile.json"
    TOKENIZER = "models/tokenizer"
    TOKENS = "data/tokens"
    BASE = "models/base"
    SFT = "models/sft"
    PREFERENCES = "data/preferences"
    REWARD = "models/reward"
    HELD_OUT_REWARD = "models/held_out_reward"
    POLICY = "models/policy"
    COMPRESSED = "models/compressed"
    RELEASE = "models/release"

    INGESTION_REPORT = "reports/ingestion.json"
    DATA_VALIDATION_REPORT = "reports/data_validation.json"
    TOKENIZATION_REPORT = "reports/tokenization.json"
    PRETRAINING_REPORT = "reports/pretraining.json"
    FINETUNING_REPORT = "reports/finetuning.json"
    FEEDBACK_REPORT = "reports/feedback.json"
    REWARD_MODELING_REPORT = "reports/reward_modeling.json"
    PPO_REPORT = "reports/ppo.json"
    EVALUATION_REPORT = "reports/evaluation.json"
    COMPRESSION_REPORT = "reports/compression.json"
    DEPLOYMENT_REPORT = "reports/deployment.json"

    PRETRAINING_CURVE = "reports/curves/pretraining.csv"
    FINETUNING_CURVE = "reports/curves/finetuning.csv"
    REWARD_MODELING_CURVE = "reports/curves/reward_modeling.csv"
    PPO_CURVE = "reports/curves/ppo.csv"
    PPO_AXIS = "reports/curves/ppo_axis.csv"
    SAMPLES = "reports/samples.jsonl"


class Display(_Place):
    """What a command writes for people beside the reports of the stages; no stage reads it, DVC does not track it."""

    LIFECYCLE = "reports/lifecycle.html"
    DRIFT = "reports/drift.html"
    DRIFT_REPORT = "reports/drift.json"
    COMPARISONS = "reports/comparison"


class State(_Place):
    """What a workspace remembers beside its tracked artifacts; never an output, never committed."""

    ROOT = ".moteur"
    ORIGIN = ".moteur/origin.json"  # in a copy of a checkout: the version of the code it was copied from
    WORKSPACES = ".moteur/workspaces"
    QUARANTINE = ".moteur/quarantine.jsonl"
    REJECTS = ".moteur/rejects.jsonl"
    EVALUATE = ".moteur/evaluate"
    PREFECT = ".moteur/prefect"
    CHECKPOINTS = ".moteur/checkpoints"
    TRACKING = ".moteur/tracking"
    RUNNING = ".moteur/running"
    EFFORT = ".moteur/effort.jsonl"
    PLANNED = ".moteur/planned.jsonl"
    SPEED = ".moteur/speed.json"
    MLFLOW_DATABASE = ".moteur/mlflow.db"
    MLFLOW_ARTIFACTS = ".moteur/mlartifacts"
    PROMOTION = ".moteur/promotion"
    CHAMPION = ".moteur/champion"
    DATA_DOCS = ".moteur/data_docs"
    LOGS = ".moteur/logs"
    REFUSED = ".moteur/refused"
    REQUESTS = ".moteur/requests"
    SERVING = ".moteur/serving"
    SERVING_STATUS = ".moteur/serving/status.json"
    TOKEN = ".moteur/token"  # noqa: S105  where it is, not what it is
    DRIFT = ".moteur/drift"
    ALERTS = ".moteur/alerts"
    RETRAININGS = ".moteur/retrainings"
    ACCEPTED = ".moteur/accepted"
    FEEDBACK = ".moteur/feedback"
    ANSWERS = ".moteur/answers"
    SERVICES = ".moteur/services"
    SUPERVISOR = ".moteur/services/lock"
    COMPARISONS = ".moteur/comparisons"
    MEASURED = ".moteur/measured.json"
    DIAGNOSIS = ".moteur/diagnosis"
