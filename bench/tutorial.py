"""Follow a lesson word for word, as a reader would, and say how long each of its blocks takes.

    .venv/bin/python bench/tutorial.py             # lesson 1, in a new folder
    .venv/bin/python bench/tutorial.py --lesson 3

Writes bench/results/tutorial.json: seconds for each block, with machine and versions.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tinyforge.environment import clock, machine, versions
from tinyforge.lessons.page import blocks
from tinyforge.lessons.place import lesson
from tinyforge.lessons.workspace import Workspace
from tinyforge.run import write_json

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lesson", type=int, default=1)
    args = parser.parse_args()
    page = lesson(args.lesson)
    rows = []
    with tempfile.TemporaryDirectory() as folder, Workspace(Path(folder) / "lesson") as workspace:
        for block in blocks(page.read_text(encoding="utf-8"), page.name):
            if block.kind not in ("bash", "python") or block.skipped:
                workspace.run(block)
                continue
            done = workspace.run(block)
            if done.code:
                print(f"{page.name}:{block.line}: code {done.code}\n{done.output}", file=sys.stderr)
                return 1
            rows.append({"line": block.line, "typed": block.text.strip(), "seconds": round(done.seconds, 1)})
            print(f"{clock(done.seconds):>7}  {block.text.strip().splitlines()[0]}")
    total = round(sum(row["seconds"] for row in rows), 1)
    print(f"{clock(total):>7}  in all")
    result = {"page": page.name, "blocks": rows, "seconds": total, "machine": machine(), "versions": versions()}
    write_json(RESULTS / "tutorial.json", result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
