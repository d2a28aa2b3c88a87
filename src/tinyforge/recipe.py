"""Reading a recipe and ``--set`` into a configuration.

Later wins: the defaults in config.py, then the recipe (YAML), then ``--set section.key=value``.
"""

from __future__ import annotations

import contextlib
import difflib
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from tinyforge.config import Config, options
from tinyforge.errors import InputError
from tinyforge.run import Run, read_json


def _nearest(key: str) -> str:
    known = [name for name, *_ in options()]
    sections = sorted({name.split(".")[0] for name in known if "." in name})
    close = difflib.get_close_matches(key, known + sections, 1, 0.5)
    if not close:
        # A right name in the wrong section is as common as a misspelt one.
        last = {name.rsplit(".", 1)[-1]: name for name in known}
        close = [last[m] for m in difflib.get_close_matches(key.rsplit(".", 1)[-1], list(last), 1, 0.6)]
    return f"Did you mean {close[0]}?" if close else "See `tinyforge config` for every option."


def _line_of(text: str, location: tuple[str | int, ...]) -> int:
    """The 1-based line of a key in a YAML text (1 when it cannot be found)."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    line = 1
    for part in location:
        if not isinstance(node, yaml.MappingNode):
            break
        for key_node, value_node in node.value:
            if key_node.value == part:
                line, node = key_node.start_mark.line + 1, value_node
                break
    return line


def _read_recipe(path: Path) -> tuple[dict[str, Any], str]:
    try:
        text = path.read_text(encoding="utf-8")
        data = yaml.safe_load(text) or {}
    except FileNotFoundError:
        raise InputError(f"{path}: no such recipe.", "Give --config a YAML file.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not readable as YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}:1: a recipe is a mapping of option names to values.")
    return data, text


def _assign(data: dict[str, Any], setting: str) -> str:
    key, equals, value = setting.partition("=")
    if not equals:
        raise InputError(f"--set {setting}: expected KEY=VALUE.", "For example: --set train.epochs=3")
    place = data
    *sections, last = key.split(".")
    for section in sections:
        nested = place.setdefault(section, {})
        if not isinstance(nested, dict):
            raise InputError(f"--set {setting}: {section} is not a section.", _nearest(key))
        place = nested
    try:
        place[last] = yaml.safe_load(value) if value else ""
    except yaml.YAMLError:
        raise InputError(f"--set {setting}: the value is not YAML.", f"Quote it: --set '{key}=\"...\"'") from None
    return key


def _coerce(data: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    """YAML reads ``3`` as an integer, ``1e-3`` as text and ``off`` as false; what is declared says what was meant."""
    result: dict[str, Any] = {}
    for name, value in data.items():
        field = model.model_fields.get(name)
        result[name] = value
        if field is not None and isinstance(field.default, BaseModel) and isinstance(value, dict):
            result[name] = _coerce(value, type(field.default))
        elif field is not None and field.annotation is float and type(value) in (int, str):
            with contextlib.suppress(ValueError):  # the validator names the key and the value
                result[name] = float(value)
        elif field is not None and isinstance(value, bool) and "off" in get_args(field.annotation):
            result[name] = "on" if value else "off"
    return result


def _no_programs(recipe: str | Path, text: str, data: dict[str, Any]) -> None:
    """A recipe may come from anywhere, so it cannot name a file that would be run."""
    section = data.get("evaluate")
    named = section.get("metrics") if isinstance(section, dict) else None
    if isinstance(named, list) and any(".py" in str(name) for name in named):
        raise InputError(
            f"{recipe}:{_line_of(text, ('evaluate', 'metrics'))}: a recipe cannot name a metric in a file.",
            "Say --metric FILE.py:function on the command line.",
        )


def _for_another_command(data: dict[str, Any]) -> dict[str, Any]:
    """The options of a run, but for foreign code, which has to be allowed each time, and the processes it ran in."""
    evaluate, train = data.get("evaluate", {}), data.get("train", {})
    metrics = [name for name in evaluate.get("metrics", []) if ".py" not in str(name)]
    return {
        **data,
        "trust_remote_code": False,
        "evaluate": {**evaluate, "metrics": metrics},
        "train": {**train, "processes": 1, "accelerate_config": ""},
    }


def load_config(recipe: str | Path | None = None, settings: list[str] | None = None, own: bool = False) -> Config:
    """The resolved configuration. With ``own``, ``recipe`` is a run's config.json: what only the command line may say
    has to be said there again.

    Raises InputError naming the file, line and nearest valid key for an unknown key, and the limit for a bad value.
    """
    data: dict[str, Any] = {}
    text = ""
    if recipe is not None:
        data, text = _read_recipe(Path(recipe))
        if own:
            data = _for_another_command(data)
        if data.get("trust_remote_code"):
            raise InputError(
                f"{recipe}:{_line_of(text, ('trust_remote_code',))}: a recipe cannot switch on trust_remote_code.",
                "Say --set trust_remote_code=true on the command line.",
            )
        _no_programs(recipe, text, data)
    from_command_line = {_assign(data, setting) for setting in settings or []}
    try:
        return Config.model_validate(_coerce(data, Config))
    except ValidationError as failure:
        first = failure.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        in_recipe = text and key not in from_command_line
        place = f"{recipe}:{_line_of(text, first['loc'])}" if in_recipe else "--set"
        if first["type"] == "extra_forbidden":
            raise InputError(f"{place}: unknown option {key!r}.", _nearest(key)) from None
        raise InputError(
            f"{place}: {key} = {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}.",
            "See `tinyforge config` for every option.",
        ) from None


def config_of(run: Run) -> Config:
    """The configuration that a run was made with.

    Raises InputError when it is missing, or when this version of TinyForge does not know it.
    """
    path = run.path("config.json")
    if not path.is_file():
        raise InputError(f"{path}: not found, so nothing says how this run was made.", "Make the run again.")
    try:
        return Config.model_validate(read_json(path))
    except ValidationError as failure:
        first = failure.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        said = "unknown option" if first["type"] == "extra_forbidden" else first["msg"]
        raise InputError(
            f"{path}: {key}: {said[0].lower()}{said[1:]}.",
            "Another version of TinyForge made this run: use that version, or make the run again.",
        ) from None
