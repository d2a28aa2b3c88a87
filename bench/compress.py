"""Size, speed and quality of a tuned run after quantize, prune, distill and their combinations, against the targets.

    tinyforge demo --out demo-model
    python bench/compress.py --run demo-model --out DIR

What is made stays in DIR, so that a second call measures again without training again; each result tells how it was
made. Prints the tables and one line for each target, and writes bench/results/compress.json. The speeds are taken in
turns, with one thread: in Python, and of the models with fewer blocks also by llama.cpp, where no Python is between the
blocks. Quit other work first.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lines import ROOT, Line, finish
from rich.console import Console

from tinyforge.compress.fidelity import decode_rate
from tinyforge.compress.table import LEGEND, figures_table
from tinyforge.errors import TinyForgeError
from tinyforge.models.machine import set_threads, settle_precision
from tinyforge.models.resolve import load_model
from tinyforge.pipeline.distill import distill_run
from tinyforge.pipeline.material import measure, open_material, settle_config, yardstick
from tinyforge.pipeline.prune import Cut, prune_run, study
from tinyforge.pipeline.quantize import quantize_run
from tinyforge.run import Run, read_json, write_json

RATIOS, KINDS = (0.17, 0.34, 0.5), ("depth", "heads", "width", "wanda", "magnitude")
HALF = Cut(depth=3, width=0.66)  # of the embedded base's six blocks: half of its weights, its embedding among them
HEALING = ["train.epochs=4", "train.threads=0"]
LEARNING = ["train.epochs=6", "train.threads=0"]
ROUNDS, QUESTIONS = 5, 6
SOURCE, THREE = "source", "3 of 6 blocks, healed"
STUDENT, ALONE = "student of half the size", "the same, without teacher"


def say(stage: str, note: str) -> None:
    if note:
        print(f"  {stage}: {note}", flush=True)


def make(run: str, out: Path, settings: list[str]) -> Iterator[tuple[str, Path]]:
    """Every compressed run, as (what it is, its folder)."""
    config, healing, learning, alone = (
        settle_config(run, None, [*settings, *more])
        for more in ([], HEALING, LEARNING, [*LEARNING, "train.distill_share=0"])
    )
    quiet: Any = lambda status: None  # noqa: E731

    def bits(source: str | Path, folder: str, bits: int, method: str) -> Path:
        quantize_run(str(source), out / folder, config, bits, method, 64, None, say)
        return out / folder

    yield "int8", bits(run, "int8", 8, "rtn")
    yield "int4, rtn", bits(run, "int4-rtn", 4, "rtn")
    yield "int4, gptq", bits(run, "int4-gptq", 4, "gptq")
    yield "nf4, bitsandbytes", bits(run, "nf4", 4, "nf4")
    prune_run(run, out / "p3", healing, Cut(depth=3), "distill", None, say, quiet)
    yield THREE, out / "p3"
    yield f"{THREE}, int8", bits(out / "p3", "p3-int8", 8, "rtn")
    yield f"{THREE}, int4", bits(out / "p3", "p3-int4", 4, "gptq")
    prune_run(run, out / "half", config, HALF, "", None, say, quiet)
    distill_run(run, str(out / "half"), out / "student", learning, None, say, quiet)
    yield STUDENT, out / "student"
    distill_run(run, str(out / "half"), out / "alone", alone, None, say, quiet)
    yield ALONE, out / "alone"
    yield "student, int8", bits(out / "student", "student-int8", 8, "rtn")
    yield "student, int4", bits(out / "student", "student-int4", 4, "gptq")


def figures(run: str, made: dict[str, Path], settings: list[str]) -> tuple[list[dict[str, Any]], str]:
    config = settle_config(run, None, [*settings, "evaluate.max_questions=150"])
    set_threads(config.train.threads)
    material = open_material(run, None, config)
    precision = settle_precision(Run.open(next(iter(made.values()))).folder, config.train.precision)
    source = material.source.folder
    held = yardstick(material, load_model(source, precision), material.held)
    rows = [measure(material, source, precision, held, SOURCE)]
    for name, folder in made.items():
        summary = read_json(folder / "compress.json")
        how = {key: summary[key] for key in ("method", "cut", "student", "training") if key in summary}
        if "student" in how:
            how["student"] = Path(how["student"]).name  # of a folder of this machine
        rows.append({**measure(material, folder / "model", precision, held, name), "made": how})
    models = [load_model(folder, precision) for folder in (source, *(folder / "model" for folder in made.values()))]
    for _ in range(ROUNDS):
        for row, model in zip(rows, models, strict=True):
            row["tokens_per_second"] = max(row["tokens_per_second"], round(decode_rate(model), 1))
    return rows, material.where


def by_llama_cpp(run: str, made: dict[str, Path], settings: list[str]) -> dict[str, float]:
    """The most tokens a second that llama.cpp writes with one thread, in float32, of each model with other blocks."""
    from tinyforge.export.gguf_target import GGUF
    from tinyforge.export.llama_runner import LlamaRunner
    from tinyforge.export.source import open_source

    asked = open_material(run, None, settle_config(run, None, settings)).questions()[:QUESTIONS]
    folders = {SOURCE: run, **{name: str(made[name]) for name in (THREE, STUDENT)}}
    best = dict.fromkeys(folders, 0.0)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        runners = {}
        for number, (name, folder) in enumerate(folders.items()):
            place = Path(scratch) / str(number)
            place.mkdir()
            GGUF.write(open_source(folder), place, "f32")
            runners[name] = stack.enter_context(LlamaRunner(next(place.iterdir()), threads=1, probabilities=0))
        for _ in range(ROUNDS):
            for messages, _example in asked:
                for name, runner in runners.items():
                    tokens, seconds = runner.speed.tokens, runner.speed.seconds
                    runner.write(runner.prompt_ids(messages), 48)
                    tokens, seconds = runner.speed.tokens - tokens, runner.speed.seconds - seconds
                    if tokens >= 8:  # of a few tokens the first weighs too much
                        best[name] = max(best[name], tokens / seconds)
    return {name: round(rate, 1) for name, rate in best.items()}


def targets(rows: dict[str, dict[str, Any]], llama: dict[str, float]) -> Iterator[Line]:
    source = rows[SOURCE]

    def lost(name: str) -> float:
        return float(1 - rows[name]["token_f1"] / source["token_f1"])

    four = min(("int4, rtn", "int4, gptq", "nf4, bitsandbytes"), key=lambda name: rows[name]["mean_kl"])
    yield Line("int8: token F1 lost", lost("int8"), "", 0.01)
    yield Line(f"4 bits ({four}): token F1 lost", lost(four), "", 0.03)
    faster = rows[THREE]["tokens_per_second"] / source["tokens_per_second"]
    yield Line(f"{THREE}: speed", faster, "x", 1.3, more=True)
    yield Line(f"{THREE}: in llama.cpp", llama[THREE] / llama[SOURCE], "x", 1.3, more=True)
    yield Line(f"{THREE}: token F1 lost", lost(THREE), "", 0.05)
    yield Line("student: of its teacher's weights", rows[STUDENT]["parameters"] / source["parameters"], "", 0.5)
    yield Line("student: token F1 lost", lost(STUDENT), "", 0.10)
    above = rows[STUDENT]["token_f1"] / rows[ALONE]["token_f1"]
    yield Line("student: F1 by that without teacher", above, "x", 1.0, more=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="a finished build or demo of the embedded base")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="the folder for what is made")
    parser.add_argument("--only-make", action="store_true", help="train and quantize, and measure another time")
    parser.add_argument("--result", type=Path, default=ROOT / "bench" / "results" / "compress.json")
    args = parser.parse_args()
    settings = ["train.threads=1", "evaluate.max_questions=60"]
    try:
        made = dict(make(args.run, args.out, settings))
        tried = tried_ratios(args.run, args.out / "study.json", settings)
        if args.only_make:
            return 0
        rows, where = figures(args.run, made, settings)
        llama = by_llama_cpp(args.run, made, settings)
    except TinyForgeError as error:
        print(f"bench/compress.py: {error}", file=sys.stderr)
        return error.exit_code
    console = Console(width=120, highlight=False, markup=False)
    for table in (rows, tried):
        console.print(figures_table(table))
    console.print(LEGEND.format(where=where), soft_wrap=True)
    print(f"llama.cpp, f32, one thread: {', '.join(f'{name} {rate:,.0f} tok/s' for name, rate in llama.items())}")
    measured = list(targets({row["name"]: row for row in rows}, llama))
    return finish(
        measured,
        args.result,
        command="python bench/compress.py --run RUN --out DIR",
        healing=HEALING,
        learning=LEARNING,
        measured_on=where,
        table=rows,
        llama_cpp_tokens_per_second=llama,
        pruned_not_healed=tried,
    )


def tried_ratios(run: str, kept: Path, settings: list[str]) -> list[dict[str, Any]]:
    """Every kind of pruning at several ratios, not healed; measured once."""
    if not kept.is_file():
        write_json(kept, study(run, settle_config(run, None, settings), RATIOS, KINDS, None, say)["table"])
    found: list[dict[str, Any]] = read_json(kept)
    return found


if __name__ == "__main__":
    sys.exit(main())
