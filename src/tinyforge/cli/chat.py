"""``tinyforge chat RUN``: talk to a built or trained model, or to a base."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyforge.serve.history import History
    from tinyforge.serve.talk import Talker


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a folder made by `tinyforge build` or `train`, or a base model")
    parser.add_argument(
        "--variant",
        metavar="NAME",
        help="quote, base, few-shot, tuned, base+retrieval or tuned+retrieval (default: the best)",
    )
    parser.add_argument(
        "--knowledge",
        action="append",
        default=[],
        metavar="INDEX",
        help="also answer out of what `tinyforge index` made; repeatable",
    )
    parser.add_argument(
        "--section-characters", type=int, default=0, metavar="N", help="give the section around a passage, up to N"
    )
    parser.add_argument("--rerank", default="", metavar="FOLDER", help="a cross-encoder that orders passages anew")
    parser.add_argument(
        "--history", metavar="FILE", help="where conversations are kept (default: in the run's folder), or none"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of what is drawn at a temperature above 0")


def run(args: argparse.Namespace) -> int:
    from tinyforge.serve.chat import chat_loop
    from tinyforge.serve.session import Session
    from tinyforge.serve.talk import Talker

    talker = Talker.open(args.run, args.variant, args.knowledge, args.section_characters, args.rerank)
    history = _history(args.history, talker)
    try:
        chat_loop(Session(talker, history, args.seed), _greeting(talker, history))
    finally:
        history.close()
    return 0


def _history(given: str | None, talker: Talker) -> History:
    from tinyforge.serve.history import FILE, History

    if given == "none" or (given is None and talker.run is None):
        return History(None)
    return History(Path(given) if given else talker.run.path(FILE) if talker.run else None)


def _greeting(talker: Talker, history: History) -> str:
    documents = f"{len(talker.knowledge.sources)} documents" if talker.knowledge else "no documents"
    answers = talker.variant if talker.knowledge else f"the {talker.which} model"
    kept = f"kept in {history.path}" if history.path else "kept nowhere"
    return f"{documents} · answers by {answers} · {kept} · /help lists the commands"
