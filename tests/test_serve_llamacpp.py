"""The llama.cpp engine beside the reference: same prompts, greedy text and ends; and its process when it dies."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import openai
import pytest
import torch

from little import make_lively_base
from live_server import Live, live, make_adapter
from tinyforge.cli import main
from tinyforge.config import Config, ServeConfig, TrainConfig
from tinyforge.errors import InputError
from tinyforge.export.artifact import export
from tinyforge.models.resolve import EMBEDDED, load_tokenizer, resolve
from tinyforge.models.sampling import Sampling
from tinyforge.run import read_json, write_json
from tinyforge.serve.catalogue import Catalogue
from tinyforge.serve.engines import Event, Request
from tinyforge.serve.engines.llamacpp import LlamaEngine
from tinyforge.serve.gbnf import gbnf
from tinyforge.serve.schema import Grammar

QUESTIONS = (
    "What is a loan?",
    "Question: Who lends tools?\nPassage: The library lends tools. Members pay a fee.",
    "Straße, naïve, 東京 🙂: which of these are cities?",
    "List three things that a library lends, one per line.",
    "Why?",
)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "näme": {"type": "string", "maxLength": 12},
        "size": {"type": "integer"},
        "kind": {"enum": ['a "b"', "c\\d"]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
    },
    "required": ["näme", "size", "kind", "tags"],
}


def make_run(folder: Path, base: Path, seed: int) -> Path:
    """What a LoRA training on ``base`` leaves behind, as far as an export and a server read it."""
    folder.mkdir(parents=True)
    config = Config(base=str(base), train=TrainConfig(precision="fp32", method="lora", lora_rank=4))  # type: ignore[call-arg]
    write_json(folder / "run.json", {"format": 1, "command": "train"})
    write_json(folder / "config.json", config.model_dump())
    write_json(folder / "base.json", {"hash": resolve(str(base)).hash, "quantize": ""})
    make_adapter(base, folder / "adapter", seed, 0.1)  # stronger ones make rounding visible
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Exact GGUF files of the embedded base, of a lively one, and of two adapters on that."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("made")
    lively = make_lively_base(folder / "lively", hidden=64)
    places = {"lively": lively}
    for name, source in (("tiny-gguf", "tiny"), ("lively-gguf", str(lively))):
        places[name] = export(source, "gguf", "f32", folder / name).folder
    for number in (1, 2):
        run = make_run(folder / f"run{number}", lively, number)
        certificate = export(str(run), "adapter", "gguf").certificate
        assert certificate["passed"], certificate["checks"]
        places[f"run{number}"] = run
    return places


@pytest.fixture(scope="module")
def llama(made: dict[str, Path]) -> Iterator[Live]:
    names = ("tiny-gguf", "lively-gguf", "run1")
    with live([f"{name}={made[name]}" for name in names], engine="llamacpp", slots=4, manage_adapters=True) as server:
        yield server


@pytest.fixture(scope="module")
def reference(made: dict[str, Path]) -> Iterator[Live]:
    with live(["tiny=tiny", f"lively={made['lively']}", f"run1={made['run1']}"], engine="transformers") as server:
        yield server


def engine(server: Live, number: int = 0) -> LlamaEngine:
    found = server.catalogue.engines[number][1]
    assert isinstance(found, LlamaEngine)
    return found


def ask(server: Live, model: str, question: str, **options: Any) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 40, **options}
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def told(answer: dict[str, Any]) -> tuple[Any, ...]:
    """What both engines must agree on."""
    choice = answer["choices"][0]
    return choice["message"]["content"], choice["finish_reason"], answer["usage"]


# --- the same answers ------------------------------------------------------------------------------------------------


def test_the_same_greedy_text_the_same_prompts_and_ends(llama: Live, reference: Live) -> None:
    pairs = [(ask(reference, "tiny", q, max_tokens=64), ask(llama, "tiny-gguf", q, max_tokens=64)) for q in QUESTIONS]
    assert [told(one) for one, _ in pairs] == [told(other) for _, other in pairs]
    assert len({told(one)[0] for one, _ in pairs}) > 2  # the control: questions matter
    assert {"stop"} <= {told(one)[1] for one, _ in pairs}


def test_prompts_are_rendered_to_the_ids_of_the_files_own_template(llama: Live, made: dict[str, Path]) -> None:
    from tinyforge.export.llama_runner import LlamaRunner
    from tinyforge.records import Message

    base = llama.catalogue.get("tiny-gguf")
    assert base is not None and base.base is not None
    with LlamaRunner(next(made["tiny-gguf"].glob("*.gguf"))) as runner:
        for question in QUESTIONS:
            talk = [Message("system", "Be brief."), Message("user", question)]
            assert base.base.encode(talk) == runner.prompt_ids(talk)


def test_stop_texts_end_both_at_the_same_place(llama: Live, reference: Live) -> None:
    text = ask(reference, "tiny", QUESTIONS[1], max_tokens=64)["choices"][0]["message"]["content"]
    assert len(text) > 12
    for start, end in ((1, 3), (4, 9), (len(text) - 3, len(text))):
        options = {"max_tokens": 64, "stop": [text[start:end], "never"]}
        one, other = ask(reference, "tiny", QUESTIONS[1], **options), ask(llama, "tiny-gguf", QUESTIONS[1], **options)
        assert told(one) == told(other)
        assert other["choices"][0]["message"]["content"] == text[: text.index(text[start:end])]


def test_log_probabilities_are_the_same(llama: Live, reference: Live) -> None:
    options = {"logprobs": True, "top_logprobs": 3, "max_tokens": 24}
    for question in QUESTIONS[:3]:
        one = ask(reference, "tiny", question, **options)["choices"][0]["logprobs"]["content"]
        other = ask(llama, "tiny-gguf", question, **options)["choices"][0]["logprobs"]["content"]
        assert [(t["token"], t["bytes"]) for t in one] == [(t["token"], t["bytes"]) for t in other]
        for ours, theirs in zip(one, other, strict=True):
            assert theirs["logprob"] == pytest.approx(ours["logprob"], abs=1e-3)
            assert [t["token"] for t in theirs["top_logprobs"]] == [t["token"] for t in ours["top_logprobs"]]


def test_characters_of_several_tokens_are_told_as_theirs(llama: Live, reference: Live) -> None:
    """llama.cpp tells nothing of a token within a character; where an answer ends there, that is shown."""
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"const": "東京 é 🙂 ok"}}}
    options: dict[str, Any] = {"response_format": form, "logprobs": True, "top_logprobs": 2}
    one = ask(reference, "tiny", "?", **options)["choices"][0]["logprobs"]["content"]
    other = ask(llama, "tiny-gguf", "?", **options)["choices"][0]["logprobs"]["content"]
    assert [t["bytes"] for t in one] == [t["bytes"] for t in other] and len(one) > 12
    assert [t["logprob"] for t in one] == pytest.approx([t["logprob"] for t in other], abs=1e-3)
    for tokens in range(2, 7):
        options = {"response_format": form, "max_tokens": tokens}
        assert told(ask(reference, "tiny", "?", **options)) == told(ask(llama, "tiny-gguf", "?", **options))


def test_json_of_a_schema_is_the_same(llama: Live, reference: Live) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    for question in QUESTIONS[:2]:
        options = {"response_format": form, "max_tokens": 300}
        one, other = ask(reference, "tiny", question, **options), ask(llama, "tiny-gguf", question, **options)
        assert told(one) == told(other)
        jsonschema.validate(json.loads(told(other)[0]), SCHEMA)
    hot = ask(llama, "lively-gguf", "x", temperature=1.5, seed=3, **options)
    jsonschema.validate(json.loads(told(hot)[0]), SCHEMA)


def test_chance_has_a_seed_and_n_answers_differ(llama: Live) -> None:
    options: dict[str, Any] = {"temperature": 1.2, "top_p": 0.9, "top_k": 50, "min_p": 0.01, "repetition_penalty": 1.1}
    one = ask(llama, "lively-gguf", "What?", seed=5, n=3, **options)
    texts = [choice["message"]["content"] for choice in one["choices"]]
    assert len(set(texts)) == 3
    assert told(ask(llama, "lively-gguf", "What?", seed=6, **options))[0] == texts[1]
    assert told(ask(llama, "lively-gguf", "What?", seed=5 + 2**40, **options))[0]


def test_a_stream_is_the_whole_in_pieces(llama: Live) -> None:
    client = openai.OpenAI(base_url=f"{llama.url}/v1", api_key="none", max_retries=0)
    asked: list[Any] = [{"role": "user", "content": QUESTIONS[1]}]
    whole = client.chat.completions.create(model="tiny-gguf", messages=asked, max_tokens=30)
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    chunks: list[Any] = list(
        client.chat.completions.create(model="tiny-gguf", messages=asked, max_tokens=30, **options)
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content and len(chunks) > 5
    assert chunks[-1].usage == whole.usage


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"presence_penalty": -0.5}, "presence_penalty"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "string", "maxLength": 5000}},
                }
            },
            "response_format",
        ),
    ],
)
def test_what_llama_cpp_would_do_otherwise_is_refused(llama: Live, options: dict[str, Any], named: str) -> None:
    body = {"model": "tiny-gguf", "messages": [{"role": "user", "content": "x"}], "max_tokens": 3, **options}
    answer = httpx.post(f"{llama.url}/v1/chat/completions", json=body, timeout=60)
    assert answer.status_code == 400 and named in answer.json()["error"]["message"]


def test_too_long_is_refused_with_both_counts(llama: Live) -> None:
    body = {"model": "lively-gguf", "messages": [{"role": "user", "content": "word " * 3000}]}
    answer = httpx.post(f"{llama.url}/v1/chat/completions", json=body, timeout=60)
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "context_length_exceeded"
    whole = ask(llama, "lively-gguf", "Why?", max_tokens=None)  # ends where the context does
    assert whole["usage"]["total_tokens"] == 1024 and whole["choices"][0]["finish_reason"] == "length"


def test_a_grammar_that_holds_other_bytes_than_it_can_say_fails_loudly() -> None:
    grammar = Grammar(SCHEMA)
    text = gbnf(grammar.rules, grammar.start)
    assert "\\U000000e4" in text and text.startswith("root ::= ")
    with pytest.raises(AssertionError, match="only the rule of other characters"):
        gbnf({}, ("chars", 0x80, 0x90))


# --- adapters --------------------------------------------------------------------------------------------------------


def test_an_adapter_is_a_model_name_on_the_base_that_runs(llama: Live, reference: Live, made: dict[str, Path]) -> None:
    assert len(llama.catalogue.engines) == 2  # run1 shares the base's
    for question in QUESTIONS[:3]:
        one, other = ask(reference, "run1", question), ask(llama, "run1", question)
        assert told(one) == told(other)
        assert told(other)[0] != told(ask(llama, "lively-gguf", question))[0]  # the control: it matters


def test_adapters_come_and_go(llama: Live, reference: Live, made: dict[str, Path]) -> None:
    httpx.post(f"{reference.url}/v1/adapters", json={"name": "x", "base": "lively", "path": str(made["run2"])})
    for body, status in (
        ({"name": "two", "base": "lively-gguf", "path": str(made["run2"])}, 201),
        ({"name": "no", "base": "lively-gguf", "path": str(made["run2"] / "adapter")}, 400),
        ({"name": "no", "base": "tiny-gguf", "path": str(made["run2"])}, 400),
    ):
        answer = httpx.post(f"{llama.url}/v1/adapters", json=body, timeout=120)
        assert answer.status_code == status, answer.text
    assert "export RUN --to adapter --type gguf" in _refusal(llama, made["run2"] / "adapter")
    two, base = ask(llama, "two", "Why?"), ask(llama, "lively-gguf", "Why?")
    assert len({told(two)[0], told(base)[0], told(ask(llama, "run1", "Why?"))[0]}) == 3
    assert httpx.delete(f"{llama.url}/v1/adapters/two", timeout=60).status_code == 200
    with pytest.raises(AssertionError, match="no model 'two'"):
        ask(llama, "two", "Why?")
    assert told(ask(llama, "run1", "Why?"))[0] != told(base)[0]


def _refusal(server: Live, folder: Path) -> str:
    body = {"name": "no", "base": "lively-gguf", "path": str(folder)}
    return str(httpx.post(f"{server.url}/v1/adapters", json=body, timeout=60).json()["error"]["message"])


# --- the process -----------------------------------------------------------------------------------------------------


def test_a_killed_process_is_said_and_started_again(llama: Live) -> None:
    used = engine(llama)
    expected, failed = told(ask(llama, "tiny-gguf", QUESTIONS[0])), used.stats().failed
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    ids = used.tokenizer("Tell me a long story.")["input_ids"]
    endless = Sampling(max_new_tokens=1500, temperature=1.5, seed=1)
    used.submit([Request(ids, events.put, endless) for _ in range(4)])
    events.get(timeout=60)
    before = used.pid
    os.kill(before, signal.SIGKILL)
    ends = list[Event]()
    while len(ends) < 4:
        event = events.get(timeout=60)
        ends += [event] if event.finish else []
    broken = [end for end in ends if end.finish == "error"]
    assert broken and all("SIGKILL" in end.reason and "Ask again" in end.reason for end in broken)
    assert told(ask(llama, "tiny-gguf", QUESTIONS[0])) == expected
    assert used.pid != before and used.stats().failed == failed + len(broken)


def test_over_http_a_death_is_an_error_event(llama: Live) -> None:
    body = {
        "model": "lively-gguf",
        "messages": [{"role": "user", "content": "Why?"}],
        "max_tokens": 900,
        "stream": True,
    }
    lines = list[str]()
    with httpx.stream("POST", f"{llama.url}/v1/chat/completions", json=body, timeout=60) as answer:
        for line in answer.iter_lines():
            lines.append(line)
            if len(lines) == 6:
                os.kill(engine(llama, 1).pid, signal.SIGKILL)
    last = json.loads([line for line in lines if line][-1].removeprefix("data: "))
    assert last["error"]["type"] == "server_error" and "SIGKILL" in last["error"]["message"]
    assert ask(llama, "lively-gguf", "Why?")["usage"]["completion_tokens"] == 40


def test_clients_that_leave_free_their_slots(llama: Live) -> None:
    used = engine(llama, 1)
    before = used.stats()
    for number in range(10):
        body = {"model": "lively-gguf", "messages": [{"role": "user", "content": f"{number}?"}], "max_tokens": 950}
        with httpx.stream(
            "POST", f"{llama.url}/v1/chat/completions", json={**body, "stream": True}, timeout=60
        ) as answer:
            next(answer.iter_lines())
    llama.until_idle(10)
    after = used.stats()
    assert after.cancelled - before.cancelled == 10
    began = time.monotonic()
    assert ask(llama, "lively-gguf", "Why?", max_tokens=2)["usage"]["completion_tokens"] == 2
    assert time.monotonic() - began < 20  # the slots are llama.cpp's own again, not only ours


def test_close_ends_what_is_under_way_with_a_reason(made: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(made["lively"])
    file = next(made["lively-gguf"].glob("*.gguf"))
    own = LlamaEngine(file, tokenizer, set(), 1024, 1, slots=2, exact=True)
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    own.submit([Request([5, 6, 7], events.put, Sampling(max_new_tokens=900)) for _ in range(4)])
    events.get(timeout=60)
    pid = own.pid
    own.close(0)
    ends = list[Event]()
    while not events.empty():
        event = events.get()
        ends += [event] if event.finish else []
    assert [(end.finish, end.reason) for end in ends] == [("error", "the server is stopping.")] * 4
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


# --- which files are served ------------------------------------------------------------------------------------------


@pytest.fixture
def whole_run(made: dict[str, Path], tmp_path: Path) -> Path:
    """A run with a model of its own, exported as GGUF."""
    run = tmp_path / "run"
    run.mkdir()
    config = Config(base=str(made["lively"]), train=TrainConfig(precision="fp32"))  # type: ignore[call-arg]
    write_json(run / "run.json", {"format": 1, "command": "train"})
    write_json(run / "config.json", config.model_dump())
    shutil.copytree(made["lively"], run / "model")
    assert export(str(run), "gguf", "f32").certificate["passed"]
    return run


def opened(run: Path, engine: str) -> tuple[str, list[str]]:
    """The kind of engine that serves the run, and what was said."""
    said = list[str]()
    serve = ServeConfig(engine=engine)  # type: ignore[arg-type,call-arg]
    catalogue = Catalogue(Config(serve=serve, train=TrainConfig(precision="fp32", threads=1)), said.append)  # type: ignore[call-arg]
    try:
        catalogue.open(str(run))
        return type(catalogue.engines[0][1]).__name__, said
    finally:
        catalogue.close(0)


def test_auto_takes_a_faithful_file_and_no_other(whole_run: Path) -> None:
    assert opened(whole_run, "auto")[0] == "LlamaEngine"
    assert opened(whole_run, "transformers")[0] == "TransformersEngine"
    folder = whole_run / "exports" / "gguf-f32"
    certificate = read_json(folder / "certificate.json")
    file = next(folder.glob("*.gguf"))
    content = file.read_bytes()

    def not_used(why: str) -> None:
        name, said = opened(whole_run, "auto")
        assert name == "TransformersEngine" and why in said[0], said
        with pytest.raises(InputError, match=why):
            opened(whole_run, "llamacpp")

    write_json(folder / "certificate.json", {**certificate, "passed": False})
    not_used("did not pass")
    write_json(folder / "certificate.json", certificate)
    file.write_bytes(content[:-4] + b"\0\0\0\1")
    not_used("is not the file that its certificate is for")
    file.write_bytes(content)
    settings = read_json(whole_run / "model" / "generation_config.json")
    write_json(whole_run / "model" / "generation_config.json", {**settings, "temperature": 0.5})
    not_used("made from other weights")
    write_json(whole_run / "model" / "generation_config.json", settings)
    shutil.rmtree(folder)
    with pytest.raises(InputError, match="was not exported as GGUF"):
        opened(whole_run, "llamacpp")


def test_the_command_refuses_what_it_cannot(made: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, why in (
        (["tiny", "--engine", "llamacpp"], "Run: tinyforge export tiny --to gguf --out DIR"),
        (["tiny", "--engine", "vllm"], "--engine vllm is not built in yet"),
        ([str(made["tiny-gguf"]), "--engine", "transformers"], "only llama.cpp runs GGUF files"),
    ):
        assert main(["serve", *arguments, "--port", "0"]) == 2
        assert why in capsys.readouterr().err
    assert EMBEDDED["tiny"].is_dir()
