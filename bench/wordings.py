"""What more wordings of a fact are worth: F1 on wordings that were never trained, against how many were.

    python bench/wordings.py                          5, 8, 16 and 24 wordings of each fact, two of them held out
    python bench/wordings.py --counts 5 16 --steps 120

The documents of `tinyforge demo`. Every training sees the same facts, as many steps, and is asked the same held-out
wordings; only the number of different wordings that the steps go over differs. The embedded base, the defaults of
`tinyforge train`, no dev loss to stop by. Writes bench/results/wordings.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from lines import ROOT

from tinyforge.config import Config, DatasetConfig, SynthesizeConfig
from tinyforge.dataset.split import split
from tinyforge.environment import machine, versions
from tinyforge.evaluate.metrics import exact_match, token_f1
from tinyforge.ingest import read_sources
from tinyforge.models.generate import Writer
from tinyforge.models.resolve import load_model, load_tokenizer
from tinyforge.pipeline.train import train
from tinyforge.recipe import load_config
from tinyforge.records import Example
from tinyforge.run import write_json, write_jsonl
from tinyforge.synthesize import synthesize

SAMPLES = ROOT / "src" / "tinyforge" / "samples"
HELD_OUT = DatasetConfig().held_out_wordings


def material(most: int) -> tuple[dict[str, list[Example]], list[Example]]:
    """The trained wordings of each fact, in a fixed order, and the held-out ones of the same facts."""
    documents = read_sources([SAMPLES], Config().ingest, lambda name, outcome: None).documents
    made = synthesize(documents, SynthesizeConfig(wordings=most), Config().seed).examples
    rows = split(made, DatasetConfig(), Config().seed).examples
    trained: dict[str, list[Example]] = defaultdict(list)
    for row in rows:
        if row.split == "train":
            trained[row.fact].append(row)
    return dict(trained), [row for row in rows if row.split == "wordings" and row.fact in trained]


def measure(count: int, trained: dict[str, list[Example]], asked: Sequence[Example], steps: int) -> dict[str, Any]:
    """Train on ``count`` wordings of each fact, the held-out ones counted among them, and ask the held-out ones."""
    used = [row for rows in trained.values() for row in rows[: count - HELD_OUT]]
    with tempfile.TemporaryDirectory() as name:
        path, out = Path(name) / "rows.jsonl", Path(name) / "run"
        write_jsonl(
            path, ({"messages": [{"role": m.role, "content": m.content} for m in row.messages]} for row in used)
        )
        options = ["train.epochs=1000", f"train.max_steps={steps}", "dataset.validation_split=0"]
        summary = train(path, out, load_config(None, options))
        writer = Writer(load_model(out / "model", "fp32"), load_tokenizer(out / "model"), 120)
        answers = writer.answer_all([list(row.messages[:-1]) for row in asked])
    scores = {
        name: round(fmean(score(a, row) for a, row in zip(answers, asked, strict=True)), 4)
        for name, score in (("token_f1", token_f1), ("exact_match", exact_match))
    }
    return {"wordings": count, "rows": len(used), "steps": summary["steps"], **scores}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[5, 8, 16, 24])
    parser.add_argument("--steps", type=int, default=200)
    args = parser.parse_args()
    trained, asked = material(max(args.counts))
    results: dict[str, Any] = {"facts": len(trained), "asked": len(asked), "by_wordings": []}
    for count in args.counts:
        results["by_wordings"].append(measure(count, trained, asked, args.steps))
        print(json.dumps(results["by_wordings"][-1]), flush=True)
    first, last = results["by_wordings"][0], results["by_wordings"][-1]
    results["gain"] = round(last["token_f1"] - first["token_f1"], 4)
    write_json(ROOT / "bench" / "results" / "wordings.json", {**results, "machine": machine(), "versions": versions()})


if __name__ == "__main__":
    main()
