"""``tinyforge mcp``: the tools for assistants that speak the Model Context Protocol, over standard input and output."""

from __future__ import annotations

import argparse
from pathlib import Path

from tinyforge.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root", default=".", metavar="DIR", help="the folder that tools may read and write in (default: here)"
    )
    parser.epilog = 'For an assistant\'s settings: {"command": "tinyforge", "args": ["mcp", "--root", "/path/to/runs"]}'


def run(args: argparse.Namespace) -> int:
    from tinyforge.pipeline.tools import Tools, make_server

    try:
        server = make_server(Tools(Path(args.root)))
    except ImportError as error:
        raise InputError("the package mcp is not installed.", 'Install it: pip install "tinyforgeai[mcp]"') from error
    server.run("stdio")
    return 0
