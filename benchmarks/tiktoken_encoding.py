"""A peer of benchmarks/tokenization.py: tiktoken with our merges on the same job, in an environment of its own."""

import argparse
import base64
import json
import time
from pathlib import Path

import numpy as np
import tiktoken

GPT2 = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
"""How byte-level BPE parts words: the pattern of GPT-2, which `tokenizers` has built in."""


def main() -> None:
    """Encode the texts of a file of JSON lines into a file of ids and print what was measured as one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("ranks", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("ids", type=Path)
    parser.add_argument("--end", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--chunk-bytes", type=int, required=True)
    settings = parser.parse_args()
    ranks = {base64.b64decode(token): rank for token, rank in json.loads(settings.ranks.read_text()).items()}
    encoding = tiktoken.Encoding("ours", pat_str=GPT2, mergeable_ranks=ranks, special_tokens={})
    start, size = time.perf_counter(), 0
    with settings.corpus.open(encoding="utf-8") as lines, settings.ids.open("wb") as file:

        def write(texts: list[str]) -> None:
            ids: list[int] = []
            for found in encoding.encode_ordinary_batch(texts, num_threads=settings.threads):
                ids += found
                ids.append(settings.end)
            np.array(ids, dtype=np.uint16).tofile(file)

        texts: list[str] = []
        held = 0
        for line in lines:
            texts.append(json.loads(line)["text"])
            held += len(texts[-1].encode())
            if held >= settings.chunk_bytes:
                write(texts)
                size, held, texts = size + held, 0, []
        write(texts)
        size += held
    print(json.dumps({"mb_per_second": size / 1e6 / (time.perf_counter() - start)}))


if __name__ == "__main__":
    main()
