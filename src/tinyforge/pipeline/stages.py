"""Run a stage once: the same inputs give the stored result, changed inputs run it again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tinyforge.run import Run, hash_json, write_json
from tinyforge.train.distributed import ALONE, World


@dataclass
class Job:
    """The stages of one run, in order. ``say`` tells the person what is happening; ``seconds`` collects what ran,
    ``count`` hears how many of the things under way are finished."""

    run: Run
    say: Callable[[str, str], None]
    reused: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    world: World = ALONE
    count: Callable[[str, int, int], None] = lambda name, done, total: None
    _under_way: list[str] = field(default_factory=list)

    def stage(
        self,
        name: str,
        inputs: Any,
        work: Callable[[str], dict[str, Any]],
        together: bool = False,
        trains: bool = False,
    ) -> dict[str, Any]:
        """The summary of stage ``name`` for these inputs, running ``work(key)`` only when it is not there yet.

        ``inputs`` must hold everything the result depends on, as JSON; a stage that was killed runs again. Of several
        worker processes the first does it alone, or all do it ``together``. A stage that ``trains`` may be refused or
        stopped long before it has a result: the earlier one stands until the work calls ``overwrite``.
        """
        key = hash_json([name, inputs])
        found = self.world.on_first(lambda: self.run.finished(name, key))
        if found is not None:
            self.reused.append(name)
            return found
        self.say(name, "")
        self._under_way.append(name)
        if not trains:
            self.overwrite()
        began = time.perf_counter()
        summary = self.world.share(work(key)) if together else self.world.on_first(lambda: work(key))
        self.seconds[name] = time.perf_counter() - began
        self._under_way.pop()
        self.run.finish(name, key, summary, self.seconds[name])
        return summary

    def overwrite(self) -> None:
        """From here on the files are no longer what the earlier record of the stage under way says."""
        name = self._under_way[-1]
        self.world.on_first(lambda: self.run.forget(name))

    def keep_config(self, config: dict[str, Any], trained: bool = False) -> None:
        """Write config.json, which says how the run's model was made: at the start only where there is none yet."""
        if trained or not self.run.path("stages", "train.json").is_file():
            self.world.on_first(lambda: write_json(self.run.path("config.json"), config))
