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
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import runs
from pipelines import stage
from pipelines.adapters import device, models, prompts
from pipelines.artifacts import Artifact

TRL = "1.12.0"
PEER = Path(__file__).parent / "trl_ppo.py"
OURS = "Moteur"

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
    machine = runs.machine(stage.load_params().threads)
    peer = str(runs.peer_python(f"trl-{TRL}", f"trl=={TRL}", beside_ours=True))
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.json"
        job.write_text(json.dumps(_job(settings.iterations)), encoding="utf-8")
        commands = {
            OURS: runs.ours("ppo", "--ours", job),
            f"trl {TRL}, as it comes": [peer, str(PEER), str(job), "--checkpointing"],
            f"trl {TRL}, no checkpointing": [peer, str(PEER), str(job)],
        }
        quiet = {"TQDM_DISABLE": "1"}
        sides = [runs.Side(name=name, command=command, environment=quiet) for name, command in commands.items()]
        turns = runs.alternate(sides, settings.repeats, _run)
    best = min(median(runs.ratios(turns, OURS, name, "tokens_per_second")) for name in turns if name != OURS)
    runs.write(
        "ppo",
        how=f"Rollout and update on the models of this workspace, {settings.iterations} iterations a run of which the"
        f" first is left out; {settings.repeats} runs of each side in turn.",
        machine=machine,
        comparisons=[
            runs.Comparison(
                title="PPO",
                runs=turns,
                figure="tokens_per_second",
                columns={
                    "tokens_per_second": "tokens/s",
                    "seconds": "seconds an iteration",
                    "length": "tokens of prompt and response",
                },
                ours=OURS,
            )
        ],
        aims=[runs.Aim(what="times the faster trl", found=best, at_least=3)],
    )


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


def _run(side: runs.Side) -> runs.Figures:
    said, cost = runs.measured(side)
    times: dict[str, list[float]] = json.loads(said.splitlines()[-1])
    seconds, tokens, responses = (times[key][1:] for key in ("seconds", "tokens", "responses"))
    return {
        "seconds": median(seconds),
        "tokens_per_second": sum(tokens) / sum(seconds),
        "length": sum(tokens) / sum(responses),
        **cost,
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
