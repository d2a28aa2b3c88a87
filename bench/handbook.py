"""What `tinyforge build` makes of the handbook: the scores of every variant, out of its report.

    python bench/handbook.py                       builds with the embedded base; three minutes on two cores
    python bench/handbook.py --run RUN             takes a build that is there already
    python bench/handbook.py --base FOLDER --out bench/results/handbook_larger.json      another base

Writes bench/results/handbook.json: token F1, exact match and the rest for each variant on both held-out sets with
intervals, how often retrieval finds the passage, seconds of each stage, machine and versions.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from lines import ROOT, SHARED

from tinyforge.environment import clock
from tinyforge.errors import InputError, TinyForgeError
from tinyforge.run import read_json, write_json

KEPT = ("seconds", "scores", "recall", "verdict", "machine", "versions")


def build(source: Path, base: str, out: Path) -> None:
    command = [sys.executable, "-m", "tinyforge", "build", str(source), "--base", base, "--out", str(out)]
    subprocess.run(command, check=True)


def summary(run: Path) -> dict[str, Any]:
    if not (run / "report.json").is_file():
        raise InputError(f"{run}: holds no report.json.", "Give the folder that `tinyforge build --out` made.")
    report = read_json(run / "report.json")
    training = {name: report["training"][name] for name in ("steps", "seconds", "tokens")}
    used = read_json(run / "base.json")
    command = f"tinyforge build {report['command'].split()[2]} --out RUN --base {Path(used['name']).name}"
    about = {"command": command, "base": {"name": Path(used["name"]).name, "hash": used["hash"]}, "training": training}
    return about | {name: report[name] for name in KEPT}


def show(found: dict[str, Any]) -> None:
    print(f"{'':24}{'F1 wordings':>14}{'documents':>12}")
    for name in found["scores"]["wordings"]:
        values = [found["scores"][side][name]["token_f1"]["value"] for side in ("wordings", "documents")]
        print(f"{name:24}{values[0]:>14.3f}{values[1]:>12.3f}")
    print(f"{'seconds':24}{clock(sum(found['seconds'].values())):>14}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the handbook and keep what its report says.")
    parser.add_argument("--source", type=Path, default=SHARED / "samples" / "handbook", help="documents to build from")
    parser.add_argument("--base", default="tiny", help="a base, a model folder or a hub id")
    parser.add_argument("--run", type=Path, help="a build that is there already")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "handbook.json")
    args = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            run = args.run or Path(scratch) / "run"
            if args.run is None:
                build(args.source, args.base, run)
            found = summary(run)
    except subprocess.CalledProcessError as error:
        return int(error.returncode)
    except TinyForgeError as error:
        print(f"bench/handbook.py: {error}", file=sys.stderr)
        return error.exit_code
    write_json(args.out, found)
    show(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
