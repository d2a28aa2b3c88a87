"""What a fine-tuning costs in general text, and what replay gives back.

    python bench/forgetting.py [--run RUN] [--shares 0 0.1 0.3] [--seeds 1 2 3] [--epochs 3]

The embedded base is fine-tuned on questions and answers made from the documents of `tinyforge demo`, once for each
share of general text and each seed, for the same passes over the task, otherwise with the defaults. Measured: bits per
byte of the guard's text before and after, and the dev loss of the task. The base itself writes the general text.

With --run, the folder of the base's own `tinyforge pretrain`, also: bits per byte on the documents that were held out
of it, and replay of texts that it was trained on; of these texts nothing is kept.

Writes bench/results/forgetting.json.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from lines import ROOT

from tinyforge.config import Config, DatasetConfig, SynthesizeConfig
from tinyforge.dataset.general import text_rows
from tinyforge.dataset.split import split
from tinyforge.environment import machine, versions
from tinyforge.ingest import read_sources
from tinyforge.models.resolve import load_model, load_tokenizer, resolve
from tinyforge.pipeline.pretrain import held_out_texts
from tinyforge.pipeline.train import train
from tinyforge.recipe import config_of, load_config
from tinyforge.run import Run, read_jsonl, write_json, write_jsonl
from tinyforge.synthesize import synthesize
from tinyforge.train.guard import ROW_TOKENS, bits_per_byte

SAMPLES = ROOT / "src" / "tinyforge" / "samples"
HELD_OUT_BYTES = 100_000
REPLAY_CHARACTERS = 500_000


def task_rows(path: Path) -> int:
    """Questions over the demo's documents, as rows; what the split keeps for tests is left out."""
    documents = read_sources([SAMPLES], Config().ingest, lambda name, outcome: None).documents
    made = synthesize(documents, SynthesizeConfig(), 42).examples
    kept = [e for e in split(made, DatasetConfig(), 42).examples if e.split in ("train", "dev")]
    return write_jsonl(path, ({"messages": [{"role": m.role, "content": m.content} for m in e.messages]} for e in kept))


class HeldOut:
    """The documents that the base's own pretraining held out, up to HELD_OUT_BYTES."""

    def __init__(self, run: Run) -> None:
        self.texts = list(_up_to(held_out_texts(run, config_of(run)), 10**9))
        self.texts = [text[: HELD_OUT_BYTES // len(self.texts)] for text in self.texts]
        self.bytes = sum(len(text.encode()) for text in self.texts)

    def measure(self, folder: Path) -> float:
        tokenizer = load_tokenizer(folder)
        rows = [row for text in self.texts for row in text_rows(text, tokenizer, ROW_TOKENS)]
        return bits_per_byte(load_model(folder, "fp32"), rows, self.bytes)


def _up_to(texts: Iterator[str], characters: int) -> Iterator[str]:
    for text in texts:
        if characters <= 0:
            return
        characters -= len(text)
        yield text


def training_texts(run: Run, path: Path) -> None:
    """A little of the running text that the base was trained on, in a scratch file outside of the repository."""
    from tinyforge.pipeline.pretrain import _set_of

    config = config_of(run)
    rows = [r["text"] for r in read_jsonl(run.path("corpus.jsonl")) if _set_of(r["name"], r["text"], config) == "train"]
    step = max(1, len(rows) // 200)  # from all over the corpus
    write_jsonl(path, ({"text": text[:4000]} for text in _up_to(iter(rows[::step]), REPLAY_CHARACTERS * 8)))


def measure(rows: Path, out: Path, options: dict[str, Any], held_out: HeldOut | None) -> dict[str, float]:
    summary = train(rows, out, load_config(None, [f"{key}={json.dumps(value)}" for key, value in options.items()]))
    found = {
        "guard_before": summary["general"]["before"],
        "guard_after": summary["general"]["after"],
        "dev_loss": summary["dev_loss"],
        "steps": summary["steps"],
        "train_seconds": summary["train_seconds"],
        "replay_tokens": summary["replay"]["tokens"] if summary["replay"] else 0,
    }
    if held_out:
        found["held_out_after"] = held_out.measure(out / "model")
    return found


def summary_of(measured: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Mean of each figure over the seeds, and the standard deviation of those that vary with them."""
    mean: dict[str, Any] = {name: fmean(m[name] for m in measured) for name in measured[0]}
    if len(measured) > 1:
        mean["sd"] = {n: stdev(m[n] for m in measured) for n in measured[0] if n.endswith("after") or n == "dev_loss"}
    mean["guard_change"] = mean["guard_after"] / mean["guard_before"] - 1
    return mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", help="the run of `tinyforge pretrain` that made the base")
    parser.add_argument("--shares", nargs="+", type=float, default=[0.0, 0.1, 0.3])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--epochs", type=float, default=3.0)
    args = parser.parse_args()
    run = Run.open(args.run) if args.run else None
    held_out = HeldOut(run) if run else None
    table: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        rows, own = Path(scratch) / "rows.jsonl", Path(scratch) / "texts.jsonl"
        count = task_rows(rows)
        sources = {"written by the base": ""}
        if run:
            training_texts(run, own)
            sources["texts it was trained on"] = str(own)
        for name, source in sources.items():
            for share in args.shares:
                if source and not share:
                    continue
                options = {"train.epochs": args.epochs, "train.replay_share": share, "train.replay": source}
                done = [
                    measure(rows, Path(scratch) / f"{share}-{seed}-{bool(source)}", {**options, "seed": seed}, held_out)
                    for seed in args.seeds
                ]
                label = f"{share:g}, {name}" if share else "0"
                table[label] = summary_of(done)
                print(label, json.dumps(table[label]), flush=True)
    result: dict[str, Any] = {"rows": count, "seeds": args.seeds, "epochs": args.epochs, "replay": table}
    if held_out:
        before = held_out.measure(resolve("tiny").folder)
        result["held_out"] = {"documents": len(held_out.texts), "bytes": held_out.bytes, "before": before}
        for row in table.values():
            row["held_out_change"] = row["held_out_after"] / before - 1
    plain = table.get("0")
    if plain:
        forgotten = math.log2(plain["guard_after"] / plain["guard_before"])
        result["ratios"] = {
            f"forgetting with replay {name} / without": math.log2(row["guard_after"] / row["guard_before"]) / forgotten
            for name, row in table.items()
            if row is not plain
        }
    result |= {"machine": machine(), "versions": versions()}
    write_json(ROOT / "bench" / "results" / "forgetting.json", result)
    print(json.dumps({k: v for k, v in result.items() if k not in ("machine", "versions")}, indent=1))


if __name__ == "__main__":
    main()
