"""A real Postgres with a database for Prefect and one for MLflow, from the binaries of this machine."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers import free_port

USER, PASSWORD = "moteur", "planted-5f0c"
DEADLINE_SECONDS = 60


def binaries() -> Path | None:
    """The folder of initdb and postgres: Debian keeps it off the PATH."""
    on_path = [Path(found).resolve().parent for found in [shutil.which("postgres")] if found]
    folders = [*on_path, *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


@dataclass
class Postgres:
    """One server; `crash` and `start` as often as wanted, the data stay."""

    binaries: Path
    folder: Path
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    def make(self) -> None:
        """Write an empty cluster that asks for a password."""
        (self.folder / "password").write_text(PASSWORD)
        if os.getuid() == 0:
            for path in (self.folder, self.folder / "password"):
                shutil.chown(path, _other_user())
        words = ["-D", self.folder / "data", "-U", USER, "-A", "scram-sha-256", "--pwfile", self.folder / "password"]
        words += ["-E", "UTF8", "--locale", "C", "--no-sync"]
        subprocess.run([self.binaries / "initdb", *words], **self._as_other(), check=True, stdout=subprocess.DEVNULL)

    def start(self) -> None:
        words = ["-D", self.folder / "data", "-p", str(self.port), "-c", "listen_addresses=127.0.0.1"]
        words += ["-c", "unix_socket_directories=", "-c", "fsync=off"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.binaries / "postgres", *words], **self._as_other(), stdout=log, stderr=log
            )
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.05)

    def crash(self) -> None:
        """End it at once: nothing is waited for or put in order, and the next start recovers from the log."""
        assert self.process is not None
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(DEADLINE_SECONDS)

    def create(self, database: str) -> None:
        with closing(self._connect("postgres")) as connection:
            connection.autocommit = True
            connection.cursor().execute(f"create database {database}")

    def rows(self, database: str, query: str) -> list[tuple[Any, ...]]:
        with closing(self._connect(database)) as connection:
            cursor = connection.cursor()
            cursor.execute(query)
            return list(cursor.fetchall())

    def uri(self, driver: str, database: str) -> str:
        """For SQLAlchemy."""
        return f"postgresql+{driver}://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def _connect(self, database: str) -> Any:
        import psycopg2

        return psycopg2.connect(host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=database)

    def _answers(self) -> bool:
        import psycopg2

        try:
            self._connect("postgres").close()
        except psycopg2.OperationalError:
            return False
        return True

    def _as_other(self) -> dict[str, Any]:
        """Postgres does not run as root."""
        if os.getuid() != 0:
            return {"cwd": self.folder}
        user = pwd.getpwnam(_other_user())
        return {"cwd": self.folder, "user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _other_user() -> str:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@contextmanager
def running(binaries: Path) -> Iterator[Postgres]:
    """A server with no database of ours yet."""
    folder = Path(tempfile.mkdtemp(prefix="moteur-pg-"))  # not below pytest's folder: only root may go in there
    one = Postgres(binaries, folder)
    try:
        one.make()
        one.start()
        yield one
    finally:
        if one.process is not None and one.process.poll() is None:
            one.crash()
        shutil.rmtree(folder)
