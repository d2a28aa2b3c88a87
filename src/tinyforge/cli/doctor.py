"""``tinyforge doctor``: whether this machine is ready, and what mends it where it is not."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tinyforge.cli.common import print_json

if TYPE_CHECKING:
    from tinyforge.pipeline.doctor import Finding

_MARKS = {"ok": ("ok", "green"), "warning": ("!!", "yellow"), "problem": ("NO", "red")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default=".", metavar="DIR", help="where runs would be written (default: here)")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(args: argparse.Namespace) -> int:
    """0 when nothing stands in the way, 1 when something does."""
    from tinyforge.pipeline.doctor import examine_machine

    findings = examine_machine(Path(args.out))
    broken = [finding for finding in findings if finding.state == "problem"]
    if args.json:
        print_json({"ready": not broken, "findings": [finding.to_json() for finding in findings]})
        return 1 if broken else 0
    _print(findings)
    warned = sum(finding.state == "warning" for finding in findings)
    if broken:
        print(f"\n{len(broken)} of {len(findings)} checks found a problem; each says what mends it.")
        return 1
    print(f"\nReady{f', with {warned} warnings' if warned else ''}. Next: tinyforge demo")
    return 0


def _print(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        mark, style = _MARKS[finding.state]
        line = Text.assemble((mark, style), f"  {finding.name:<{width}}  {finding.seen}")
        console.print(line, soft_wrap=True)
        if finding.fix:
            console.print(Text(f"{'':<{width + 6}}{finding.fix}", style="dim"), soft_wrap=True)
