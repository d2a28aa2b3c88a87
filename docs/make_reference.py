"""Write docs/reference from the declarations that the program itself uses; a test fails when the pages are stale."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

from tinyforge.cli import COMMANDS
from tinyforge.config import options

REFERENCE = Path(__file__).parent / "reference"
_STARS: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
_MADE_BY = "<!-- Written by `make docs`; change the program, not this page. -->"

EXIT_CODES = {
    0: "done",
    1: "it went wrong in a way that is not about your input",
    2: "your input or the way of calling cannot be used; the line says which and what to do",
    3: "the work is done, and a quality gate that you asked for refused the result",
    130: "stopped with Ctrl-C; the same command continues",
}


def pages() -> dict[str, str]:
    """File name -> content of every page."""
    return {"cli.md": _commands(), "configuration.md": _configuration(), "python.md": _python()}


def _commands() -> str:
    parts = [_MADE_BY, "# The command line", "`tinyforge COMMAND --help` says the same in the terminal."]
    parts += [_command(name, summary) for name, summary in COMMANDS.items()]
    codes = [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    parts += ["## Exit codes", "\n".join(["| Code | Meaning |", "|---|---|", *codes])]
    return "\n\n".join(parts) + "\n"


def _command(name: str, summary: str) -> str:
    # Read from the parser's actions: argparse words its help text differently from one Python to the next.
    parser = argparse.ArgumentParser(prog=f"tinyforge {name}", add_help=False)
    import_module(f"tinyforge.cli.{name}").add_arguments(parser)
    parts = [f"## tinyforge {name}", f"{summary[0].upper()}{summary[1:]}."]
    nested = next((a for a in parser._actions if isinstance(a, argparse._SubParsersAction)), None)
    if nested is None:
        return "\n\n".join([*parts, *_described(f"tinyforge {name}", parser._actions)])
    summaries = {choice.dest: choice.help or "" for choice in nested._choices_actions}
    for action, inner in nested.choices.items():
        told = f"{summaries[action][:1].upper()}{summaries[action][1:]}."
        own = [a for a in inner._actions if not isinstance(a, argparse._HelpAction)]
        parts += [f"### tinyforge {name} {action}", told, *_described(f"tinyforge {name} {action}", own)]
    return "\n\n".join(parts)


def _described(prog: str, actions: list[argparse.Action]) -> list[str]:
    usage = " ".join([prog, *map(_usage, sorted(actions, key=lambda a: bool(a.option_strings)))])
    rows = [f"| `{_shown(action)}` | {action.help or ''} |" for action in actions]
    parts = [f"```\n{usage}\n```"]
    if rows:
        parts.append("\n".join(["| Argument | Meaning |", "|---|---|", *rows]))
    if any("--set" in action.option_strings for action in actions):
        parts.append("The keys for `--set` and `--config` are in [configuration.md](configuration.md).")
    return parts


def _metavar(action: argparse.Action) -> str:
    if action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return str(action.metavar or action.dest.upper())


def _shown(action: argparse.Action) -> str:
    """The argument as it is typed: ``SOURCE`` or ``--out DIR``."""
    if not action.option_strings:
        return _metavar(action)
    flag = ", ".join(action.option_strings)
    return flag if action.nargs == 0 else f"{flag} {_metavar(action)}"


def _usage(action: argparse.Action) -> str:
    if action.option_strings:
        return _shown(action) if action.required else f"[{_shown(action)}]"
    shown = _metavar(action)
    return {"+": f"{shown}...", "?": f"[{shown}]", "*": f"[{shown}...]"}.get(str(action.nargs), shown)


def _configuration() -> str:
    parts = [
        _MADE_BY,
        "# Configuration",
        "Every option, its type and its default. Set one with `--set train.epochs=3`, or several in a recipe (YAML) "
        "given with `--config`. Later wins: defaults, recipe, `--set`. An unknown key is an error that names the "
        "nearest valid one. What a run used is saved in its `config.json`.",
    ]
    for section, rows in groupby(options(), key=lambda row: row[0].rpartition(".")[0]):
        parts.append(f"## {section or 'general'}")
        lines = ["| Option | Type | Default | Meaning |", "|---|---|---|---|"]
        for key, kind, default, help_text in rows:
            shown = kind.replace("|", "\\|")
            lines.append(f"| `{key}` | {shown} | `{default}` | {help_text} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


# What a program may rely on: module -> names. Everything else may change from one version to the next.
PUBLIC = {
    "tinyforge": ("Trainer", "TrainingConfig"),
    "tinyforge.recipe": ("load_config",),
    "tinyforge.records": ("Document", "Span", "Block", "Section", "Message", "Example", "Tokens", "Score", "Hit"),
    "tinyforge.models.sampling": ("Sampling",),
    "tinyforge.run": ("Run",),
    "tinyforge.errors": ("TinyForgeError", "InputError", "GateError", "TrainingError"),
}


def _python() -> str:
    lead = (
        "What a program can rely on. `import tinyforge` brings in nothing heavy; names are loaded when they are used."
    )
    parts = [_MADE_BY, "# From Python", lead]
    for module, names in PUBLIC.items():
        parts.append(f"## {module}")
        for name in names:
            parts += _object(module, name, getattr(import_module(module), name))
    return "\n\n".join(parts) + "\n"


def _object(module: str, name: str, found: Any) -> list[str]:
    parts = [f"### {name}", f"```\nfrom {module} import {name}\n```", _text(found)]
    if dataclasses.is_dataclass(found):
        rows = [
            f"| `{field.name}` | `{_type(field.type)}` | {_default(field)} |" for field in dataclasses.fields(found)
        ]
        parts.append("\n".join(["| Field | Type | Default |", "|---|---|---|", *rows]))
    if inspect.isclass(found):
        for label, member in vars(found).items():
            call = getattr(member, "__func__", member)
            if not label.startswith("_") and inspect.isfunction(call):
                parts.append(f"**`{label}({_parameters(call)})`**: {_text(call)}")
    elif inspect.isfunction(found):
        parts.append(f"**`{name}({_parameters(found)})`**")
    return [part for part in parts if part]


def _text(found: Any) -> str:
    """The docstring as Markdown; a class without one of its own has none, whatever its base says."""
    told = found.__doc__ or ""
    return (
        inspect.cleandoc(told).replace("``", "`").replace("::\n", ":\n")
        if not told.startswith(f"{_name(found)}(")
        else ""
    )


def _name(found: Any) -> str:
    return str(getattr(found, "__name__", ""))


def _type(annotation: Any) -> str:
    return str(annotation).replace("|", "\\|")


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{field.default!r}`".replace("|", "\\|")
    return "made new" if field.default_factory is not dataclasses.MISSING else "needed"


def _parameters(call: Any) -> str:
    """Names, and defaults where they are plain values."""
    shown = []
    for parameter in inspect.signature(call).parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        plain = isinstance(parameter.default, str | int | float | bool | tuple | type(None))
        given = f"={parameter.default!r}" if parameter.default is not parameter.empty and plain else ""
        stars = _STARS.get(parameter.kind, "")
        shown.append(f"{stars}{parameter.name}{given}")
    return ", ".join(shown)


def main() -> None:
    REFERENCE.mkdir(exist_ok=True)
    for name, content in pages().items():
        (REFERENCE / name).write_text(content, encoding="utf-8")
        print(f"wrote {REFERENCE / name}")


if __name__ == "__main__":
    main()
