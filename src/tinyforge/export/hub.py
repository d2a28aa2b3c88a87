"""``--to hub``: a transformers folder with a model card, and its upload when it is asked for by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from tinyforge import __version__
from tinyforge.errors import InputError, TinyForgeError
from tinyforge.export.safetensors import SAFETENSORS, check_nothing, open_folder, write_folder
from tinyforge.export.source import Source
from tinyforge.export.target import Target
from tinyforge.run import read_json, write_text

LIMITS = """\
- A model of this size states wrong things fluently, most of all on what is not in its documents. Check what matters.
- It was measured on questions about its own documents alone; nothing is known of its use for anything else.
- It may repeat what stands in the documents it was trained on. Publish it only where you may publish those.
"""


def write(source: Source, folder: Path, kind: str) -> dict[str, Any]:
    notes = write_folder(source, folder, kind)
    write_text(folder / "README.md", card(source, notes["parameters"]))
    return notes


def card(source: Source, parameters: int) -> str:
    """The model card: what it is made of and how it did, from the run's own files; nothing that was not measured."""
    front = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation" if source.writes else "text-classification",
        "tags": ["tinyforge"],
        **_base_fields(source),
    }
    sections = [
        "---\n" + yaml.safe_dump(front, sort_keys=False, allow_unicode=True) + "---",
        f"# {source.title}",
        f"A model of {parameters / 1e6:,.1f} million weights, made with TinyForge {__version__}.",
        "## Base and method\n\n" + _method(source),
        "## Data\n\n" + _data(source),
        "## Figures\n\n" + _figures(source),
        "## Limits\n\n" + LIMITS.rstrip(),
        "## Licence\n\n" + _licence(source),
    ]
    return "\n\n".join(sections) + "\n"


def _base_fields(source: Source) -> dict[str, str]:
    base = source.config.base
    return {"base_model": base} if re.fullmatch(r"[\w.-]+/[\w.-]+", base) and not Path(base).exists() else {}


def _method(source: Source) -> str:
    train = source.config.train
    method = "an adapter, merged into the weights" if source.adapter else "every weight trained"
    asked = f" (train.method = {train.method})" if source.run else ""
    base = source.config.base if not Path(source.config.base).exists() else Path(source.config.base).name
    how = f"{source.objective}, {method}{asked}, seed {source.config.seed}" if source.run else "untuned"
    return f"- Base: {base}\n- Method: {how}"


def _data(source: Source) -> str:
    stages = (
        [source.run.path("stages", f"{name}.json") for name in ("documents", "examples", "dataset")]
        if (source.run)
        else []
    )
    rows = []
    for path in stages:
        if path.is_file():
            summary = read_json(path)["summary"]
            counts = [f"{v:,} {k.replace('_', ' ')}" for k, v in summary.items() if isinstance(v, int)]
            rows += [f"- {path.stem}: {', '.join(counts)}"] if counts else []
    return "\n".join(rows) or "Not recorded with this model."


def _figures(source: Source) -> str:
    """The report's verdict and the token F1 of each variant on each held-out set, with its 95% interval."""
    path = source.run.path("report.json") if source.run else None
    if path is None or not path.is_file():
        return "Not measured."
    report = read_json(path)
    lines = [str(report.get("verdict", "")), "", "| set | variant | token F1 | 95% interval | questions |"]
    lines.append("|---|---|---|---|---|")
    for name, variants in report.get("scores", {}).items():
        for variant, metrics in variants.items():
            f1 = metrics.get("token_f1")
            if f1:
                lines.append(
                    f"| {name} | {variant} | {f1['value']:.3f} | {f1['low']:.3f} to {f1['high']:.3f} | {f1['n']} |"
                )
    return "\n".join(lines)


def _licence(source: Source) -> str:
    if source.config.base == "tiny":
        return (
            "The base is TinyForge's own (Apache-2.0). The documents' own licence applies to what is learned of them."
        )
    return "That of the base, and of the documents it was trained on. State both here before you publish."


def upload(folder: Path, name: str) -> str:
    """Send the folder to a private repository ``OWNER/NAME`` on the hub; returns its address.

    Raises InputError for a name that is none, TinyForgeError when the hub refuses or cannot be reached.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise InputError(f"--upload {name}: is no repository's name.", "Give OWNER/NAME.")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    try:
        api = HfApi()
        api.create_repo(name, private=True, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder)
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError) as error:
        raise TinyForgeError(
            f"the hub did not take {name}: {' '.join(str(error).split())[:200]}.", "Log in with `hf auth login`."
        ) from error
    return f"https://huggingface.co/{name}"


HUB = Target(SAFETENSORS.types, check_nothing, write, open_folder)
