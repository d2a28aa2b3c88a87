"""Start the same command as several worker processes on this machine, with torch's elastic launcher (torchrun's)."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta

import psutil
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousInfo,
    RendezvousStoreInfo,
    rendezvous_handler_registry,
)
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from tinyforge.environment import LAUNCHER, cores
from tinyforge.train.distributed import DESERTED

LOOPBACK = "127.0.0.1"
_SAVING = 600  # seconds that the workers get to finish their step and save, when asked to stop
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)  # by torch's launcher, which keeps them


def launch(arguments: Sequence[str], processes: int) -> int:
    """Run ``tinyforge ARGUMENTS`` as so many workers; returns the exit code of the command.

    That of the worker that failed first, when one does: the others are then ended within seconds. SIGTERM and Ctrl-C
    are passed on, so that the training is saved, and give 143 and 130. Nothing listens beyond this machine.
    """
    backend = f"loopback-{uuid.uuid4().hex}"
    rendezvous_handler_registry.register(backend, lambda parameters: Loopback(backend))
    with tempfile.TemporaryDirectory(prefix="tinyforge-") as folder, _surroundings(processes):
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=backend,
            rdzv_backend=backend,
            rdzv_endpoint=LOOPBACK,
            local_addr=LOOPBACK,
            max_restarts=0,
            shutdown_timeout=_SAVING,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "tinyforge", *arguments)
        except SignalException as stop:
            return 128 + int(stop.sigval)
        except ChildFailedError as error:
            return _explain({rank: failure.exitcode for rank, failure in error.failures.items()}, processes)
    return 0


@contextmanager
def _surroundings(processes: int) -> Iterator[None]:
    """What the workers inherit: sockets on the loopback interface only, and the cores divided among them.

    The launcher's own log is silenced meanwhile: what it has to say about a failure is said in one line.
    """
    addresses = psutil.net_if_addrs().items()
    name = next((name for name, found in addresses if any(a.address == LOOPBACK for a in found)), "lo")
    threads = str(max(1, cores() // processes))
    wanted = {"GLOO_SOCKET_IFNAME": name, "NCCL_SOCKET_IFNAME": name, "OMP_NUM_THREADS": threads}
    handlers = {number: signal.getsignal(number) for number in _HANDLED}
    before = dict(os.environ)
    os.environ.update({**wanted, **before, LAUNCHER: str(os.getpid())})
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        os.environ.clear()
        os.environ.update(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _explain(exit_codes: Mapping[int, int], processes: int) -> int:
    """The exit code of the worker that began the trouble. What a worker has raised, it has said itself."""
    ended = (DESERTED, -signal.SIGTERM)  # in consequence: by the loss of the others, or by the launcher
    causes = {rank: code for rank, code in exit_codes.items() if code not in ended} or dict(exit_codes)
    rank, code = min(causes.items())
    if code >= 0:
        return 1 if code == DESERTED else code
    name = signal.Signals(-code).name
    advice = " If the system lacked memory, try fewer --processes." if name == "SIGKILL" else ""
    print(
        f"tinyforge: worker {rank} of {processes} was ended by {name}, and so the others were stopped. "
        f"The same command continues from the last checkpoint.{advice}",
        file=sys.stderr,
    )
    return 1


class Loopback(RendezvousHandler):
    """The meeting place of one launcher's workers: a store that only this machine can reach.

    Torch's own ones listen on every interface, and read pickled state from there.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        listening = socket.create_server((LOOPBACK, 0))
        self._port = int(listening.getsockname()[1])
        self._store = TCPStore(
            LOOPBACK,
            self._port,
            is_master=True,
            wait_for_workers=False,
            timeout=timedelta(seconds=300),
            master_listen_fd=listening.detach(),
        )

    @property
    def use_agent_store(self) -> bool:
        return True

    def get_backend(self) -> str:
        return self._name

    def next_rendezvous(self) -> RendezvousInfo:
        return RendezvousInfo(self._store, 0, 1, RendezvousStoreInfo(LOOPBACK, self._port))

    def is_closed(self) -> bool:
        return False

    def set_closed(self) -> None:
        return None

    def num_nodes_waiting(self) -> int:
        return 0

    def get_run_id(self) -> str:
        return self._name

    def shutdown(self) -> bool:
        return True
