"""``tinyforge runs list|show|tag|diff|delete|export``: the runs below a folder."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinyforge.cli.common import print_json
from tinyforge.errors import InputError
from tinyforge.registry.facts import Facts
from tinyforge.registry.state import STATES
from tinyforge.registry.store import Registry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = _action(actions, "list", "every run, oldest first", ())
    listed.add_argument("--state", choices=STATES, help="only runs in this state")
    _action(actions, "show", "one run: where it comes from, what it is, how good it is", ("RUN",))
    tagged = _action(actions, "tag", "say whether a run may be used", ("RUN",))
    tagged.add_argument("state", choices=STATES, help="its new state")
    tagged.add_argument("--note", default="", metavar="TEXT", help="why")
    _action(actions, "diff", "what two runs differ in", ("A", "B"))
    deleted = _action(actions, "delete", "remove a run's folder; released runs are refused", ("RUN",))
    deleted.add_argument("--yes", action="store_true", help="do not ask")
    packed = _action(actions, "export", "one run as one file, with a manifest", ("RUN",))
    packed.add_argument("--out", metavar="FILE", help="where to: .tar.gz, .tgz or .zip (default: RUN.tar.gz)")


def _action(actions: Any, name: str, summary: str, runs: Sequence[str]) -> argparse.ArgumentParser:
    added: argparse.ArgumentParser = actions.add_parser(
        name, help=summary, description=summary[0].upper() + summary[1:] + ".", allow_abbrev=False
    )
    for run in runs:
        added.add_argument(run.lower(), metavar=run, help="a run's folder, or its name below --root")
    added.add_argument("--root", default=".", metavar="DIR", help="where the runs are (default: here)")
    added.add_argument("--json", action="store_true", help="print the result as JSON")
    return added


def run(args: argparse.Namespace) -> int:
    registry = Registry(args.root)
    for note in registry.notes:
        print(f"tinyforge: {note}", file=sys.stderr)
    return int(_ACTIONS[args.action](registry, args))


def _list(registry: Registry, args: argparse.Namespace) -> int:
    runs = [facts for facts in registry.runs if args.state in (None, facts.state)]
    if args.json:
        print_json([facts.to_json() for facts in runs])
        return 0
    if not runs:
        print(f"No runs below {args.root}. Make one:  tinyforge build SOURCE --out DIR")
        return 0
    _table(
        ("run", "state", "command", "made", "from", "parameters", "size", "token F1", "dev loss"),
        [_row(registry, facts) for facts in runs],
    )
    print("\nMore of one:  tinyforge runs show RUN")
    return 0


def _row(registry: Registry, facts: Facts) -> tuple[str, ...]:
    parents = [parent.name for parent in registry.parents(facts)]
    f1, loss = _token_f1(facts), facts.metrics.get("dev_loss")
    return (
        facts.name if facts.finished else f"{facts.name} (unfinished)",
        facts.state + (" (replaced since)" if facts.replaced else ""),
        facts.command,
        facts.created[:16].replace("T", " "),
        ", ".join(parents) or facts.parent_name or facts.base_name or "-",
        f"{facts.parameters / 1e6:.1f}M" if facts.parameters else "-",
        f"{facts.model_bytes / 1e6:.1f} MB" if facts.model_bytes else "-",
        "-" if f1 is None else f"{f1:.2f}",
        "-" if loss is None else f"{loss:.3f}",
    )


def _token_f1(facts: Facts) -> float | None:
    """Of the run's own model, on new wordings of what it was taught."""
    return next((facts.metrics[n] for n in ("token_f1", "wordings.tuned.token_f1") if n in facts.metrics), None)


def _show(registry: Registry, args: argparse.Namespace) -> int:
    facts = registry.find(args.run)
    lineage = {
        "parents": [parent.name for parent in registry.parents(facts)],
        "children": [child.name for child in registry.children(facts)],
    }
    if args.json:
        print_json({**facts.to_json(), **lineage})
        return 0
    for line in _description(facts, lineage):
        print(line)
    if facts.metrics:
        print("metrics")
        for name, value in facts.metrics.items():
            print(f"  {name:<40} {value:,.4g}")
    print(f"\nUse it:  tinyforge chat {shlex.quote(str(registry.folder(facts)))}")
    return 0


def _description(facts: Facts, lineage: dict[str, list[str]]) -> list[str]:
    warned = " - the artifact is no longer the one that was tagged" if facts.replaced else ""
    lines = [
        f"{facts.name}: {facts.command}, {facts.created}, {facts.bytes / 1e6:,.1f} MB",
        f"state     {facts.state}{warned}" + (f" ({facts.note})" if facts.note else ""),
        *(f"source    {content}  {source}" for source, content in facts.sources),
        f"rows      {facts.data[:16]}" if facts.data else "",
        f"base      {facts.base[:16]}  {facts.base_name}" if facts.base else "",
        f"parent    {facts.parent[:16]}  {facts.parent_name}" if facts.parent else "",
        f"artifact  {facts.artifact[:16]}  {facts.model_bytes / 1e6:,.1f} MB"
        if facts.artifact
        else "artifact  none yet",
        f"made from {', '.join(lineage['parents'])}" if lineage["parents"] else "",
        f"led to    {', '.join(lineage['children'])}" if lineage["children"] else "",
    ]
    return [line for line in lines if line]


def _tag(registry: Registry, args: argparse.Namespace) -> int:
    from tinyforge.registry.state import write_state

    facts = registry.find(args.run)
    if args.state == "released" and not (facts.finished and facts.artifact):
        raise InputError(f"{facts.name}: is not finished.", "Run its command again; it continues where it stopped.")
    tagged = write_state(registry.folder(facts), args.state, args.note, facts.artifact)
    if args.json:
        print_json({"run": facts.name, "before": facts.state, "state": tagged.state, "artifact": tagged.artifact})
    else:
        print(f"{facts.name}: {facts.state} -> {tagged.state}")
    return 0


def _diff(registry: Registry, args: argparse.Namespace) -> int:
    from tinyforge.registry.changes import differences

    found = differences(registry.find(args.a), registry.find(args.b))
    if args.json:
        print_json(found)
        return 0
    print(f"A {found['a']}   B {found['b']}")
    for title in ("config", "lineage"):
        for key, (before, after) in found[title].items():
            print(f"  {title:<8} {key}: {_short(before)} -> {_short(after)}")
    for change, names in found["sources"].items():
        for name in names:
            print(f"  source   {change}: {name}")
    print(f"  rows     {'the same' if found['same_data'] else 'different'}")
    rows = [(name, *(_figure(row[side]) for side in ("a", "b", "change"))) for name, row in found["metrics"].items()]
    _table(("metric", "A", "B", "B - A"), rows)
    return 0


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 48 else text[:45] + "..."


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4g}"


def _delete(registry: Registry, args: argparse.Namespace) -> int:
    from tinyforge.registry.pack import delete

    facts = registry.find(args.run)
    children = [child.name for child in registry.children(facts)]
    if not args.yes and facts.state != "released":
        _confirm(facts, children)
    delete(registry.folder(facts), facts)
    if args.json:
        print_json({"deleted": facts.name, "bytes": facts.bytes, "children": children})
    else:
        print(f"Deleted {facts.name}: {facts.bytes / 1e6:,.1f} MB.")
    return 0


def _confirm(facts: Facts, children: list[str]) -> None:
    """Raises InputError unless a person says yes."""
    if not sys.stdin.isatty():
        raise InputError(f"{facts.name}: was not deleted: nobody can be asked.", "Give --yes.")
    made = f" {', '.join(children)} came of it and stay." if children else ""
    print(f"Delete {facts.name} ({facts.bytes / 1e6:,.1f} MB)?{made} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise InputError(f"{facts.name}: was not deleted.")


def _export(registry: Registry, args: argparse.Namespace) -> int:
    from tinyforge.registry.pack import pack

    facts = registry.find(args.run)
    out = Path(args.out or f"{Path(facts.name).resolve().name}.tar.gz")
    made = pack(registry.folder(facts), facts, out)
    if args.json:
        print_json({"file": str(out), "bytes": out.stat().st_size, "manifest": made})
    else:
        print(f"{out}: {len(made['files'])} files, {out.stat().st_size / 1e6:,.1f} MB; what is in it: manifest.json")
    return 0


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in titles:
        figures = title in ("parameters", "size", "token F1", "dev loss", "A", "B", "B - A")
        table.add_column(title, justify="right" if figures else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(width=140, highlight=False, markup=False).print(table)


_ACTIONS = {"list": _list, "show": _show, "tag": _tag, "diff": _diff, "delete": _delete, "export": _export}
