"""``tinyforge learn``: the tutorials in the terminal, step by step, with the real commands and quizzes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tinyforge.cli.common import print_json

if TYPE_CHECKING:
    from rich.console import Console

    from tinyforge.lessons.page import PageBlock
    from tinyforge.lessons.progress import Progress
    from tinyforge.lessons.workspace import Workspace

_KEYS = "Enter: run it · s: skip it · ? WORD: explain it · q: leave, go on later"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("lesson", nargs="?", type=int, metavar="N", help="the lesson to take (default: list them)")
    parser.add_argument(
        "--folder", default="tinyforge-lessons", metavar="DIR", help="where lessons are done (default: %(default)s)"
    )
    parser.add_argument("--yes", action="store_true", help="run every command without asking, and ask no quiz")
    parser.add_argument("--restart", action="store_true", help="begin the lesson anew")
    parser.add_argument("--json", action="store_true", help="print the list of lessons and the progress as JSON")


def run(args: argparse.Namespace) -> int:
    from tinyforge.lessons.place import lesson
    from tinyforge.lessons.progress import Progress

    folder = Path(args.folder)
    progress = Progress(folder)
    if args.lesson is None:
        return _list(progress, args.json)
    path = lesson(args.lesson)
    if args.restart:
        progress.restart(path.stem)
    return _Lesson(path, folder, progress, args.yes).take()


def _list(progress: Progress, as_json: bool) -> int:
    from tinyforge.lessons.page import title
    from tinyforge.lessons.place import lessons

    rows = []
    for path in lessons():
        right, answered = progress.quizzes(path.stem)
        rows.append(
            {
                "lesson": int(path.name[:2]),
                "title": title(path.read_text(encoding="utf-8")),
                "finished": progress.finished(path.stem),
                "step": progress.step(path.stem),
                "quizzes_right": right,
                "quizzes_answered": answered,
            }
        )
    if as_json:
        print_json(rows)
        return 0
    for row in rows:
        state = "done" if row["finished"] else f"at step {row['step']}" if row["step"] else ""
        if row["quizzes_answered"]:
            state += f", {row['quizzes_right']} of {row['quizzes_answered']} quizzes right at once"
        print(f"{row['lesson']:>3}  {row['title']:<48} {state.strip(', ')}".rstrip())
    todo = next((row["lesson"] for row in rows if not row["finished"]), rows[0]["lesson"])
    print(f"\nTake one: tinyforge learn {todo}")
    return 0


class _Lesson:
    """One sitting with one lesson: where it stands is written down after every step."""

    def __init__(self, path: Path, folder: Path, progress: Progress, unasked: bool) -> None:
        from rich.console import Console

        from tinyforge.lessons.page import blocks

        self.name, self.folder, self.progress = path.stem, folder, progress
        self.blocks = blocks(path.read_text(encoding="utf-8"), path.name)
        self.unasked = unasked
        self.console: Console = Console(highlight=False)

    def take(self) -> int:
        from tinyforge.lessons.workspace import Workspace

        begin = self.progress.step(self.name)
        with Workspace(self.folder / self.name, shown=True) as workspace:
            if begin:
                self.console.print(f"Going on at step {begin + 1} of {len(self.blocks)}.", style="dim")
                self._prepare(workspace, begin)
            for number in range(begin, len(self.blocks)):
                if not self._step(number, workspace):
                    self.progress.reach(self.name, number)
                    return 0
                self.progress.reach(self.name, number + 1)
        self.progress.finish(self.name)
        self.console.print(f"\nLesson done. What you made lies in {workspace.folder}.", style="bold")
        print("Next: tinyforge learn")
        return 0

    def _prepare(self, workspace: Workspace, begin: int) -> None:
        """Python's names are gone with the last sitting; the blocks that made them are run again."""
        for block in self.blocks[:begin]:
            if block.kind == "python":
                workspace.run(block)

    def _step(self, number: int, workspace: Workspace) -> bool:
        """False when the learner leaves."""
        block = self.blocks[number]
        if block.kind == "quiz":
            return self.unasked or self._quiz(number, block)
        self._show(block)
        if block.kind not in ("bash", "python", "file") or block.skipped:
            return True
        if block.kind == "file":
            workspace.run(block)
            self.console.print(f"written: {workspace.folder / block.name}", style="dim")
            return True
        answer = "" if self.unasked else _ask(_KEYS)
        if answer is None or answer == "q":
            return False
        return answer == "s" or self._run(block, workspace)

    def _run(self, block: PageBlock, workspace: Workspace) -> bool:
        while True:
            done = workspace.run(block)
            if done.code == 0:
                return True
            self.console.print(f"That ended with code {done.code}.", style="red")
            answer = "q" if self.unasked else _ask("Enter tries again · s goes on without it · q leaves")
            if answer is None or answer == "q":
                return False
            if answer == "s":
                return True

    def _show(self, block: PageBlock) -> None:
        from rich.markdown import Markdown
        from rich.syntax import Syntax

        self.console.print()
        if block.kind == "prose":
            self.console.print(Markdown(block.text))
        elif block.kind == "text":
            self.console.print("It prints something like:\n" + block.text, style="dim", markup=False)
        else:
            name = {"bash": "bash", "python": "python"}.get(block.kind, block.language or "text")
            self.console.print(Syntax(block.text.rstrip(), name, background_color="default", word_wrap=True))
            if block.skipped:
                self.console.print(f"(not run here: {block.skipped})", style="dim", markup=False)

    def _quiz(self, number: int, block: PageBlock) -> bool:
        from tinyforge.lessons.page import quiz

        asked = quiz(block)
        self.console.print("\n" + asked.question, style="bold", markup=False)
        for place, answer in enumerate(asked.answers, 1):
            self.console.print(f"  {place}  {answer}", markup=False)
        while True:
            typed = _ask(f"1 to {len(asked.answers)}, or q")
            if typed is None or typed == "q":
                return False
            if not typed.isdigit() or not 1 <= int(typed) <= len(asked.answers):
                continue
            right = int(typed) - 1 in asked.right
            self.progress.answer(self.name, number, right)
            if right:
                self.console.print(f"Right. {asked.why}", style="green", markup=False)
                return True
            self.console.print("Not that one; try again.", style="yellow")


def _ask(prompt: str) -> str | None:
    """What was typed, in lower case; None at the end of the input."""
    sys.stdout.write(f"[{prompt}] ")
    sys.stdout.flush()
    line = sys.stdin.readline()
    if not line.startswith("?"):
        return line.strip().lower() if line else None
    print(_explained(line[1:].strip().lower()))
    return _ask(prompt)


def _explained(word: str) -> str:
    """What the glossary says of a word, or the words that it has."""
    from tinyforge.lessons.place import glossary

    terms = glossary()
    return terms.get(word) or f"Not in the glossary. It has: {', '.join(sorted(terms))}."
