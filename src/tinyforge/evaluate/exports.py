"""What a run was exported to, as its certificates say it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinyforge.evaluate.markup import Markup, join, table, tag
from tinyforge.run import read_json

HEAD: list[object] = ["Format", "Says the same", "Mean KL", "Same token", "Token F1", "Size", "Tokens/s"]


def find_exports(run: Path, weights: Mapping[str, str]) -> list[dict[str, Any]]:
    """The certificates in the run's exports/ that are about these ``weights`` (hashes, see weights_of), by folder."""
    found = [(path.parent.name, read_json(path)) for path in sorted((run / "exports").glob("*/certificate.json"))]
    return [{"folder": name, **row} for name, row in found if row.get("weights") == weights]


def exports(report: Mapping[str, Any]) -> Markup:
    """One row for each export; nothing where there is none."""
    rows = [_row(found) for found in report.get("exports", [])]
    if not rows:
        return Markup()
    note = (
        "Each export was asked held-out questions beside the model that it came from. Mean KL: nats for each token of "
        "an answer; same token: how often both like the same one best."
    )
    return join(table(HEAD, rows, "measured"), tag("p", note, class_="note"))


def _row(found: Mapping[str, Any]) -> list[object]:
    values = {check["name"]: check["value"] for check in found["checks"]}
    failed = [check["name"] for check in found["checks"] if not check["passed"]]
    metric = found["metric"]
    return [
        f"{found['format']} {found['type']}",
        "yes" if found["passed"] else f"no: {', '.join(failed)}",
        f"{values['mean KL']:.2g}",
        f"{found['agreement']:.1%}",
        f"{metric['source']:.3f} before, {metric['artifact']:.3f} after" if metric else "-",
        f"{found['size_bytes'] / 1e6:,.1f} MB",
        f"{found['tokens_per_second']:,.0f}" if found["tokens_per_second"] else "-",
    ]
