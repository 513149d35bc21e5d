"""How long `moteur rollback` takes, from the key press to the alias moved: python benchmarks/rollback.py [MEGABYTES].

Two releases of this size (default 500) are registered in a fresh SQLite registry and become champion one after the
other; nobody is asked anything, since a rollback asks nothing either. Then the command is run as a user runs it.
Hashing the old version's copy is what grows with the size.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from flows.champions import succession
from pipelines.adapters import files, release
from pipelines.adapters.registry import open_registry

ROOT = Path(__file__).resolve().parents[1]


def bundle(folder: Path, name: str, megabytes: int) -> Path:
    """A release with one tensor of zeros."""
    folder.mkdir(parents=True)
    size = megabytes * 10**6
    header = json.dumps({"w": {"dtype": "I8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with (folder / release.WEIGHTS).open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for _ in range(megabytes):
            file.write(bytes(10**6))
    files.write_json(folder / "config.json", {})
    release.write_manifest(folder, format=1, name=name)
    return folder


def main(megabytes: int) -> None:
    """Prepare, roll back, print."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory(prefix="moteur-rollback-") as scratch:
        root = Path(scratch) / "root"
        root.mkdir()
        for name in ("params.yaml", "dvc.yaml"):
            shutil.copy2(ROOT / name, root / name)
        found = open_registry(root=root)
        for number in (1, 2):
            version = found.register(bundle(Path(scratch) / f"b{number}", f"release {number}", megabytes), {})
            found.set_tag(version.number, "gate.verdict", "passed")
            event = succession.entry(version, "promote", champion=number - 1 or None, who="benchmark", why="")
            with succession.holding(root):
                succession.crown(found, root, event)
        began = time.perf_counter()
        command = [sys.executable, "-m", "flows.cli", "rollback", "--workspace", str(root), "--why", "benchmark"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603  ourselves
        seconds = time.perf_counter() - began
        print(f"{megabytes} MB: {seconds:.1f} s in all. {done.stdout.strip()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("megabytes", nargs="?", type=int, default=500, help="of each release")
    main(parser.parse_args().megabytes)
