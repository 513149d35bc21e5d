"""The flows that `moteur up` serves: `retrain` and `monitor`. Prefect loads this module in a process for each run."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import prefect
from prefect.client.schemas.objects import FlowRun
from prefect.flows import Flow
from prefect.runtime import flow_run as current
from prefect.states import Completed, State

from flows.drift import watch
from flows.retraining import records
from flows.retraining import run as retraining
from pipelines.adapters.alerts import Outbox


def tell(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Alert that a flow failed or crashed, once a day: what fails each hour is one thing to mend."""
    what = (state.name or "Failed").lower()
    body = f"{state.message or 'It said nothing.'}\nThe run is {flow_run.name}."
    Outbox().put(f"flow/{flow.name}/{what}/{datetime.now(UTC):%Y-%m-%d}", f"Flow {flow.name}: {what}", body, "failure")


@prefect.flow(  # type: ignore[untyped-decorator]
    name="retrain", persist_result=False, validate_parameters=False, on_crashed=[tell]
)
def retrain(
    reason: records.Reason = "schedule", key: str = "", start: str | None = None, profile: str | None = None
) -> State[Any]:
    """Retrain; a run that was skipped or refused is completed under that name. It alerts by itself while it lives."""
    order = records.Order(reason=reason, key=key or _key(reason), start=start, profile=profile)
    result = retraining.run(Path.cwd(), order, _say, wait=True, aside=True)
    if isinstance(result, records.Skipped):
        return Completed(name="Skipped", message=result.why)
    return Completed(name=result.status.capitalize(), message=f"{result.id}: {result.note or result.status}")


@prefect.flow(  # type: ignore[untyped-decorator]
    name="monitor", persist_result=False, validate_parameters=False, on_failure=[tell], on_crashed=[tell]
)
def monitor() -> State[Any]:
    """Check the requests for drift."""
    verdict = watch.look(Path.cwd())
    return Completed(name=verdict.state.capitalize(), message=verdict.words)


def _key(reason: str) -> str:
    """A schedule's time is its key: however often a clock that jumps lets it come, it retrains once."""
    if reason != "schedule":
        return ""
    planned = current.scheduled_start_time or datetime.now(UTC)
    return f"schedule {planned.astimezone(UTC).isoformat(timespec='minutes')}"


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  it becomes the log of the runner
