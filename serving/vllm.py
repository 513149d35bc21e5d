"""Hand a release to vLLM, where there is a GPU: `serving.engine: vllm`.

vLLM brings its own HTTP server, batching and metrics; limits, request log and the following of the champion are ours
and do not come along. Eight-bit weights are given to it as plain bfloat16, which it reads in every version.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from pipelines.adapters import files, release
from pipelines.errors import MoteurError, ResourceError
from pipelines.params import Serving


def command(program: str, bundle: Path, settings: Serving, *, name: str, context: int) -> list[str]:
    """The command line of `vllm serve`; the token is not on it, since every user may read command lines."""
    return [
        program,
        "serve",
        str(bundle),
        "--served-model-name",
        name,
        "--host",
        settings.host,
        "--port",
        str(settings.port),
        "--dtype",
        "float32" if settings.precision == "float32" else "bfloat16",
        "--max-model-len",
        str(context),
        "--max-num-seqs",
        str(settings.slots),
    ]


def environment(base: Mapping[str, str], token: str) -> dict[str, str]:
    """With the token; without telemetry, the hub, and prompts in the log, which older versions write there at INFO."""
    quiet = {"VLLM_LOGGING_LEVEL": "WARNING", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    return {**base, **quiet, "VLLM_API_KEY": token}


def program() -> str:
    """Where vLLM is.

    Raises:
        MoteurError: when it is not installed.
    """
    found = shutil.which("vllm")
    if found is None:
        raise MoteurError(
            "serving.engine is vllm, but vLLM is not installed: run `pip install vllm` on a machine with a GPU, or set"
            " serving.engine to moteur in params.yaml"
        )
    return found


def require_gpu() -> None:
    """See that there is a GPU.

    Raises:
        ResourceError: when there is none.
    """
    import torch

    if not torch.cuda.is_available():
        raise ResourceError(
            "serving.engine is vllm, but there is no GPU here: set serving.engine to moteur in params.yaml"
        )


def prepared(bundle: Path, scratch: Path) -> Path:
    """The bundle itself, or a plain copy below `scratch` when its weights are in eight bits."""
    if "quantization_config" not in files.read_json(bundle / "config.json"):
        return bundle
    plain = scratch / "vllm"
    release.export(bundle, plain)
    return plain


def serve(bundle: Path, settings: Serving, *, scratch: Path, token: str) -> None:
    """Become vLLM with a verified bundle that nobody else writes; returns only by an error.

    Raises:
        MoteurError: when vLLM or a GPU is missing.
    """
    found = program()
    require_gpu()
    config = files.read_json(bundle / "config.json")
    name = str(files.read_json(bundle / release.MANIFEST).get("name", bundle.name))
    whole = command(found, prepared(bundle, scratch), settings, name=name, context=config["max_position_embeddings"])
    os.execve(found, whole, environment(os.environ, token))  # noqa: S606  it takes over this process
