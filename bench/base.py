"""What the embedded base can do: the table of its model card.

    git archive 2da46a6 src/tinyforge/models/base/tiny | tar -x -C DIR
    python bench/base.py --run RUN --again RUN --first DIR/src/tinyforge/models/base/tiny

RUN is the folder that `tinyforge pretrain ... --config recipes/base-tiny.yaml` made, the second one a run of the same
command from nothing in another folder, and DIR holds the base that was shipped first. Bits per byte on the run's
held-out documents, beside an untrained model of the same shape, an interpolated Kneser-Ney 5-gram over the same tokens,
gzip and xz; reading on questions over those documents, before and after the second stage; whether the second
run gave the weights that are shipped, and where not, how far it is from them on the same questions; speed, loading
time, and what 500 free generations look like. Writes bench/results/base.json.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import re
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from kneser_ney import bits as kneser_ney_bits

from tinyforge.config import Config
from tinyforge.dataset.corpus import TokenStore
from tinyforge.dataset.prompts import NOT_FOUND
from tinyforge.environment import machine, versions
from tinyforge.evaluate.bootstrap import Array
from tinyforge.evaluate.compare import fact_clusters, mean_scores, paired_difference
from tinyforge.evaluate.metrics import exact_match, token_f1
from tinyforge.models.create import create_model
from tinyforge.models.generate import Writer
from tinyforge.models.machine import choose_precision, set_threads, torch_dtype
from tinyforge.models.resolve import load_model, load_tokenizer, resolve
from tinyforge.pipeline.pretrain import held_out_texts
from tinyforge.recipe import config_of
from tinyforge.records import Example, Message
from tinyforge.run import Run, hash_file, read_json, read_jsonl, write_json
from tinyforge.train.loss import row_losses
from tinyforge.train.objectives.base import pad_rows

ROOT = Path(__file__).parent.parent
AGAIN = "the recipe a second time"
_PLACES = ("right passage", "wrong passage")


def mean(values: Iterable[float]) -> float:
    return fmean(map(float, values))


def model_bits_per_byte(model: Any, store: TokenStore) -> float:
    nats = 0.0
    for i in range(len(store)):
        batch = pad_rows([store[i]], 0)
        nats += row_losses(model, batch.ids_BT, batch.labels_BT)[0][0]
    return nats / math.log(2) / store.bytes


def compression(run: Run, config: Config, shipped: Mapping[str, Path], first: Path) -> dict[str, float]:
    """Bits per byte of every way to predict the held-out documents. All models have one tokenizer.

    Models read them in pieces of 256 tokens and of 1,024; stage one was trained on 512, the first base on 256.
    """
    data = "\n\n".join(held_out_texts(run, config)).encode()
    tokenizer = load_tokenizer(first)
    precision = choose_precision("auto")
    ids = {
        n: np.fromfile(run.path("tokens", n, "ids.bin"), np.uint16).astype(np.int64) for n in ("train", "validation")
    }
    found = {
        "gzip -9": 8 * len(zlib.compress(data, 9)) / len(data),
        "xz -9": 8 * len(lzma.compress(data, preset=9)) / len(data),
        "Kneser-Ney 5-gram, same tokens": kneser_ney_bits(ids["train"], ids["validation"], 5, len(tokenizer))
        / TokenStore(run.path("tokens", "validation"), 256).bytes,
    }
    models = {
        "untrained, same shape": create_model(config.pretrain, tokenizer, 1).to(torch_dtype(precision)),
        "the first quick base": load_model(first, precision),
        "stage one alone": load_model(run.path("pretrained"), precision),
        **{name: load_model(folder, precision) for name, folder in shipped.items()},
    }
    for length in (256, 1024):
        store = TokenStore(run.path("tokens", "validation"), length)
        for name, model in models.items():
            found[f"{name}, {length} tokens"] = model_bits_per_byte(model, store)
    return found


def reading(
    run: Run, shipped: Mapping[str, Path]
) -> tuple[dict[str, dict[str, dict[str, float]]], dict[str, dict[str, Any]]]:
    """Answers to the questions over held-out documents, by kind of prompt, for both stages.

    Also how much more other weights of a second run score on the same questions, with its 95% interval.
    """
    rows = [Example.from_json(row) for row in read_jsonl(run.path("reading", "test.jsonl"))]
    table: dict[str, dict[str, dict[str, float]]] = {}
    differences: dict[str, dict[str, Any]] = {}
    for kind in ("gold", "passages", "missing"):
        asked = [r for r in rows if r.metadata["reading"] == kind]
        marks = {}
        for stage, folder in {"stage one": run.path("pretrained"), **shipped}.items():
            # What has not learned to stop always writes the full 96 tokens, so fewer questions are put to it.
            put = asked[: 100 if stage == "stage one" else None]
            writer = Writer(load_model(folder, choose_precision("auto")), load_tokenizer(folder), 96)
            answers = [a.strip() for a in writer.answer_all([row.messages[:-1] for row in put])]
            pairs = list(zip(answers, put, strict=True))
            marks[stage] = _marks(pairs, kind)
            scored = table.setdefault(stage, {})[kind] = {"questions": len(pairs)}
            scored |= {name: mean(values) for name, values in marks[stage].items()}
            if "token_f1" in scored:
                clusters = fact_clusters(put)
                (score,) = mean_scores(marks[stage]["token_f1"][:, None], clusters, resamples=2000, seed=0)
                scored |= {"token_f1_low": score.low, "token_f1_high": score.high}
        differences[kind] = {
            name: asdict(
                paired_difference(values, marks["shipped"][name], fact_clusters(asked), resamples=2000, seed=0)
            )
            for name, values in marks.get(AGAIN, {}).items()
        }
    return table, differences


def _marks(pairs: Sequence[tuple[str, Example]], kind: str) -> dict[str, Array]:
    """What each answer is worth, by measure; ``declined`` is right for ``missing`` and a mistake for the others."""
    marks: dict[str, list[float]] = {"declined": [answer == NOT_FOUND for answer, _ in pairs]}
    if kind != "missing":
        marks["token_f1"] = [token_f1(answer, row) for answer, row in pairs]
        marks["exact_match"] = [exact_match(answer, row) for answer, row in pairs]
    if kind == "passages":
        places = [_copied_from(answer, row) for answer, row in pairs]
        marks |= {f"copied from the {name}": [place == name for place in places] for name in _PLACES}
        marks["asks for a section"] = [row.metadata["coverage"] for _, row in pairs]
    return {name: np.array(values, np.float64) for name, values in marks.items()}


def _copied_from(answer: str, row: Example) -> str:
    """``right passage`` or ``wrong passage``, by the first characters of what is copied; "" for what is not."""
    shown = row.question.rpartition("\n\nQuestion: ")[0]
    blocks = ["".join(block.split()) for block in re.split(r"\n\n(?=\[\d+\] )", shown)]
    begun, wanted = ("".join(text.split())[:30] for text in (answer, row.answer))
    found = [block for block in blocks if begun in block]
    if answer == NOT_FOUND or not found:
        return ""
    return _PLACES[0] if any(wanted in block for block in found) else _PLACES[1]


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
        "from transformers import AutoModelForCausalLM, AutoTokenizer; from pathlib import Path\n"
        "for _ in range(2):\n"
        f" t = time.perf_counter(); load_model(Path({str(base)!r}), 'fp32'); load_tokenizer(Path({str(base)!r}))\n"
        " print(time.perf_counter() - t)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, again = map(float, done.stdout.split()[-2:])
    return {"ms_per_token": min(rates), "load_seconds": first, "load_again_seconds": again}


def health(run: Run, base: Path) -> dict[str, float]:
    """500 answers, half of them from memory: how many are empty, broken or repeat themselves."""
    rows = [Example.from_json(row) for row in read_jsonl(run.path("reading", "test.jsonl"))][:500]
    alone = [[Message("user", r.question.rsplit("Question: ", 1)[-1])] for r in rows[:250]]
    prompts = [*alone, *(r.messages[:-1] for r in rows[250:])]
    writer = Writer(load_model(base, choose_precision("auto")), load_tokenizer(base), 96)
    answers = writer.answer_all(prompts)
    return {
        "generations": len(answers),
        "empty": mean(not a.strip() for a in answers),
        "broken_unicode": mean("\ufffd" in a for a in answers),
        "repeats": mean(map(_repeats, answers)),
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
    parser.add_argument("--again", required=True, help="a second run of the same command")
    parser.add_argument("--first", required=True, type=Path, help="the base that was shipped first, same tokenizer")
    args = parser.parse_args()
    set_threads(0)
    torch.manual_seed(0)
    run, second, base = Run.open(args.run), Run.open(args.again), resolve("tiny").folder
    config, again = config_of(run), second.path("model")
    if config.pretrain != config_of(second).pretrain or config.train != config_of(second).train:
        raise SystemExit(f"{args.again}: was made by another recipe than {args.run}.")
    if len({hash_file(folder / "tokenizer.json") for folder in (base, again, args.first)}) > 1:
        raise SystemExit("the tokenizers differ, so bits per byte cannot be compared token by token.")
    weights = [hash_file(folder / "model.safetensors") for folder in (base, again)]
    shipped = {"shipped": base} if weights[0] == weights[1] else {"shipped": base, AGAIN: again}
    result: dict[str, Any] = {"weights": dict(zip(("shipped", AGAIN), weights, strict=True))}
    result |= {"bits_per_byte": compression(run, config, shipped, args.first), "curve": curve(run)}
    result["reading"], differences = reading(run, shipped)
    if AGAIN in shipped:
        result[f"{AGAIN} less shipped"] = differences
    result |= {"speed": speed(base), "health": health(run, base)}
    bits = result["bits_per_byte"]
    best = min(bits[name] for name in bits if not name.endswith(" tokens") or "Kneser" in name)
    result["ratios"] = {"bits per byte, shipped / best without a network": bits["shipped, 1024 tokens"] / best}
    result |= {"machine": machine(), "versions": versions()}
    write_json(ROOT / "bench" / "results" / "base.json", result)
    print(json.dumps({k: v for k, v in result.items() if k not in ("machine", "versions")}, indent=1))


if __name__ == "__main__":
    main()
