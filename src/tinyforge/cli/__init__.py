"""The command line. One small module per command; what is heavy is imported inside the command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from tinyforge import __version__
from tinyforge.errors import TinyForgeError

COMMANDS = {
    "build": "turn documents into a tuned model you can talk to",
    "demo": "the same on the sample documents that TinyForge ships",
    "chat": "talk to a built model in the terminal",
    "ask": "ask a built model one question",
    "train": "train a model on rows of your own: conversations, preferences, labels or text",
    "predict": "ask what `tinyforge train` made",
    "pretrain": "train a base model from scratch on a corpus",
    "data": "show which tokens of your training data are learned, or check it before training",
    "models": "list the base models that can be used, or print the folder of one",
    "config": "list every option with its default and meaning",
}

# Set unless the person set them: dependencies' telemetry and chatter off, and oneDNN's cache of kernels small. It keeps
# one for every shape of a batch, up to 1,024 of them, which on rows of mixed lengths comes to gigabytes.
_ENVIRONMENT = {
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "true",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


def _parser(command: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tinyforge",
        description="Your documents in, your own small language model out. Offline, on the machine you have.",
        epilog="Start with: tinyforge demo",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"tinyforge {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        added = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name == command:  # only the command that is asked for is imported
            import_module(f"tinyforge.cli.{name}").add_arguments(added)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 ok, 1 failed, 2 usage or input, 3 gate failed, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    command = next((word for word in given if word in COMMANDS), None)
    args = _parser(command).parse_args(given)
    try:
        code: int = import_module(f"tinyforge.cli.{args.command}").run(args)
        return code
    except TinyForgeError as error:
        print(f"tinyforge: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as stop:
        print("\ntinyforge: stopped; the same command continues where this one was.", file=sys.stderr)
        return 128 + getattr(stop, "signal", 2)
    except BrokenPipeError:
        # The reader of our output left (`| head`): nothing to report, and nowhere to report it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
