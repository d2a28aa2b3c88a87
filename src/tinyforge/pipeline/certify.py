"""The certificate of a quantized run: the same questions as an export's, against the same limits."""

from __future__ import annotations

from typing import Any

from tinyforge.pipeline.material import Material
from tinyforge.run import Run, write_json, write_text

FAILED = "FAILED.txt"


def certify(run: Run, material: Material, bits: int) -> dict[str, Any]:
    """Replay held-out questions through the source and ``run``; writes certificate.json, and FAILED.txt on failure."""
    from dataclasses import asdict

    from tinyforge.dataset.render import stop_ids
    from tinyforge.export.certificate import checks, measure, metric
    from tinyforge.export.questions import questions
    from tinyforge.export.runners import TransformersRunner
    from tinyforge.export.thresholds import THRESHOLDS
    from tinyforge.models.resolve import load_model, load_tokenizer

    folder, limits = run.path("model"), THRESHOLDS[str(bits)]
    asked, where = questions(material.source.run)
    source = material.source.merged()
    runner = TransformersRunner(load_model(folder, "fp32").eval(), load_tokenizer(folder))
    found = measure(source, material.tokenizer, runner, asked, material.config.dataset.max_length)
    made = checks(found, limits, (stop_ids(source, material.tokenizer), runner.stops()))
    failed = [check for check in made if not check.passed]
    result: dict[str, Any] = {
        "passed": not failed,
        "questions": where,
        "checks": [{**asdict(check), "passed": check.passed} for check in made],
        "limits_because": limits.why,
        "agreement": found.agreement()[0] if found.kl else 0.0,
        "metric": metric(found) if found.scores else None,
    }
    write_json(run.path("certificate.json"), result)
    run.path(FAILED).unlink(missing_ok=True)
    if failed:
        reasons = "\n".join(f"{c.name}: {c.value:.4g}, the limit is {c.limit:.4g}" for c in failed)
        write_text(run.path(FAILED), f"This model does not say what its source says. Do not use it.\n{reasons}\n")
    return result
