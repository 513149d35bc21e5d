"""The runner of `moteur up`: serves the deployments, ships the automations, clears what is stuck.

The automations, from code, so that a fresh server has them:

* drift -> retrain, once in a minute; the records of retrainings keep `schedule.cooldown_minutes`;
* a flow that has been silent for `schedule.lost_after_seconds` -> crashed (it and its runner were killed together);
* a crashed retraining -> retrain, which goes on where the crashed one was, unless they crash again and again.
"""

import asyncio
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, StateType
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.deployments.runner import EntrypointType, RunnerDeployment
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import PrefectException
from prefect.runner import Runner

from flows.orchestration.flows import monitor, retrain
from flows.retraining import records
from flows.supervision import services
from pipelines import params as schema
from pipelines.adapters.alerts import Alerting, Outbox
from pipelines.adapters.orchestrator import DRIFT, NAMES, RESOURCE, Server, url
from pipelines.artifacts import State
from pipelines.errors import MoteurError, ParamsError, ResourceError

FLOWS = ["retrain", "monitor", "lifecycle"]
SILENT, RESUME, ON_DRIFT = "moteur: silent is crashed", "moteur: crashed goes on", "moteur: drift retrains"
WATCH_SECONDS = 30.0
DEBOUNCE = timedelta(minutes=1)
"""Events of drift within this time are one."""
SPIN, SPIN_WITHIN = 6, timedelta(hours=1)
"""So many crashes within this time: what crashes before it has a record, which counts its attempts, would spin."""
HEARTBEAT = "prefect.flow-run.heartbeat"
ENDED = {f"prefect.flow-run.{name}" for name in ("Completed", "Failed", "Cancelled", "Crashed")}


def deployments(schedule: schema.Schedule) -> list[RunnerDeployment]:
    """What is served: `retrain`, one at a time, on its schedule; `monitor`, every few minutes."""
    one = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
    cron = schedule.retraining
    often = schedule.monitoring_minutes
    return [
        retrain.to_deployment(
            "retrain",
            schedules=[CronSchedule(cron=cron, timezone=schedule.timezone)] if cron else [],
            concurrency_limit=one,
            entrypoint_type=EntrypointType.MODULE_PATH,
        ),
        monitor.to_deployment(
            "monitor",
            schedules=[IntervalSchedule(interval=timedelta(minutes=often))] if often else [],
            concurrency_limit=one,
            entrypoint_type=EntrypointType.MODULE_PATH,
        ),
    ]


def automations(retrain_id: UUID, schedule: schema.Schedule) -> list[AutomationCore]:
    """The three automations, for the deployment `retrain` with this id."""
    return [
        silent_is_crashed(timedelta(seconds=schedule.lost_after_seconds)),
        crashed_goes_on(retrain_id),
        drift_retrains(retrain_id, enabled=schedule.retrain_on_drift),
    ]


def silent_is_crashed(within: timedelta) -> AutomationCore:
    """After a sign of life another one, or the end, must follow `within` this time."""
    return AutomationCore(
        name=SILENT,
        description="A flow that gave no sign of life was killed together with its runner.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={HEARTBEAT},
            expect={HEARTBEAT, *ENDED},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "flow", "prefect.resource.name": FLOWS},
            for_each={"prefect.resource.id"},
            threshold=1,
            within=within,
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="It gave no sign of life.")],
    )


def crashed_goes_on(retrain_id: UUID) -> AutomationCore:
    """Each crashed retraining is taken up, after a moment, so that one that cannot even begin does not spin."""
    return AutomationCore(
        name=RESUME,
        description="The next run of retrain goes on where the crashed one was.",
        trigger=EventTrigger(
            posture=Posture.Reactive,
            expect={"prefect.flow-run.Crashed"},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={
                "prefect.resource.role": "deployment",
                "prefect.resource.id": f"prefect.deployment.{retrain_id}",
            },
            for_each={"prefect.resource.id"},  # one crash shortly after another counts too
            threshold=1,
            within=timedelta(seconds=30),
        ),
        actions=[
            RunDeployment(
                deployment_id=retrain_id, parameters={"reason": "resume"}, schedule_after=timedelta(seconds=5)
            )
        ],
    )


def drift_retrains(retrain_id: UUID, *, enabled: bool) -> AutomationCore:
    """Drift starts a retraining at once; the event's key travels along."""
    key = {"__prefect_kind": "jinja", "template": "{{ event.payload.key }}"}
    return AutomationCore(
        name=ON_DRIFT,
        description="Drift of the requests starts a retraining; it never promotes.",
        enabled=enabled,
        trigger=EventTrigger(
            posture=Posture.Reactive,
            expect={DRIFT},
            match={"prefect.resource.id": RESOURCE},
            threshold=1,
            within=DEBOUNCE,
        ),
        actions=[RunDeployment(deployment_id=retrain_id, parameters={"reason": "drift", "key": key})],
    )


async def ship(wanted: list[AutomationCore]) -> None:
    """Make the automations of the server what they are here; one that is there keeps its id and its memory."""
    from prefect.client.orchestration import get_client

    async with get_client() as client:
        for automation in wanted:
            found = await client.read_automations_by_name(automation.name)
            for extra in found[1:]:
                await client.delete_automation(extra.id)
            if found:
                await client.update_automation(found[0].id, automation)
            else:
                await client.create_automation(automation)


def stuck(runs: list[dict[str, Any]], minutes: float, now: datetime) -> list[dict[str, Any]]:
    """Runs that have been about to start for longer than `minutes`."""
    limit = now - timedelta(minutes=minutes)
    return [run for run in runs if datetime.fromisoformat(run["state"]["timestamp"]) < limit]


def spins(crashed: list[dict[str, Any]], now: datetime) -> bool:
    """Whether runs crash so often that running them again does not help."""
    times = [datetime.fromisoformat(run["state"]["timestamp"]) for run in crashed]
    return sum(now - SPIN_WITHIN < time for time in times) >= SPIN


async def hold_back(server: Server, outbox: Alerting, now: datetime) -> bool:
    """Run no crashed retraining again while they spin; return whether they do.

    Raises:
        ResourceError: when the server does not answer.
    """
    from prefect.client.orchestration import get_client

    spinning = spins(await asyncio.to_thread(server.runs, NAMES["retrain"], states=["CRASHED"], limit=50), now)
    async with get_client() as client:
        for found in await client.read_automations_by_name(RESUME):
            if found.enabled == spinning:
                await (client.pause_automation if spinning else client.resume_automation)(found.id)
    if spinning:
        body = (
            f"{SPIN} flows of retrain crashed within {SPIN_WITHIN.total_seconds() / 60:g} minutes, so no crash is taken"
            f" up for that long: {State.LOGS}/runner.log says why. Then `moteur retrain` goes on."
        )
        outbox.put(f"retraining/spins/{now:%Y-%m-%d}", "Retrainings crash again and again", body, "failure")
    return spinning


async def watch(server: Server, minutes: float, outbox: Alerting) -> None:
    """Give up runs that are stuck before their start, and hold back what spins, again and again."""
    while True:
        try:
            await asyncio.to_thread(clear, server, minutes, datetime.now(UTC))
            await hold_back(server, outbox, datetime.now(UTC))
        except (ResourceError, httpx.HTTPError, PrefectException) as error:
            print(error, file=sys.stderr, flush=True)  # noqa: T201  the log of this service
        await asyncio.sleep(WATCH_SECONDS)


def clear(server: Server, minutes: float, now: datetime) -> list[str]:
    """Declare crashed what is stuck before its start; return the ids of these runs.

    Raises:
        ResourceError: when the server does not answer.
    """
    found = [
        run for name in NAMES.values() for run in stuck(server.runs(name, states=["PENDING"], limit=50), minutes, now)
    ]
    for run in found:
        server.give_up(run["id"], f"It was about to start for more than {minutes:g} minutes.")
        print(f"gave up {run['name']}, which never started", flush=True)  # noqa: T201
    return [str(run["id"]) for run in found]


async def serve(schedule: schema.Schedule, root: Path, served: list[RunnerDeployment]) -> None:
    """Register everything and run what is due until this process is stopped."""
    api = url()
    if api is None:
        raise ParamsError("PREFECT_API_URL is not set: `moteur up` sets it, or set it to your server")
    server = Server(api)
    runner = Runner(name="moteur", pause_on_shutdown=False, limit=4, query_seconds=2)
    ids = [await runner.aadd_deployment(deployment) for deployment in served]
    await ship(automations(ids[0], schedule))
    take_up(server, root)
    services.ready_file(root, "runner").write_text(str(os.getpid()), encoding="utf-8")
    print("serving retrain and monitor", flush=True)  # noqa: T201
    watching = asyncio.create_task(watch(server, schedule.pending_minutes, Outbox(root / State.ALERTS)))
    try:
        await runner.start()
    finally:
        watching.cancel()


def take_up(server: Server, root: Path) -> None:
    """Go on with a retraining that was interrupted while nobody watched (the machine was switched off).

    When this process begins, no flow of ours is alive: what the server believes to run holds its place for nothing.
    """
    for name in NAMES.values():
        for run in server.runs(name, states=["RUNNING", "CANCELLING"], limit=50):
            server.give_up(run["id"], "It ended with the services.")
    for record in [record for record in records.read(root) if record.status in records.UNFINISHED][-1:]:
        server.start(NAMES["retrain"], {"reason": "resume"}, f"take up {record.id} {record.attempts} {time.time():.0f}")


def main() -> None:
    """Serve; an error of the world is a sentence and an exit code."""
    from pipelines import stage

    try:
        schedule = stage.load_params().schedule
        asyncio.run(serve(schedule, Path.cwd(), deployments(schedule)))
    except MoteurError as error:
        print(f"runner: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        os._exit(130)


if __name__ == "__main__":
    main()
