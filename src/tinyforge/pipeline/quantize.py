"""`tinyforge quantize`: a run's weights in 8 or 4 bits, by the rounding that measures best."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tinyforge import __version__
from tinyforge.config import Config
from tinyforge.errors import GateError, InputError
from tinyforge.pipeline.certify import certify
from tinyforge.pipeline.material import (
    Material,
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
from tinyforge.run import Run, write_json

GROUP = 64
METHODS: dict[int, tuple[str, ...]] = {8: ("rtn", "gptq"), 4: ("rtn", "gptq", "nf4")}
TRIED: dict[int, tuple[str, ...]] = {8: ("rtn",), 4: ("rtn", "gptq")}
"""What auto compares: at 8 bits rounding alone comes so near (mean KL about 1e-5) that nothing is left to gain."""


def quantize_run(
    name: str,
    out: str | Path,
    config: Config,
    bits: int,
    method: str,
    group: int,
    data: str | None,
    say: Callable[[str, str], None],
) -> dict[str, Any]:
    """Quantize the run or base ``name`` into the run folder ``out``; returns the summary (also compress.json).

    ``method`` auto tries those of TRIED and keeps the one nearest to the source on rows that chose the checkpoint.
    Raises InputError for what cannot be quantized, GateError when the result's certificate fails; it is then kept,
    with FAILED.txt beside it.
    """
    methods = TRIED[bits] if method == "auto" else (method,)
    unknown = [wanted for wanted in methods if wanted not in METHODS[bits]]
    if unknown:
        raise InputError(f"--method {unknown[0]} does not go with {bits} bits.", f"Use {', '.join(METHODS[bits])}.")
    if bits == 4 and (group < 2 or group % 2):
        raise InputError(f"--group {group}: must be even and at least 2.", f"The default is {GROUP}.")
    material = open_material(name, data, config)
    run = Run.create(out, "quantize")
    with run.lock():
        begin(material, run)
        job = Job(run, say)
        inputs = [__version__, *material.key, bits, methods, group, config.seed]
        summary = job.stage("quantize", inputs, lambda key: _quantize(job, material, bits, methods, group))
        if summary["certificate"] and not summary["certificate"]["passed"]:
            raise GateError(
                f"{out}: does not say what {name} says: see certificate.json.",
                _way_out(bits, methods, group, material.own_rows),
            )
        return summary


def _way_out(bits: int, methods: Sequence[str], group: int, own_rows: bool) -> str:
    """What may come nearer to the source than what was tried."""
    ways = [] if "gptq" in methods else ["--method gptq"]
    if bits == 4:
        ways += [] if own_rows else ["--data with rows of yours to calibrate on"]
        ways += [f"--group {group // 2}"] if group >= 32 else []
        ways += ["--bits 8"]
    return f"Use {' or '.join(ways)}." if ways else "Keep the source as it is."


def _quantize(job: Job, material: Material, bits: int, methods: Sequence[str], group: int) -> dict[str, Any]:
    from tinyforge.models.machine import set_threads, settle_precision
    from tinyforge.models.resolve import load_model

    for note in material.notes:
        job.say("quantize", note)
    set_threads(material.config.train.threads)
    precision = settle_precision(job.run.folder, material.config.train.precision)
    with tempfile.TemporaryDirectory(dir=job.run.folder, prefix=".try-") as scratch:
        source = plain_folder(material, Path(scratch) / "source")
        reference = load_model(source, precision, material.config.trust_remote_code)
        choice = yardstick(material, reference, material.choice)
        tried = {}
        for method in methods:
            folder = Path(scratch) / method
            _round(job, material, source, folder, bits, method, group)
            tried[method] = _distance(material, folder, precision, choice)
            job.say("quantize", f"{method}: mean KL {tried[method]:.5f} on the rows that choose")
        best = min(tried, key=lambda method: tried[method])
        held = yardstick(material, reference, material.held)
        table = [measure(material, source, precision, held, "source")]
        table += [measure(material, Path(scratch) / m, precision, held, f"{bits} bits, {m}") for m in methods]
        chosen = table[1 + list(methods).index(best)]
        copy_folder(Path(scratch) / best, job.run.path("model"))
    summary = {
        "command": "quantize",
        "bits": bits,
        "method": best,
        "group": group if bits == 4 else 0,
        "tried": tried,
        "parameters": chosen["parameters"],
        "measured_on": material.where,
        "measured": chosen,
        "table": table,
        "certificate": certify(job.run, material, bits),
    }
    write_json(job.run.path("compress.json"), summary)
    return summary


def _round(job: Job, material: Material, source: Path, folder: Path, bits: int, method: str, group: int) -> None:
    """A folder with the rounded model; what is not rounded keeps the dtype that the source stores."""
    from tinyforge.compress.quantize import quantize
    from tinyforge.models.quantized import store_as
    from tinyforge.models.resolve import load_model

    trust = material.config.trust_remote_code
    if method == "nf4":
        save_model(load_model(source, "bf16", trust, "nf4"), material.tokenizer, folder)
        return
    model: Any = load_model(source, "fp32", trust)
    rows = material.calibration() if method == "gptq" else []
    if rows:
        job.say("quantize", f"{method}: calibrating on {len(rows)} rows, {sum(map(len, rows)):,} tokens")
    model = quantize(model, bits, group, method, rows, lambda done, total: job.count("blocks", done, total))
    save_model(store_as(model, stored_dtype(source)), material.tokenizer, folder)


def _distance(material: Material, folder: Path, precision: str, choice: Any) -> float:
    from tinyforge.compress.fidelity import answer_logs, fidelity
    from tinyforge.models.resolve import load_model

    model = load_model(folder, precision, material.config.trust_remote_code)
    return fidelity(choice.logs_NV, answer_logs(model, choice.rows), choice.rows).mean_kl
