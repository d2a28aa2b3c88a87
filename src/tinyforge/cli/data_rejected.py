"""``tinyforge data rejected RUN --gate NAME``: what was refused, by which gate, on what evidence."""

from __future__ import annotations

import argparse

from tinyforge.cli.common import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="the folder of a `tinyforge synthesize` or `build`")
    parser.add_argument("--gate", default="", metavar="NAME", help="only gates whose name holds this: duplicate, vague")
    parser.add_argument("--limit", type=int, default=10, metavar="N", help="show at most this many (default: 10)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    from tinyforge.cli.data_why import line, show
    from tinyforge.pipeline.examples import LEDGER
    from tinyforge.run import Run
    from tinyforge.synthesize.ledger import gates, rejected

    ledger = Run.open(args.run).path(*LEDGER)
    counts = gates(ledger)
    chosen = {name: count for name, count in counts.items() if args.gate in name}
    found = rejected(ledger, args.gate, args.limit)
    if args.json:
        print_json({"gates": chosen, "rejected": [entry.to_json() for entry in found]})
        return 0
    for entry in found:
        show(entry)
        print()
    if found:
        line("shown", f"{len(found)} of {sum(chosen.values()):,}: {_counted(chosen)}")
    else:
        line("none", f"gates that refused something: {_counted(counts) or 'none'}")
    return 0


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
