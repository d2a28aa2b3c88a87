"""What a learner has done: one JSON file in the folder of the lessons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tinyforge.run import read_json, write_json


class Progress:
    """Per lesson: how many of its blocks are done, and which quizzes were answered right at the first attempt."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "progress.json"
        self._lessons: dict[str, Any] = read_json(self._path) if self._path.is_file() else {}

    def _entry(self, lesson: str) -> dict[str, Any]:
        entry: dict[str, Any] = self._lessons.setdefault(lesson, {"step": 0, "finished": False, "quizzes": {}})
        return entry

    def step(self, lesson: str) -> int:
        return int(self._entry(lesson)["step"])

    def finished(self, lesson: str) -> bool:
        return bool(self._entry(lesson)["finished"])

    def quizzes(self, lesson: str) -> tuple[int, int]:
        """Right at the first attempt, and answered at all."""
        answered = self._entry(lesson)["quizzes"]
        return sum(answered.values()), len(answered)

    def reach(self, lesson: str, step: int) -> None:
        self._entry(lesson)["step"] = step
        self._save()

    def finish(self, lesson: str) -> None:
        self._entry(lesson).update(finished=True, step=0)
        self._save()

    def answer(self, lesson: str, place: int, right: bool) -> None:
        """Only the first attempt counts."""
        self._entry(lesson)["quizzes"].setdefault(str(place), right)
        self._save()

    def restart(self, lesson: str) -> None:
        self._lessons.pop(lesson, None)
        self._save()

    def _save(self) -> None:
        write_json(self._path, self._lessons)
