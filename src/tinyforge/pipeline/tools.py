"""What an assistant may do with TinyForge through the Model Context Protocol: search, ask, list, train, watch.

An assistant acts on what it reads, so it is kept within one folder: every path must lie in it, and no option can be set
that runs foreign code, reads elsewhere or sends anything away.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.config import Config
from tinyforge.errors import InputError, TinyForgeError
from tinyforge.recipe import load_config
from tinyforge.retrieve.store import locate
from tinyforge.run import Run

if TYPE_CHECKING:
    from tinyforge.retrieve.knowledge import Knowledge
    from tinyforge.serve.talk import Talker

TAIL = 2000  # characters of a training's own words that are shown
MOST_PASSAGES = 20


class Tools:
    """The tools, for the runs and indexes below ``root``. Models that were asked stay loaded, the latest ``kept``."""

    def __init__(self, root: Path, kept: int = 2) -> None:
        self.root, self._kept = root.resolve(), kept
        if not self.root.is_dir():
            raise InputError(f"{root}: no such folder.", "Give --root the folder that holds your runs.")
        self._talkers: dict[Path, Talker] = {}
        self._trainings: dict[Path, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()

    def search(self, indexes: list[str], question: str, passages: int = 5) -> list[dict[str, Any]]:
        """Find the passages that answer a question, best first, each with its source, section and exact place.

        `indexes` are folders made by `tinyforge index`, or run folders that hold documents.
        """
        from tinyforge.serve.highlight import highlight

        if not indexes or not question.strip():
            raise InputError("search needs an index and a question.", "See list_runs.")
        with self._lock:
            knowledge = self._knowledge(indexes)
            found = knowledge.search(question, max(1, min(passages, MOST_PASSAGES)))
            marked = highlight(question, found, knowledge.embedder)
        return [
            {
                "source": one.hit.source,
                "section": list(one.hit.path),
                "page": knowledge.page(one.hit.span),
                "start": one.hit.span.start,
                "end": one.hit.span.end,
                "text": one.hit.text,
                "best": [one.hit.text[s.start - one.hit.span.start : s.end - one.hit.span.start] for s in one.spans],
                "similarity": round(one.hit.similarity, 4),
            }
            for one in marked
        ]

    def ask(self, run: str, question: str, earlier: list[str] | None = None) -> dict[str, Any]:
        """Ask a built or trained model one question. Answers out of documents come with citations of exact places.

        `earlier` are the questions asked before, oldest first; a follow-up is understood with them.
        """
        folder = self._within(run)
        with self._lock:
            talker = self._talker(folder)
            said = talker.reply(question, [(before, "") for before in earlier or ()])
        reply = said.reply
        return {
            "answer": reply.answer,
            "declined": reply.declined,
            "quoted": reply.quoted,
            "unsupported": reply.unsupported(),
            "citations": [asdict(citation) for citation in reply.citations],
        }

    def list_runs(self) -> list[dict[str, Any]]:
        """The runs: what made each, whether it is finished, its metrics; and the indexes, which can be searched."""
        from tinyforge.registry.facts import find_runs, read_facts

        found: list[dict[str, Any]] = []
        for folder in find_runs(self.root):
            facts = read_facts(folder, self._name(folder))
            names = ("name", "command", "created", "finished", "state", "base_name", "parameters", "metrics")
            searchable = (folder / "index" / "meta.json").is_file()
            found.append({**{name: getattr(facts, name) for name in names}, "searchable": searchable})
        alone = sorted(path.parent for path in self.root.glob("*/meta.json"))
        found += [{"name": self._name(path), "command": "index", "searchable": True} for path in alone]
        return found

    def start_training(
        self, data: str, out: str, base: str = "tiny", settings: list[str] | None = None
    ) -> dict[str, Any]:
        """Begin `tinyforge train` on a file of rows; it goes on by itself, watch_training tells how it is.

        `settings` are options as KEY=VALUE, such as train.epochs=2. The same call continues a training that stopped.
        """
        rows, folder = self._within(data), self._within(out)
        given = [*(settings or ()), f"base={json.dumps(self._base(base))}"]
        _harmless(load_config(None, given))
        if not rows.exists():
            raise InputError(f"{data}: no such file.", "Give a file of rows below the root.")
        with self._lock:
            running = self._trainings.get(folder)
            if running is not None and running.poll() is None:
                raise InputError(f"{out}: a training is running there.", "Watch it with watch_training.")
            self._trainings[folder] = self._start(rows, folder, given)
        return {"run": self._name(folder), "pid": self._trainings[folder].pid, "log": self._name(_log(folder))}

    def _start(self, rows: Path, folder: Path, settings: Sequence[str]) -> subprocess.Popen[bytes]:
        options = [word for setting in settings for word in ("--set", setting)]
        command = [sys.executable, "-m", "tinyforge", "train", str(rows), "--out", str(folder), *options]
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _log(folder).open("wb") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def watch_training(self, run: str) -> dict[str, Any]:
        """How a training is: running, finished, failed or stopped, its last step and loss, and its last words."""
        folder = self._within(run)
        process = self._trainings.get(folder)
        code = process.poll() if process else None
        opened = Run.open(folder) if (folder / "run.json").is_file() else None
        steps = opened.events("step") if opened else []
        finished = (folder / "model").is_dir() or (folder / "adapter").is_dir()
        if process is not None and code is None:
            state = "running"
        else:
            state = "failed" if code else "finished" if finished else "stopped"
        told = _log(folder).read_text("utf-8", "replace")[-TAIL:] if _log(folder).is_file() else ""
        if opened is None and process is None:
            raise InputError(f"{run}: no training was begun there.", "Begin one with start_training.")
        return {"run": self._name(folder), "state": state, "step": steps[-1] if steps else None, "log": told}

    def _knowledge(self, indexes: Sequence[str]) -> Knowledge:
        from tinyforge.retrieve.knowledge import Knowledge

        return Knowledge.open([locate(self._within(index)) for index in indexes])

    def _talker(self, folder: Path) -> Talker:
        from tinyforge.serve.talk import Talker

        talker = self._talkers.pop(folder, None) or Talker.open(str(folder))
        self._talkers[folder] = talker  # the latest last
        while len(self._talkers) > self._kept:
            self._talkers.pop(next(iter(self._talkers)))
        return talker

    def _within(self, name: str) -> Path:
        """The path that ``name`` means. Raises InputError when it leads out of the root."""
        path = (self.root / name).resolve()
        if "\0" in name or not path.is_relative_to(self.root):
            raise InputError(f"{name}: lies outside of {self.root}.", "Name a folder or file below it.")
        return path

    def _base(self, name: str) -> str:
        """A base by its name, or a folder below the root."""
        from tinyforge.models.resolve import EMBEDDED

        hub_id = name.count("/") <= 1 and not name.startswith((".", "/", "~")) and not (self.root / name).exists()
        return name if name in EMBEDDED or (hub_id and not Path(name).exists()) else str(self._within(name))

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.root))


def _harmless(config: Config) -> None:
    """Raise InputError for an option that runs foreign code, reads elsewhere or sends something away."""
    train = config.train
    set_here = {
        "trust_remote_code": config.trust_remote_code,
        "train.teacher": train.teacher,
        "train.replay": train.replay,
        "train.accelerate_config": train.accelerate_config,
        "train.trackers": train.trackers,
        "evaluate.metrics": config.evaluate.metrics != Config().evaluate.metrics,
    }
    for name in (name for name, value in set_here.items() if value):
        raise InputError(f"{name} cannot be set from here.", "Run the training in a terminal.")


def _log(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.log")


def make_server(tools: Tools) -> Any:
    """An MCP server with these tools. Needs the package mcp."""
    from functools import wraps

    from mcp.server import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError

    from tinyforge import __version__

    server = MCPServer(
        "tinyforge",
        instructions=f"Small language models made on this machine. Paths are relative to {tools.root}.",
        version=__version__,
    )

    def told(tool: Any) -> Any:
        @wraps(tool)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return tool(*args, **kwargs)
            except TinyForgeError as error:
                raise ToolError(str(error)) from error

        return call

    for tool in (tools.search, tools.ask, tools.list_runs, tools.start_training, tools.watch_training):
        server.tool()(told(tool))
    return server
