"""`tinyforge prune`: blocks, heads or neurons out of a run's model, and what was lost learned again."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge import __version__
from tinyforge.config import Config
from tinyforge.errors import InputError
from tinyforge.pipeline.heal import WAYS, heal, learns_from, training_of
from tinyforge.pipeline.material import (
    Material,
    Yardstick,
    begin,
    copy_folder,
    measure,
    open_material,
    plain_folder,
    save_model,
    stored_dtype,
    yardstick,
)
from tinyforge.pipeline.stages import Job
from tinyforge.run import Run, hash_json, write_json

if TYPE_CHECKING:
    from tinyforge.train.status import Status

Say = Callable[[str, str], None]
KINDS = ("depth", "heads", "width", "wanda", "magnitude")


@dataclass(frozen=True)
class Cut:
    """What to remove: ``depth`` blocks or the very ``layers``; shares of heads and neurons; shares of single weights.

    ``pattern`` keeps so many of every so many inputs, such as 2:4. Structured parts go first, in that order.
    """

    depth: int = 0
    layers: tuple[int, ...] = ()
    heads: float = 0.0
    width: float = 0.0
    unstructured: float = 0.0
    pattern: str = ""
    scores: str = "wanda"

    def check(self) -> None:
        """Raises InputError when nothing is removed, or the same thing twice."""
        from tinyforge.compress.masks import parse_pattern

        if not any((self.depth, self.layers, self.heads, self.width, self.unstructured, self.pattern)):
            raise InputError("nothing is to be removed.", "Give --depth N, --heads SHARE, --width SHARE or --ratios.")
        if self.depth and self.layers:
            raise InputError("--depth and --layers both say which blocks go.", "Give one of them.")
        if self.unstructured and self.pattern:
            raise InputError("--unstructured and --pattern both say which weights go.", "Give one of them.")
        for name in ("heads", "width", "unstructured"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"--{name} {getattr(self, name):g}: is no share.", "Give a number from 0 to 1.")
        if self.pattern:
            parse_pattern(self.pattern)


def prune_run(
    name: str, out: str | Path, config: Config, cut: Cut, way: str, data: str | None, say: Say, on_status: Any
) -> dict[str, Any]:
    """Prune the run or base ``name`` into the run folder ``out``; returns the summary (also compress.json).

    ``way`` is how it is healed: distill, sft or not at all (empty). Raises InputError for what cannot be pruned.
    """
    cut.check()
    if way and (cut.unstructured or cut.pattern):
        raise InputError("healing would fill the zeros of a mask again.", "Leave --heal away, or prune structures.")
    material = open_material(name, data, config)
    run = Run.create(out, "prune")
    with run.lock():
        begin(material, run)
        job = Job(run, say)
        trained = [way, learns_from(config) if way in WAYS else []]
        inputs = [__version__, *material.key, asdict(cut), trained, config.seed]
        return job.stage("prune", inputs, lambda key: _prune(job, key, material, cut, way, on_status), trains=True)


def _prune(
    job: Job, key: str, material: Material, cut: Cut, way: str, on_status: Callable[[Status], None]
) -> dict[str, Any]:
    from tinyforge.models.resolve import load_model

    precision = _begin(job, material)
    source = plain_folder(material, job.run.path("source"))
    trust = material.config.trust_remote_code
    held = yardstick(material, load_model(source, precision, trust), material.held)
    pruned = job.run.path("pruned")
    model, removed = cut_model(load_model(source, "fp32", trust), cut, material.calibration(), job.say)
    save_model(model.to(stored_dtype(source)), material.tokenizer, pruned)
    table = [measure(material, source, precision, held, "source"), measure(material, pruned, precision, held, "pruned")]
    training = None
    if way:
        training = training_of(heal(job, key, material, pruned, source, way, on_status))
        table.append(measure(material, job.run.path("model"), precision, held, f"healed ({way})"))
    else:
        job.overwrite()
        copy_folder(pruned, job.run.path("model"))
    for leftover in (pruned, job.run.path("source")):
        shutil.rmtree(leftover, ignore_errors=True)
    summary = {
        "command": "prune",
        "cut": asdict(cut),
        "removed": removed,
        "training": training,
        "parameters": table[-1]["parameters"],
        "measured_on": material.where,
        "measured": table[-1],
        "table": table,
    }
    write_json(job.run.path("compress.json"), summary)
    return summary


def _begin(job: Job, material: Material) -> str:
    from tinyforge.models.machine import set_threads, settle_precision

    for note in material.notes:
        job.say("prune", note)
    set_threads(material.config.train.threads)
    return settle_precision(job.run.folder, material.config.train.precision)


def cut_model(model: Any, cut: Cut, rows: list[list[int]], say: Say) -> tuple[Any, dict[str, Any]]:
    """The model without what ``cut`` names, and what that came to."""
    from tinyforge.compress.depth import block_influence, drop_blocks, least_influential
    from tinyforge.compress.masks import parse_pattern, prune_weights
    from tinyforge.compress.width import narrow_heads, narrow_mlp

    removed: dict[str, Any] = {}
    if cut.depth or cut.layers:
        influence = block_influence(model, rows)
        drop = list(cut.layers) or least_influential(influence, cut.depth)
        say("prune", "block influence: " + ", ".join(f"{n}: {value:.3f}" for n, value in enumerate(influence)))
        say("prune", f"without block {', '.join(map(str, drop))}")
        model = drop_blocks(model, drop)
        removed |= {"influence": influence, "blocks": drop}
    if cut.heads:
        before = model.config.num_attention_heads
        model = narrow_heads(model, cut.heads, rows)
        removed["heads"] = [before, model.config.num_attention_heads]
        say("prune", f"{before} heads in each block, now {model.config.num_attention_heads}")
    if cut.width:
        before = model.config.intermediate_size
        model = narrow_mlp(model, cut.width, rows)
        removed["neurons"] = [before, model.config.intermediate_size]
        say("prune", f"{before} neurons in each MLP, now {model.config.intermediate_size}")
    if cut.unstructured or cut.pattern:
        pattern = parse_pattern(cut.pattern) if cut.pattern else None
        removed["zeros"] = prune_weights(model, cut.unstructured, pattern, cut.scores, rows)
        say("prune", f"{removed['zeros']:.1%} of the matrices' weights are zero; size and speed stay, for study only")
    return model, removed


def study(
    name: str, config: Config, ratios: Sequence[float], kinds: Sequence[str], data: str | None, say: Say
) -> dict[str, Any]:
    """The table of every kind at every ratio, not healed; no run is made. Raises InputError for no kind or ratio."""
    from tinyforge.models.machine import choose_precision, set_threads
    from tinyforge.models.resolve import load_model

    for ratio in ratios:
        if not 0 < ratio < 1:
            raise InputError(f"--ratios {ratio:g}: is no share.", "Give numbers between 0 and 1, such as 0.1,0.25.")
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"--kinds {kind}: is no kind.", f"Known: {', '.join(KINDS)}.")
    material = open_material(name, data, config)
    for note in material.notes:
        say("prune", note)
    set_threads(config.train.threads)
    precision = choose_precision(config.train.precision)
    with tempfile.TemporaryDirectory() as scratch:
        source = plain_folder(material, Path(scratch) / "source")
        held = yardstick(material, load_model(source, precision, config.trust_remote_code), material.held)
        table = [measure(material, source, precision, held, "source")]
        done: dict[str, str] = {}
        for kind in kinds:
            for ratio in ratios:
                table += _try(material, source, kind, ratio, precision, held, Path(scratch) / "model", done, say)
    return {"command": "prune", "study": True, "measured_on": material.where, "table": table}


def _try(
    material: Material,
    source: Path,
    kind: str,
    ratio: float,
    precision: str,
    held: Yardstick,
    folder: Path,
    done: dict[str, str],
    say: Say,
) -> list[dict[str, Any]]:
    """The row of one cut; none for a cut that is impossible, or ``done`` already because the shapes allow few."""
    from tinyforge.compress.blocks import blocks_of
    from tinyforge.models.resolve import load_model

    model: Any = load_model(source, "fp32", material.config.trust_remote_code)
    try:
        cut = _cut(kind, ratio, len(blocks_of(model)))
        cut.check()
        model, removed = cut_model(model, cut, material.calibration(), lambda stage, note: None)
    except InputError as error:
        say("prune", f"{kind} {ratio:.0%}: left out: {error.message}")
        return []
    name = f"{kind} {ratio:.0%}"
    if "heads" in removed:
        before, left = removed["heads"]
        name += f", {before} to {left}"
    same = done.setdefault(hash_json([kind, removed]), name)
    if same != name:
        say("prune", f"{kind} {ratio:.0%}: left out: for these shapes it is the cut of {same}")
        return []
    save_model(model.to(stored_dtype(source)), material.tokenizer, folder)
    row = measure(material, folder, precision, held, name)
    say("prune", f"{row['name']}: mean KL {row['mean_kl']:.4f}")
    return [{**row, "kind": kind, "ratio": ratio, "removed": removed}]


def _cut(kind: str, ratio: float, blocks: int) -> Cut:
    if kind == "depth":
        return Cut(depth=round(ratio * blocks))
    if kind == "heads":
        return Cut(heads=ratio)
    if kind == "width":
        return Cut(width=ratio)
    return Cut(unstructured=ratio, scores=kind)
