"""Calibration, power and speed of drift detection: benchmarks/results/drift.json.

    python benchmarks/drift.py read --release models/release --data FOLDER   documents once through the model
    python benchmarks/drift.py measure --minutes 4.5                         goes on where it stopped; until "done"
    python benchmarks/drift.py table                                         the tables of docs/drift.md

FOLDER holds `reviews_by_domain.jsonl.gz` (fields domain, text) and `food_reviews_1k.jsonl.gz` (field text); without
it only the built-in corpus is measured. The comparison is the one that `moteur drift` makes, with fewer deals, and in
streams of windows the judgement that monitoring makes. Beside it stands a fixed rule that is popular elsewhere: a
classifier (TF-IDF, logistic regression by stochastic gradient descent) is trained on half of the documents to tell
reference and window apart, and its area under the ROC curve on the other half is above .55.

Every repetition draws reference and window anew from one pool without replacement: under f = 0 they are exchangeable.
"""

import argparse
import gzip
import json
import os
import random
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from pipelines.adapters import files, reader, references
from pipelines.core.drift import comparison, policy, watch
from pipelines.core.drift.comparison import Settings
from pipelines.core.drift.policy import Policy
from pipelines.core.drift.sample import Sample, joined
from pipelines.core.world.corpus import TalesSource, documents

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".moteur" / "benchmarks" / "drift"
RESULTS = ROOT / "benchmarks" / "results" / "drift.json"
REFERENCE = 1000
PERMUTATIONS = {"power": 999, "calibration": 499}
"""(permutations + 1) x alpha / 5 is whole at both alphas; the shipped 1999 differ in power only, and by little."""
CLASSIFIED = 40
"""So many repetitions of a cell also train the classifier, which takes longer than the comparison."""
EVENLY = 20
"""After this many repetitions of each cell comes the next round, so that an unfinished run knows a little of all."""
WINDOWS = 50
"""Windows of one stream of unchanged traffic."""

PAIRS = (("tales home", "tales sea"), ("movies", "products"), ("products", "movies"), ("movies", "food"))
CALIBRATED = ("tales home", "movies", "products")
POOLS = {"tales home": 6000, "tales sea": 1500, "movies": 6000, "products": 6000, "food": 1000}


@dataclass(frozen=True)
class Cell:
    """What one kind of repetition measures."""

    kind: str
    base: str
    foreign: str
    share: float
    n: int
    repetitions: int

    @property
    def name(self) -> str:
        """Key of its repetitions."""
        return f"{self.kind} | {self.base} | {self.foreign} | f {self.share:g} | n {self.n}"


def cells() -> list[Cell]:
    """Everything, the most wanted first."""
    found = [Cell("power", *pair, share, n, 100) for share, n in ((0.2, 500), (0.1, 1000)) for pair in PAIRS]
    found += [Cell("unchanged", base, base, 0.0, 500, 4) for base in ("tales home", "movies")]
    found += [Cell("within three", *pair, 0.2, 500, 20) for pair in PAIRS[:2]]
    found += [Cell("calibration", base, base, 0.0, n, 300) for n in (500, 1000, 200, 100) for base in CALIBRATED]
    return found


# Reading


def read(release: Path, data: Path | None) -> None:
    """Let the released model read every pool, once."""
    for name, texts in _texts(data):
        made = reader.read(release, texts)
        arrays: dict[str, Any] = {"tokens": made.tokens, "offsets": made.offsets, "embeddings": made.embeddings}
        reader.save_arrays(
            CACHE / f"{name}.safetensors", arrays | {f"column.{key}": value for key, value in made.columns.items()}
        )
        files.write_json(CACHE / f"{name}.json", references.with_texts(release, made).texts)
        print(name, len(texts), flush=True)


def _texts(data: Path | None) -> Iterator[tuple[str, list[str]]]:
    for name, season, seed in (("tales home", "home", 101), ("tales sea", "sea", 102)):
        source = TalesSource(season=season, seed=seed)
        yield name, [document.text for document in documents(source, "train", POOLS[name])]
    if data is None:
        return
    rows = _lines(data / "reviews_by_domain.jsonl.gz")
    for name in ("movies", "products"):
        texts = sorted({row["text"] for row in rows if row["domain"] == name and len(row["text"]) >= 20})
        random.Random(1).shuffle(texts)
        yield name, texts[: POOLS[name]]
    yield "food", [row["text"] for row in _lines(data / "food_reviews_1k.jsonl.gz")]


def _lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@cache
def pool(name: str) -> Sample:
    """What was read of a pool."""
    arrays = reader.load_arrays(CACHE / f"{name}.safetensors")
    return Sample(
        tokens=arrays["tokens"],
        offsets=arrays["offsets"],
        embeddings=arrays["embeddings"],
        columns={key.removeprefix("column."): value for key, value in arrays.items() if key.startswith("column.")},
        texts=tuple(files.read_json(CACHE / f"{name}.json")),
    )


# One repetition


def _seed(cell: Cell, repetition: int) -> np.random.Generator:
    return np.random.default_rng([repetition, *cell.name.encode()])


def _mixed(cell: Cell, rng: np.random.Generator, own: np.ndarray) -> Sample:
    """A window of n documents, the share f of them foreign."""
    foreign = round(cell.share * cell.n)
    window = pool(cell.base).take(own[: cell.n - foreign])
    if not foreign:
        return window
    others = rng.choice(len(pool(cell.foreign)), foreign, replace=False)
    return joined([window, pool(cell.foreign).take(others)])


def compare_once(cell: Cell, repetition: int) -> dict[str, Any]:
    """The comparison and the classifier on one draw."""
    rng = _seed(cell, repetition)
    order = rng.permutation(len(pool(cell.base)))
    reference = pool(cell.base).take(order[:REFERENCE])
    window = _mixed(cell, rng, order[REFERENCE:])
    start = time.perf_counter()
    compared = comparison.compare(
        reference, window, Settings(permutations=PERMUTATIONS[cell.kind]), seed=int(rng.integers(1 << 30))
    )
    seconds = time.perf_counter() - start
    return {
        "p": {finding.test: finding.p_value for finding in compared.findings},
        "alarm": min(finding.alarm_p_value or 1.0 for finding in compared.findings),
        "differs": compared.outcome == "differs",
        "auc": classifier(reference.texts, window.texts, rng) if repetition < CLASSIFIED else None,
        "seconds": round(seconds, 3),
    }


def classifier(old: tuple[str, ...], new: tuple[str, ...], rng: np.random.Generator) -> float:
    """Area under the ROC curve, on one half of the documents, of a classifier trained on the other half."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import SGDClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline

    texts = np.array([*old, *new], dtype=object)
    labels = np.repeat([0, 1], [len(old), len(new)])
    order = rng.permutation(len(texts))
    train, test = order[::2], order[1::2]
    model = make_pipeline(
        TfidfVectorizer(sublinear_tf=True), SGDClassifier(loss="log_loss", random_state=int(rng.integers(1 << 30)))
    )
    model.fit(texts[train], labels[train])
    return float(roc_auc_score(labels[test], model.decision_function(texts[test])))


def stream(cell: Cell, repetition: int) -> dict[str, Any]:
    """Windows one after another as monitoring judges them with its defaults, but 499 deals, against one reference."""
    rng = _seed(cell, repetition)
    order = rng.permutation(len(pool(cell.base)))
    reference, rest = pool(cell.base).take(order[:REFERENCE]), order[REFERENCE:]
    within = cell.kind == "within three"
    settings = Settings(permutations=499)
    accepted: list[tuple[Sample, dict[str, float]]] = []
    outcomes: list[policy.Outcome] = []
    states = []
    for number in range(7 if within else WINDOWS):
        clean = Cell(cell.kind, cell.base, cell.base, 0.0, cell.n, 1)
        window = _mixed(clean if within and number < 4 else cell, rng, rng.permutation(rest))
        weeks = [sample for sample, _ in accepted[-4:]] if len(accepted) >= 4 else []
        found = watch.judge(
            reference,
            weeks,
            window,
            settings,
            past_effects=[effects for _, effects in accepted],
            most=2000,
            seed=int(rng.integers(1 << 30)),
        )
        outcomes.append(found.decided.outcome)
        states.append(policy.state(outcomes, Policy()))
        if found.decided.outcome == "same":
            accepted.append((window, found.by_release.effects))
    return {
        "outcomes": [outcome == "differs" for outcome in outcomes],
        "alarms": [state == "drift" for state in states],
    }


def once(cell: Cell, repetition: int) -> tuple[str, int, dict[str, Any]]:
    """One repetition of any cell."""
    made = compare_once(cell, repetition) if cell.kind in ("power", "calibration") else stream(cell, repetition)
    return cell.name, repetition, made


# All of them, in pieces


def measure(minutes: float) -> bool:
    """Work for this many minutes; true when everything is done."""
    deadline = time.monotonic() + 60 * minutes
    path = CACHE / "repetitions.json"
    done: dict[str, dict[str, Any]] = files.read_json(path) if path.exists() else {}
    known = [
        cell for cell in cells() if all((CACHE / f"{name}.safetensors").exists() for name in (cell.base, cell.foreign))
    ]
    left = [
        (cell, number)
        for cell in known
        for number in range(cell.repetitions)
        if str(number) not in done.get(cell.name, {})
    ]
    left.sort(key=lambda item: (item[0].kind in ("unchanged", "within three"), item[1] // EVENLY))
    workers = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(workers) as executor:
        for start in range(0, len(left), 2 * workers):
            if time.monotonic() > deadline:
                break
            for name, number, made in executor.map(once, *zip(*left[start : start + 2 * workers], strict=True)):
                done.setdefault(name, {})[str(number)] = made
    files.write_json(path, done)
    files.write_json(RESULTS, summary(known, done))
    remaining = sum(1 for cell, number in left if str(number) not in done.get(cell.name, {}))
    print(f"{remaining} repetitions left" if remaining else "done", flush=True)
    return not remaining


def summary(known: list[Cell], done: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The figures of all cells with at least one repetition."""
    rows: dict[str, list[dict[str, Any]]] = {"calibration": [], "power": [], "within three": [], "unchanged": []}
    for cell in known:
        if made := list(done.get(cell.name, {}).values()):
            about = {"base": cell.base, "foreign": cell.foreign, "f": cell.share, "n": cell.n, "repetitions": len(made)}
            rows[cell.kind].append(about | _figures(cell, made, done))
    return {
        "reference": REFERENCE,
        "permutations": PERMUTATIONS,
        **rows,
        "pooled": _pooled(known, done),
        "speed": speed(),
    }


def _figures(cell: Cell, made: list[dict[str, Any]], done: dict[str, Any]) -> dict[str, Any]:
    if cell.kind == "within three":
        return {"found": _mean([any(item["alarms"][4:]) for item in made])}
    if cell.kind == "unchanged":
        return {
            "windows": sum(len(item["outcomes"]) for item in made),
            "differing": sum(sum(item["outcomes"]) for item in made),
            "alarms": sum(sum(item["alarms"]) for item in made),
        }
    figures: dict[str, Any] = {"seconds": round(float(np.median([item["seconds"] for item in made])), 2)}
    for alpha in (0.05, 0.01):
        figures[f"alarm at {alpha:g}"] = _mean([item["alarm"] <= alpha for item in made])
        for test in comparison.TESTS:
            figures[f"{test} at {alpha:g}"] = _mean([item["p"][test] <= alpha for item in made])
    figures["differs"] = _mean([item["differs"] for item in made])
    figures["auc above .55"] = _mean([item["auc"] > 0.55 for item in made if item["auc"] is not None])
    if cell.kind == "power" and (null := _null(cell, done)):
        figures["auc threshold at equal false alarms"] = round(float(np.quantile(null, 0.99)), 4)
        figures["auc at equal false alarms"] = _mean(
            [item["auc"] > np.quantile(null, 0.99) for item in made if item["auc"] is not None]
        )
    return figures


def _null(cell: Cell, done: dict[str, Any]) -> list[float]:
    twin = Cell("calibration", cell.base, cell.base, 0.0, cell.n, 0)
    return [item["auc"] for item in done.get(twin.name, {}).values() if item["auc"] is not None]


def _pooled(known: list[Cell], done: dict[str, Any]) -> list[dict[str, Any]]:
    """False alarms by n over all corpora."""
    rows = []
    for n in (100, 200, 500, 1000):
        names = [cell.name for cell in known if cell.kind == "calibration" and cell.n == n]
        made = [item for name in names for item in done.get(name, {}).values()]
        if made:
            figures = _figures(Cell("calibration", "", "", 0.0, n, 0), made, done)
            rows.append({"n": n, "repetitions": len(made), **figures})
    return rows


def _mean(values: list[bool]) -> float:
    return round(float(np.mean(values)), 4)


def speed() -> dict[str, float]:
    """Seconds for 1000 against 1000 documents as shipped, reading aside."""
    both = pool("tales home").take(range(2000))
    start = time.perf_counter()
    comparison.compare(both.take(range(1000)), both.take(range(1000, 2000)), Settings(), seed=1)
    return {"seconds for 1000 against 1000, 1999 permutations, one thread": round(time.perf_counter() - start, 2)}


# The table


def table() -> str:
    """Markdown of the results."""
    results = files.read_json(RESULTS)
    tests = comparison.TESTS
    rows = [["n", "repetitions", "alarm at .05", "alarm at .01", *(f"{test} at .01" for test in tests), "AUC > .55"]]
    for row in results["pooled"]:
        shares = [row["alarm at 0.05"], row["alarm at 0.01"], *(row[f"{test} at 0.01"] for test in tests)]
        rows.append([str(row["n"]), str(row["repetitions"]), *(f"{x:.3f}" for x in (*shares, row["auc above .55"]))])
    power = [["reference", "foreign", "f", "n", "alarm", *tests, "AUC > .55", "AUC at equal false alarms"]]
    for row in results["power"]:
        equal = row.get("auc at equal false alarms")
        shares = [row["differs"], *(row[f"{test} at 0.01"] for test in tests), row["auc above .55"]]
        named = [row["base"], row["foreign"], f"{row['f']:g}", str(row["n"])]
        power.append([*named, *(f"{x:.2f}" for x in shares), "" if equal is None else f"{equal:.2f}"])
    rest = json.dumps({key: results[key] for key in ("within three", "unchanged", "speed")}, indent=1)
    return "\n\n".join([_markdown(rows), _markdown(power), rest])


def _markdown(rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def main() -> None:
    """Run one of the three parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("read", "measure", "table"))
    parser.add_argument("--release", type=Path, default=ROOT / "models" / "release")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--minutes", type=float, default=4.5)
    options = parser.parse_args()
    if options.part == "read":
        read(options.release, options.data)
    elif options.part == "measure":
        measure(options.minutes)
    else:
        print(table())


if __name__ == "__main__":
    main()
