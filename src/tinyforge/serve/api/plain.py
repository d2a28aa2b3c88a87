"""The routes that are not conversations: models, embeddings, predictions, classes, adapters, and how the server is."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from tinyforge.errors import InputError, TinyForgeError
from tinyforge.models.sampling import Sampling
from tinyforge.records import Message
from tinyforge.serve.api.context import Context, context_of, note, note_text
from tinyforge.serve.api.errors import ApiError, translated
from tinyforge.serve.api.generation import Whole, begin, collect, unless_gone
from tinyforge.serve.api.prompts import chat_prompt
from tinyforge.serve.api.wire import AdapterRequest, ClassifyRequest, EmbeddingsRequest, PredictRequest
from tinyforge.serve.served import Served

router = APIRouter()


@router.get("/v1/models", summary="The names that `model` may have")
async def models(request: HttpRequest) -> dict[str, Any]:
    context = context_of(request)
    listed = [_described(served) for served in context.catalogue.names()]
    return {"object": "list", "data": [*listed, _embedding_model(context)]}


@router.get("/v1/models/{name:path}", summary="One of them")
async def model(request: HttpRequest, name: str) -> dict[str, Any]:
    context = context_of(request)
    if name == context.embedder.name and context.catalogue.get(name) is None:
        return _embedding_model(context)
    return _described(context.served(name))


def _embedding_model(context: Context) -> dict[str, Any]:
    about = {"kind": "embeddings"}
    return {
        "id": context.embedder.name,
        "object": "model",
        "created": 0,
        "owned_by": "tinyforge",
        "tinyforge": about,
    }


def _described(served: Served) -> dict[str, Any]:
    kind = "documents" if served.answerer else "chat" if served.base else "predict"
    context = {"context": served.base.engine.context} if served.base else {}
    about = {"kind": kind, **context, **({"labels": list(served.labels)} if served.labels else {})}
    return {
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "tinyforge",
        "tinyforge": about,
    }


@router.post("/v1/embeddings", summary="Texts as unit vectors")
async def embeddings(request: HttpRequest, body: EmbeddingsRequest) -> dict[str, Any]:
    context = context_of(request)
    embedder = context.embedder
    note(request, model=body.model)
    if body.model != embedder.name:
        raise ApiError(
            404, f"there is no embedding model {body.model!r}; there is {embedder.name!r}.", "model", "model_not_found"
        )
    if body.dimensions not in (None, embedder.dimension):
        raise ApiError(400, f"dimensions is {body.dimensions}; {body.model} has {embedder.dimension}.", "dimensions")
    texts = [body.input] if isinstance(body.input, str) else body.input
    vectors = await run_in_threadpool(embedder.embed, texts)
    rows = [base64.b64encode(v.tobytes()).decode() if body.encoding_format == "base64" else v.tolist() for v in vectors]
    tokens = await run_in_threadpool(embedder.count_tokens, texts)
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)],
        "model": body.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _the_one(context: Context, name: str | None, fitting: Sequence[Served], what: str) -> Served:
    if name is not None:
        return context.served(name)
    if len(fitting) != 1:
        raise ApiError(400, f"model is missing, and {len(fitting)} {what} are served.", "model")
    return fitting[0]


@router.post("/predict", summary="What a model answers to one text or several, and how sure it is")
async def predict(request: HttpRequest, body: PredictRequest) -> Any:
    """``confidence`` is the probability of the class, or of the whole answer as the model wrote it.

    It is calibrated where the model's training left a temperature (``calibrated`` says so). For models that answer out
    of documents it is that of the model without them.
    """
    context = context_of(request)
    known = [one for one in context.catalogue.names() if one.answerer is None]
    served = _the_one(context, body.model, known, "models")
    note(request, model=served.name)
    texts = [body.input] if isinstance(body.input, str) else body.input
    if served.predictor is not None:
        found = await _predicted(served, texts)
    else:
        found = await unless_gone(request, _written(served, texts, body.max_tokens))
    note_text(request, texts, [one["output"] for one in found])
    return found[0] if isinstance(body.input, str) else {"results": found}


async def _predicted(served: Served, texts: Sequence[str]) -> list[dict[str, Any]]:
    from tinyforge.models.predict import Classifier

    assert served.predictor is not None
    try:
        answers = await run_in_threadpool(served.predictor.predict, list(texts))
    except InputError as error:
        raise translated(error, "input") from error
    calibrated = isinstance(served.predictor, Classifier) and served.predictor.temperature != 1.0
    return [{"output": a.text, "confidence": a.score, "calibrated": calibrated} for a in answers]


async def _written(served: Served, texts: Sequence[str], most: int | None) -> list[dict[str, Any]]:
    """The greedy answers of a chat model with the product of their tokens' probabilities.

    The texts are handed over in portions: more than the queue holds are taken, and others find room between them.
    """
    if served.base is None:
        raise ApiError(400, f"{served.name!r} has no model of its own: it quotes its documents.", "model")
    base = served.base
    prompts = [await run_in_threadpool(chat_prompt, base, [Message("user", text)], most, False) for text in texts]
    sampling = Sampling(max_new_tokens=most or 256, logprobs=0)
    answers, portion = list[Whole](), base.engine.stats().slots
    for start in range(0, len(prompts), portion):
        ids = [prompt.ids for prompt in prompts[start : start + portion]]
        answers += await collect(begin(served, ids, sampling))
    return [
        {
            "output": answer.text.strip(),
            "confidence": math.exp(sum(choice.logprob or 0.0 for choice in answer.choices)),
            "calibrated": False,
            "complete": answer.finish == "stop",
        }
        for answer in answers
    ]


@router.post("/classify", summary="The class of one text or several, with the probability of each")
async def classify(request: HttpRequest, body: ClassifyRequest) -> Any:
    context = context_of(request)
    known = [one for one in context.catalogue.names() if one.labels]
    served = _the_one(context, body.model, known, "classifiers")
    note(request, model=served.name)
    if not served.labels or served.predictor is None:
        raise ApiError(400, f"{served.name!r} is not a classifier. POST to /predict.", "model")
    texts = [body.input] if isinstance(body.input, str) else body.input
    try:
        answers = await run_in_threadpool(served.predictor.predict, list(texts))
    except InputError as error:
        raise translated(error, "input") from error
    found = [{"label": a.text, "confidence": a.score, "probabilities": a.probabilities} for a in answers]
    note_text(request, texts, [one["label"] for one in found])
    return found[0] if isinstance(body.input, str) else {"results": found}


@router.post("/v1/adapters", summary="Serve another adapter on a base that runs", status_code=201)
async def add_adapter(request: HttpRequest, body: AdapterRequest) -> dict[str, Any]:
    context = _manageable(request)
    try:
        await run_in_threadpool(context.catalogue.add_adapter, body.name, body.base, Path(body.path))
    except TinyForgeError as error:
        raise translated(error) from error
    return _described(context.served(body.name))


@router.delete("/v1/adapters/{name}", summary="Stop serving an adapter that was added")
async def remove_adapter(request: HttpRequest, name: str) -> dict[str, Any]:
    context = _manageable(request)
    context.served(name)
    try:
        await run_in_threadpool(context.catalogue.remove_adapter, name)
    except TinyForgeError as error:
        raise translated(error) from error
    return {"id": name, "object": "model", "deleted": True}


def _manageable(request: HttpRequest) -> Context:
    context = context_of(request)
    if not context.config.manage_adapters:
        raise ApiError(403, "adapters are not managed over HTTP here. Start with --set serve.manage_adapters=true")
    return context


@router.get("/health", summary="The process lives")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/ready", summary="Requests are answered now")
async def ready(request: HttpRequest) -> JSONResponse:
    context = context_of(request)
    if context.draining or not context.ready:
        raise ApiError(503, "the server is stopping." if context.draining else "the server is starting.")
    return JSONResponse({"status": "ready", "models": [one.name for one in context.catalogue.names()]})


@router.get("/metrics", summary="Numbers for Prometheus")
async def metrics(request: HttpRequest) -> Response:
    text = await run_in_threadpool(context_of(request).metrics.text)
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")
