"""What goes on by itself: drift is noticed, alerts are sent, models are retrained, champions are watched."""

from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import Field, model_validator

from pipelines.params.section import NotNegative, Positive, Rate, Section, Share


class Drift(Section):
    """When served traffic, or a batch of data, counts as changed."""

    alpha: Annotated[float, Field(gt=0, lt=1)]
    """Probability of a false alarm for one window, over all its tests (Bonferroni)."""
    permutations: Annotated[int, Field(ge=99)]
    """Random deals of a permutation test. (permutations + 1) x alpha / 5 tests should be a whole number."""
    window_documents: Positive
    """Documents in a window."""
    min_documents: Annotated[int, Field(ge=10)]
    """Fewer usable documents on either side are "insufficient data"."""
    max_documents: Positive
    """Of a larger batch this many are drawn."""
    max_missing_share: Share
    """A test says nothing when a greater share of its documents has no figure."""
    recent_windows: Positive
    """Windows that the policy looks back at, the latest included."""
    needed_windows: Positive
    """The latest window and this many of the recent ones in all must differ for an alarm."""
    accepted_windows: Positive
    """So many accepted windows of requests, the latest ones, are the traffic's own reference; with fewer the release's
    reference decides."""
    expected_share: Share
    """Schema: at least this share of the documents must lie between the least and the greatest value of each
    descriptor in the reference profile."""

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.needed_windows > self.recent_windows:
            raise ValueError(
                f"drift.needed_windows is {self.needed_windows} but drift.recent_windows is {self.recent_windows}:"
                " lower the first or raise the second in params.yaml"
            )
        if self.min_documents > self.window_documents:
            raise ValueError(
                f"drift.min_documents is {self.min_documents} but drift.window_documents is {self.window_documents}:"
                " lower the first or raise the second in params.yaml"
            )
        smallest = 1 / (self.permutations + 1)
        if smallest > self.alpha / 5:
            raise ValueError(
                f"drift.permutations is {self.permutations}, whose smallest p-value {smallest:.2g} is above drift.alpha"
                f" / 5 tests = {self.alpha / 5:.2g}: no alarm could ever be raised. Raise drift.permutations in"
                " params.yaml"
            )
        return self


class AlertSink(Section):
    """One place that alerts go to. Its address is a secret, so it stands in the environment or in a file."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    """How `moteur alerts` and the outbox call it."""
    environment: str | None = None
    """Name of the environment variable that holds its Apprise URL (`mailtos://...`, `slack://...`, `json://...`)."""
    file: str | None = None
    """Or path of a file that holds the URL, relative to the checkout."""

    @model_validator(mode="after")
    def _has_one_home(self) -> Self:
        if (self.environment is None) == (self.file is None):
            raise ValueError(
                f"the sink {self.name!r} of alerts.sinks needs one of `environment` (name of a variable) and `file`"
                " (path): set exactly one, whose content is its Apprise URL"
            )
        return self


class Alerts(Section):
    """Who is told, and how persistently."""

    sinks: list[AlertSink]
    """Where alerts go; none: they are kept and shown by `moteur alerts`."""
    timeout_seconds: Annotated[float, Field(gt=0, le=600)]
    """A sink that has not taken an alert after this time is tried again later (seconds)."""
    first_retry_seconds: Rate
    """Wait after the first failure (seconds); it doubles with each."""
    longest_retry_seconds: Rate
    """The wait never grows beyond this (seconds)."""
    give_up_hours: Rate
    """An alert that is older is not sent any more; it stays in the list as given up (hours)."""

    @model_validator(mode="after")
    def _names_and_waits_make_sense(self) -> Self:
        names = [sink.name for sink in self.sinks]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"alerts.sinks has {min(twice)!r} more than once: give each sink a name of its own")
        if self.longest_retry_seconds < self.first_retry_seconds:
            raise ValueError(
                f"alerts.longest_retry_seconds is {self.longest_retry_seconds} but alerts.first_retry_seconds is"
                f" {self.first_retry_seconds}: raise the first"
            )
        return self


class Retraining(Section):
    """A retraining: a run of the lifecycle at a pinned commit in a workspace of its own, then publication."""

    profile: str | None
    """Overrides over params.yaml, a path in the checkout; None: params.yaml as it is."""
    accepted: str
    """Folder in the checkout with new data that people or rules accepted: see data/accepted/README.md."""
    accept_requests: bool
    """A retraining that schedule or drift starts first does `moteur accept`: what users sent since the last time
    becomes accepted corpus, never what the model wrote. Needs serving.log.text."""
    attempts: Positive
    """A retraining that is killed, or cannot publish, goes on where it was, at most this many times in all; an orderly
    stop, as by `moteur down`, does not count."""
    kept: Positive
    """Workspaces of ended retrainings, whatever came of them, that are kept, the newest ones; what they made is in
    DVC's cache. One that is to go on keeps its workspace."""
    publish_retries: NotNegative
    """How often a push that fails is tried again, with a doubling wait that begins at a second."""
    publish_minutes: Rate
    """A push that has not ended after this time (minutes) has failed."""


class Probation(Section):
    """How a new champion is watched, and when the one before it is taken back without a person."""

    minutes: NotNegative
    """After its promotion; 0: never."""
    poll_seconds: Annotated[float, Field(gt=0, le=30)]
    """How often it is looked at."""
    requests: Annotated[int, Field(ge=10)]
    """It is judged by this many requests, its last ones, and not before it has had them."""
    max_error_share: Share
    """More of them failed, and more than before it, by more than chance gives: it goes back."""
    max_poor_share: Share
    """More answers are empty or loops than before it, by more than this and than chance gives: it goes back."""
    max_slowdown: Annotated[float, Field(gt=1)]
    """The slowest tenth takes this many times as long as before it: it goes back."""
    slow_seconds: Rate
    """What takes no longer than this is never slow."""


class Schedule(Section):
    """What `moteur up` does by itself."""

    retraining: str | None
    """Cron expression of five fields (minute hour day month weekday) in `timezone`; None: only drift or a person
    retrains."""
    timezone: str
    """IANA name, for instance Europe/Zurich."""
    monitoring_minutes: Positive | None
    """Minutes between two checks of the requests for drift; None: they are never checked."""
    retrain_on_drift: bool
    """Whether drift starts a retraining; otherwise it only alerts."""
    cooldown_minutes: NotNegative
    """Drift starts no retraining within this time of the start of the last one that drift started; when it lasts, the
    first look after that time starts one."""
    heartbeat_seconds: Annotated[int, Field(ge=30)]
    """A flow says this often (seconds) that it lives; Prefect takes no shorter time."""
    lost_after_seconds: Annotated[int, Field(ge=60)]
    """A flow that has been silent for so long (seconds) is taken for dead, and a retraining goes on; at least twice
    `heartbeat_seconds`."""
    pending_minutes: Positive
    """A run that has been about to start for so long (minutes) is given up."""

    @model_validator(mode="after")
    def _can_be_kept(self) -> Self:
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(
                f"schedule.timezone is {self.timezone!r}, which is no IANA time zone: for instance Europe/Zurich or UTC"
            ) from None
        if self.retraining is not None:
            _refuse_wrong_cron(self.retraining)
        if self.lost_after_seconds < 2 * self.heartbeat_seconds:
            raise ValueError(
                f"schedule.lost_after_seconds is {self.lost_after_seconds}, but a sign of life comes only every"
                f" schedule.heartbeat_seconds = {self.heartbeat_seconds}: make the first at least twice the second"
            )
        return self


def _refuse_wrong_cron(expression: str) -> None:
    from cronsim import CronSim, CronSimError

    try:
        if len(expression.split()) != 5:  # the seconds are the first of six to CronSim, and the last to Prefect
            raise CronSimError("it has not five fields")
        next(CronSim(expression, datetime(2026, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration) as error:
        raise ValueError(
            f"schedule.retraining is {expression!r}, which is no cron expression ({error}): write minute, hour, day,"
            ' month, weekday, for instance "0 3 * * 1" for Mondays at three'
        ) from None


class Services(Section):
    """The processes of `moteur up`, all on this machine."""

    host: str
    """Address they listen on. 127.0.0.1: only this machine reaches them."""
    prefect_port: Annotated[int, Field(ge=1, le=65535)]
    """Port of the Prefect server; not used where PREFECT_API_URL is set."""
    mlflow_port: Annotated[int, Field(ge=1, le=65535)]
    """Port of the MLflow server; not used where MLFLOW_TRACKING_URI is set."""
    start_seconds: Positive
    """A service that does not answer after this time is restarted (seconds)."""
    stop_seconds: Positive
    """A stage that is stopped gets this long to save its state (seconds)."""

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if self.prefect_port == self.mlflow_port:
            raise ValueError(
                f"services.prefect_port and services.mlflow_port are both {self.mlflow_port}: change one of them"
            )
        return self
