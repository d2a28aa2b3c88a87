"""Errors as OpenAI's API writes them, on every path: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

from tinyforge.errors import InputError, TinyForgeError
from tinyforge.serve.engines import BusyError, StoppingError

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None = Field(None, description="The field that is wrong, where one is.")
    code: str | None = None


class ErrorAnswer(BaseModel):
    error: ErrorDetail


class ApiError(Exception):
    """A refusal with its status."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        kind = _TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body(), self.status, self.headers)


def translated(error: TinyForgeError, param: str | None = None) -> ApiError:
    """Our own errors: what is asked wrongly is a 400, a full queue a 429, the end a 503."""
    if isinstance(error, BusyError):
        return ApiError(429, str(error), code="queue_full", headers={"Retry-After": str(error.retry_after)})
    if isinstance(error, StoppingError):
        return ApiError(503, str(error), code="stopping", headers={"Retry-After": "5"})
    return ApiError(400 if isinstance(error, InputError) else 500, str(error), param)
