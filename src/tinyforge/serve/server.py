"""Run the application: listen, and at the end let what is under way finish."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from tinyforge.config import ServeConfig
from tinyforge.errors import InputError
from tinyforge.serve.api import create_app
from tinyforge.serve.api.gate import is_local
from tinyforge.serve.catalogue import Catalogue

HEADER_BYTES = 32_768  # of a request's line and headers together
CONNECTIONS = 1000


class Server(uvicorn.Server):
    """Serves ``catalogue`` until SIGTERM or SIGINT; then nothing new is taken, and streams end properly.

    Answers that still are not finished after ``drain_seconds`` end with an error event.
    """

    def __init__(self, catalogue: Catalogue, config: ServeConfig, key: str = "") -> None:
        if not key and not is_local(config.host):
            raise InputError(
                f"--host {config.host} is reached by other machines, so it needs a key.",
                "Give --api-key KEY or set TINYFORGE_API_KEY; or leave out --host.",
            )
        self.catalogue, self.options = catalogue, config
        self.app = create_app(catalogue, config, key)
        super().__init__(
            uvicorn.Config(
                self.app,
                host=config.host,
                port=config.port,
                log_level="warning",
                access_log=False,
                server_header=False,
                http="h11",
                ws="none",
                h11_max_incomplete_event_size=HEADER_BYTES,
                limit_concurrency=CONNECTIONS,
                timeout_keep_alive=15,
                timeout_graceful_shutdown=int(config.drain_seconds) + 10,
                proxy_headers=False,
            )
        )

    def listen(self) -> socket.socket:
        """The socket, which connections may wait on from now. Raises InputError when the port is taken."""
        family = socket.AF_INET6 if ":" in self.options.host else socket.AF_INET
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((self.options.host, self.options.port))
            made.listen(self.config.backlog)  # the address is told before the loop takes its first connection
        except OSError as error:
            made.close()
            raise InputError(
                f"{self.options.host}:{self.options.port} cannot be listened on ({error.strerror}).",
                "Choose another with --port, or 0 for a free one.",
            ) from error
        return made

    def drain(self) -> None:
        """Take nothing new; the engines finish or end what they have."""
        if self.app.context.draining:
            return
        self.app.context.draining = True
        threading.Thread(target=self.catalogue.close, args=(self.options.drain_seconds,), daemon=True).start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains; a second one waits for nothing."""
        if self.should_exit:
            self.force_exit = True
            self.catalogue.close(0)
        self.drain()
        self.should_exit = True

    def run_until_stopped(self, listening: socket.socket, on_ready: Callable[[str], Any] = lambda url: None) -> None:
        """Serve on the socket; ``on_ready`` is told the address."""
        host, port = listening.getsockname()[:2]
        on_ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        try:
            self.run(sockets=[listening])
        finally:
            self.drain()
            self.catalogue.close(self.options.drain_seconds)


def log_to_stderr() -> None:
    """One JSON object per line for each request."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("tinyforge.serve")
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)
