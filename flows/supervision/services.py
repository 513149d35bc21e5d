"""Which processes `moteur up` runs, and how: from params.yaml and the environment. Nothing is started here."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.adapters import device, mlflow_store, orchestrator, quiet
from pipelines.artifacts import State
from pipelines.errors import ParamsError
from pipelines.params import Params

MARK = "MOTEUR_SUPERVISED"
"""Variable that everything below a supervisor inherits, so that all of it can be found and ended."""

PYTHON = (sys.executable, "-m")


@dataclass(frozen=True, kw_only=True)
class Service:
    """One process that is kept alive."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: str | None = None
    """This URL answers 200 when the service is ready. None: it is when it runs."""
    ready_file: bool = False
    """Instead of a URL: the service writes its process id to `ready_file(...)` when it is ready."""
    needs: tuple[str, ...] = ()
    """Services that must be up before this one is started; those that are not run here are passed over."""
    shown: str = ""
    """Where a person looks."""
    grace_seconds: float = 10.0
    """From being asked to stop until being killed."""
    required: bool = True
    """`moteur up` waits for it; one that is not required may wait for something itself (a first champion) before it
    first answers."""


def ready_file(root: Path, name: str) -> Path:
    """Where a service without a URL says that it is ready."""
    return root / State.SERVICES / f"{name}.ready"


def prefect_url(params: Params) -> str:
    """The API of the Prefect server that we start, as this machine reaches it."""
    return f"http://{_local(params.services.host)}:{params.services.prefect_port}/api"


def environment(params: Params, root: Path) -> dict[str, str]:
    """What every service gets beside our own environment: the addresses of the others, and silence."""
    schedule = params.schedule
    paths = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    ours = {
        "PREFECT_API_URL": prefect_url(params),
        "MLFLOW_TRACKING_URI": mlflow_store.local(root),  # see docs/operations.md
        "PREFECT_HOME": str(root / State.SERVICES / "prefect"),  # not that of `moteur run`, whose server comes and goes
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(schedule.heartbeat_seconds),
        "PREFECT_LOGGING_LEVEL": "WARNING",
        **orchestrator.PATIENCE,
        **device.SHARED,
    }
    given = {name: os.environ[name] for name in ours if os.environ.get(name)}
    return {**ours, **given, **quiet.PRIVATE, **quiet.MLFLOW, "PYTHONUNBUFFERED": "1", "PATH": os.pathsep.join(paths)}


def _local(host: str) -> str:
    """The address under which this machine reaches a service that listens on `host`."""
    return "127.0.0.1" if host in ("0.0.0.0", "::", "") else host  # noqa: S104  compared, not bound


def planned(params: Params, root: Path) -> list[Service]:
    """The services in the order of their start; servers of the user's own are not started."""
    services: list[Service] = []
    if not os.environ.get("PREFECT_API_URL"):
        services.append(_prefect(params))
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        services.append(_mlflow(params, root))
    services.append(_serving(params))
    services.append(Service(name="alerts", command=(*PYTHON, "flows.supervision.alerts"), grace_seconds=5))
    services.append(Service(name="probation", command=(*PYTHON, "flows.champions.probation"), needs=("mlflow",)))
    services.append(_runner(params))
    return services


def _runner(params: Params) -> Service:
    return Service(
        name="runner",
        command=(*PYTHON, "flows.orchestration.deployments"),
        ready_file=True,
        needs=("prefect", "mlflow"),
        grace_seconds=float(params.services.stop_seconds),
    )


def _prefect(params: Params) -> Service:
    host, port = params.services.host, params.services.prefect_port
    base = f"http://{_local(host)}:{port}"
    return Service(
        name="prefect",
        command=(*PYTHON, "prefect", "server", "start", "--host", host, "--port", str(port)),
        environment={"PREFECT_LOGGING_SERVER_LEVEL": "WARNING"},
        ready=f"{base}/api/health",
        shown=base,
    )


def _mlflow(params: Params, root: Path) -> Service:
    host, port = params.services.host, params.services.mlflow_port
    base = f"http://{_local(host)}:{port}"
    command = ["mlflow", "server", "--workers", "1", "--host", host, "--port", str(port)]
    command += [
        "--backend-store-uri",
        mlflow_store.local(root),
        "--artifacts-destination",
        str(root / State.MLFLOW_ARTIFACTS),
    ]
    return Service(name="mlflow", command=(*PYTHON, *command), ready=f"{base}/health", shown=base)


def _serving(params: Params) -> Service:
    host, port = params.serving.host, params.serving.port
    base = f"http://{_local(host)}:{port}"
    return Service(
        name="serving",
        command=(*PYTHON, "serving", "--host", host, "--port", str(port), "--follow"),
        ready=f"{base}/health/ready",
        needs=("mlflow",),
        shown=f"{base}/v1",
        required=False,
    )


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where one of our services will listen, and the keys of params.yaml that say so."""

    host: str
    port: int
    host_key: str
    port_key: str


def addresses(params: Params) -> list[Address]:
    """Where our services will listen.

    Raises:
        ParamsError: when two have one port, or one has none.
    """
    host, serving = params.services.host, params.serving
    found = []
    if not os.environ.get("PREFECT_API_URL"):
        found.append((host, params.services.prefect_port, "services.host", "services.prefect_port"))
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        found.append((host, params.services.mlflow_port, "services.host", "services.mlflow_port"))
    found.append((serving.host, serving.port, "serving.host", "serving.port"))
    keys: dict[int, str] = {}
    for _, port, _, key in found:
        if not port:
            raise ParamsError(f"{key} is 0, any free port, but `moteur up` must know it: give one in params.yaml")
        if port in keys:
            raise ParamsError(f"{keys[port]} and {key} are both {port}: change one of them in params.yaml")
        keys[port] = key
    return [Address(host=host, port=port, host_key=name, port_key=key) for host, port, name, key in found]
