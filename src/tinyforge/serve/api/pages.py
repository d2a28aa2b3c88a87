"""The chat page and the reference, from this machine alone: no script, style or font comes from elsewhere."""

from __future__ import annotations

import html
import mimetypes
from importlib.resources import files
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, Response

from tinyforge.serve.api.errors import ApiError
from tinyforge.serve.page import POLICY

router = APIRouter(include_in_schema=False)
_HEADERS = {"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"}
_STYLE = "body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}code{background:#8882}"
_STYLED = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}


@router.get("/")
async def home() -> Response:
    page = _page_file("index.html")
    if page is not None:
        return page
    return HTMLResponse('<!doctype html><title>TinyForge</title><p>See <a href="/docs">the reference</a>.')


@router.get("/page/{name:path}")
async def page_file(name: str) -> Response:
    page = _page_file(name)
    if page is None:
        raise ApiError(404, f"there is no file {name!r}.")
    return page


def _page_file(name: str) -> Response | None:
    """A file of the page; None for what is not one, such as a path that leads out of its folder."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
        return None
    found = files("tinyforge.serve").joinpath("page", *parts)
    if not found.is_file():
        return None
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Response(found.read_bytes(), media_type=kind, headers=_HEADERS)


@router.get("/docs")
async def reference(request: HttpRequest) -> Response:
    return HTMLResponse(render(request.app.openapi()), headers=_STYLED)


def render(document: dict[str, Any]) -> str:
    """The OpenAPI document as one page of plain HTML."""
    schemas = document.get("components", {}).get("schemas", {})
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>TinyForge API</title><style>{_STYLE}</style>",
        f"<h1>TinyForge API</h1><p>{_text(document['info'].get('description', ''))}</p>",
        '<p>The same for programs: <a href="/openapi.json">openapi.json</a></p>',
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts.append(f"<h2><code>{method.upper()} {_text(path)}</code></h2><p>{_text(operation['summary'])}</p>")
            parts.append(f"<p>{_text(operation.get('description', ''))}</p>")
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            parts.append(_fields(body.get("$ref", "").rsplit("/", 1)[-1], schemas))
    return "\n".join(parts)


def _fields(name: str, schemas: dict[str, Any]) -> str:
    schema = schemas.get(name, {})
    required = schema.get("required", [])
    rows = [
        f"<li><code>{_text(key)}</code> {_text(_kind(field))}{', required' if key in required else ''} "
        f"{_text(field.get('description', ''))}</li>"
        for key, field in schema.get("properties", {}).items()
    ]
    return f"<ul>{''.join(rows)}</ul>" if rows else ""


def _kind(field: dict[str, Any]) -> str:
    options = field.get("anyOf", [field])
    names = [o.get("$ref", "").rsplit("/", 1)[-1] or str(o.get("type", "any")) for o in options]
    return " or ".join(name for name in names if name != "null")


def _text(value: str) -> str:
    return html.escape(value)
