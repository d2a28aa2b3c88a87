"""``tinyforge synthesize SOURCE... --out DIR``: documents into a dataset worth training on, and what was refused."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tinyforge.cli.common import Screen, add_config_arguments, add_source_arguments, config_from, print_json

if TYPE_CHECKING:
    from tinyforge.pipeline.teacher import Estimate

LABELS = {
    "documents": "reading the sources",
    "index": "indexing for retrieval",
    "examples": "writing grounded questions and answers",
    "dataset": "splitting by fact",
    "card": "measuring and describing the dataset",
}
_LISTED = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_arguments(parser)
    parser.add_argument("--base", metavar="BASE", help="whose tokens the examples must fit (default: tiny)")
    parser.add_argument(
        "--teacher", metavar="NAME", help="who writes further examples: URL#model, openai#model, a run, or a base"
    )
    parser.add_argument("--focus", metavar="REPORT.json", help="more examples where this report's model is wrong")
    parser.add_argument(
        "--yes", action="store_true", help="ask the teacher without asking me: I have seen the estimate"
    )
    add_config_arguments(parser, ("seed", "base", "ingest", "synthesize", "dataset", "retrieve"))


def run(args: argparse.Namespace) -> int:
    from tinyforge.pipeline.dataset import synthesize
    from tinyforge.pipeline.teacher import in_words

    for name in ("teacher", "focus"):
        if getattr(args, name):
            args.settings.append(f"synthesize.{name}={json.dumps(getattr(args, name), ensure_ascii=False)}")
    screen = Screen(LABELS)

    def confirm(estimate: Estimate) -> bool:
        if args.yes or not estimate.paid:
            return True
        screen.say("examples", in_words(estimate))
        return sys.stdin.isatty() and input("Ask the teacher? [y/N] ").strip().lower() in ("y", "yes")

    try:
        made = synthesize(args.sources, args.out, config_from(args), screen.say, confirm, screen.count)
    finally:
        screen.close()
    if args.json:
        print_json({"out": str(args.out), **{name: _without_key(summary) for name, summary in made.items()}})
    else:
        _show(made, args)
    return 0


def _without_key(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in summary.items() if name != "key"}


def _show(made: Mapping[str, Any], args: argparse.Namespace) -> None:
    examples, dataset = made["examples"], made["dataset"]
    _line("facts", f"{examples['facts']:,}, asked in {examples['examples']:,} questions")
    _line("coverage", _coverage(examples))
    for row in examples["uncovered"][:_LISTED]:
        _line("", f"nothing from {row['source']}: {row['section']} ({row['reason']})")
    if len(examples["uncovered"]) > _LISTED:
        _line("", f"and {len(examples['uncovered']) - _LISTED} more sections (--json lists them all)")
    _line("rules", _counted(examples["rules"]))
    _line("rejected", _counted(examples["rejected"]) or "nothing")
    if examples["edited"] or examples["edits_unused"]:
        _line("yours", f"{examples['edited']} edited; {len(examples['edits_unused'])} changes fit nothing any more")
    if examples["teacher"]:
        _show_teacher(examples["teacher"])
    splits = dataset["splits"].items()
    _line("splits", " · ".join(f"{name} {n['examples']:,} rows of {n['facts']:,} facts" for name, n in splits))
    _line("reading", f"{_counted(dataset['reading']) or 'no'} rows more that come with passages")
    out = shlex.quote(str(args.out))
    print(f"\nRefused: tinyforge data rejected {out}")
    print(f"Next:    {shlex.join(['tinyforge', *_as_build(args)])}")


def _as_build(args: argparse.Namespace) -> list[str]:
    """The words of the `build` that continues this."""
    words, settings = [], []
    given = iter(word for word in args.given if word not in ("--json", "--yes"))
    for word in given:
        name, equals, value = word.partition("=")
        if name in ("--teacher", "--focus"):
            settings += ["--set", f"synthesize.{name[2:]}={json.dumps(value if equals else next(given))}"]
        else:
            words.append(word)
    words[words.index("synthesize")] = "build"
    return words + settings


def _show_teacher(teacher: Mapping[str, Any]) -> None:
    tokens = f"{teacher['prompt_tokens']:,} tokens read, {teacher['completion_tokens']:,} written"
    cost = f", cost {teacher['cost']:,.4f}" if teacher["cost"] else ""
    _line("teacher", f"{teacher['teacher']}: {teacher['calls']:,} calls, {tokens}{cost}")
    _line("", f"accepted {teacher['accepted']}: {_counted(teacher['kinds']) or 'nothing'}")
    _line("", f"rejected {_counted(teacher['rejected']) or 'nothing'}")
    stopped = f"; {teacher['stopped']}" if teacher["stopped"] else ""
    _line("", f"{len(teacher['rounds'])} rounds, {teacher['units_covered']:.0%} of the fact units covered{stopped}")


def _line(name: str, text: str) -> None:
    from tinyforge.serve.terminal import plain

    print(plain(f"{name:<9} {text}"))


def _coverage(examples: Mapping[str, Any]) -> str:
    sections = examples["sections"]
    if not sections:
        return "no sections"
    covered, precise = examples["sections_covered"], examples["sections_covered_by_precise_rules"]
    return (
        f"{covered} of {sections} sections ({covered / sections:.0%}); by the precise rules alone {precise} "
        f"({precise / sections:.0%})"
    )


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
