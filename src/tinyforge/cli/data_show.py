"""``tinyforge data show DATA``: rows token by token, with what is learned in colour."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from tinyforge.cli.common import add_config_arguments, config_from, print_json
from tinyforge.errors import InputError

if TYPE_CHECKING:
    from rich.text import Text

    from tinyforge.config import Config
    from tinyforge.dataset.rows import RowSet
    from tinyforge.records import Example, Tokens

_SIDES = {"preference": ("chosen", "rejected"), "labelled": ("input",), "text": ("text",), "chat": ("conversation",)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help=".jsonl .json .csv .tsv .parquet, or a saved HF dataset's folder")
    parser.add_argument("--base", metavar="NAME", help="the base whose tokens and template are used (default: tiny)")
    parser.add_argument("--rows", type=_positive, default=5, metavar="N", help="how many rows (default: 5)")
    add_config_arguments(parser, ("base", "trust_remote_code", "dataset", "train"))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def run(args: argparse.Namespace) -> int:
    from tinyforge.dataset.rows import read_rows

    config = config_from(args)
    found = read_rows(args.data)
    return _show(args, config, found, *encoder(config))


def encoder(config: Config) -> tuple[Any, set[int]]:
    """The tokenizer of the base and the ids that end an answer. Raises InputError for a base that is no decoder."""
    from tinyforge.models.resolve import load_tokenizer, resolve, saved_stop_ids

    base = resolve(config.base)
    _needs_decoder(base.folder, config)
    tokenizer = load_tokenizer(base.folder, config.trust_remote_code)
    return tokenizer, saved_stop_ids(base.folder, tokenizer)


def _needs_decoder(folder: Any, config: Config) -> None:
    from transformers import AutoConfig

    from tinyforge.models.family import family

    kind = family(AutoConfig.from_pretrained(folder, trust_remote_code=config.trust_remote_code))
    if kind != "decoder":
        raise InputError(
            f"{config.base}: is an {kind}; `tinyforge data` shows what a decoder learns.", "Use --base tiny, say."
        )


def _show(args: argparse.Namespace, config: Config, found: RowSet, tokenizer: Any, stops: set[int]) -> int:
    examples = found.examples[: args.rows]
    rows = [_row(example, config, tokenizer, stops) for example in examples]
    if args.json:
        print_json(rows)
        return 0
    from rich.console import Console

    console = Console(highlight=False)
    for row in rows:
        console.print(_heading(row), soft_wrap=True)
        for side in row["sides"]:
            name = f"{side['name']}: " if len(row["sides"]) > 1 else ""
            facts = f"  {name}{side['tokens']} tokens · {side['trained']} trained · {side['stop']}"
            console.print(facts, style="cyan", markup=False, soft_wrap=True)
            console.print(_coloured(side["spans"], console.is_terminal), soft_wrap=True)
        console.print()
    legend = "trained tokens are green, ignored ones dim" if console.is_terminal else "[[trained tokens]], ignored ones"
    console.print(f"{len(rows)} of {len(found.examples)} rows · {legend}", markup=False, soft_wrap=True)
    return 0


def _row(example: Example, config: Config, tokenizer: Any, stops: set[int]) -> dict[str, Any]:
    from tinyforge.dataset.render import place_of, render_example, sequences

    try:
        tokens = render_example(example, tokenizer, config.train.all_tokens)
    except InputError as error:
        raise InputError(f"{place_of(example)}: {error.message}", error.fix) from error
    sides = zip(_SIDES[example.kind], sequences(tokens), strict=True)
    return {
        "place": place_of(example),
        "kind": example.kind,
        "label": example.label,
        "too_long": max(len(side.ids) for side in sequences(tokens)) > config.dataset.max_length,
        "sides": [_side(name, side, tokenizer, stops, example) for name, side in sides],
    }


def _side(name: str, tokens: Tokens, tokenizer: Any, stops: set[int], example: Example) -> dict[str, Any]:
    trained = not stops.isdisjoint(tokens.labels)
    stop = "stop token trained" if trained else "NO stop token trained"
    return {
        "name": name,
        "tokens": len(tokens.ids),
        "trained": tokens.targets,
        "stop": "its class is what is learned" if example.kind == "labelled" else stop,
        "spans": _spans(tokens, tokenizer),
    }


def _spans(tokens: Tokens, tokenizer: Any) -> list[dict[str, Any]]:
    """The decoded text in stretches of trained and ignored tokens; the first token of all can never be predicted."""
    learned = [place > 0 and label >= 0 for place, label in enumerate(tokens.labels)]
    borders = [i for i in range(1, len(learned)) if learned[i] != learned[i - 1]]
    spans, before = [], ""
    for start, end in zip([0, *borders], [*borders, len(learned)], strict=True):
        text = tokenizer.decode(tokens.ids[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        spans.append({"text": text[len(before) :], "trained": learned[start]})
        before = text
    return spans


def _heading(row: dict[str, Any]) -> Text:
    from rich.text import Text

    label = f" · label {row['label']}" if row["label"] else ""
    fate = "cut into several sequences" if row["kind"] == "text" else "left out"
    long = f" · longer than dataset.max_length: {fate}" if row["too_long"] else ""
    return Text(f"{row['place']} · {row['kind']}{label}{long}", style="bold")


def _coloured(spans: list[dict[str, Any]], terminal: bool) -> Text:
    from rich.text import Text

    from tinyforge.serve.terminal import plain

    shown = Text()
    for span in spans:
        text = plain(span["text"])
        if not terminal and span["trained"]:
            text = f"[[{text}]]"
        shown.append(text, style="bold green" if span["trained"] else "dim")
    return shown
