"""The command line. One small module per command; what is heavy is imported inside the command."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

from tinyforge import __version__
from tinyforge.environment import worker
from tinyforge.errors import Interrupted, TinyForgeError

COMMANDS = {
    "ingest": "read documents and show what was found in each, and what was left out",
    "synthesize": "turn documents into a dataset worth training on, and say what was refused",
    "build": "turn documents into a tuned model you can talk to",
    "demo": "the same on the sample documents that TinyForge ships",
    "chat": "talk to a built model in the terminal",
    "ask": "ask a built model one question",
    "index": "make documents searchable, or bring what is indexed up to date",
    "search": "find the passages that answer a question, without a model",
    "train": "train a model on rows of your own: conversations, preferences, labels or text",
    "plan": "say what a training would take: memory, time, disk and cost",
    "sweep": "train with many settings and keep the best",
    "predict": "ask what `tinyforge train` made",
    "serve": "answer other programs, by OpenAI's API, and browsers",
    "mcp": "let an assistant search, ask, list runs and train, by the Model Context Protocol",
    "pretrain": "train a base model from scratch on a corpus",
    "data": "check, count, mend, divide and convert training data of any format, and show which tokens are learned",
    "evaluate": "ask a model questions that it has not seen, and score the answers",
    "compare": "ask several models the same questions: which is better, and is that more than chance",
    "quantize": "hold a model's weights in 8 or 4 bits",
    "prune": "take blocks, heads or neurons out of a model, and heal it",
    "distill": "teach a smaller model what a larger one says",
    "export": "write the model as a file for elsewhere, with proof that it still says the same",
    "runs": "list your runs; show, tag, compare, delete or pack one",
    "harness": "write a task for lm-evaluation-harness, and the commands that run it",
    "judge": "let a model compare the answers of two others",
    "vote": "choose between the answers of two models without knowing whose they are",
    "sampling": "show what each way of choosing the next token does to answers",
    "models": "list the base models that can be used, or print the folder of one",
    "learn": "take the tutorials in the terminal, step by step, with the real commands",
    "doctor": "check this machine: what is ready, what is missing, and what mends it",
    "config": "list every option with its default and meaning",
}

# Set unless the person set them: dependencies' telemetry and chatter off, and two caches of kernels small, oneDNN's and
# that of its wrapper in torch. They keep one for every shape of a batch, up to 1,024 of them, which on rows of mixed
# lengths comes to gigabytes and saves no time. And threads that wait for one another go to sleep sooner: on a machine
# with other work they otherwise spin away the time of the thread they wait for (docs/decisions/training.md).
_ENVIRONMENT = {
    "GOMP_SPINCOUNT": "2000",
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64",
    "LRU_CACHE_CAPACITY": "64",
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


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does: half-written files are removed, and a line says how to go on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: object) -> None:
        raise Interrupted(number)

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def _heard() -> Iterator[None]:
    """Of several workers the first one's results are printed, and no other's."""
    if worker().rank == 0:
        yield
        return
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        yield


def distributed() -> Any:
    """What only worker processes need."""
    return import_module("tinyforge.train.distributed")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0 ok, 1 failed, 2 usage or input, 3 gate failed, 130 interrupted, 143 terminated.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    command = next((word for word in given if word in COMMANDS), None)
    args = _parser(command).parse_args(given)
    args.given = given
    try:
        with _terminable(), _heard():
            code: int = import_module(f"tinyforge.cli.{args.command}").run(args)
        return code
    except TinyForgeError as error:
        if worker().size == 1 or distributed().first_to_tell():
            print(f"tinyforge: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as stop:
        if worker().rank == 0:
            print("\ntinyforge: stopped; the same command continues where this one was.", file=sys.stderr)
        return 128 + getattr(stop, "signal", 2)
    except RuntimeError as error:
        if worker().size == 1 or not distributed().lost_another(error):
            raise
        return int(distributed().DESERTED)
    except BrokenPipeError:
        # The reader of our output left (`| head`): nothing to report, and nowhere to report it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
