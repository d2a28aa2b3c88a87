"""``tinyforge data validate DATA...``: what is wrong with training data and where; ``--fix`` repairs what is safe."""

from __future__ import annotations

import argparse
import shlex
import sys
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.cli.common import add_config_arguments, config_from, print_json
from tinyforge.errors import InputError

if TYPE_CHECKING:
    from tinyforge.config import Config
    from tinyforge.dataset.mending import Mended
    from tinyforge.dataset.render import RenderReport
    from tinyforge.dataset.validate import Problem, Validation

LISTED = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        metavar="DATA",
        nargs="+",
        help=".jsonl .json .csv .tsv .parquet, a saved HF dataset's folder, or a run; further ones are tests, which "
        "must share nothing with the first",
    )
    parser.add_argument("--fix", action="store_true", help="write the rows to --out, with all that is safe mended")
    parser.add_argument("--out", metavar="FILE", help="where --fix writes: .jsonl, .csv or .parquet")
    parser.add_argument("--base", metavar="NAME", help="also refuse what training this base would refuse")
    add_config_arguments(parser, ("base", "trust_remote_code", "dataset", "train"))


def run(args: argparse.Namespace) -> int:
    from tinyforge.dataset.validate import validate

    config = config_from(args)
    paths = [Path(name) for name in args.data]
    if bool(args.fix) != bool(args.out):
        raise InputError("--fix and --out belong together.", "tinyforge data validate DATA --fix --out MENDED.jsonl")
    if args.fix and len(paths) > 1:
        raise InputError("--fix mends one file at a time.", f"Begin with {paths[0]}.")
    mended = _fix(paths[0], Path(args.out)) if args.fix else None
    found = validate([Path(args.out)] if mended else paths)
    report = _survey(paths[0] if mended is None else Path(args.out), config) if args.base and found.usable else None
    if args.json:
        print_json({**found.to_json(), **_fixed(mended), **_trained(report, config)})
    else:
        _print(found, mended, report, config)
    if report and report.refusals and not found.refused:
        raise report.refusals[0]
    return 2 if found.refused else 0


def _fix(path: Path, out: Path) -> Mended:
    from tinyforge.dataset.mending import fix

    return fix(path, out)


def _fixed(mended: Mended | None) -> dict[str, Any]:
    return {"fixed": mended.to_json()} if mended else {}


def _survey(path: Path, config: Config) -> RenderReport:
    """The rows as the base would be trained on them."""
    from tinyforge.cli.data_show import encoder
    from tinyforge.dataset.render import survey
    from tinyforge.dataset.rows import read_rows

    tokenizer, stops = encoder(config)
    found = read_rows(path)
    return survey(found.examples, tokenizer, config.dataset.max_length, stops, config.train.all_tokens)[1]


def _trained(report: RenderReport | None, config: Config) -> dict[str, Any]:
    if report is None:
        return {}
    lengths = {**_lengths(report), "limit": config.dataset.max_length}
    return {"lengths": lengths, **report.to_json(), "refusals": [str(refusal) for refusal in report.refusals]}


def _lengths(report: RenderReport) -> dict[str, int]:
    ordered = sorted(report.lengths)
    ranks = {"median": 0.5, "95th": 0.95, "longest": 1.0}
    return {name: ordered[ceil(share * len(ordered)) - 1] for name, share in ranks.items()} if ordered else {}


# --- what a person reads ----------------------------------------------------------------------------------------------


def _print(found: Validation, mended: Mended | None, report: RenderReport | None, config: Config) -> None:
    if mended:
        print_mended(mended)
    kinds = ", ".join(found.kinds) or "nothing usable"
    line("rows", f"{found.rows} read, {found.usable} usable ({kinds})")
    if found.shapes:
        line("shapes", counted(found.shapes))
    if found.labels:
        line("labels", counted(dict(found.labels.most_common(LISTED))))
    if found.unused:
        line("unread", f"fields that are not used: {counted(found.unused)}")
    for note in found.notes:
        line("note", note)
    if report:
        _print_trained(report, config)
    _print_problems(found)
    _print_next(found, mended, bool(report and report.refusals))


def _print_problems(found: Validation) -> None:
    from tinyforge.dataset.checks import KINDS
    from tinyforge.dataset.validate import listed

    shown = listed(found.problems, LISTED)
    for kind, count in found.counts.items():
        line("error" if KINDS[kind].refused else "warning", f"{kind}, {count:,}: {KINDS[kind].fix}")
        for problem in shown[kind]:
            line("", _one(problem))
        if count > len(shown[kind]):
            line("", f"and {count - len(shown[kind]):,} more (--json lists them all)")


def _one(problem: Problem) -> str:
    """With its own fix, where that says more than the one of its kind."""
    from tinyforge.dataset.checks import KINDS

    said = f"{problem.place}: {problem.detail}" if problem.detail else problem.place
    return said if problem.fix == KINDS[problem.kind].fix else f"{said}. {problem.fix}"


def _print_next(found: Validation, mended: Mended | None, refused: bool) -> None:
    from tinyforge.dataset.checks import KINDS

    source = shlex.quote(found.sources[0])
    if not found.problems and not refused:
        print(f"Nothing is wrong. Train on it: tinyforge train {source} --out RUN")
        return
    if found.refused:
        print(f"{found.refused:,} problems cannot be trained on.", file=sys.stderr)
    safe = sum(count for kind, count in found.counts.items() if KINDS[kind].mended)
    if safe and not mended:
        command = f"tinyforge data validate {source} --fix --out MENDED.jsonl"
        print(f"{safe:,} of {len(found.problems):,} can be mended: {command}")
    elif not found.refused and not refused:
        print(f"It can be trained on: tinyforge train {source} --out RUN")


def print_mended(mended: Mended) -> None:
    """What was done to each row, and what was left out."""
    line("wrote", f"{mended.written:,} rows to {mended.out}")
    if mended.repairs:
        line("mended", counted(dict(mended.repairs.most_common())))
    if mended.dropped:
        line("left out", f"{len(mended.dropped):,} rows")
        for row in mended.dropped[:LISTED]:
            line("", str(row))
        if len(mended.dropped) > LISTED:
            line("", f"and {len(mended.dropped) - LISTED:,} more (--json lists them all)")


def _print_trained(report: RenderReport, config: Config) -> None:
    limit = config.dataset.max_length
    line("tokens", " · ".join(f"{name} {count}" for name, count in _lengths(report).items()) + f" (limit {limit})")
    if report.targets:
        line("trained", f"{report.targets:,} of {report.tokens:,} tokens")
    if report.pieces:
        line("cut", f"{report.pieces} texts longer than {limit} tokens, into sequences: nothing is lost")
    if report.names:
        more = len(report.names) - LISTED
        names = ", ".join(report.names[:LISTED]) + (f" and {more} more" if more > 0 else "")
        line("left out", f"{counted(report.left_out)}: {names}")
    for refusal in report.refusals:
        line("refused", str(refusal))


def line(name: str, text: str) -> None:
    """One line of a report; what came from the data cannot steer the terminal."""
    from tinyforge.serve.terminal import plain

    print(plain(f"{name:<9} {' '.join(text.split())}"))


def counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
