"""Run the blocks of a page in a folder: commands by bash, Python in one interpreter that lasts for the page."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from tinyforge.errors import InputError
from tinyforge.lessons.page import PageBlock

# Reads blocks as JSON lines and answers with one letter each on a pipe of its own, so that prints stay free.
_INTERPRETER = """
import json, os, sys, traceback
answers = os.fdopen(int(sys.argv[1]), "w")
sys.argv = [""]
space = {"__name__": "__main__"}
for line in sys.stdin:
    block = json.loads(line)
    if block["output"]:
        log = os.open(block["output"], os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1); os.dup2(log, 2); os.close(log)
    try:
        exec(compile(block["source"], block["name"], "exec"), space)
        told = "0"
    except SystemExit as stop:
        told = "1" if stop.code else "0"
    except BaseException:
        traceback.print_exc()
        told = "1"
    sys.stdout.flush(); sys.stderr.flush()
    answers.write(told); answers.flush()
"""


@dataclass(frozen=True, slots=True)
class Done:
    """How a block ended: exit code, what it printed (empty where it was shown instead), and seconds."""

    code: int
    output: str
    seconds: float


class Workspace:
    """A folder in which the blocks of one page are run, in order; leave it as a context to end what still runs.

    ``shown`` lets the blocks print to the terminal; otherwise what they print is returned.
    """

    def __init__(self, folder: Path, shown: bool = False, environment: Mapping[str, str] | None = None) -> None:
        if shutil.which("bash") is None:
            raise InputError("lessons run commands with bash, and there is none.", "Install bash.")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.shown = folder, shown
        programs = str(Path(sys.executable).parent)
        self._environment = {
            **os.environ,
            "PATH": programs + os.pathsep + os.environ.get("PATH", ""),
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        }
        self._interpreter: subprocess.Popen[str] | None = None
        self._answers: IO[str] | None = None
        self._groups: list[int] = []

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the interpreter and everything that was started in the background."""
        if self._interpreter is not None and self._interpreter.stdin is not None:
            self._interpreter.stdin.close()
            self._interpreter.wait(timeout=30)
            self._interpreter = None
        for group in self._groups:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGTERM)
        self._groups.clear()

    def run(self, block: PageBlock) -> Done:
        """Do what a block asks for. A file is written, prose and the like do nothing."""
        began = time.monotonic()
        if block.kind == "file" and not block.skipped:
            path = self.folder / block.name
            if not path.resolve().is_relative_to(self.folder.resolve()):
                raise InputError(f"{block.name}: lies outside of the lesson's folder.")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        if block.kind not in ("bash", "python") or block.skipped:
            return Done(0, "", time.monotonic() - began)
        log = self.folder / ".output"
        with log.open("w+", encoding="utf-8") as output:
            code = (self._bash if block.kind == "bash" else self._python)(block, None if self.shown else output)
            output.seek(0)
            printed = output.read()
        return Done(code, printed, time.monotonic() - began)

    def _bash(self, block: PageBlock, output: IO[str] | None) -> int:
        """Each block in a process group of its own; what it leaves in the background runs on until the page ends."""
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            start_new_session=True,
        )
        self._groups.append(process.pid)
        try:
            return process.wait()
        except KeyboardInterrupt:  # the session of its own did not hear Ctrl-C
            os.killpg(process.pid, signal.SIGINT)
            return process.wait()

    def _python(self, block: PageBlock, output: IO[str] | None) -> int:
        if self._interpreter is None:
            self._start()
        process, answers = self._interpreter, self._answers
        assert process is not None and process.stdin is not None and answers is not None
        told = str(Path(output.name).resolve()) if output else ""
        source = {"source": block.text, "name": f"line {block.line}", "output": told}
        process.stdin.write(json.dumps(source) + "\n")
        process.stdin.flush()
        answer = answers.read(1)
        return int(answer) if answer else process.wait()

    def _start(self) -> None:
        reading, writing = os.pipe()
        self._interpreter = subprocess.Popen(
            [sys.executable, "-c", _INTERPRETER, str(writing)],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            pass_fds=(writing,),
            text=True,
        )
        os.close(writing)
        self._answers = os.fdopen(reading)
