"""A command without any network but the loopback, whose Python processes write down whom they want to reach."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

WATCH = """
# Loaded by every Python process below the command: hosts that are not this machine, and at its end its environment.
import atexit, json, os, sys

def outside(host):
    host = host.decode() if isinstance(host, bytes) else host
    ours = ("localhost", "::1", "0.0.0.0", "::", os.uname().nodename)
    return bool(host) and not (host.startswith("127.") or host in ours)

def note(entry):
    line = json.dumps({**entry, "command": sys.orig_argv[1:]}) + "\\n"
    with open(os.environ["WATCHED"], "a") as file:
        file.write(line)

def watch(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple) and outside(arguments[1][0]):
        note({"wants": f"{arguments[1][0]}:{arguments[1][1]}"})
    elif event in ("socket.getaddrinfo", "socket.gethostbyname") and outside(arguments[0]):
        note({"wants": str(arguments[0])})

sys.addaudithook(watch)
atexit.register(lambda: note({"environment": dict(os.environ)}))
"""
LOOPBACK = """
import fcntl, os, socket, struct, sys
with socket.socket() as any_one:
    fcntl.ioctl(any_one, 0x8914, struct.pack("16sh14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
os.execvp(sys.argv[1], sys.argv[1:])
"""
UNSHARE = ["unshare", "--net"] if os.getuid() == 0 else ["unshare", "--map-root-user", "--net"]


def possible() -> bool:
    """Whether this machine lets us take the network away."""
    try:
        return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def run(
    command: list[str], *, cwd: Path, environment: dict[str, str], folder: Path, cut: bool = True
) -> "subprocess.CompletedProcess[str]":
    """Run the command; `seen(folder)` tells what its processes wanted. `cut`: without a network."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WATCH)
    paths = f"{folder}{os.pathsep}{environment['PYTHONPATH']}"
    env = {**environment, "PYTHONPATH": paths, "WATCHED": str(folder / "seen.jsonl")}
    words = [*UNSHARE, sys.executable, "-S", "-c", LOOPBACK, *command] if cut else command
    return subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False)


def seen(folder: Path) -> list[dict[str, Any]]:
    """What the processes wrote down."""
    return [json.loads(line) for line in (folder / "seen.jsonl").read_text().splitlines()]
