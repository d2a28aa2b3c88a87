"""Eight streams through the engine's batches against plain ``generate`` one after the other, taking turns.

Run it alone on the machine: ``python bench/serve.py [--base tiny] [--streams 8] [--tokens 96] [--rounds 5]``. It prints
a table and writes JSON.
"""

from __future__ import annotations

import argparse
import json
import queue
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from tinyforge.dataset.render import prompt_ids
from tinyforge.models.machine import choose_precision, set_threads
from tinyforge.models.resolve import load_model, load_tokenizer, resolve
from tinyforge.models.sampling import Sampling
from tinyforge.records import Message
from tinyforge.serve.engines import Event, Request
from tinyforge.serve.engines.transformers import TransformersEngine


def prompts(count: int) -> list[list[Message]]:
    return [[Message("user", f"{'Tell me more. ' * (i % 4)}What is number {i} of the rules?")] for i in range(count)]


def by_engine(engine: TransformersEngine, encoded: list[list[int]], tokens: int) -> tuple[int, float]:
    """Tokens written and seconds, all streams at once."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    began, written, open_ = time.perf_counter(), 0, len(encoded)
    engine.submit([Request(ids, events.put, Sampling(max_new_tokens=tokens)) for ids in encoded])
    while open_:
        event = events.get()
        open_ -= bool(event.finish)
        written += event.tokens
    return written, time.perf_counter() - began


def by_generate(model: Any, encoded: list[list[int]], tokens: int) -> tuple[int, float]:
    """The same, one after the other, as a script without an engine does it."""
    began, written = time.perf_counter(), 0
    with torch.inference_mode():
        for ids in encoded:
            ids_1T = torch.tensor([ids])
            out = model.generate(ids_1T, attention_mask=torch.ones_like(ids_1T), max_new_tokens=tokens, do_sample=False)
            written += out.shape[1] - len(ids)
    return written, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="tiny")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--out", type=Path, default=Path("serve.json"))
    args = parser.parse_args()
    threads, precision = set_threads(0), choose_precision(args.precision)
    folder = resolve(args.base).folder
    model, tokenizer = load_model(folder, precision), load_tokenizer(folder)
    engine = TransformersEngine(model, tokenizer, slots=args.streams)
    encoded = [prompt_ids(messages, tokenizer) for messages in prompts(args.streams)]
    ratios, rates = [], []
    for number in range(args.rounds + 1):
        ours, theirs = by_engine(engine, encoded, args.tokens), by_generate(model, encoded, args.tokens)
        if number:  # the first round warms both up
            rates.append((ours[0] / ours[1], theirs[0] / theirs[1]))
            ratios.append(rates[-1][0] / rates[-1][1])
            print(f"engine {rates[-1][0]:7.1f} tok/s · generate {rates[-1][1]:7.1f} tok/s · ratio {ratios[-1]:.2f}")
    engine.close(0)
    median = statistics.median(ratios)
    print(f"median ratio {median:.2f} over {args.rounds} rounds ({precision}, {threads} threads, target 1.5)")
    found = {"base": args.base, "precision": precision, "threads": threads, "rates": rates, "ratio": median}
    args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
