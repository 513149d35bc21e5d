"""PPO's speed, rollout and update together: Moteur beside trl 1.12, the last with a `PPOTrainer`.

    python -m benchmarks.ppo                 # in a workspace that has been run
    python -m benchmarks.ppo --repeats 5 --iterations 6

Both take models/sft and models/reward, draw from the same prompts, each in its own order, `ppo.prompts_per_iteration`
responses of at most `ppo.max_new_tokens` tokens an iteration, and take as many passes, minibatches and steps. They run
in turn, each in a process of its own, several times; the first iteration of each run is left out. trl runs as it comes
(bfloat16, gradients checkpointed) and without checkpointing, which is faster where memory is no worry; the ratio is to
the faster one. It is installed into a virtual environment of its own below .moteur/benchmarks, on top of the libraries
that are here.

A token is one of a prompt or of a response up to its end token: what is sampled or padded after it counts for nobody.
For trl the prompts are counted as if it had taken them in order, which over an iteration is right but for chance.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from pipelines import stage
from pipelines.adapters import device, models, prompts
from pipelines.artifacts import Artifact, State

TRL = "1.12.0"
RESULTS = Path(__file__).parent / "results" / "ppo.json"
PEER = Path(__file__).parent / "trl_ppo.py"

Job = dict[str, Any]


def main() -> None:
    """Run each side in turn and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side")
    parser.add_argument("--iterations", type=int, default=4, help="of each run, the first left out")
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.ours:
        print(json.dumps(_ours(json.loads(settings.ours.read_text(encoding="utf-8")))))
        return
    peer = _peer_python(State.ROOT.path / "benchmarks" / f"trl-{TRL}")
    rows: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.json"
        sides = {
            "Moteur": [sys.executable, "-m", "benchmarks.ppo", "--ours", str(job)],
            f"trl {TRL}, as it comes": [str(peer), str(PEER), str(job), "--checkpointing"],
            f"trl {TRL}, no checkpointing": [str(peer), str(PEER), str(job)],
        }
        job.write_text(json.dumps(_job(settings.iterations)), encoding="utf-8")
        for _ in range(settings.repeats):
            for name, command in sides.items():
                rows.setdefault(name, []).append(_run(command))
    table = {name: {key: median(run[key] for run in runs) for key in runs[0]} for name, runs in rows.items()}
    best = max(row["tokens_per_second"] for name, row in table.items() if name != "Moteur")
    print(f"{'':30} {'s/iteration':>11} {'tokens/s':>9} {'lowest':>7} {'highest':>7} {'mean length':>11}")
    for name, row in table.items():
        speeds = [run["tokens_per_second"] for run in rows[name]]
        print(
            f"{name:30} {row['seconds']:11.2f} {row['tokens_per_second']:9,.0f} {min(speeds):7,.0f}"
            f" {max(speeds):7,.0f} {row['length']:11.1f}"
        )
    ratio = table["Moteur"]["tokens_per_second"] / best
    print(f"Moteur does {ratio:.2f} times the tokens per second of the faster trl.")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"runs": rows, "ratio": ratio}, indent=2) + "\n", encoding="utf-8")


def _peer_python(folder: Path) -> Path:
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        (site,) = folder.glob("lib/python*/site-packages")
        ours = next(path for path in sys.path if path.endswith("site-packages"))
        (site / "ours.pth").write_text(f"{ours}\n", encoding="utf-8")
        install = [python, "-m", "pip", "install", "--quiet", "--no-deps", f"trl=={TRL}"]
        subprocess.run(install, check=True)  # noqa: S603  a fixed package into an environment of its own
    return python


def _job(iterations: int) -> Job:
    params = stage.load_params()
    settings = params.ppo
    tokenizer = models.load_tokenizer(Artifact.SFT.path)
    context = models.load_causal(Artifact.SFT.path).config.max_position_embeddings
    task = prompts.load(
        "train", tokenizer, tasks=params.feedback.tasks, context=context, new_tokens=settings.max_new_tokens
    )
    count = iterations * settings.prompts_per_iteration
    drawn = prompts.drawn(task, count, params.seed).prompts
    return {
        "iterations": iterations,
        "texts": [prompt.text for prompt in drawn],
        "ids": [prompt.ids for prompt in drawn],
        "threads": params.threads or os.cpu_count(),
        "sft": str(Artifact.SFT.path),
        "reward": str(Artifact.REWARD.path),
        "ppo": settings.model_dump(),
        "seed": params.seed,
    }


def _run(command: list[str]) -> dict[str, float]:
    environment = {**os.environ, "TQDM_DISABLE": "1"}
    done = subprocess.run(  # noqa: S603  one of the two sides
        command, check=True, capture_output=True, text=True, env=environment
    )
    times: Mapping[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    seconds, tokens, responses = (times[key][1:] for key in ("seconds", "tokens", "responses"))
    return {
        "seconds": median(seconds),
        "tokens_per_second": sum(tokens) / sum(seconds),
        "length": sum(tokens) / sum(responses),
    }


def _ours(job: Job) -> dict[str, list[float]]:
    from pipelines.core.learning import attention, rewards
    from pipelines.core.learning.policy_optimisation import Learner
    from pipelines.core.learning.reward_mixture import RewardMixture
    from pipelines.core.learning.rollouts import Prompt
    from pipelines.params import Ppo

    settings = Ppo(**{**job["ppo"], "iterations": job["iterations"]})
    target = device.prepare(job["seed"], job["threads"])
    tokenizer = models.load_tokenizer(Path(job["sft"]))
    policy, reference = (models.load_causal(Path(job["sft"])).to(target) for _ in range(2))
    reward_model, value_model = (models.load_reward(Path(job["reward"])).to(target) for _ in range(2))
    attention.use_fastest(reward_model, device=target, context=policy.config.max_position_embeddings)
    learner = Learner(
        policy=policy,
        reference=reference,
        value_model=value_model,
        tokenizer=tokenizer,
        prompts=[Prompt(text=text, ids=ids) for text, ids in zip(job["texts"], job["ids"], strict=True)],
        reward=RewardMixture(model=partial(rewards.score, reward_model, tokenizer)),
        settings=settings,
        seed=job["seed"],
        precision=device.precision("auto"),
    )
    found: dict[str, list[float]] = {"seconds": [], "tokens": [], "responses": []}
    start = time.perf_counter()
    for step in learner.steps():
        found["seconds"].append(time.perf_counter() - start)
        found["tokens"].append(step.tokens)
        found["responses"].append(settings.prompts_per_iteration)
        start = time.perf_counter()
    return found


if __name__ == "__main__":
    main()
