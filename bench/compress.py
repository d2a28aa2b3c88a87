"""Size, speed and quality of a tuned run after quantize, prune, distill and their combinations, against the targets.

    python bench/compress.py --run RUN --out DIR

RUN is a finished `tinyforge build` or `tinyforge demo`. What is made stays in DIR, so that a second call measures again
without training again. Prints the tables and one line for each target, and writes bench/results/compress.json. The
speeds are taken in turns, with one thread; quit other work first all the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from tinyforge.compress.fidelity import decode_rate
from tinyforge.compress.table import LEGEND, figures_table
from tinyforge.environment import machine, versions
from tinyforge.models.machine import set_threads, settle_precision
from tinyforge.models.resolve import load_model
from tinyforge.pipeline.distill import distill_run
from tinyforge.pipeline.material import measure, open_material, settle_config, yardstick
from tinyforge.pipeline.prune import Cut, prune_run, study
from tinyforge.pipeline.quantize import quantize_run
from tinyforge.run import Run, write_json

RESULT = Path(__file__).parent / "results" / "compress.json"
RATIOS, KINDS = (0.17, 0.34, 0.5), ("depth", "heads", "width", "wanda", "magnitude")
HALF = Cut(depth=4, width=0.3)  # of the embedded base's six blocks: half of its weights
ROUNDS = 3


def say(stage: str, note: str) -> None:
    if note:
        print(f"  {stage}: {note}", flush=True)


def make(run: str, out: Path, settings: list[str]) -> Iterator[tuple[str, Path]]:
    """Every compressed run, as (what it is, its folder)."""
    config = settle_config(run, None, settings)
    quiet: Any = lambda status: None  # noqa: E731

    def bits(source: str | Path, folder: str, bits: int, method: str) -> Path:
        quantize_run(str(source), out / folder, config, bits, method, 64, None, say)
        return out / folder

    yield "int8", bits(run, "int8", 8, "rtn")
    yield "int4, rtn", bits(run, "int4-rtn", 4, "rtn")
    yield "int4, gptq", bits(run, "int4-gptq", 4, "gptq")
    yield "nf4, bitsandbytes", bits(run, "nf4", 4, "nf4")
    prune_run(run, out / "p2", config, Cut(depth=2), "distill", None, say, quiet)
    yield "4 of 6 blocks, healed", out / "p2"
    yield "the same, int8", bits(out / "p2", "p2-int8", 8, "rtn")
    yield "the same, int4", bits(out / "p2", "p2-int4", 4, "gptq")
    prune_run(run, out / "half", config, HALF, "", None, say, quiet)
    distill_run(run, str(out / "half"), out / "student", config, None, say, quiet)
    yield "student of half the size", out / "student"
    alone = settle_config(run, None, [*settings, "train.distill_share=0"])
    distill_run(run, str(out / "half"), out / "alone", alone, None, say, quiet)
    yield "the same, without teacher", out / "alone"
    yield "student, int8", bits(out / "student", "student-int8", 8, "rtn")


def figures(run: str, made: dict[str, Path], settings: list[str]) -> tuple[list[dict[str, Any]], str]:
    config = settle_config(run, None, [*settings, "evaluate.max_questions=150"])
    set_threads(config.train.threads)
    material = open_material(run, None, config)
    precision = settle_precision(Run.open(next(iter(made.values()))).folder, config.train.precision)
    source = material.source.folder
    held = yardstick(material, load_model(source, precision), material.held)
    rows = [measure(material, source, precision, held, "source")]
    rows += [measure(material, folder / "model", precision, held, name) for name, folder in made.items()]
    models = [load_model(folder, precision) for folder in (source, *(folder / "model" for folder in made.values()))]
    for _ in range(ROUNDS):
        for row, model in zip(rows, models, strict=True):
            row["tokens_per_second"] = max(row["tokens_per_second"], round(decode_rate(model), 1))
    return rows, material.where


def targets(rows: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    source = rows["source"]

    def lost(name: str, of: str = "source") -> float:
        return float(1 - rows[name]["token_f1"] / rows[of]["token_f1"])

    healed, student = rows["4 of 6 blocks, healed"], rows["student of half the size"]
    faster = healed["tokens_per_second"] / source["tokens_per_second"]
    smaller = student["parameters"] / source["parameters"]
    above = student["token_f1"] - rows["the same, without teacher"]["token_f1"]
    four = min(("int4, rtn", "int4, gptq", "nf4, bitsandbytes"), key=lambda name: rows[name]["mean_kl"])
    return [
        line("int8: relative loss of token F1", lost("int8"), 0.01, False),
        line(f"4 bits ({four}): relative loss of token F1", lost(four), 0.03, False),
        line("pruned and healed: times faster", faster, 1.3, True),
        line("pruned and healed: relative loss of token F1", lost("4 of 6 blocks, healed"), 0.05, False),
        line("student: share of the teacher's weights", smaller, 0.5, False),
        line("student: relative loss of token F1", lost("student of half the size"), 0.10, False),
        line("student: token F1 above the same without a teacher", above, 0.0, True),
    ]


def line(name: str, value: float, target: float, more: bool) -> dict[str, Any]:
    met = value > target if more else value <= target
    print(f"{'met   ' if met else 'MISSED'}  {name}: {value:.3f}, target {'above' if more else 'at most'} {target:g}")
    return {"name": name, "value": round(value, 4), "target": target, "more_is_better": more, "met": met}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="a finished build or demo")
    parser.add_argument("--out", required=True, type=Path, help="the folder for what is made")
    parser.add_argument("--no-study", action="store_true", help="leave the table of ratios out")
    args = parser.parse_args()
    settings = ["train.threads=1", "evaluate.max_questions=60"]
    made = dict(make(args.run, args.out, settings))
    rows, where = figures(args.run, made, settings)
    tried: list[dict[str, Any]] = []
    if not args.no_study:
        tried = study(args.run, settle_config(args.run, None, settings), RATIOS, KINDS, None, say)["table"]
    console = Console(width=120, highlight=False, markup=False)
    for table in (rows, tried):
        if table:
            console.print(figures_table(table))
    console.print(LEGEND.format(where=where), soft_wrap=True)
    result = {
        "command": "python bench/compress.py --run RUN --out DIR",
        "measured_on": where,
        "table": rows,
        "pruned_not_healed": tried,
        "targets": targets({row["name"]: row for row in rows}),
        "machine": machine(),
        "versions": versions(),
    }
    write_json(RESULT, result)


if __name__ == "__main__":
    main()
