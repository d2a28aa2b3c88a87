"""Draw the README's picture: what `tinyforge demo` prints at its end, as an SVG that loads nothing from elsewhere.

python docs/make_picture.py               runs the demo (about five minutes), then draws
python docs/make_picture.py --run FOLDER  draws the result of a run that is there already
"""

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from tinyforge.cli.demo import pick_questions
from tinyforge.evaluate.table import terminal_table

PICTURE = Path(__file__).parent / "images" / "demo.svg"
WIDTH = 92  # columns


def picture(report: Mapping[str, Any]) -> str:
    """The questions before and after, the table and the verdict of a report, as SVG text."""
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor", highlight=False
    )
    console.print("[dim]$[/dim] tinyforge demo")
    for row in pick_questions(dict(report)):
        console.print()
        console.print(Text(row["question"], style="bold"))
        for label, variant, style in (("before", "base", "red"), ("after ", "tuned", "green")):
            text = " ".join((row["answers"][variant]["text"] or "(nothing)").split())
            console.print(Text.assemble((f"  {label}  ", style), text))
        console.print(Text(f"  source  {row['source']} › {row['section']}", style="dim"))
    console.print()
    console.print(terminal_table(report))
    console.print(f"\n{report['verdict']}", markup=False)
    svg = self_contained(console.export_svg(title="tinyforge demo", unique_id="demo"))
    return "\n".join(line.rstrip() for line in svg.splitlines() if line.strip()) + "\n"


def self_contained(svg: str) -> str:
    """Without the fonts that Rich has fetched from a server; the reader's own monospace font serves."""
    without_fonts = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.S)
    return re.sub(r"<!--.*?-->", "", without_fonts, flags=re.S)


def _demo(folder: Path) -> None:
    command = [sys.executable, "-m", "tinyforge", "demo", "--out", str(folder)]
    subprocess.run(command, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the README's picture.")
    parser.add_argument("--run", type=Path, metavar="FOLDER", help="a finished run; without it, the demo is run")
    parser.add_argument("--out", type=Path, default=PICTURE, metavar="FILE.svg")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.run or Path(scratch) / "demo-model"
        if args.run is None:
            _demo(folder)
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(picture(report), encoding="utf-8")
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
