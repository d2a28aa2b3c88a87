"""What every request passes before anything reads it: its host and origin, its key, the size of its body.

A page in the person's browser can send requests to 127.0.0.1, and a name that an attacker's DNS points there makes
them look like the server's own (DNS rebinding). So the Host must be a name of this server, and an Origin, where there
is one, must be the very address that the request was sent to.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import ipaddress
import json
import logging
import re
import time
import uuid
from collections.abc import Sequence
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tinyforge.serve.api.context import Context
from tinyforge.serve.api.errors import ApiError
from tinyforge.serve.api.metrics import Metrics

LOG = logging.getLogger("tinyforge.serve")
BODY_SECONDS = 30.0  # that a client may take between two parts of its request
HEADERS = 100
_AUTHORITY = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_COMMON = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


class Gate:
    """ASGI middleware around the whole application; ``state["log"]`` of a request is what its log line also says."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str,
        names: Sequence[str],
        key: str,
        body: int,
        metrics: Metrics,
        context: Context,
    ) -> None:
        self.context = context
        self._app, self._key, self._body, self._metrics = app, key.encode(), body, metrics
        self._local = is_local(host)
        self._names = {name.lower() for name in (*names, *(("localhost",) if self._local else ()), host)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, status = time.monotonic(), 0
        headers = _headers(scope)
        given = headers.get("x-request-id", [""])[0]
        request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        said: dict[str, Any] = {}
        scope.setdefault("state", {}).update(request_id=request_id, log=said)

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                extra = {**_COMMON, "x-request-id": request_id}
                message["headers"] = [*message["headers"], *[(k.encode(), v.encode()) for k, v in extra.items()]]
            await send(message)

        try:
            self._check(scope, headers)
            await self._app(scope, _replayed(await self._body_of(receive), receive), answer)
        except ApiError as error:
            if not status:
                await error.response()(scope, receive, answer)
        finally:
            seconds = time.monotonic() - began
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.count(scope["method"], route, status, seconds)
            line = {"id": request_id, "method": scope["method"], "path": scope["path"], "status": status}
            LOG.info(json.dumps({"time": round(time.time(), 3), **line, "ms": round(seconds * 1000), **said}))

    def _check(self, scope: Scope, headers: dict[str, list[str]]) -> None:
        if scope.get("http_version", "1.1") not in ("1.0", "1.1"):
            raise ApiError(400, "the request is not HTTP/1.0 or 1.1.", headers={"Connection": "close"})
        if len(scope["headers"]) > HEADERS:
            raise ApiError(431, f"the request has {len(scope['headers'])} headers; {HEADERS} are the most.")
        host = _one(headers, "host")
        authority = _AUTHORITY.fullmatch(host or "")
        if authority is None or int(authority[2] or 0) > 65535 or not self._is_ours(authority[1]):
            raise ApiError(403, "the Host header is not a name of this server.", code="host_not_allowed")
        self._check_origin(host or "", headers)
        if self._key and not self._knows(headers):
            raise ApiError(
                401,
                "the API key is missing or wrong. Send it as `Authorization: Bearer KEY`.",
                code="invalid_api_key",
                headers={"WWW-Authenticate": 'Bearer, Basic realm="tinyforge"'},
            )
        length = _one(headers, "content-length")
        if length is not None and length.isdigit() and int(length) > self._body:
            raise self._too_large()

    def _check_origin(self, host: str, headers: dict[str, list[str]]) -> None:
        if "origin" not in headers:
            return
        origin = _one(headers, "origin")
        if origin is None or origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            raise ApiError(403, "the Origin header is not this server's own.", code="origin_not_allowed")

    def _is_ours(self, name: str) -> bool:
        name = name.strip("[]").lower()
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        # An address cannot be rebound as a name can: whoever sent it there reached this machine by it.
        return address.is_loopback if self._local else True

    def _knows(self, headers: dict[str, list[str]]) -> bool:
        """Whether the key was sent, as a bearer token or as the password that a browser asks for."""
        scheme, _, sent = (_one(headers, "authorization") or "").partition(" ")
        given = sent.strip().encode("utf-8", "surrogateescape")
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).partition(b":")[2]
            except (binascii.Error, ValueError):
                given = b""
        elif scheme.lower() != "bearer":
            given = b""
        return hmac.compare_digest(given, self._key)

    async def _body_of(self, receive: Receive) -> bytes:
        """The whole body, within its size, and every part of it in time."""
        body, more = bytearray(), True
        while more:
            try:
                message = await asyncio.wait_for(receive(), BODY_SECONDS)
            except asyncio.TimeoutError:
                raise ApiError(
                    408, "the request's body did not come in time.", headers={"Connection": "close"}
                ) from None
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._body:
                raise self._too_large()
        return bytes(body)

    def _too_large(self) -> ApiError:
        limit = f"{self._body / 1e6:g} MB"
        return ApiError(413, f"the request's body is larger than {limit}.", headers={"Connection": "close"})


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body once, then what else comes: the client's leaving."""
    told = False

    async def replay() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def is_local(host: str) -> bool:
    """Whether only this machine reaches a server that listens on ``host``."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _headers(scope: Scope) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _one(headers: dict[str, list[str]], name: str) -> str | None:
    """The header's value; None where it is missing or comes twice."""
    values = headers.get(name, [])
    return values[0] if len(values) == 1 else None
