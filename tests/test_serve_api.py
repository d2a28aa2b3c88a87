"""The server and the clients people have: OpenAI's, LangChain's and Simon Willison's llm, unchanged."""

from __future__ import annotations

import json
import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import openai
import pytest
from pydantic import BaseModel

from live_server import Live, live, make_adapter, make_all, make_build, named
from retrieve_sample import handbook
from tinyforge.run import read_json, write_json
from tinyforge.serve.api import plain, responses
from tinyforge.serve.engines import StoppingError
from tinyforge.serve.load import Answerer

ASKED: list[Any] = [{"role": "user", "content": "What is a loan?"}]


class Person(BaseModel):
    name: str
    grown_up: bool


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make_all(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def server(places: dict[str, str]) -> Iterator[Live]:
    with live(named(places), manage_adapters=True) as made:
        yield made


@pytest.fixture(scope="module")
def client(server: Live) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def post(server: Live, route: str, /, **body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}{route}", json=body, timeout=60)


# --- openai ----------------------------------------------------------------------------------------------------------


def test_models(client: openai.OpenAI) -> None:
    assert [m.id for m in client.models.list()] == ["little", "handbook", "handbook:model", "yesno", "minilm"]
    for name in ("handbook:model", "minilm"):
        assert client.models.retrieve(name).id == name


def test_chat_whole_and_as_a_stream(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="little", messages=ASKED, max_tokens=30)
    assert whole.choices[0].finish_reason == "length" and whole.usage is not None
    assert whole.usage.completion_tokens == 30 and whole.usage.prompt_tokens > 5
    chunks = list(
        client.chat.completions.create(
            model="little", messages=ASKED, max_tokens=30, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content and len(chunks) > 10
    assert chunks[-1].usage == whole.usage and chunks[-2].choices[0].finish_reason == "length"


@pytest.mark.parametrize("back", [lambda answer: answer, lambda answer: answer.model_dump()], ids=["as is", "dumped"])
def test_an_answer_goes_back_with_the_next_question(client: openai.OpenAI, back: Callable[[Any], Any]) -> None:
    def ask(answer: Any) -> Any:
        messages = [*ASKED, answer, *ASKED]
        return client.chat.completions.create(model="little", messages=messages, max_tokens=8).choices[0].message

    first = client.chat.completions.create(model="little", messages=ASKED, max_tokens=8).choices[0].message
    text = ask({"role": "assistant", "content": first.content}).content
    assert ask(back(first)).content == text
    before = client.responses.create(model="little", input=ASKED, max_output_tokens=8).output[0]
    after = client.responses.create(model="little", input=[*ASKED, back(before), *ASKED], max_output_tokens=8)
    assert after.output_text == text
    with pytest.raises(openai.BadRequestError, match="tool_calls is not supported"):
        ask({"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]})


def test_n_seeds_stop_and_logprobs(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"model": "little", "messages": ASKED, "max_tokens": 20, "temperature": 1.2, "seed": 7}
    several = client.chat.completions.create(**options, n=3)
    texts = [choice.message.content for choice in several.choices]
    assert len(set(texts)) == 3 and [choice.index for choice in several.choices] == [0, 1, 2]
    assert client.chat.completions.create(**{**options, "seed": 8}).choices[0].message.content == texts[1]
    greedy = client.chat.completions.create(
        model="little", messages=ASKED, max_tokens=20, logprobs=True, top_logprobs=3
    ).choices[0]
    assert greedy.logprobs is not None and greedy.logprobs.content is not None
    for token in greedy.logprobs.content:
        assert token.token == token.top_logprobs[0].token and len(token.top_logprobs) == 3 and token.logprob <= 0
    whole = greedy.message.content or ""
    assert b"".join(bytes(t.bytes or []) for t in greedy.logprobs.content).decode(errors="replace") == whole
    stopped = client.chat.completions.create(model="little", messages=ASKED, max_tokens=20, stop=[whole[4:7]])
    assert stopped.choices[0].message.content == whole[: whole.index(whole[4:7])]
    assert stopped.choices[0].finish_reason == "stop"


def test_json_of_a_schema(client: openai.OpenAI) -> None:
    for seed in range(3):
        found = client.chat.completions.create(
            model="little",
            messages=ASKED,
            temperature=1,
            seed=seed,
            max_tokens=800,
            response_format={
                "type": "json_schema",
                "json_schema": {
                    "name": "p",
                    "schema": {
                        "type": "object",
                        "properties": {"name": {"type": "string", "maxLength": 9}, "ok": {"type": "boolean"}},
                        "required": ["name", "ok"],
                    },
                },
            },
        )
        assert found.choices[0].finish_reason == "stop"
        assert set(json.loads(found.choices[0].message.content or "")) == {"name", "ok"}
    with pytest.raises(openai.BadRequestError, match=r"schema\.pattern is not supported"):
        client.chat.completions.create(
            model="little",
            messages=ASKED,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "p", "schema": {"type": "string", "pattern": "a"}},
            },
        )


def test_completions_embeddings_and_responses(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="little", prompt=["The library", "A loan"], max_tokens=9, logprobs=2)
    assert [choice.index for choice in whole.choices] == [0, 1] and whole.choices[0].logprobs is not None
    assert len(whole.choices[0].logprobs.tokens or []) == 9
    pieces = client.completions.create(model="little", prompt="The library", max_tokens=9, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == whole.choices[0].text
    vectors = client.embeddings.create(model="minilm", input=["a boat", "a ship", "yearly fees"]).data
    plain = client.embeddings.create(model="minilm", input="a boat", encoding_format="float").data[0].embedding
    assert vectors[0].embedding == pytest.approx(plain) and len(plain) == 384
    near, far = (np.dot(vectors[0].embedding, other.embedding) for other in vectors[1:])
    assert near > far
    answer = client.responses.create(model="little", input="What is a loan?", max_output_tokens=12)
    assert answer.status == "incomplete" and answer.output_text and answer.usage is not None
    events = list(client.responses.create(model="little", input=ASKED, max_output_tokens=12, stream=True))
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == answer.output_text
    assert events[-1].type == "response.incomplete"
    chat = client.chat.completions.create(model="little", messages=ASKED, max_tokens=12).choices[0].message.content
    assert chat == answer.output_text


def test_a_streamed_response_is_logged_and_where_it_fails_ends_with_an_error(
    client: openai.OpenAI, server: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[Any] = []
    monkeypatch.setattr(responses, "note_text", lambda request, *said: logged.append(said))
    list(client.responses.create(model="little", input=ASKED, max_output_tokens=4, stream=True))
    (asked, answered) = logged[0]
    assert asked == ["What is a loan?"] and answered

    def broken(*_: Any) -> None:
        raise RuntimeError("out of order")

    served = server.catalogue.get("little")
    assert served is not None and served.base is not None
    monkeypatch.setattr(served.base.engine, "_take", broken)
    events: list[Any] = list(client.responses.create(model="little", input=ASKED, stream=True))
    assert events[-1].type == "error" and "out of order" in events[-1].message
    assert [event.sequence_number for event in events] == list(range(len(events)))


def test_errors_are_those_of_the_client(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="There are: little, handbook"):
        client.chat.completions.create(model="gpt-5", messages=ASKED)
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="little", messages=ASKED, logit_bias={"5": 1})
    assert (refused.value.param, refused.value.code) == ("logit_bias", "unsupported_parameter")
    with pytest.raises(openai.BadRequestError, match="temperature"):
        client.chat.completions.create(model="little", messages=ASKED, temperature=3)
    with pytest.raises(openai.BadRequestError, match="POST to /predict"):
        client.chat.completions.create(model="yesno", messages=ASKED)
    with pytest.raises(openai.BadRequestError, match="previous_response_id"):
        client.responses.create(model="little", input="x", previous_response_id="resp_1")


def test_too_long_is_refused_with_both_counts_or_cut_and_said(client: openai.OpenAI) -> None:
    long: list[Any] = [
        {"role": "user", "content": "What is a loan? " * 400},
        {"role": "assistant", "content": "An agreement."},
        {"role": "user", "content": "Who lends tools?"},
    ]
    with pytest.raises(openai.BadRequestError, match=r"has \d{4} tokens and 8 for the answer.* context is 1024") as no:
        client.chat.completions.create(model="little", messages=long, max_tokens=8)
    assert no.value.code == "context_length_exceeded"
    cut = client.chat.completions.create(model="little", messages=long, max_tokens=8, extra_body={"truncate": True})
    extra: Any = cut.model_extra
    assert extra["tinyforge"] == {"truncated": {"dropped_messages": 2}}  # no answer begins a conversation
    rest = client.chat.completions.create(model="little", messages=long[2:], max_tokens=8)
    assert "tinyforge" not in (rest.model_extra or {})
    assert rest.choices[0].message.content == cut.choices[0].message.content
    alone = client.chat.completions.create(
        model="little", messages=long[:1], max_tokens=8, extra_body={"truncate": True}
    )
    told: Any = alone.model_extra
    assert told["tinyforge"]["truncated"]["dropped_tokens"] > 0 and alone.usage is not None
    assert alone.usage.prompt_tokens <= 1024 - 8


# --- LangChain and llm -----------------------------------------------------------------------------------------------


def test_langchain(server: Live) -> None:
    from langchain_openai import ChatOpenAI

    def chat(**options: Any) -> Any:
        given = {"model": "little", "base_url": f"{server.url}/v1", "api_key": "none", "max_retries": 0}
        return ChatOpenAI(**given, **options)

    whole = chat(max_tokens=20, temperature=0).invoke("What is a loan?")
    assert whole.content and whole.usage_metadata["output_tokens"] == 20
    streamed = list(chat(max_tokens=20, temperature=0, stream_usage=True).stream("What is a loan?"))
    assert "".join(piece.content for piece in streamed) == whole.content
    told = chat(max_tokens=5, logprobs=True, top_logprobs=2).invoke("What is a loan?")
    assert len(told.response_metadata["logprobs"]["content"]) == 5
    found = chat(max_tokens=900, temperature=1, seed=1).with_structured_output(
        {"title": "Kind", "type": "object", "properties": {"kind": {"enum": ["red", "blue"]}}, "required": ["kind"]},
        method="json_schema",
    )
    assert found.invoke("Which?")["kind"] in ("red", "blue")
    with pytest.raises(openai.BadRequestError):
        chat(top_p=0.0).invoke("x")


def test_llm(server: Live, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    from llm.default_plugins.openai_models import Chat, Completion, OpenAIEmbeddingModel

    api = f"{server.url}/v1"
    chat = Chat("mine", model_name="little", api_base=api, supports_schema=True)
    whole = chat.prompt("What is a loan?", stream=False, key="none", max_tokens=20).text()
    assert "".join(chat.prompt("What is a loan?", stream=True, key="none", max_tokens=20)) == whole != ""
    found = chat.prompt("Who?", schema=Person, key="none", stream=False, max_tokens=900, temperature=1, seed=4).text()
    jsonschema.validate(json.loads(found), Person.model_json_schema())
    text = Completion("text", model_name="little", api_base=api, default_max_tokens=6)
    told = text.prompt("The library", key="none", stream=False, logprobs=2, max_tokens=6)
    assert told.text() and len(told.response_json["choices"][0]["logprobs"]["tokens"]) == 6
    monkeypatch.setenv("OPENAI_BASE_URL", api)
    embedding = OpenAIEmbeddingModel("minilm", "minilm")
    assert len(next(iter(embedding.embed_batch(["a boat"], key="none")))) == 384
    with pytest.raises(Exception, match="no model 'none-such'"):
        Chat("x", model_name="none-such", api_base=api).prompt("x", key="none", stream=False).text()


# --- documents, predictions, adapters --------------------------------------------------------------------------------


def test_documents_answer_with_exact_citations(server: Live, client: openai.OpenAI) -> None:
    asked: list[Any] = [{"role": "user", "content": "What does a membership card cost?"}]
    whole = client.chat.completions.create(model="handbook", messages=asked)
    extra: Any = whole.model_extra
    assert whole.choices[0].message.content == "A membership card costs 12 euros per year."
    told = extra["tinyforge"]
    assert told["quoted"] and not told["declined"]  # the little model knows nothing, so the passage speaks
    texts = {document.source: document.text for document in handbook()}
    assert told["citations"]
    for citation in told["citations"]:
        assert texts[citation["source"]][citation["start"] : citation["end"]] == citation["text"]
    chunks = list(client.chat.completions.create(model="handbook", messages=asked, stream=True))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    extras: list[Any] = [c.model_extra["tinyforge"] for c in chunks if "tinyforge" in (c.model_extra or {})]
    assert len([one for one in extras if "draft" in one]) > 5 and extras[-1]["citations"] == told["citations"]
    far = client.chat.completions.create(model="handbook", messages=[{"role": "user", "content": "Who won in 1998?"}])
    other: Any = far.model_extra
    assert other["tinyforge"]["declined"] and other["tinyforge"]["citations"] == []
    with pytest.raises(openai.BadRequestError, match="Use the model 'handbook:model'"):
        client.chat.completions.create(model="handbook", messages=asked, logprobs=True)
    nothing: dict[str, Any] = {"stop": [], "n": None, "stream": None, "response_format": {"type": "text"}}
    same = post(server, "/v1/chat/completions", model="handbook", messages=asked, **nothing)
    assert same.json()["choices"][0]["message"]["content"] == whole.choices[0].message.content
    server.until_idle()


def test_documents_answer_as_long_as_the_run_says_and_tell_when_that_cut_it(
    places: dict[str, str], tmp_path: Path
) -> None:
    folder = make_build(Path(places["little"]), tmp_path / "build", "base")  # which says what it says, unchecked
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", {**config, "evaluate": {**config["evaluate"], "max_new_tokens": 20}})
    asked: Any = {"model": "build", "messages": [{"role": "user", "content": "What does a membership card cost?"}]}
    with live([f"build={folder}"]) as server:
        for more, tokens in (({}, 20), ({"max_tokens": 9}, 9)):
            whole = post(server, "/v1/chat/completions", **asked, **more).json()
            assert whole["usage"]["completion_tokens"] == tokens and whole["choices"][0]["finish_reason"] == "length"
        streamed = post(server, "/v1/chat/completions", **asked, stream=True).text
        assert '"finish_reason":"length"' in streamed and '"finish_reason":"stop"' not in streamed


def test_who_leaves_before_the_first_word_gives_the_place_back(server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    writers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def thinks(answerer: Any, *_: Any) -> None:
        writers.put(answerer.writer)
        answerer.writer._gone.wait(20)

    monkeypatch.setattr(Answerer, "ask", thinks)
    with pytest.raises(httpx.ReadTimeout):
        body = {"model": "handbook", "messages": ASKED, "stream": True}
        httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=0.5)
    assert writers.get(timeout=10)._gone.wait(10)


def test_predict_and_classify(server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[Any] = []
    monkeypatch.setattr(plain, "note_text", lambda request, *said: logged.append(said))
    one = post(server, "/classify", input="Is this spam?").json()
    assert logged == [(["Is this spam?"], [one["label"]])]
    assert one["label"] in ("no", "yes") and sum(one["probabilities"].values()) == pytest.approx(1)
    several = post(server, "/predict", model="yesno", input=["Is this spam?", "No."]).json()["results"]
    assert several[0] == {"output": one["label"], "confidence": one["confidence"], "calibrated": False}
    written = post(server, "/predict", model="little", input="What is a loan?", max_tokens=4).json()
    assert 0 < written["confidence"] < 1 and not written["complete"]
    short = post(server, "/predict", model="little", input="What is a loan?", max_tokens=1).json()
    assert short["confidence"] > written["confidence"]  # a product of more factors
    assert post(server, "/predict", input="x").status_code == 400  # which of several?
    assert post(server, "/classify", model="little", input="x").status_code == 400


def test_adapters_are_models_that_come_and_go_and_never_mix(
    server: Live, client: openai.OpenAI, places: dict[str, str], tmp_path: Path
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    for number in range(3):
        folder = make_adapter(Path(places["little"]), tmp_path / str(number), number)
        added = post(server, "/v1/adapters", name=f"adapter{number}", base="little", path=str(folder))
        assert added.status_code == 201, added.text
    names = ["little", "adapter0", "adapter1", "adapter2"]

    def ask(number: int) -> str:
        canary: Any = [{"role": "user", "content": f"Canary {number}: what is a loan?"}]
        options: dict[str, Any] = {"model": names[number % 4], "messages": canary, "max_tokens": 24}
        pieces = client.chat.completions.create(**options, stream=True)
        return "".join(piece.choices[0].delta.content or "" for piece in pieces)

    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(ask, range(32)))
    assert together == [ask(number) for number in range(32)]
    assert len({tuple(together[i::4]) for i in range(4)}) == 4  # the control: each adapter says something else
    assert httpx.delete(f"{server.url}/v1/adapters/adapter1").json()["deleted"]
    with pytest.raises(openai.NotFoundError):
        ask(2)
    assert ask(3) == together[3]
    assert httpx.delete(f"{server.url}/v1/adapters/little").status_code == 400
    nowhere = post(server, "/v1/adapters", name="x", base="little", path="/nowhere")
    assert nowhere.status_code == 400 and "holds no adapter" in nowhere.json()["error"]["message"]
    for number in (0, 2):
        httpx.delete(f"{server.url}/v1/adapters/adapter{number}")


def test_adapters_of_a_server_that_stops_are_refused_with_503(server: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopping(*_: Any) -> None:
        raise StoppingError()

    monkeypatch.setattr(server.catalogue, "add_adapter", stopping)
    monkeypatch.setattr(server.catalogue, "remove_adapter", stopping)
    assert post(server, "/v1/adapters", name="x", base="little", path="/nowhere").status_code == 503
    assert httpx.delete(f"{server.url}/v1/adapters/little").status_code == 503


def test_tools_go_in_as_text(client: openai.OpenAI) -> None:
    tool: Any = {"type": "function", "function": {"name": "lend", "parameters": {"type": "object"}}}
    with_tool = client.chat.completions.create(model="little", messages=ASKED, tools=[tool], max_tokens=8)
    without = client.chat.completions.create(model="little", messages=ASKED, max_tokens=8)
    assert with_tool.usage is not None and without.usage is not None
    assert with_tool.usage.prompt_tokens > without.usage.prompt_tokens + 20
    none = client.chat.completions.create(
        model="little", messages=ASKED, tools=[tool], tool_choice="none", max_tokens=8
    )
    assert none.usage == without.usage and not none.choices[0].message.tool_calls
    with pytest.raises(openai.BadRequestError, match="tool_choice"):
        client.chat.completions.create(model="little", messages=ASKED, tools=[tool], tool_choice="required")


def test_health_metrics_docs_and_page(server: Live) -> None:
    assert httpx.get(f"{server.url}/health").json() == {"status": "ok"}
    assert "little" in httpx.get(f"{server.url}/ready").json()["models"]
    text = httpx.get(f"{server.url}/metrics").text
    assert 'tinyforge_engine_slots{base="' in text and "tinyforge_first_token_seconds_count" in text
    for path in ("/docs", "/"):
        page = httpx.get(f"{server.url}{path}")
        assert page.status_code == 200 and "default-src" in page.headers.get("content-security-policy", "default-src")
        assert not [part for part in page.text.split('"') if part.startswith(("http:", "https:", "//"))]
    assert "<code>max_completion_tokens</code>" in httpx.get(f"{server.url}/docs").text
    for path in ("/page/../served.py", "/page/%2e%2e/served.py", "/page//etc/passwd"):
        assert httpx.get(f"{server.url}{path}").status_code == 404
