"""The environment in which no library calls home and none talks over our progress; set before they are imported."""

import os
from collections.abc import Mapping

from pipelines.adapters import device

PRIVATE = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GX_ANALYTICS_ENABLED": "false",
}
"""Nobody is called."""

MLFLOW = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}
"""MLflow prints nothing of its own and unpickles nothing."""

VARIABLES = {
    **PRIVATE,
    **MLFLOW,
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "true",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "PYTHONWARNINGS": "ignore",
}
"""Of a process of ours."""

ALONE = {**VARIABLES, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
"""Of a child that asks or reads one model: everything it needs lies in its folder."""


def settle(variables: Mapping[str, str] = VARIABLES | device.EXCLUSIVE) -> None:
    """Set `variables` in the environment of this process, where it does not say otherwise."""
    for name, value in variables.items():
        os.environ.setdefault(name, value)
