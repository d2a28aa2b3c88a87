"""Follow a lesson word for word, as a reader would, and say how long each of its steps takes.

    python bench/tutorial.py                     lesson 1 in a clone of this repository, installed into a new
                                                 virtual environment from the package index; needs the network
    python bench/tutorial.py --reuse             the same, taking the packages that this Python has: a rehearsal
    python bench/tutorial.py --here --lesson 3   a lesson alone, with the installation that is here

A fresh run follows what is committed: a clone has nothing else. Commands that need an answer get none. Writes
bench/results/tutorial.json (seconds of each command, with machine and versions), from which docs/make_tables.py
writes the table in lesson 1; ``--here`` and ``--reuse`` write only where ``--out`` says.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

from tinyforge.environment import clock, machine, versions
from tinyforge.errors import TinyForgeError
from tinyforge.lessons.page import PageBlock, blocks
from tinyforge.lessons.place import lesson
from tinyforge.lessons.workspace import Workspace
from tinyforge.run import write_json

ROOT = Path(__file__).parent.parent
RESULT = Path(__file__).parent / "results" / "tutorial.json"
INSTALLS = "installs"  # how the reason begins for which a block is run here and nowhere else
ACTIVATE = "source .venv/bin/activate"


def sections(page: Path) -> list[tuple[str, PageBlock]]:
    """Every block with the heading it stands under."""
    heading, found = "", []
    for block in blocks(page.read_text(encoding="utf-8"), page.name):
        if block.kind == "prose":
            heading = next(reversed(re.findall(r"^## (.+)$", block.text, re.M)), heading)
        found.append((heading, block))
    return found


def step(section: str, typed: str, seconds: float) -> dict[str, Any]:
    print(f"{clock(seconds):>8}  {typed.splitlines()[0]}", file=sys.stderr, flush=True)
    return {"section": section, "typed": typed, "seconds": round(seconds, 1)}


def follow(page: Path, folder: Path) -> list[dict[str, Any]]:
    """Do what the page says from the first block that is not an installation; the steps and their seconds."""
    steps = []
    with Workspace(folder / "lesson") as workspace:
        for section, block in sections(page):
            done = workspace.run(block)
            if done.code:
                raise TinyForgeError(f"{page.name}:{block.line}: code {done.code}\n{done.output}")
            if block.kind in ("bash", "python") and not block.skipped:
                steps.append(step(section, block.text.strip(), done.seconds))
    return steps


def install(page: Path, clone: Path, reuse: bool) -> list[dict[str, Any]]:
    """Type the page's installation in a clone, line by line."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    if reuse:
        environment |= {
            "PIP_NO_INDEX": "1",
            "PIP_NO_DEPS": "1",
            "PIP_NO_BUILD_ISOLATION": "0",
        }  # 0 is how pip spells "without"
    steps = []
    for section, block in sections(page):
        if block.kind != "bash" or not block.skipped.startswith(INSTALLS):
            continue
        for line in block.text.replace("\\\n", " ").strip().splitlines():
            if line == ACTIVATE:  # a shell's own state; the Python of .venv goes on below
                continue
            began = time.monotonic()
            command = ["bash", "-c", line]
            done = subprocess.run(command, check=False, cwd=clone, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise TinyForgeError(f"{line}: code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
            steps.append(step(section, line, time.monotonic() - began))
            if reuse and (clone / ".venv").is_dir():
                packages = next((clone / ".venv" / "lib").glob("python*/site-packages"))
                (packages / "reused.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return steps


def fresh(number: int, scratch: Path, reuse: bool) -> dict[str, Any]:
    """The lesson in a clone of what is committed, by the Python of the environment that was made in it."""
    clone = scratch / "tinyforge"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    page = clone / "docs" / "tutorials" / lesson(number).name
    steps = install(page, clone, reuse)
    if not steps:
        raise TinyForgeError(f"{page.name} installs nothing; time it with --here.")
    python, own = clone / ".venv" / "bin" / "python", scratch / "lesson.json"
    environment = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    command = [str(python), "bench/tutorial.py", "--here", "--lesson", str(number), "--out", str(own)]
    subprocess.run(command, cwd=clone, env=environment, check=True)
    result: dict[str, Any] = json.loads(own.read_text(encoding="utf-8"))
    result["steps"] = [*steps, *result["steps"]]
    result["fresh"] = not reuse
    result["environment_mb"] = round(sum(p.stat().st_size for p in (clone / ".venv").rglob("*") if p.is_file()) / 1e6)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lesson", type=int, default=1, metavar="N", help="which lesson (default: %(default)s)")
    parser.add_argument("--here", action="store_true", help="install nothing: follow the lesson with this Python")
    parser.add_argument("--reuse", action="store_true", help="take the packages of this Python; nothing is fetched")
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"default: {RESULT.relative_to(ROOT)}, if fresh")
    args = parser.parse_args()
    scratch = Path(tempfile.mkdtemp())
    try:
        if args.here:
            page = lesson(args.lesson)
            result: dict[str, Any] = {"page": page.name, "steps": follow(page, scratch), "fresh": False}
            result |= {"machine": machine(), "versions": versions()}
        else:
            result = fresh(args.lesson, scratch, args.reuse)
    except TinyForgeError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    result["seconds"] = round(sum(row["seconds"] for row in result["steps"]), 1)
    print(f"{clock(result['seconds']):>8}  in all", file=sys.stderr)
    out = args.out or (RESULT if result["fresh"] else None)
    if out is not None:
        write_json(out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
