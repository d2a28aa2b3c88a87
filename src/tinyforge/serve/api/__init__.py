"""The server's application: OpenAI's API over the models of a :class:`tinyforge.serve.catalogue.Catalogue`."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse

from tinyforge import __version__
from tinyforge.config import ServeConfig
from tinyforge.serve.api import chat, completions, pages, plain, responses
from tinyforge.serve.api.context import REFUSALS, Context
from tinyforge.serve.api.documents import Asking
from tinyforge.serve.api.errors import ApiError
from tinyforge.serve.api.gate import Gate
from tinyforge.serve.api.metrics import Metrics
from tinyforge.serve.catalogue import Catalogue

LOG = logging.getLogger("tinyforge.serve")


def create_app(catalogue: Catalogue, config: ServeConfig, key: str = "") -> Any:
    """The ASGI application, its gate around it; ``app.context`` is what its routes share.

    ``key`` "" asks for none; that is for servers which only this machine reaches.
    """
    from tinyforge.retrieve.embed import Embedder

    metrics = Metrics(lambda: catalogue.engines)
    asking = Asking(config.slots, config.slots + config.waiting)
    context = Context(catalogue, config, metrics, asking, Embedder())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        context.ready = True
        yield
        asking.close()

    app = FastAPI(
        title="TinyForge",
        version=__version__,
        description="OpenAI's API over your own models, on your own machine.",
        docs_url=None,
        redoc_url=None,
        responses=REFUSALS,
        lifespan=lifespan,
    )
    app.state.context = context
    for part in (chat, completions, responses, plain, pages):
        app.include_router(part.router)
    app.add_exception_handler(ApiError, _refused)
    app.add_exception_handler(HTTPException, _unrouted)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _broken)
    return Gate(
        app,
        host=config.host,
        names=config.hosts,
        key=key,
        body=int(config.body_mb * 1e6),
        metrics=metrics,
        context=context,
    )


async def _refused(request: HttpRequest, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return error.response()


async def _unrouted(request: HttpRequest, error: Exception) -> JSONResponse:
    """What FastAPI itself refuses: unknown paths and methods, bodies that are no JSON."""
    assert isinstance(error, HTTPException)
    messages = {
        404: f"there is no path {request.url.path}. See /docs.",
        405: f"{request.url.path} does not take {request.method}.",
    }
    return ApiError(
        error.status_code, messages.get(error.status_code, str(error.detail)), headers=error.headers
    ).response()


async def _invalid(request: HttpRequest, error: Exception) -> JSONResponse:
    """A field that is wrong: 400, with its name."""
    assert isinstance(error, RequestValidationError)
    first = _most_telling(error.errors())
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {first['ctx']['error']}.").response()
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"{where} is not supported here.", where, "unsupported_parameter").response()
    if not where:
        return ApiError(400, "the body is not a JSON object sent as Content-Type: application/json.").response()
    told = first["msg"][0].lower() + first["msg"][1:]
    return ApiError(400, f"{where}: {told}.", where).response()


def _most_telling(errors: Any) -> dict[str, Any]:
    """An unknown field rather than what follows from it in the options of a union."""
    found: list[dict[str, Any]] = list(errors)
    return next((one for one in found if one["type"] == "extra_forbidden"), found[0])


async def _broken(request: HttpRequest, error: Exception) -> JSONResponse:
    LOG.error(json.dumps({"id": request.state.request_id, "error": type(error).__name__}), exc_info=error)
    return ApiError(500, "the server failed at this request; its log says how.").response()
