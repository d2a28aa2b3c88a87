"""What every route shares: the catalogue of models, the numbers, and the embedding model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.requests import Request as HttpRequest

from tinyforge.config import ServeConfig
from tinyforge.serve.api.documents import Asking
from tinyforge.serve.api.errors import ApiError, ErrorAnswer
from tinyforge.serve.api.metrics import Metrics
from tinyforge.serve.catalogue import Catalogue
from tinyforge.serve.served import Served

if TYPE_CHECKING:
    from tinyforge.retrieve.embed import Embedder

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": text}
    for status, text in {
        400: "A field is wrong, or asks for what this server cannot do",
        401: "The API key is missing or wrong",
        403: "The Host or Origin header is not this server's",
        404: "No such path or model",
        405: "No such method here",
        408: "The request's body did not come in time",
        413: "The request's body is too large",
        429: "The queue is full; Retry-After says when to come back",
        431: "Too many headers",
        500: "The answer failed",
        503: "The server is starting or stopping",
    }.items()
}


@dataclass
class Context:
    catalogue: Catalogue
    config: ServeConfig
    metrics: Metrics
    asking: Asking
    embedder: Embedder
    ready: bool = False
    draining: bool = field(default=False)

    def served(self, name: str) -> Served:
        found = self.catalogue.get(name)
        if found is None:
            names = ", ".join(one.name for one in self.catalogue.names())
            raise ApiError(404, f"there is no model {name!r}. There are: {names}.", "model", "model_not_found")
        return found

    def chat_model(self, name: str) -> Served:
        """A model that writes. Raises ApiError for one that only predicts."""
        found = self.served(name)
        if found.base is None and found.answerer is None:
            raise ApiError(400, f"{name!r} is not a model that chats. POST to /predict.", "model")
        return found

    def writing_model(self, name: str) -> Served:
        """A model that writes freely, without documents."""
        found = self.chat_model(name)
        if found.answerer is not None:
            raise ApiError(
                400, f"{name!r} answers questions out of its documents, at /v1/chat/completions only.", "model"
            )
        return found


def context_of(request: HttpRequest) -> Context:
    context: Context = request.app.state.context
    return context


def note(request: HttpRequest, **said: Any) -> None:
    """Add to the request's log line."""
    request.state.log.update(said)


def note_text(request: HttpRequest, asked: Any, answered: Any) -> None:
    """Add what was asked and answered, where the log is to hold that."""
    if context_of(request).config.log_prompts:
        note(request, asked=asked, answered=answered)
