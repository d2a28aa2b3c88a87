"""`tinyforge distill`: a smaller student that learns from a teacher."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge import __version__
from tinyforge.config import Config
from tinyforge.errors import InputError
from tinyforge.pipeline.heal import heal, learns_from, training_of
from tinyforge.pipeline.material import (
    Material,
    begin,
    measure,
    open_material,
    plain_folder,
    save_model,
    stored_dtype,
    yardstick,
)
from tinyforge.pipeline.stages import Job
from tinyforge.run import Run, write_json

if TYPE_CHECKING:
    from tinyforge.train.status import Status


def distill_run(
    teacher: str,
    student: str,
    out: str | Path,
    config: Config,
    data: str | None,
    say: Callable[[str, str], None],
    on_status: Callable[[Status], None],
) -> dict[str, Any]:
    """Teach ``student`` (a run, a base, layers:N, scratch or scratch:N) what ``teacher`` says; a run folder ``out``.

    Returns the summary (also compress.json). With ``train.distill_share`` 0 the student learns from the rows alone:
    the control. Raises InputError for models that cannot be teacher and student, before anything is trained.
    """
    from tinyforge.compress.student import is_made

    material = open_material(teacher, data, config)
    taught = [] if is_made(student) else [open_material(student, None, config).hash]
    run = Run.create(out, "distill")
    with run.lock():
        begin(material, run)
        job = Job(run, say)
        inputs = [__version__, *material.key, student, taught, *learns_from(config)]
        return job.stage("distill", inputs, lambda key: _distill(job, key, material, student, on_status), trains=True)


def _distill(
    job: Job, key: str, material: Material, student: str, on_status: Callable[[Status], None]
) -> dict[str, Any]:
    from tinyforge.models.machine import set_threads, settle_precision
    from tinyforge.models.resolve import load_model

    for note in material.notes:
        job.say("distill", note)
    set_threads(material.config.train.threads)
    precision = settle_precision(job.run.folder, material.config.train.precision)
    trust = material.config.trust_remote_code
    teacher, start = plain_folder(material, job.run.path("source")), job.run.path("student")
    _begin_student(material, teacher, student, start)
    held = yardstick(material, load_model(teacher, precision, trust), material.held)
    table = [measure(material, teacher, precision, held, "teacher")]
    table.append(measure(material, start, precision, held, "student, untaught"))
    job.say("distill", f"{table[1]['parameters']:,} of the teacher's {table[0]['parameters']:,} parameters")
    trained = heal(job, key, material, start, teacher, "distill", on_status)
    table.append(measure(material, job.run.path("model"), precision, held, "student"))
    for leftover in (start, job.run.path("source")):
        shutil.rmtree(leftover, ignore_errors=True)
    summary = {
        "command": "distill",
        "student": student,
        "teacher_share": material.config.train.distill_share,
        "training": training_of(trained),
        "parameters": table[-1]["parameters"],
        "measured_on": material.where,
        "measured": table[-1],
        "table": table,
    }
    write_json(job.run.path("compress.json"), summary)
    return summary


def _begin_student(material: Material, teacher: Path, student: str, start: Path) -> None:
    """The student's first weights as a folder. Raises InputError where its tokens are not the teacher's."""
    from tinyforge.compress.student import is_made, make_student
    from tinyforge.models.resolve import load_model
    from tinyforge.train.objectives.distill import check_same_tokenizer

    if is_made(student):
        made = make_student(load_model(teacher, "fp32"), student, material.config.seed)
        save_model(made.to(stored_dtype(teacher)), material.tokenizer, start)
        return
    other = open_material(student, None, material.config)
    if other.hash == material.hash:
        raise InputError(f"--student {student}: is the teacher itself.", "Give layers:N, or another run.")
    check_same_tokenizer(other.tokenizer, material.tokenizer)
    save_model(other.source.merged().to(stored_dtype(other.source.folder)), other.tokenizer, start)
