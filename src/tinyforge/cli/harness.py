"""``tinyforge harness RUN --out DIR``: a task for lm-evaluation-harness, and the commands that run it."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from tinyforge.cli.common import Screen, add_config_arguments, config_from, print_json
from tinyforge.errors import InputError

SECTIONS = ("seed", "evaluate")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run, or a base or model folder together with --data")
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder for the task")
    parser.add_argument("--data", metavar="FILE", default="", help="questions (default: the run's held-out sets)")
    add_config_arguments(parser, SECTIONS)


def run(args: argparse.Namespace) -> int:
    from tinyforge.evaluate.bridge import commands, write_task
    from tinyforge.pipeline.contenders import Models, Opened, is_run
    from tinyforge.pipeline.evaluate import Heard, read_questions

    config, screen = config_from(args), Screen({})
    if args.data:
        examples = read_questions(args.data, Heard(screen.say))
    elif is_run(args.run):
        sets = Opened.open(args.run, config, Models()).held_out()
        examples = [example for rows in sets.values() for example in rows]
    else:
        raise InputError(f"{args.run}: is no run, and has no questions of its own.", "Give some: --data FILE")
    task = write_task(
        Path(args.out), Path(args.run).expanduser().resolve().name, examples, config.evaluate.max_new_tokens
    )
    serve, evaluate = commands(task, args.run)
    if args.json:
        print_json({**asdict(task), "file": str(task.file), "serve": serve, "evaluate": evaluate})
        return 0
    if task.left_out:
        print(f"{task.left_out} rows left out: not a single question with an answer.", file=sys.stderr)
    print(f"{task.questions} questions in {task.file}\n\nServe the model:\n  {serve}\n")
    print(
        f"Then, in another terminal, with lm-evaluation-harness installed (pip install 'lm_eval[api]'):\n  {evaluate}"
    )
    return 0
