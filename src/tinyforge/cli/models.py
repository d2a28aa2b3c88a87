"""``tinyforge models``: which bases can be used here, and where they lie."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from tinyforge.cli.common import print_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("list", "path"), default="list", help="list (default) or path")
    parser.add_argument("name", nargs="?", default="tiny", help="the base whose folder `path` prints (default: tiny)")
    parser.add_argument("--json", action="store_true", help="print the list as JSON")


def run(args: argparse.Namespace) -> int:
    from tinyforge.models.resolve import EMBEDDED, resolve

    if args.action == "path":
        print(resolve(args.name).folder)
        return 0
    rows = [_describe(name, folder, "embedded") for name, folder in EMBEDDED.items()]
    rows += [_describe(name, folder, "hub cache") for name, folder in _cached()]
    if args.json:
        print_json(rows)
        return 0
    for row in rows:
        context = f"context {row['context']:,}" if row["context"] else "context unknown"
        print(f"{row['name']:<40} {row['where']:<10} {row['megabytes']:>8,.1f} MB  {context}")
    print("A model folder or a hub id also works: tinyforge build SOURCE --out DIR --base FOLDER")
    return 0


def _describe(name: str, folder: Path, where: str) -> dict[str, Any]:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    size = sum(p.stat().st_size for p in folder.glob("*.safetensors"))
    return {
        "name": name,
        "where": where,
        "folder": str(folder),
        "megabytes": round(size / 1e6, 1),
        "context": config.get("max_position_embeddings"),
    }


def _cached() -> list[tuple[str, Path]]:
    """Hub models in the standard cache that have safetensors weights and a configuration."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    found = []
    for folder in sorted(cache.glob("models--*/snapshots/*")):
        if (folder / "config.json").is_file() and list(folder.glob("*.safetensors")):
            found.append((folder.parents[1].name.removeprefix("models--").replace("--", "/"), folder))
    return found
