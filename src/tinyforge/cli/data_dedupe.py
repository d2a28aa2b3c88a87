"""``tinyforge data dedupe DATA --out FILE``: rows that repeat others left out, each listed with its twin."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from tinyforge.cli.common import print_json

_LISTED = 20


def share(text: str) -> float:
    """A number above 0 and at most 1."""
    number = float(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError("must be above 0 and at most 1")
    return number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", help="rows of any format, or a run")
    parser.add_argument("--out", required=True, metavar="FILE", help="the file to write: .jsonl, .csv or .parquet")
    parser.add_argument(
        "--threshold", type=share, default=0.8, metavar="J", help="Jaccard similarity of word 3-grams (default: 0.8)"
    )
    parser.add_argument(
        "--meaning", type=share, metavar="C", help="also leave out rows whose embeddings have this cosine; 0.95, say"
    )
    parser.add_argument("--embedding-model", default="minilm", metavar="NAME", help="for --meaning (default: minilm)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    from tinyforge.dataset.dedupe import dedupe
    from tinyforge.retrieve.embed import Embedder

    embed = Embedder(args.embedding_model).embed if args.meaning else None
    done = dedupe(Path(args.data), Path(args.out), args.threshold, args.meaning or 0.0, embed)
    if args.json:
        print_json(done.to_json())
        return 0
    from tinyforge.cli.data_validate import counted, line

    line("wrote", f"{done.written:,} rows to {done.out}")
    line("left out", counted(done.to_json()["left_out"]) or "nothing")
    for twin in done.twins[:_LISTED]:
        line("", f"{twin['row']}: {twin['how']} of {twin['twin']} ({twin['similarity']:.2f})")
    if len(done.twins) > _LISTED:
        line("", f"and {len(done.twins) - _LISTED:,} more, all listed in {done.ledger}")
    if done.dropped:
        line("unusable", f"{len(done.dropped):,} rows, first {done.dropped[0]}")
    print(f"Divide it: tinyforge data split {shlex.quote(args.out)} --out FOLDER")
    return 0
