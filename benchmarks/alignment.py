"""Does alignment hold over seeds, where does the reward turn, and what would more pairs bring?

    python -m benchmarks.alignment seeds --count 5            # in a workspace that has been run
    python -m benchmarks.alignment too-long --count 3
    python -m benchmarks.alignment pairs --prompts 300 900 2700
    python -m benchmarks.alignment pairs --prompts 10000 --stories 26000
    python -m benchmarks.alignment words --prompts 300 900 2700
    python -m benchmarks.alignment sizes --prompts 2700 --shapes 64x2 128x3 192x4 192x4x6000000

`seeds` runs feedback, reward modelling and PPO again, with the params of the workspace and a seed of their own.
`too-long` does so with PPO on purpose too long: four times the iterations, no KL penalty, no KL limit; it shows what
the chosen policy has of the best gold score along the way. `pairs` trains the reward model on more and more rankings,
`words` a Bradley-Terry model over words on the same, which has no network and to which the reward model can be held;
`sizes` trains the reward model on the rankings of the last `--prompts` at several sizes (width x layers), each of which
is pretrained and fine-tuned first, on as many tokens as the workspace unless a third number says how many.
Base and instruction model are those of the workspace. What is made lies below .moteur/benchmarks; a run that is there
with the same params, inputs and code is not repeated. Results: benchmarks/results/alignment.json; earlier
rows of what is not asked again stay.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import yaml

from benchmarks import word_rewards
from flows.workspaces import profiles
from pipelines.adapters import datasets, files
from pipelines.artifacts import Artifact, State
from pipelines.core.judging.intervals import cluster_bootstrap
from pipelines.core.learning import preferences

RESULTS = Path(__file__).parent / "results" / "alignment.json"
ROOT = Path(__file__).resolve().parents[1]
FIRST_SEED = 1001
"""Nothing was tuned on it or its successors."""
NEEDED = (
    *(Artifact.VALIDATED, Artifact.TOKENIZER, Artifact.TOKENS, Artifact.SFT, Artifact.FEEDBACK_BY_PEOPLE),
    *(Artifact.CONSTITUTION, Artifact.REWARD_FUNCTIONS),
)
TOO_LONG = {"ppo": {"iterations": 48, "kl_coefficient": 0.0, "kl_limit": 1e6, "measure_every": 4}}

HEAD_WIDTH = 32
"""Of every size, so that a wider model has more heads."""

Changes = Mapping[str, Any]
Report = dict[str, Any]


def main() -> None:
    """Run what is asked for and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("question", choices=["seeds", "too-long", "pairs", "words", "sizes"])
    parser.add_argument("--count", type=int, default=5, help="seeds")
    parser.add_argument(
        "--prompts", type=int, nargs="*", default=[300, 900, 2700], help="ranked prompts, but for seeds"
    )
    parser.add_argument(
        "--stories",
        type=_positive,
        help="make this many stories to ask about: where the workspace has too few for --prompts",
    )
    parser.add_argument(
        "--shapes",
        nargs="*",
        type=shape,
        default=list(map(shape, ("64x2", "128x3", "192x4"))),
        metavar="WIDTHxLAYERS[xTOKENS]",
        help="for sizes",
    )
    settings = parser.parse_args()
    if settings.question in {"pairs", "words"}:
        measured = _pairs if settings.question == "pairs" else _words
        rows = [
            measured(Asked(prompts, FIRST_SEED + number, settings.stories))
            for prompts in settings.prompts
            for number in range(settings.count)
        ]
    elif settings.question == "sizes":
        asked = Asked(settings.prompts[-1], FIRST_SEED, settings.stories)
        rows = [_sized(size, asked) for size in settings.shapes]
    else:
        changes = TOO_LONG if settings.question == "too-long" else {}
        rows = [_aligned(settings.question, FIRST_SEED + number, changes) for number in range(settings.count)]
    _print(rows)
    known = files.read_json(RESULTS) if RESULTS.exists() else {}
    files.write_json(RESULTS, {**known, settings.question: merged(known.get(settings.question, []), rows)})


ASKED = ("shape", "prompts", "seed")
"""Fields of a row that say what was asked, where its question has them."""


def merged(known: Sequence[Report], rows: Sequence[Report]) -> list[Report]:
    """The rows of earlier runs, and new ones in the place of those that were asked the same."""
    return list({tuple(row.get(name) for name in ASKED): row for row in (*known, *rows)}.values())


def _positive(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d*", text, re.ASCII):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of stories: write a positive integer, for example 26000"
        )
    return int(text)


def _aligned(name: str, seed: int, changes: Changes) -> Report:
    reports = _run(f"{name}-{seed}", {"seed": seed, **changes}, "feedback", "reward_modeling", "ppo")
    ppo = reports["ppo"]
    best = max(ppo["axis"], key=lambda point: point["gold"])
    return {
        "seed": seed,
        "reward_model": reports["reward_modeling"]["held_out_accuracy"],
        "best_reachable": reports["reward_modeling"]["best_reachable_accuracy"],
        **{key: ppo[key] for key in ("gold_before", "gold_after", "gold_gain_low", "gold_gain_high", "kl")},
        "length_change": ppo["mean_length_after"] / ppo["mean_length_before"] - 1,
        "chosen_updates": ppo["chosen_updates"],
        "best_updates": best["updates"],
        "last_gold": ppo["axis"][-1]["gold"],
        "last_kl": ppo["axis"][-1]["kl"],
        "share_of_best_gold": ppo["share_of_best_gold"],
    }


class Asked(NamedTuple):
    """Prompts whose responses are ranked."""

    prompts: int
    seed: int
    stories: int | None
    """Made anew for them; None: those of the workspace."""

    def __str__(self) -> str:
        """Of its folder."""
        return "-".join(str(number) for number in self if number is not None)

    @property
    def changes(self) -> Changes:
        """Of params."""
        asked: Changes = {"seed": self.seed, "feedback": {"num_prompts": self.prompts}}
        if self.stories is None:
            return asked
        sources = _params()["ingestion"]["instructions"]["train"]
        uris = [re.sub(r"stories=\d+", f"stories={self.stories}", source["uri"]) for source in sources]
        if len(uris) != 1 or f"stories={self.stories}" not in uris[0]:
            sys.exit(
                "--stories needs ingestion.instructions.train of params.yaml to be one source tales://?stories=N,"
                f" but it is {sources}: leave --stories out, or run in a workspace of the built-in corpus"
            )
        return {**asked, "ingestion": {"instructions": {"train": [{"uri": uris[0]}]}}}

    @property
    def stages(self) -> tuple[str, ...]:
        """That give the rankings."""
        return ("feedback",) if self.stories is None else ("ingestion", "data_validation", "feedback")


def _pairs(asked: Asked) -> Report:
    reports = _run(f"pairs-{asked}", asked.changes, *asked.stages, "reward_modeling")
    return {"seed": asked.seed, "prompts": _num_ranked(reports, asked), **_accuracy(reports)}


def _num_ranked(reports: Mapping[str, Report], asked: Asked) -> int:
    """Prompts that were ranked; fewer than asked for where there are no more."""
    ranked = int(reports["feedback"]["num_sampled"] // _params()["feedback"]["responses_per_prompt"])
    if ranked < asked.prompts:
        print(f"only {ranked:,} of {asked.prompts:,} prompts are there: raise --stories", file=sys.stderr)
    return ranked


def _words(asked: Asked) -> Report:
    """Trained on the pairs of the first reward model; its penalty is chosen on those of the second."""
    name = f"words-{asked}"
    reports = _run(name, asked.changes, *asked.stages)
    params = yaml.safe_load((_home(name) / "params.yaml").read_text(encoding="utf-8"))
    share = params["reward_modeling"]["held_out_model_share"]
    found = words_alone(_home(name) / Artifact.PREFERENCES, asked.seed, share)
    return {"seed": asked.seed, "prompts": _num_ranked(reports, asked), **found}


def words_alone(folder: Path, seed: int, share: float) -> Report:
    """How well words alone order the held-out pairs of a folder of preferences."""
    sides: tuple[list[Report], list[Report]] = ([], [])
    for record in datasets.records(folder, "preferences", "train"):
        sides[preferences.for_held_out_model(record["prompt"], seed=seed, share=share)].append(record)
    train, others = sides
    valid = list(datasets.records(folder, "preferences", "valid"))
    weights = word_rewards.chosen(train, others)
    held_out = cluster_bootstrap(word_rewards.correct(weights, valid), [pair["prompt"] for pair in valid], seed=seed)
    return {
        "num_train_pairs": len(train),
        "held_out_accuracy": held_out.mean,
        "held_out_accuracy_low": held_out.low,
        "held_out_accuracy_high": held_out.high,
        "best_reachable_accuracy": preferences.best_reachable_accuracy(valid),
        "train_accuracy": fmean(word_rewards.correct(weights, train)),
    }


class Shape(NamedTuple):
    """A size of the model."""

    width: int
    layers: int
    tokens: int | None = None
    """To pretrain on; None: as many as the workspace."""

    def __str__(self) -> str:
        """As it is written on the command line."""
        return "x".join(str(number) for number in self if number)


def shape(text: str) -> Shape:
    """What `--shapes` names.

    Raises:
        ArgumentTypeError: when it is not two or three positive integers, or heads do not divide the width.
    """
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,2}", text, re.ASCII):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no shape: write width x layers, or width x layers x tokens to pretrain on, as positive"
            " integers, for example 192x4 or 192x4x6000000"
        )
    found = Shape(*map(int, text.split("x")))
    if found.width % HEAD_WIDTH:
        raise argparse.ArgumentTypeError(
            f"{text!r} has a width of {found.width}, which heads of {HEAD_WIDTH} do not divide: write a multiple of"
            f" {HEAD_WIDTH}"
        )
    return found


def _sized(size: Shape, asked: Asked) -> Report:
    """The same pairs for every size: those about responses of the workspace's instruction model."""
    ranked = _pairs(asked)["prompts"]
    model = {
        "hidden_size": size.width,
        "num_layers": size.layers,
        "num_heads": size.width // HEAD_WIDTH,
        "intermediate_size": size.width * 11 // 4,
    }
    reports = _run(
        f"size-{size}-{asked}",
        {
            **Asked(asked.prompts, asked.seed, None).changes,
            "model": model,
            "pretraining": {"max_tokens": size.tokens, "budget": None} if size.tokens else {},
        },
        *("pretraining", "finetuning", "reward_modeling"),
        given={Artifact.PREFERENCES: _home(f"pairs-{asked}") / Artifact.PREFERENCES},
    )
    facts = {
        "parameters": reports["pretraining"]["num_parameters"],
        "tokens": reports["pretraining"]["num_tokens"],
        "bits_per_byte": reports["pretraining"]["test_bits_per_byte"],
        "exact_match": reports["finetuning"]["exact_match"],
    }
    return {"shape": str(size), "prompts": ranked, **facts, **_accuracy(reports)}


def _accuracy(reports: Mapping[str, Report]) -> Report:
    keys = ("num_train_pairs", "held_out_accuracy", "held_out_accuracy_low", "held_out_accuracy_high")
    more = ("best_reachable_accuracy", "recovered_share", "train_accuracy")
    return {key: reports["reward_modeling"][key] for key in (*keys, *more)}


def _params() -> dict[str, Any]:
    """Those of the workspace."""
    found: dict[str, Any] = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    return found


def _home(name: str) -> Path:
    return State.ROOT.path.resolve() / "benchmarks" / "alignment" / name


def _run(name: str, changes: Changes, *stages: str, given: Mapping[Artifact, Path] | None = None) -> dict[str, Report]:
    """Reports of the stages, run one after the other in a workspace of that name; `given` are inputs from elsewhere."""
    folder = _home(name)
    inputs = {item: item.path.resolve() for item in NEEDED if item not in _made_by(stages)} | dict(given or {})
    done = folder / "done.json"
    params = profiles.merge(_params(), changes, "the benchmark")
    made_from = {
        "params": params,
        "inputs": {item.value: files.sha256(path) for item, path in inputs.items()},
        "code": files.sha256(ROOT / "pipelines", "*.py"),
    }
    if not done.exists() or files.read_json(done).get("made_from") != made_from:
        shutil.rmtree(folder, ignore_errors=True)
        for artifact, path in inputs.items():
            (folder / artifact).parent.mkdir(parents=True, exist_ok=True)
            (folder / artifact).symlink_to(path)
        (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
        for stage in stages:
            print(f"{name}: {stage}", file=sys.stderr)
            command = [sys.executable, "-m", f"pipelines.{stage}"]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            subprocess.run(  # noqa: S603  our own stages
                command, check=True, cwd=folder, env=environment, stderr=subprocess.DEVNULL
            )
        reports = {stage: files.read_json(folder / "reports" / f"{stage}.json") for stage in stages}
        files.write_json(done, {"made_from": made_from, "reports": reports})
        for models in ("models/reward", "models/held_out_reward", "models/policy"):
            shutil.rmtree(folder / models, ignore_errors=True)
    found: dict[str, Report] = files.read_json(done)["reports"]
    return found


def _made_by(stages: tuple[str, ...]) -> set[Artifact]:
    makers = {"finetuning": Artifact.SFT, "data_validation": Artifact.VALIDATED}
    return {artifact for stage, artifact in makers.items() if stage in stages}


def _print(rows: list[Report]) -> None:
    print(" ".join(f"{key:>22}" for key in rows[0]))
    for row in rows:
        print(" ".join(f"{value:22.3f}" if isinstance(value, float) else f"{value!s:>22}" for value in row.values()))


if __name__ == "__main__":
    main()
