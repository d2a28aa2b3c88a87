"""Size, speed and quality of every export format of one finished run: the embedded base, tuned on the samples.

    tinyforge demo --out demo-model
    python bench/export.py demo-model --out bench/results/export.json

Each format is exported and certified as `tinyforge export` does it; the table is what the certificates say. Tokens per
second are one process's with half the cores, and depend on the machine; the other columns do not.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from pathlib import Path
from typing import Any

FORMATS = (
    ("safetensors", "fp32"),
    ("safetensors", "bf16"),
    *(("gguf", kind) for kind in ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")),
    *(("onnx", kind) for kind in ("fp32", "fp16", "int8", "int4")),
)


def row(run: str, to: str, kind: str, folder: Path) -> dict[str, Any]:
    from tinyforge.export.artifact import export

    made = export(run, to, kind, folder)
    found = made.certificate
    checks = {check["name"]: check["value"] for check in found["checks"]}
    return {
        "format": to,
        "type": kind,
        "passed": found["passed"],
        "megabytes": round(found["size_bytes"] / 1e6, 2),
        "tokens_per_second": found["tokens_per_second"],
        "peak_megabytes": round(found["peak_memory_bytes"] / 1e6),
        "mean_kl": checks["mean KL"],
        "max_kl": checks["max KL"],
        "agreement": found["agreement"],
        "metric": found["metric"],
        "write_seconds": made.notes["seconds"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--out", default="bench/results/export.json")
    parser.add_argument("--only", default="", help="one target")
    args = parser.parse_args()
    rows = []
    print("| format | MB | tokens/s | mean KL | max KL | agreement | token F1 | loss | passed |\n" + "|---" * 9 + "|")
    with tempfile.TemporaryDirectory() as folder:
        for to, kind in FORMATS:
            if args.only not in ("", to):
                continue
            found = row(args.run, to, kind, Path(folder) / f"{to}-{kind}")
            rows.append(found)
            f1 = found["metric"] or {"artifact": 0.0, "loss": 0.0}
            quality = f"{found['mean_kl']:.2g} | {found['max_kl']:.2g} | {found['agreement']:.3f}"
            speed = f"{found['megabytes']:.1f} | {found['tokens_per_second']:.0f}"
            verdict = "yes" if found["passed"] else "NO"
            print(
                f"| {to} {kind} | {speed} | {quality} | {f1['artifact']:.3f} | {f1['loss']:.1%} | {verdict} |",
                flush=True,
            )
    machine = {"machine": platform.machine(), "python": platform.python_version()}
    Path(args.out).write_text(json.dumps({**machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
