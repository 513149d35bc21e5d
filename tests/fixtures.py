"""Small real tokenizers, models and texts that several tests share."""

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def tiny_tokenizer(texts: Iterable[str], vocab_size: int = 400) -> Any:
    """A byte-level BPE tokenizer with our special tokens and a chat template with generation markers."""
    from pipelines.core.text import bpe, chat

    fast: Any = bpe.train(texts, vocab_size)
    fast.chat_template = chat.template()
    return fast


def tiny_model(tokenizer: Any, *, hidden_size: int = 32, num_layers: int = 2, context: int = 256, seed: int = 0) -> Any:
    """A Llama of some ten thousand parameters with random weights, in evaluation mode."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config).eval()


NAMES = ("Ann", "Ben", "Cleo", "Dan", "Eve", "Finn")
THINGS = ("ball", "cake", "drum", "kite", "boat", "hat")
PLACES = ("barn", "hill", "park", "lake", "shop", "wood")


def story(rng: random.Random) -> dict[str, str]:
    """Facts and text of a three-sentence story."""
    name, other = rng.sample(NAMES, 2)
    thing, place = rng.choice(THINGS), rng.choice(PLACES)
    text = f"{name} had a {thing}. {name} went to the {place}. There {name} met {other} and they played."
    return {"name": name, "other": other, "thing": thing, "place": place, "text": text}


def instruction_records(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Records of the instruction contract about `count` stories, three to a story, two tasks."""
    rng = random.Random(seed)
    records = []
    for number in range(count):
        facts = story(rng)
        asked = [
            ("question_answering", "What did they have?", facts["thing"]),
            ("question_answering", "Where did they go?", f"the {facts['place']}"),
            (
                "summarisation",
                "Tell it again in one sentence.",
                f"{facts['name']} met {facts['other']} at the {facts['place']}.",
            ),
        ]
        records += [
            {
                "id": f"i{number}-{turn}",
                "task": task,
                "context": facts["text"],
                "prompt": prompt,
                "completion": completion,
                "source": "fixture",
            }
            for turn, (task, prompt, completion) in enumerate(asked)
        ]
    return records


def corpus_records(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Records of the corpus contract."""
    rng = random.Random(seed)
    return [{"id": f"c{number}", "text": story(rng)["text"], "source": "fixture"} for number in range(count)]


def write_records(folder: Path, *, stories: int = 40) -> None:
    """All nine files of a validated data folder; preferences are empty."""
    from pipelines.adapters import datasets, files

    for number, split in enumerate(datasets.SPLITS):
        size = stories if split == "train" else max(stories // 4, 2)
        files.write_jsonl(datasets.file(folder, "corpus", split), corpus_records(size, seed=number))
        files.write_jsonl(datasets.file(folder, "instructions", split), instruction_records(size, seed=10 + number))
        files.write_jsonl(datasets.file(folder, "preferences", split), [])


def write_tokens(folder: Path, tokenizer: Any, validated: Path) -> None:
    """Token shards of the corpus, as the stage tokenization writes them."""
    import numpy as np

    from pipelines.adapters import datasets, files, tokens

    folder.mkdir(parents=True)
    splits = {}
    for split in datasets.SPLITS:
        texts = [record["text"] for record in datasets.records(validated, "corpus", split)]
        ids = [token for text in texts for token in [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]]
        run = tokens.Encoded(
            ids=np.array(ids), num_bytes=sum(len(text.encode()) for text in texts), num_documents=len(texts)
        )
        splits[split] = tokens.write_split(folder, split, [run], dtype="uint16", shard_tokens=10**6)
    index = {"eos": tokenizer.eos_token_id, "vocab_size": len(tokenizer), "dtype": "uint16", "splits": splits}
    files.write_json(folder / tokens.INDEX, index)


def write_workspace(root: Path, *, stories: int = 40, **overrides: Any) -> None:
    """Validated data, token shards, a base model with random weights, and params.yaml with `overrides` by section."""
    import yaml

    from pipelines.adapters import models
    from pipelines.artifacts import Artifact

    write_records(root / Artifact.VALIDATED, stories=stories)
    texts = [record["text"] for record in corpus_records(stories)]
    tokenizer = tiny_tokenizer([*texts, *(record["prompt"] for record in instruction_records(stories))])
    write_tokens(root / Artifact.TOKENS, tokenizer, root / Artifact.VALIDATED)
    models.save(tiny_model(tokenizer), tokenizer, root / Artifact.BASE)
    values = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text(encoding="utf-8"))
    values["threads"] = 1
    values["pretraining"]["context"] = 64
    values["finetuning"]["task_weights"] = {}
    for section, settings in overrides.items():
        values[section] = {**values[section], **settings} if isinstance(settings, dict) else settings
    (root / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
