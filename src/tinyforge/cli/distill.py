"""``tinyforge distill TEACHER --student layers:N --out RUN``: a smaller model that learns from a larger one."""

from __future__ import annotations

import argparse

from tinyforge.cli.common import Screen, add_config_arguments, print_json
from tinyforge.cli.quantize import add_source_arguments, print_figures, print_next

LABELS = {"distill": "making the student", "train": "teaching"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source_arguments(parser, "teacher")
    parser.add_argument(
        "--student",
        required=True,
        metavar="STUDENT",
        help="layers:N copies N of the teacher's blocks; scratch or scratch:N starts from nothing; or a run or base "
        "with the teacher's tokenizer, such as a pruned run",
    )
    add_config_arguments(parser, ("seed", "trust_remote_code", "train", "evaluate"))


def run(args: argparse.Namespace) -> int:
    from tinyforge.pipeline.distill import distill_run
    from tinyforge.pipeline.material import settle_config

    config = settle_config(args.teacher, args.config, args.settings)
    screen = Screen(LABELS)
    try:
        found = distill_run(args.teacher, args.student, args.out, config, args.data, screen.say, screen.on_status)
    finally:
        screen.close()
    if args.json:
        print_json(found)
        return 0
    print_figures(found["table"], found["measured_on"])
    print_next(args.out)
    return 0
