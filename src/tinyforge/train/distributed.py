"""Several worker processes that train one model: who does what, and how their numbers become one.

Every worker runs the same command. What is not training is done by the first alone, and what it found is told to the
others (``World.on_first``); only the first writes. In a training each worker learns its part of every step's rows, and
gradients, losses and weights are added up before anything is divided: so any number of workers gives what one gives, up
to the rounding of sums. Dropout differs, for each worker draws its own.

Torch is imported inside functions: a command with a single process needs none of this.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tinyforge.config import TrainConfig
from tinyforge.environment import LAUNCHER, worker
from tinyforge.errors import InputError, TrainingError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")

DESERTED = 75  # exit code of a worker that lost the others: the cause is theirs to tell
BUCKET = 1 << 24  # numbers added up in one message (64 MB)
_SEEDS = 1_000_003  # between two workers' random seeds


@dataclass(frozen=True)
class World:
    """This worker's ``rank`` among ``size``; alone, every method gives back what it was given."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def gather(self, value: Any) -> list[Any]:
        """What every worker gave, in the order of their ranks. Values are sent as JSON."""
        if self.size == 1:
            return [value]
        import torch
        from torch import distributed

        sent = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        lengths = [torch.zeros(1, dtype=torch.long) for _ in range(self.size)]
        distributed.all_gather(lengths, torch.tensor([len(sent)]))
        width = int(max(lengths))
        received = [torch.zeros(width, dtype=torch.uint8) for _ in range(self.size)]
        distributed.all_gather(received, torch.nn.functional.pad(sent, (0, width - len(sent))))
        pairs = zip(received, lengths, strict=True)
        return [json.loads(bytes(part[: int(length)].numpy())) for part, length in pairs]

    def share(self, value: T) -> T:
        """What the first worker gave."""
        shared: T = self.gather(value if self.first else None)[0]
        return shared

    def on_first(self, work: Callable[[], T]) -> T:
        """``work()``, done by the first worker alone; the others wait for its result."""
        if self.size == 1:
            return work()
        shared: T = self.gather(work() if self.first else None)[0]
        return shared

    def wait(self) -> None:
        """Until every worker is here."""
        self.gather(None)

    def most(self, values: Sequence[float]) -> list[float]:
        """Of each of the values the largest that any worker has."""
        return [max(column) for column in zip(*self.gather(list(values)), strict=True)]

    def add(self, values: Mapping[str, float]) -> Counter[str]:
        """The sums by name over the workers; one without a name adds nothing to it."""
        total: Counter[str] = Counter()
        for part in self.gather(dict(values)):
            total.update(part)
        return total

    def add_tensors(self, tensors: Sequence[Tensor]) -> None:
        """Add up tensors of one dtype and device over the workers, in place; the bits are the same on all of them."""
        if self.size == 1:
            return
        import torch
        from torch import distributed

        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            distributed.all_reduce(flat)
            parts = torch.split(flat, [tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def add_gradients(self, masters: Mapping[str, Tensor]) -> None:
        """Add up the gradients; a worker that has none where another has counts as zeros."""
        if self.size == 1:
            return
        import torch

        flags = self.gather("".join("01"[master.grad is not None] for master in masters.values()))
        wanted = [m for m, known in zip(masters.values(), zip(*flags, strict=True), strict=True) if "1" in known]
        for master in wanted:
            if master.grad is None:
                master.grad = torch.zeros_like(master)
        self.add_tensors([master.grad for master in wanted if master.grad is not None])

    def check_same(self, what: str, digest: str) -> None:
        """Raises TrainingError, naming each worker's, unless all have the same ``digest``."""
        found = self.gather(digest)
        if len(set(found)) > 1:
            each = ", ".join(f"worker {rank} has {value[:12]}" for rank, value in enumerate(found))
            raise TrainingError(
                f"the workers' {what} differ: {each}.",
                "Give every machine the same base folder, data and versions.",
            )

    def seed(self, seed: int) -> int:
        """A seed of this worker's own; the first has ``seed`` itself."""
        return seed + _SEEDS * self.rank


ALONE = World()


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(t.numel() for t in bucket) + tensor.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def join(config: TrainConfig) -> World:
    """Meet the other workers of this command, when there are any (see ``environment.worker``); may be called again.

    Raises InputError when ``train.processes`` says another number than the launcher, or there are too few GPUs.
    """
    here = worker()
    if here.size == 1:
        if config.processes > 1:
            raise InputError(
                f"train.processes = {config.processes}, but this is one process.",
                "Several are started by `tinyforge train`, `build` and `pretrain`, or by torchrun.",
            )
        return World()
    if config.processes not in (0, here.size):
        raise InputError(
            f"train.processes = {config.processes}, but {here.size} workers were started.",
            "With torchrun, leave train.processes out.",
        )
    from torch import distributed

    from tinyforge.train.device import choose_device, claim

    if not distributed.is_initialized():
        device = choose_device(config.device)
        claim(device)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        # A worker that dies is noticed by the launcher; long waits are for the first one's other stages.
        distributed.init_process_group(backend, timeout=timedelta(days=7))
        _end_with(os.environ.get(LAUNCHER, ""))
    return World(here.rank, here.size)


def _end_with(launcher: str) -> None:
    """End this process when its launcher does, even by SIGKILL: an orphan would go on holding the run's folder."""
    if not launcher:
        return

    def watch() -> None:
        while os.getppid() == int(launcher):
            time.sleep(0.3)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def first_to_tell() -> bool:
    """Whether this worker is the first to report an error: the others most often have the same one."""
    here = worker()
    if here.size == 1:
        return True
    from torch import distributed

    if not distributed.is_initialized():
        return here.rank == 0
    try:
        return int(distributed.distributed_c10d._get_default_store().add("tinyforge/told", 1)) == 1
    except RuntimeError:  # the store went with the machine that had it
        return False


def lost_another(error: BaseException) -> bool:
    """Whether the error only says that another worker is gone."""
    if worker().size == 1:
        return False
    from torch import distributed

    text = str(error).lower()
    gone = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe")
    return isinstance(error, distributed.DistError) or any(word in text for word in gone)


@dataclass(frozen=True)
class Share:
    """Rows of one micro-batch for one worker. Where they do not ``count``, it only keeps step with the others."""

    indices: NDArray[np.int64]
    counts: bool = True


def shares(
    batches: Sequence[NDArray[np.int64]], lengths: Any, world: World, together: bool = False, in_step: bool = False
) -> list[Share]:
    """This worker's part of the micro-batches of one step.

    Whole micro-batches are dealt out where they go round evenly, or where the rows of one have to stay ``together``;
    else each is cut into parts of about as many tokens. With ``in_step`` every worker gets the same number of shares,
    some of which do not count.
    """
    if world.size == 1:
        return [Share(indices) for indices in batches]
    if deals(len(batches), world, together):
        dealt = [Share(indices) for indices in batches[world.rank :: world.size]]
        missing = -(-len(batches) // world.size) - len(dealt)
    else:
        parts = [cut(indices, lengths, world) for indices in batches]
        dealt = [Share(part) for part in parts if len(part)]
        missing = len(parts) - len(dealt)
    return [*dealt, *[Share(batches[0][:1], False)] * (missing if in_step else 0)]


def deals(count: int, world: World, together: bool) -> bool:
    """Whether so many micro-batches of a step are dealt out whole; else each worker has a part of each of them."""
    return together or count % world.size == 0


def cut(indices: NDArray[np.int64], lengths: Any, world: World) -> NDArray[np.int64]:
    """The rows of a batch whose middle token lies in this worker's part of all its tokens; order is kept."""
    sizes = np.asarray(lengths)[indices].astype(np.int64)
    middles = 2 * np.cumsum(sizes) - sizes  # twice, so that all is exact
    owners = np.minimum(world.size - 1, middles * world.size // (2 * sizes.sum()))
    mine: NDArray[np.int64] = indices[owners == world.rank]
    return mine


def weights_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of the names and bytes of tensors."""
    import hashlib

    import torch

    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
