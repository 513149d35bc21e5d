"""A workspace with plausible reports, curves, samples and ledger, as a whole lifecycle leaves them."""

import csv
import json
import math
import random
import shutil
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

REPORTS: dict[str, dict[str, Any]] = {
    "ingestion": {"num_records": {"corpus.train": 24000, "instructions.train": 36000}, "num_quarantined": 2},
    "data_validation": {
        "num_documents": 61200,
        "num_rejected": 312,
        "rejected_by_reason": {"near_duplicate": 280, "personal_data": 32},
        "expectations_met": 6,
        "expectations_total": 6,
    },
    "tokenization": {"vocab_size": 2048, "bytes_per_token": 3.61, "round_trip_errors": 0, "mask_audit_errors": 0},
    "pretraining": {
        "val_bits_per_byte": 0.271,
        "num_parameters": 871_296,
        "num_tokens": 5_000_000,
        "training_flops": 2.6e13,
        "petaflop_s_days": 3.0e-7,
        "tokens_per_parameter": 5.7,
    },
    "finetuning": {"exact_match": 0.74, "exact_match_story_removed": 0.31, "rouge_l": 0.62, "forgetting": 0.021},
    "feedback": {"num_pairs": 3911, "annotator_agreement": 0.71, "best_reachable_accuracy": 0.88},
    "reward_modeling": {
        "held_out_accuracy": 0.781,
        "held_out_accuracy_low": 0.752,
        "held_out_accuracy_high": 0.809,
        "held_out_model_accuracy": 0.742,
        "length_baseline_accuracy": 0.512,
        "expected_calibration_error": 0.031,
        "calibration": [
            {"confidence": 0.525, "accuracy": 0.54, "count": 90},
            {"confidence": 0.74, "accuracy": 0.71, "count": 210},
            {"confidence": 0.96, "accuracy": 0.93, "count": 300},
        ],
        "by_source": {"simulated": {"accuracy": 0.78, "low": 0.7, "high": 0.8, "num_pairs": 600, "num_prompts": 120}},
        "by_annotator": {"simulated-1": {"accuracy": 0.8, "low": None, "high": None, "num_pairs": 4, "num_prompts": 1}},
        "rewards_by_task": {
            "continuation": {
                side: {"mean": mean, "deviation": 1.1, "quantiles": [-2.0, -0.5, mean, 0.9, 2.1], "number": 600}
                for side, mean in (("chosen", 0.5), ("rejected", -0.4))
            }
        },
    },
    "ppo": {
        "reward_before": 0.02,
        "reward_after": 0.81,
        "gold_before": 0.611,
        "gold_after": 0.668,
        "gold_gain": 0.057,
        "kl": 6.2,
        "mean_length_before": 61.0,
        "mean_length_after": 66.5,
        "finished_before": 0.91,
        "finished_after": 0.97,
        "held_out_reward_before": -0.4,
        "held_out_reward_after": 0.3,
        "iterations": 30,
        "chosen_updates": 20,
        "axis": [
            {"updates": 0, "kl": 0.0, "reward": 0.02, "held_out_reward": -0.4, "gold": 0.611},
            {"updates": 10, "kl": 2.3, "reward": 0.5, "held_out_reward": 0.1, "gold": 0.65},
            {"updates": 20, "kl": 6.2, "reward": 0.81, "held_out_reward": 0.3, "gold": 0.668},
            {"updates": 30, "kl": 11.9, "reward": 0.95, "held_out_reward": 0.25, "gold": 0.63},
        ],
        "laws": {"reward": {"alpha": 0.4, "beta": 0.1}, "held_out_reward": {"alpha": 0.5, "beta": 0.2}, "gold": None},
        "spreads": {"reward": 1.2, "held_out_reward": 1.1, "gold": 0.12},
        "share_of_best_gold": 1.0,
    },
    "evaluation": {
        "base_exact_match": 0.21,
        "sft_exact_match": 0.74,
        "policy_exact_match": 0.73,
        "policy_rouge_l": 0.55,
        "short_answer_tasks": ["question_answering", "mood"],
        "tasks": {
            model: {
                "question_answering": {"exact_match": {"mean": mean, "low": mean - 0.03, "high": mean + 0.03}},
                "mood": {"exact_match": {"mean": mean + 0.2, "low": mean, "high": mean + 0.2}},
                "summarising": {"rouge_l": {"mean": mean - 0.1, "low": mean, "high": mean}},
            }
            for model, mean in (("sft", 0.72), ("policy", 0.71))
        },
        "shots": [{"style": "chat", "shots": 3, "exact_match": 0.21}, {"style": "text", "shots": 0, "exact_match": 0}],
        "decodings": [{"name": "greedy", "exact_match": 0.71}, {"name": "beam 4", "exact_match": 0.72}],
        "win_rate_by_gold": {"win_rate": 0.61, "low": 0.55, "high": 0.67},
    },
    "compression": {
        "chosen": "int8",
        "bytes": 921_000,
        "bytes_ratio": 0.26,
        "bits_per_byte_increase": 0.0004,
        "candidates": [
            {"name": "float32", "bytes": 3_485_000, "bytes_ratio": 1.0, "bits_per_byte": 0.2764,
             "bits_per_byte_increase": 0.0, "task_score": 0.731, "breaks": ["bytes"]},
            {"name": "int8", "bytes": 921_000, "bytes_ratio": 0.26, "bits_per_byte": 0.2765,
             "bits_per_byte_increase": 0.0004, "task_score": 0.730, "breaks": []},
            {"name": "wanda 0.5", "bytes": 3_485_000, "bytes_ratio": 1.0, "bits_per_byte": 0.3391,
             "bits_per_byte_increase": 0.227, "task_score": 0.512, "breaks": ["bytes", "bits per byte", "task score"]},
        ],
    },
    "deployment": {},
}  # fmt: skip

SECONDS = {
    "ingestion": 9.1, "data_validation": 14.0, "tokenization": 8.2, "pretraining": 201.3, "finetuning": 98.4,
    "feedback": 31.0, "reward_modeling": 26.2, "ppo": 71.9, "evaluation": 44.0, "compression": 52.7, "deployment": 9.9,
}  # fmt: skip

SAMPLES = [
    {
        "id": "a1",
        "task": "question_answering",
        "prompt": "Mia had a red kite. The wind took it to the old barn.\n\nWho has the kite <now>?",
        "reference": "the barn",
        "base": "Mia said that she was happy.",
        "sft": "the barn",
        "policy": "the barn",
    },
    {
        "id": "b1",
        "task": "story_writing",
        "prompt": "Write a story with the words: boat, kind, rain.",
        "reference": "It was a day of rain.",
        "base": "The rain the rain the rain.",
        "sft": "Ben had a boat. It began to rain. A kind bear helped him.",
        "policy": "One day Ben took his boat out. Rain came. A kind bear held the rope, and they both went home happy.",
        "gold_base": 0.21,
        "gold_sft": 0.66,
        "gold_policy": 0.83,
    },
]


def fill(root: Path) -> None:
    """Write reports, curves, samples and the ledger of a whole run below `root`."""
    draw = random.Random(1)
    (root / "reports" / "curves").mkdir(parents=True, exist_ok=True)
    for stage, report in REPORTS.items():
        (root / "reports" / f"{stage}.json").write_text(json.dumps(report), encoding="utf-8")
    pretraining = [
        [step, step * 2048, 1.2 + 6 * math.exp(-step / 150) + draw.gauss(0, 0.05), 3e-3]
        + ([0.25 + 2.0 * math.exp(-step / 200)] if step % 250 == 0 else [""])
        for step in range(1, 2441)
    ]
    table(root, "pretraining", ["step", "tokens", "loss", "learning_rate", "val_bits_per_byte"], pretraining)
    table(root, "finetuning", ["step", "loss"], [[s, 0.4 + math.exp(-s / 80)] for s in range(1, 600)])
    reward = [[s, 0.45 + 0.25 * math.exp(-s / 30), 0.5] for s in range(1, 120)]
    table(root, "reward_modeling", ["step", "loss", "accuracy"], reward)
    ppo = [[i, 0.8 * (1 - math.exp(-i / 10)) + draw.gauss(0, 0.02), 0.2 * i, 2.1, 0.1] for i in range(1, 31)]
    table(root, "ppo", ["iteration", "reward", "kl", "entropy", "clip_share"], ppo)
    lines = "".join(json.dumps(row) + "\n" for row in SAMPLES)
    (root / "reports" / "samples.jsonl").write_text(lines, encoding="utf-8")
    (root / ".moteur").mkdir(exist_ok=True)
    ledger = "".join(json.dumps(entry(stage, seconds)) + "\n" for stage, seconds in SECONDS.items())
    (root / ".moteur" / "effort.jsonl").write_text(ledger, encoding="utf-8")


def end_with_base(root: Path) -> Path:
    """A finished lifecycle whose objective has then been changed, so that it now ends with the base model."""
    fill(root)
    path = root / "params.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("objective: causal", "objective: masked"))
    masked = {"val_bits_per_byte": None, "val_accuracy": 0.312}
    name = root / "reports/pretraining.json"
    name.write_text(json.dumps(REPORTS["pretraining"] | masked))
    (root / "reports/curves/pretraining.csv").write_text(
        "step,tokens,loss,learning_rate,val_loss\n1,10,7.0,0.1,None\n2,20,6.0,0.1,5.5\n"
    )
    return root


def entry(stage: str, seconds: float, **changes: Any) -> dict[str, Any]:
    trained = stage in {"pretraining", "finetuning", "reward_modeling", "ppo"}
    return {
        "run": "run-20260131-142503",
        "stage": stage,
        "status": "finished",
        "exit_code": 0,
        "ended": "2026-01-31T14:40:00+00:00",
        "seconds": seconds,
        "peak_memory_mib": 900.0 + seconds,
        "flops": 2.6e13 if stage == "pretraining" else 3e12 if trained else 0.0,
        "tokens": 5_000_000 if stage == "pretraining" else 800_000 if trained else 0,
        "objective": "next-token cross-entropy" if trained else "",
        "customisation": "all weights" if trained else "",
        **changes,
    }


def table(root: Path, stage: str, header: list[str], rows: list[list[Any]]) -> None:
    with (root / "reports" / "curves" / f"{stage}.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def checkout(root: Path) -> Path:
    """Put what DVC needs to read the real graph into `root`."""
    for name in ("dvc.yaml", "params.yaml", "constitution.yaml", ".dvcignore", ".gitignore"):
        shutil.copy2(ROOT / name, root / name)
    shutil.copytree(ROOT / "pipelines", root / "pipelines", ignore=shutil.ignore_patterns("__pycache__"))
    (root / ".dvc").mkdir()
    shutil.copy2(ROOT / ".dvc" / "config", root / ".dvc" / "config")
    (root / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    for folder in ("data/sources", "data/feedback", "reward_functions"):
        shutil.copytree(ROOT / folder, root / folder)
    return root
