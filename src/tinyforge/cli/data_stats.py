"""``tinyforge data stats DATA``: what the rows consist of, before anything is trained on them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tinyforge.cli.common import add_config_arguments, config_from, print_json

if TYPE_CHECKING:
    from tinyforge.config import Config

_SAMPLE = 2000  # rows that are embedded to find topics


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="rows of any format, or a run")
    parser.add_argument("--base", metavar="NAME", help="also count the tokens of this base")
    parser.add_argument(
        "--topics", action="store_true", help="group rows that name no topic by meaning (embeds 2,000 of them at most)"
    )
    add_config_arguments(parser, ("base", "trust_remote_code", "retrieve"))


def run(args: argparse.Namespace) -> int:
    from tinyforge.dataset.rows import read_rows
    from tinyforge.dataset.statistics import Options, statistics

    config = config_from(args)
    found = read_rows(args.data)
    options = Options(_counter(config) if args.base else None, _grouper(config) if args.topics else None)
    said = {"source": str(args.data), **statistics(found.examples, options), "left_out": found.reasons}
    if args.json:
        print_json(said)
    else:
        _print(said)
    return 0


def _counter(config: Config) -> Callable[[str], int]:
    from tinyforge.models.resolve import load_tokenizer, resolve

    tokenizer = load_tokenizer(resolve(config.base).folder, config.trust_remote_code)
    return lambda text: len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def _grouper(config: Config) -> Callable[[Sequence[str]], list[str]]:
    import random

    from tinyforge.dataset.topics import group, names
    from tinyforge.retrieve.embed import Embedder

    def topics(texts: Sequence[str]) -> list[str]:
        chosen = random.Random(config.seed).sample(list(texts), min(_SAMPLE, len(texts)))
        return names(chosen, group(Embedder(config.retrieve.embedding_model).embed(chosen), config.seed))

    return topics


def _print(said: dict[str, Any]) -> None:
    from tinyforge.cli.data_validate import counted, line

    line("rows", f"{said['rows']:,} ({said['kind']})" + _left_out(said["left_out"]))
    for name, spread in {"turns": said["turns"], **said["lengths"]}.items():
        if spread:
            shown = " · ".join(f"{key} {value:,}" for key, value in spread.items())
            line("length" if name != "turns" else "turns", f"{name}: {shown}" if name != "turns" else shown)
    line("language", counted(said["languages"]))
    line("copies", counted(said["copies"]) or "none")
    if said["labels"]:
        line("labels", f"{counted(said['labels'])} · balance {said['label_balance']:.2f} of 1")
    if said["topics"]:
        line("topics", f"entropy {said['topic_entropy']:.2f} of 1, by {said['topics_by']}: {counted(said['topics'])}")
    if said["difficulty"]:
        line("difficulty", counted(said["difficulty"]))
    line(
        "3-grams",
        f"{said['distinct_3_grams']:.0%} distinct; most frequent: {counted(said['top_3_grams']) or 'none twice'}",
    )
    line(
        "rude",
        f"{counted(said['rude_words'])} in {said['rows_with_rude_words']:,} rows" if said["rude_words"] else "none",
    )
    found = f"{counted(said['personal_data'])} in {said['rows_with_personal_data']:,} rows"
    line("personal", found if said["personal_data"] else "none found by form (names are not looked for)")
    if said["personal_data"]:
        print(f"Replace it by stand-ins: tinyforge data convert {said['source']} --out rows.jsonl")


def _left_out(reasons: dict[str, int]) -> str:
    from tinyforge.cli.data_validate import counted

    return f"; left out: {counted(reasons)}" if reasons else ""
