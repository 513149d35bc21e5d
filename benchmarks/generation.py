"""Batched sampling: Moteur beside transformers' `generate`.

    python -m benchmarks.generation                      # the model of params.yaml with its first weights
    python -m benchmarks.generation --model models/sft   # a trained one: responses end at different lengths

Both have the same model in float32, the same prompts, temperature and number of new tokens, with cached keys and values
and left padding. With first weights hardly any response ends before the limit, so that decoding alone is compared; a
trained model's do, and what is sampled after an end token counts for nobody. The first call of each run is left out.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import learner, runs
from pipelines import stage
from pipelines.adapters import device, models
from pipelines.core.learning import decoding, padding
from pipelines.core.text import bpe, chat, prompts
from pipelines.core.world import corpus

BATCHES = (1, 8, 32)
STORIES = 2000
OURS, PEER = "Moteur", "transformers' generate"

Respond = Callable[[Any, Any, list[list[int]], int, float], list[int]]
"""Model, tokenizer, prompts, new tokens, temperature -> tokens of each response, the end token included."""


def main() -> None:
    """Run both in turn for each batch, print the tables and keep them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="*", default=list(BATCHES))
    parser.add_argument("--repeats", type=int, default=5, help="runs of each side")
    parser.add_argument("--seconds", type=float, default=8.0, help="of sampling, in each run")
    parser.add_argument("--new-tokens", type=int, default=96)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--model", type=Path, help="a folder; default: first weights")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.side:
        print(json.dumps(_measure(settings)))
        return
    params = stage.load_params(runs.ROOT / "params.yaml")
    machine, found = runs.machine(params.threads), {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = settings.model or _first_weights(Path(scratch))
        common = ["--model", folder, "--seconds", settings.seconds, "--new-tokens", settings.new_tokens]
        common += ["--temperature", settings.temperature]
        for batch in settings.batches:
            sides = [
                runs.Side(name=name, command=runs.ours("generation", "--side", kind, "--batch", batch, *common))
                for name, kind in ((OURS, "respond"), (PEER, "generate"))
            ]
            found[batch] = runs.alternate(sides, settings.repeats)
    which = f"the model in {settings.model}" if settings.model else "the model of params.yaml with its first weights"
    runs.write(
        "generation",
        how=f"Up to {settings.new_tokens} new tokens at temperature {settings.temperature:g} from {which}, in float32;"
        f" {settings.repeats} runs of each side in turn.",
        machine=machine,
        comparisons=[_comparison(batch, turns) for batch, turns in found.items()],
        aims=[
            runs.Aim(what="times generate at batch 32", found=median(_times(turns)), at_least=2)
            for batch, turns in found.items()
            if batch == 32
        ],
    )


def _comparison(batch: int, turns: runs.Runs) -> runs.Comparison:
    return runs.Comparison(
        title=f"Batch {batch}",
        runs=turns,
        figure="tokens_per_second",
        columns={"tokens_per_second": "tokens/s", "length": "tokens a response", "peak_mib": "MiB"},
        ours=OURS,
    )


def _times(turns: runs.Runs) -> list[float]:
    return runs.ratios(turns, OURS, PEER, "tokens_per_second")


def _first_weights(folder: Path) -> Path:
    """The model and the tokenizer of params.yaml, untrained."""
    from pipelines.core.learning.architecture import llama

    params = stage.load_params(runs.ROOT / "params.yaml")
    device.prepare(params.seed, params.threads)
    texts = [document.text for document in corpus.documents(corpus.TalesSource(), "train", STORIES)]
    tokenizer = bpe.train(texts, params.tokenization.vocab_size)
    tokenizer.chat_template = chat.template(chat.END)
    model = llama(params.model, vocab_size=len(tokenizer), eos=tokenizer.eos_token_id, pad=tokenizer.pad_token_id)
    models.save(model, tokenizer, folder / "model")
    return folder / "model"


def _prompts(tokenizer: Any, count: int) -> list[list[int]]:
    """Requests to go on with a story, all different."""
    records = corpus.instruction_records(corpus.TalesSource(), "test", sys.maxsize)
    asked = islice((asdict(record) for record in records if record.task == "continuation"), count)
    return [decoding.chat_ids(tokenizer, prompts.single_turn(record)[:1]) for record in asked]


def _measure(settings: argparse.Namespace) -> runs.Figures:
    learner.settle()
    params = stage.load_params(runs.ROOT / "params.yaml")
    where = device.prepare(params.seed, params.threads)
    tokenizer = models.load_tokenizer(settings.model)
    model = models.load_causal(settings.model).to(where).eval()
    respond, asked = SIDES[settings.side], _prompts(tokenizer, settings.batch)
    respond(model, tokenizer, asked, settings.new_tokens, settings.temperature)
    lengths: list[int] = []
    start = time.perf_counter()
    while time.perf_counter() - start < settings.seconds:
        lengths += respond(model, tokenizer, asked, settings.new_tokens, settings.temperature)
    spent = time.perf_counter() - start
    return {"tokens_per_second": sum(lengths) / spent, "length": sum(lengths) / len(lengths)}


def _respond(model: Any, tokenizer: Any, asked: list[list[int]], limit: int, temperature: float) -> list[int]:
    said = decoding.respond(
        model, tokenizer, asked, max_new_tokens=limit, temperature=temperature, batch_size=len(asked)
    )
    return [len(one.tokens) for one in said]


def _generate(model: Any, tokenizer: Any, asked: list[list[int]], limit: int, temperature: float) -> list[int]:
    import torch

    ids_BT, mask_BT = padding.left_padded(asked, tokenizer.pad_token_id)
    with torch.inference_mode():
        whole_BT = model.generate(
            input_ids=ids_BT.to(model.device),
            attention_mask=mask_BT.to(model.device),
            max_new_tokens=limit,
            do_sample=True,
            temperature=temperature,
            top_k=0,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    new_BN = whole_BT[:, ids_BT.shape[1] :].tolist()
    tokenizer.batch_decode(new_BN)  # ours gives texts, too
    return [_until_end(tokens, tokenizer.eos_token_id) for tokens in new_BN]


def _until_end(tokens: list[int], end: int) -> int:
    return tokens.index(end) + 1 if end in tokens else len(tokens)


SIDES: dict[str, Respond] = {"respond": _respond, "generate": _generate}


if __name__ == "__main__":
    main()
