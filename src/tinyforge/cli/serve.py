"""``tinyforge serve RUN...``: the models behind OpenAI's API, and a page to chat with them."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys

from tinyforge.cli.common import add_config_arguments, config_from
from tinyforge.errors import InputError

_OPTIONS = ("host", "port", "engine")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="runs of `tinyforge build` or `train`, model folders, bases, or folders of `export --to gguf`; "
        "NAME=PLACE gives one a name",
    )
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1; any other needs a key)")
    parser.add_argument("--port", type=int, help="port to listen on (default 8000; 0 takes a free one)")
    parser.add_argument("--api-key", metavar="KEY", help="what clients must send (default: TINYFORGE_API_KEY)")
    parser.add_argument(
        "--engine",
        choices=("auto", "transformers", "llamacpp", "vllm"),
        help="what runs the models (default auto: llamacpp for runs with an exported GGUF file, else transformers)",
    )
    parser.add_argument("--log-prompts", action="store_true", help="also log what is asked and answered")
    add_config_arguments(parser, ("serve",))


def run(args: argparse.Namespace) -> int:
    for name in _OPTIONS:
        if getattr(args, name) is not None:
            args.settings.append(f"serve.{name}={json.dumps(getattr(args, name))}")
    if args.log_prompts:
        args.settings.append("serve.log_prompts=true")
    config = config_from(args)
    if config.serve.engine == "vllm":
        raise InputError(
            "--engine vllm is not built in yet.", "Use --engine transformers, or llamacpp for an exported GGUF file."
        )

    from tinyforge.serve.catalogue import Catalogue
    from tinyforge.serve.server import Server, log_to_stderr

    key = args.api_key or os.environ.get("TINYFORGE_API_KEY", "")
    catalogue = Catalogue(config, lambda text: print(text, file=sys.stderr))
    server = Server(catalogue, config.serve, key)
    listening = server.listen()
    for place in args.runs:
        print(f"loading {place}", file=sys.stderr)
        catalogue.open(place)
    log_to_stderr()
    with contextlib.suppress(KeyboardInterrupt):
        server.run_until_stopped(listening, lambda url: _tell(url, [one.name for one in catalogue.names()], args.json))
    print("stopped; nothing is left under way.", file=sys.stderr)
    return 0


def _tell(url: str, models: list[str], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"url": url, "models": models}), flush=True)
        return
    print(f"Serving {', '.join(models)} at {url}")
    print(f"Chat in a browser: {url}/ · clients of OpenAI's API: OPENAI_BASE_URL={url}/v1 · reference: {url}/docs")
    print("Ctrl-C ends it.", flush=True)
