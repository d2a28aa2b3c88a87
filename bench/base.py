"""What the embedded base can do: the table of its model card.

    python bench/base.py --run RUN     the folder that `tinyforge pretrain ... --config recipes/base-tiny.yaml` made

Bits per byte on the run's held-out documents, beside an untrained model of the same shape, an interpolated Kneser-Ney
5-gram over the same tokens, gzip and xz; reading on questions over those documents, before and after the second stage;
speed, loading time, and what 500 free generations look like. Writes bench/results/base.json.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import subprocess
import sys
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kneser_ney import bits as kneser_ney_bits

from tinyforge.config import Config
from tinyforge.dataset.corpus import TokenStore
from tinyforge.dataset.prompts import NOT_FOUND
from tinyforge.environment import machine, versions
from tinyforge.evaluate.metrics import exact_match, token_f1
from tinyforge.models.create import create_model
from tinyforge.models.generate import Writer
from tinyforge.models.machine import choose_precision, set_threads, torch_dtype
from tinyforge.models.resolve import load_model, load_tokenizer, resolve
from tinyforge.pipeline.pretrain import held_out_texts
from tinyforge.records import Example, Message
from tinyforge.run import Run, read_json, read_jsonl, write_json
from tinyforge.train.loss import row_losses
from tinyforge.train.objectives.base import pad_rows

ROOT = Path(__file__).parent.parent


def model_bits_per_byte(model: Any, store: TokenStore) -> float:
    nats = 0.0
    for i in range(len(store)):
        batch = pad_rows([store[i]], 0)
        nats += row_losses(model, batch.ids_BT, batch.labels_BT)[0][0]
    return nats / math.log(2) / store.bytes


def compression(run: Run, config: Config, base: Path) -> dict[str, float]:
    """Bits per byte of every way to predict the held-out documents."""
    store = TokenStore(run.path("tokens", "validation"), 1024)
    data = "\n\n".join(held_out_texts(run, config)).encode()
    tokenizer = load_tokenizer(base)
    dtype = torch_dtype(choose_precision("auto"))
    ids = {
        n: np.fromfile(run.path("tokens", n, "ids.bin"), np.uint16).astype(np.int64) for n in ("train", "validation")
    }
    found = {
        "gzip -9": 8 * len(zlib.compress(data, 9)) / len(data),
        "xz -9": 8 * len(lzma.compress(data, preset=9)) / len(data),
        "Kneser-Ney 5-gram, same tokens": kneser_ney_bits(ids["train"], ids["validation"], 5, len(tokenizer))
        / store.bytes,
        "untrained, same shape": model_bits_per_byte(create_model(config.pretrain, tokenizer, 1).to(dtype), store),
        "after pretraining": model_bits_per_byte(load_model(run.path("pretrained"), choose_precision("auto")), store),
    }
    return {**found, "shipped": model_bits_per_byte(load_model(base, choose_precision("auto")), store)}


def reading(run: Run, base: Path) -> dict[str, dict[str, Any]]:
    """Answers to the questions over held-out documents, by kind of prompt, for both stages."""
    rows = [Example.from_json(row) for row in read_jsonl(run.path("reading", "test.jsonl"))]
    table: dict[str, dict[str, Any]] = {}
    for stage, folder in (("pretrained", run.path("pretrained")), ("shipped", base)):
        writer = Writer(load_model(folder, choose_precision("auto")), load_tokenizer(folder), 96)
        answers = writer.answer_all([row.messages[:-1] for row in rows])
        table[stage] = {}
        for kind in ("memory", "gold", "passages", "missing"):
            pairs = [(a.strip(), r) for a, r in zip(answers, rows, strict=True) if r.metadata["reading"] == kind]
            table[stage][kind] = {
                "questions": len(pairs),
                "token_f1": sum(token_f1(a, r) for a, r in pairs) / len(pairs),
                "exact_match": sum(exact_match(a, r) for a, r in pairs) / len(pairs),
                "declined": sum(a == NOT_FOUND for a, _ in pairs) / len(pairs),
            }
    return table


def speed(base: Path) -> dict[str, float]:
    """Milliseconds per generated token (single stream), and seconds to load in a fresh process."""
    writer = Writer(load_model(base, choose_precision("auto")), load_tokenizer(base), 128)
    writer._stops = set()
    start = writer._left_pad([[5] * 32])
    rates = []
    for _ in range(5):
        began = time.perf_counter()
        count = len(list(writer._decode(*start)))
        rates.append((time.perf_counter() - began) * 1000 / count)
    code = (
        "import time; from tinyforge.models.resolve import *; import torch, transformers; "
        "from transformers import AutoModelForCausalLM, AutoTokenizer; from pathlib import Path; "
        f"t = time.perf_counter(); load_model(Path({str(base)!r}), 'fp32'); load_tokenizer(Path({str(base)!r})); "
        "print(time.perf_counter() - t)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {"ms_per_token": min(rates), "load_seconds": float(done.stdout.split()[-1])}


def health(run: Run, base: Path) -> dict[str, float]:
    """500 questions answered from memory: how many answers are empty, broken or repeat themselves."""
    rows = [Example.from_json(row) for row in read_jsonl(run.path("reading", "train.jsonl"))][:500]
    writer = Writer(load_model(base, choose_precision("auto")), load_tokenizer(base), 96)
    answers = writer.answer_all([[Message("user", row.metadata["question"])] for row in rows])
    return {
        "generations": len(answers),
        "empty": sum(not a.strip() for a in answers) / len(answers),
        "broken_unicode": sum("\ufffd" in a for a in answers) / len(answers),
        "repeats": sum(map(_repeats, answers)) / len(answers),
    }


def _repeats(text: str) -> bool:
    """Some four words in a row occur three times or more."""
    words = text.split()
    grams = Counter(tuple(words[i : i + 4]) for i in range(len(words) - 3))
    return any(count >= 3 for count in grams.values())


def curve(run: Run) -> list[dict[str, float]]:
    """Bits per byte against tokens seen, from the dev losses of the first stage."""
    summary = read_json(run.path("stages", "train.json"))["summary"]
    scale = summary["validation_bits_per_byte"] / summary["validation_loss"]
    points = []
    for row in run.events("step"):
        if row["dev_loss"] is not None and row["total"] == summary["steps"]:
            tokens = summary["tokens"] * row["step"] / summary["steps"]
            points.append({"tokens": round(tokens), "bits_per_byte": row["dev_loss"] * scale})
    return points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="the run of `tinyforge pretrain`")
    args = parser.parse_args()
    set_threads(0)
    torch.manual_seed(0)
    run, base = Run.open(args.run), resolve("tiny").folder
    config = Config.model_validate(read_json(run.path("config.json")))
    result: dict[str, Any] = {"bits_per_byte": compression(run, config, base), "curve": curve(run)}
    result |= {"reading": reading(run, base), "speed": speed(base), "health": health(run, base)}
    best = min(value for name, value in result["bits_per_byte"].items() if name not in ("shipped", "after pretraining"))
    result["ratios"] = {"bits per byte, shipped / best without a network": result["bits_per_byte"]["shipped"] / best}
    result |= {"machine": machine(), "versions": versions()}
    write_json(ROOT / "bench" / "results" / "base.json", result)
    print(json.dumps({k: v for k, v in result.items() if k not in ("machine", "versions")}, indent=1))


if __name__ == "__main__":
    main()
