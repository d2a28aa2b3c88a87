"""``tinyforge search INDEX... "question"``: the passages that fit, with the sentence that fits best marked."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tinyforge.cli.common import print_json
from tinyforge.errors import InputError

if TYPE_CHECKING:
    from tinyforge.retrieve.knowledge import Knowledge
    from tinyforge.serve.highlight import Highlighted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("indexes", nargs="+", metavar="INDEX", help="what `tinyforge index` made, or a run's folder")
    parser.add_argument("question", metavar="QUESTION")
    parser.add_argument("--passages", type=int, default=5, metavar="N", help="how many passages are shown (default 5)")
    parser.add_argument(
        "--section-characters", type=int, default=0, metavar="N", help="show the section around a passage, up to N"
    )
    parser.add_argument("--rerank", default="", metavar="FOLDER", help="a cross-encoder that orders the best anew")
    parser.add_argument("--json", action="store_true", help="print the passages as JSON")


def run(args: argparse.Namespace) -> int:
    from tinyforge.retrieve.knowledge import Knowledge
    from tinyforge.serve.highlight import highlight

    if not args.question.strip():
        raise InputError("the question is empty.", "Say what to look for.")
    if args.passages < 1:
        raise InputError(f"--passages {args.passages}: must be at least 1.")
    knowledge = Knowledge.open(args.indexes, args.section_characters, args.rerank)
    found = highlight(args.question, knowledge.search(args.question, args.passages), knowledge.embedder)
    if args.json:
        print_json([_as_data(one, knowledge) for one in found])
        return 0
    for number, one in enumerate(found, 1):
        _show(number, one, knowledge)
    return 0


def _as_data(one: Highlighted, knowledge: Knowledge) -> dict[str, Any]:
    hit = one.hit
    return {
        "source": hit.source,
        "section": list(hit.path),
        "page": knowledge.page(hit.span),
        "span": asdict(hit.span),
        "text": hit.text,
        "highlights": [[span.start, span.end] for span in one.spans],
        "similarity": round(hit.similarity, 4),
        "score": round(hit.score, 6),
    }


def _show(number: int, one: Highlighted, knowledge: Knowledge) -> None:
    """On a terminal what is marked is bold; elsewhere it stands between » and «."""
    from rich.console import Console
    from rich.text import Text

    from tinyforge.serve.terminal import plain

    console = Console(highlight=False)
    hit = one.hit
    page = knowledge.page(hit.span)
    place = f"{hit.source}, {' > '.join(hit.path)}{f', page {page}' if page else ''}"
    place += f", characters {hit.span.start}-{hit.span.end}"
    console.print(Text(plain(f"[{number}] {place}  (similarity {hit.similarity:.2f})"), style="cyan"), soft_wrap=True)
    line = Text()
    for text, marked in one.parts():
        shown = plain(text)
        line.append(f"»{shown}«" if marked and not console.is_terminal else shown, "bold" if marked else "")
    console.print(line, soft_wrap=True)
    console.print()
