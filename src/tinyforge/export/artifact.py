"""One export from beginning to end: check, write, run, compare, and only then take the old artifact's place."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyforge import plugins
from tinyforge.errors import InputError
from tinyforge.export import TARGETS, certificate
from tinyforge.export.questions import questions
from tinyforge.export.source import Source, open_source
from tinyforge.export.target import Target
from tinyforge.export.thresholds import threshold
from tinyforge.models.resolve import weights_of
from tinyforge.run import read_json, write_folder_atomic

PROMPT_TOKENS = 1024  # longer questions are not asked


@dataclass(frozen=True)
class Artifact:
    folder: Path
    certificate: dict[str, Any]
    notes: dict[str, Any]


def export(
    name: str, to: str, kind: str = "", out: str | Path = "", say: Callable[[str], None] = lambda text: None
) -> Artifact:
    """Export the run or base ``name``; ``kind`` "" is the target's default type, ``out`` "" a folder in the run.

    The folder is complete, certificate included, or it is not there; an older one stays until then. A failed
    certificate is returned, not raised. Raises InputError for what cannot be exported so.
    """
    target: Target = plugins.load("export", to, TARGETS)
    chosen = (kind or target.types[0]).lower()
    if chosen not in target.types:
        raise InputError(f"unknown --type {kind!r} for --to {to}.", f"Known: {', '.join(target.types)}.")
    source = open_source(name)
    folder = _folder(source, to, chosen, out)
    target.check(source, chosen)
    result: list[Artifact] = []

    def write(temporary: Path) -> None:
        say(f"writing {to} ({chosen})")
        began = time.perf_counter()
        notes = target.write(source, temporary, chosen) | {"seconds": round(time.perf_counter() - began, 2)}
        say("comparing it with its source")
        result.append(Artifact(folder, certify(source, target, temporary, to, chosen), notes))

    write_folder_atomic(folder, write)
    _tell_report(source)
    return result[0]


def _tell_report(source: Source) -> None:
    """The run's page, where it has one, shows the export's certificate."""
    if source.run is None or not source.run.path("report.json").is_file():
        return
    from tinyforge.evaluate.exports import find_exports
    from tinyforge.evaluate.report import write_report

    found = find_exports(source.run.folder, weights_of(source.folder, source.adapter))
    write_report({**read_json(source.run.path("report.json")), "exports": found}, source.run.path("report.html"))


def _folder(source: Source, to: str, kind: str, out: str | Path) -> Path:
    if not out and source.run is None:
        raise InputError(f"{source.name} is no run, so there is no folder to put the export in.", "Give --out DIR.")
    folder = Path(out) if out or source.run is None else source.run.path("exports", f"{to}-{kind}")
    made_here = (folder / "certificate.json").is_file()
    if folder.exists() and not made_here and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: already holds files that no export made.", "Give --out a new or empty folder.")
    return folder


def certify(source: Source, target: Target, folder: Path, to: str, kind: str) -> dict[str, Any]:
    """Run the artifact in ``folder`` beside its source, and write its certificate there."""
    examples, origin = questions(source.run)
    limits = threshold(kind_of_weights(to, kind), _gelu_table(source, to, kind))
    stops: tuple[set[int], set[int]] = (set(), set())
    if source.writes:
        found, stops, speed = _run(source, target, folder, kind, examples)
    else:
        found, speed = _predict(source, target, folder, kind, examples)
    about = {
        "format": to,
        "type": kind,
        "source": source.name,
        "weights": weights_of(source.folder, source.adapter),
        "objective": source.objective,
        "questions": {"from": origin, "asked": len(examples), "answer_tokens": certificate.ANSWER_TOKENS},
        "stop_tokens": {"source": sorted(stops[0]), "artifact": sorted(stops[1])},
    }
    made = certificate.checks(found, limits, stops)
    return certificate.write_certificate(folder, made, found, speed, limits, about)


def kind_of_weights(to: str, kind: str) -> str:
    """An adapter's numbers are copied as they are, into whichever file."""
    return "f32" if to == "adapter" else kind


def _gelu_table(source: Source, to: str, kind: str) -> bool:
    if to not in ("gguf", "ollama") and not (to == "adapter" and kind == "gguf"):
        return False
    from tinyforge.export.gguf_target import has_gelu

    return has_gelu(source)


def _run(source: Source, target: Target, folder: Path, kind: str, examples: Any) -> tuple[Any, Any, Any]:
    from tinyforge.dataset.render import stop_ids
    from tinyforge.models.machine import PeakMemory, resident

    before = resident()
    with PeakMemory() as memory:
        runner: Any = target.open(source, folder, kind)
        try:
            model, tokenizer = source.load(), source.tokenizer()
            found = certificate.measure(model, tokenizer, runner, examples, PROMPT_TOKENS)
            stops = (stop_ids(model, tokenizer), runner.stops())
        finally:
            runner.close()
    # llama.cpp's own process tells its own; here the source is in the same process, so its weights are taken off.
    runner.speed.peak_bytes = runner.speed.peak_bytes or max(0, memory.value() - before - _size(model))
    return found, stops, runner.speed


def _size(model: Any) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters())


def _predict(source: Source, target: Target, folder: Path, kind: str, examples: Any) -> tuple[Any, Any]:
    from tinyforge.export.runners import Speed
    from tinyforge.models.predict import predictor

    beside = source.adapter or source.folder
    own = predictor(source.objective, source.load(), source.tokenizer(), beside)
    artifact: Any = target.open(source, folder, kind)
    return certificate.compare_predictions(own, artifact, examples), Speed()
