"""Ask any OpenAI-compatible chat endpoint, or a model on this machine, through one small interface.

``http(s)://host/v1#model`` is an endpoint; ``openai#model`` the one of OPENAI_BASE_URL (OpenAI's own where that is not
set). The key is OPENAI_API_KEY; it is sent, and shown nowhere. Everything else names a model on this machine.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from tinyforge import __version__
from tinyforge.errors import InputError, TinyForgeError
from tinyforge.records import Message

if TYPE_CHECKING:
    from tinyforge.models.generate import Writer

OPENAI = "https://api.openai.com/v1"
ATTEMPTS = 8
FIRST_ATTEMPTS = 4  # of an endpoint that has never answered: its address may be wrong, or it does not run
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0  # seconds before the second attempt, doubled before each further one
_CONNECT_SECONDS = 20.0
_BUSY = (429, 503, 529)
_PASSING = (*_BUSY, 408, 409, 425, 500, 502, 504)
_MOST_BYTES = 16_000_000


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for besides the messages; ``json`` asks for a JSON object where the server knows how."""

    max_tokens: int = 1024
    temperature: float = 0.0
    seed: int = 0
    json: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer and the tokens that it took, as the server counted them (0 where it does not say)."""

    text: str
    prompt_tokens: int
    completion_tokens: int


class PassingError(TinyForgeError):
    """A failure that may pass: ``busy`` tells that the server asks for fewer calls, ``seconds`` when to come back."""

    def __init__(self, message: str, busy: bool = False, seconds: float = 0.0) -> None:
        super().__init__(message, "Run the same command again; what was answered is kept.")
        self.busy, self.seconds = busy, seconds


class Chat(Protocol):
    """What can be asked: ``name`` for people, ``identity`` for caches (equal ones answer alike)."""

    name: str
    identity: str
    paid: bool

    def complete(self, messages: Sequence[Message], options: Options, key: str = "") -> Completion:
        """One attempt. ``key`` names the call for servers that charge for a repeated one only once."""
        ...

    def __call__(self, messages: list[Message]) -> str: ...


class Endpoint:
    """A chat endpoint. Threads may share it. As a callable it answers greedily, and tries again where that may help."""

    paid = True

    def __init__(self, url: str, model: str, key: str = "", timeout: float = 120.0, connections: int = 8) -> None:
        import urllib3

        self.url, self.model, self.timeout = url.rstrip("/"), model, timeout
        self.name = self.identity = f"{self.url}#{model}"
        self.usage: dict[str, int] = {"calls": 0, "prompt_tokens": 0, "completion_tokens": 0}
        self._key = key
        self._lock = Lock()
        self._refused: set[str] = set()  # fields that this server does not take
        self._pool = urllib3.PoolManager(maxsize=connections, retries=False)

    def __call__(self, messages: list[Message]) -> str:
        return self.ask(messages, Options())

    def ask(self, messages: Sequence[Message], options: Options) -> str:
        """The answer, tried again where that may help. Raises as :meth:`complete` does."""
        for attempt in range(ATTEMPTS):
            try:
                return self.complete(messages, options).text
            except PassingError as failure:
                known = failure.busy or self.usage["calls"] > 0
                if attempt + 1 >= (ATTEMPTS if known else FIRST_ATTEMPTS):
                    raise
                time.sleep(max(failure.seconds, patience(attempt)))
        raise AssertionError("unreachable")

    def complete(self, messages: Sequence[Message], options: Options, key: str = "") -> Completion:
        """Raises PassingError for what may go better a second time, InputError for what will not."""
        headers = {"Idempotency-Key": key} if key else {}
        body = self._body(messages, options)
        status, fields, data = self._send("POST", "/chat/completions", body, headers)
        if status == 400 and self._adapt(data, body):
            return self.complete(messages, options, key)
        if status != 200:
            raise self._failure(status, fields, data)
        return self._read(data)

    def _body(self, messages: Sequence[Message], options: Options) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [asdict(message) for message in messages],
            "temperature": options.temperature,
            "max_tokens": options.max_tokens,
            "seed": options.seed,
        }
        if options.json:
            body["response_format"] = {"type": "json_object"}
        if "max_tokens" in self._refused:
            body["max_completion_tokens"] = body["max_tokens"]
        return {name: value for name, value in body.items() if name not in self._refused}

    def _adapt(self, data: bytes, body: Mapping[str, Any]) -> bool:
        """Leave out, from now on, a field that the server says it does not take; whether there was one."""
        said = data.decode("utf-8", "replace")
        for name in ("response_format", "seed", "max_tokens", "temperature"):
            if name in body and name in said:
                self._refused.add(name)
                return True
        return False

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        import urllib3

        sent = {"Content-Type": "application/json", "User-Agent": f"tinyforge/{__version__}", **headers}
        if self._key:
            sent["Authorization"] = f"Bearer {self._key}"
        try:
            response = self._pool.request(
                method,
                self.url + path,
                body=None if body is None else json.dumps(body).encode(),
                headers=sent,
                timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=self.timeout),
                preload_content=False,
                redirect=False,
            )
            try:
                data = response.read(_MOST_BYTES)
            finally:
                response.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise PassingError(f"{self.url}: no whole answer ({type(error).__name__}).") from error
        return response.status, response.headers, data

    def _failure(self, status: int, headers: Mapping[str, str], data: bytes) -> TinyForgeError:
        said = self._message(data)
        if status in _PASSING:
            return PassingError(f"{self.url}: status {status}{said}.", status in _BUSY, retry_after(headers))
        fix = "Set OPENAI_API_KEY to a key that it takes." if status in (401, 403) else "Check the address and model."
        return InputError(f"{self.url}: refuses the call (status {status}{said}).", fix)

    def _message(self, data: bytes) -> str:
        """What the server said, on one line, without the key should it repeat it."""
        try:
            error = json.loads(data)["error"]
            text = str(error["message"] if isinstance(error, dict) else error)
        except (ValueError, KeyError, TypeError):
            text = data.decode("utf-8", "replace")
        text = " ".join(text.split())[:200].rstrip(".")
        text = text.replace(self._key, "***") if self._key else text
        return f": {text}" if text else ""

    def _read(self, data: bytes) -> Completion:
        try:
            answer = json.loads(data)
            content = answer["choices"][0]["message"]["content"]
            if isinstance(content, list):
                content = "".join(str(part.get("text", "")) for part in content)
            usage = answer.get("usage") or {}
            asked, written = (int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens"))
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise PassingError(f"{self.url}: the answer is not a chat completion.") from error
        with self._lock:
            for name, count in (("calls", 1), ("prompt_tokens", asked), ("completion_tokens", written)):
                self.usage[name] += count
        return Completion(content if isinstance(content, str) else "", asked, written)

    def models(self) -> list[str]:
        """The names of the models that it serves."""
        status, headers, data = self._send("GET", "/models", None, {})
        if status != 200:
            raise self._failure(status, headers, data)
        try:
            return [str(row["id"]) for row in json.loads(data)["data"]]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self.url}: does not list its models.", "Name one: URL#model") from error


def patience(attempt: int) -> float:
    """Seconds to wait after this many failed attempts."""
    return float(min(LONGEST_WAIT, FIRST_WAIT * 2**attempt))


def retry_after(headers: Mapping[str, str]) -> float:
    """The seconds that a Retry-After header asks for, given as a number or as a date; 0 without one."""
    said = headers.get("Retry-After", "")
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


class Local:
    """A model on this machine, greedy and one prompt at a time: what it writes then depends on nothing else."""

    paid = False

    def __init__(self, name: str, identity: str, load: Callable[[], Writer]) -> None:
        self.name, self.identity = name, identity
        self.usage: dict[str, int] = {"calls": 0, "prompt_tokens": 0, "completion_tokens": 0}
        self._load = load
        self._lock = Lock()

    @cached_property
    def _writer(self) -> Writer:
        return self._load()

    def __call__(self, messages: list[Message]) -> str:
        return self.ask(messages, Options())

    def ask(self, messages: Sequence[Message], options: Options) -> str:
        """The answer alone."""
        return self.complete(messages, options).text

    def complete(self, messages: Sequence[Message], options: Options, key: str = "") -> Completion:
        with self._lock:
            writer = self._writer
            length = writer.prompt_length(messages)
            room = writer.context - length
            if room < 1:
                return Completion("", length, 0)  # an answer that nothing can be read from is counted as that
            writer.max_new_tokens = min(options.max_tokens, room)
            text = writer.answer_all([messages])[0]
            written = len(writer.tokenizer(text)["input_ids"])
            for name, count in (("calls", 1), ("prompt_tokens", length), ("completion_tokens", written)):
                self.usage[name] += count
        return Completion(text, length, written)


def connect(
    name: str, timeout: float = 120.0, connections: int = 8, trust_remote_code: bool = False
) -> Endpoint | Local:
    """What ``name`` stands for: an endpoint's address, or a run, a folder, a base or a hub id.

    Raises InputError when it is neither, or when an endpoint serves several models and none is named.
    """
    if not is_address(name):
        return _local(name, trust_remote_code)
    place, _, model = name.partition("#")
    url = _address(os.environ.get("OPENAI_BASE_URL") or OPENAI if place == "openai" else place)
    key = os.environ.get("OPENAI_API_KEY", "")
    if not model:
        model = _only_model(Endpoint(url, "", key, timeout))
    return Endpoint(url, model, key, timeout, connections)


def is_address(name: str) -> bool:
    """Whether a name is that of an endpoint, not of a model on this machine."""
    return name.startswith(("http://", "https://")) or name.partition("#")[0] == "openai"


def _address(url: str) -> str:
    parts = urlsplit(url)
    if not parts.hostname or parts.username or parts.password:
        raise InputError("the endpoint's address is not one, or holds a password.", "Give it as http://host:port/v1")
    path = parts.path.rstrip("/").removesuffix("/chat/completions") or "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}"


def _only_model(endpoint: Endpoint) -> str:
    names = endpoint.models()
    if len(names) != 1:
        listed = ", ".join(names[:8]) or "none"
        raise InputError(f"{endpoint.url}: serves {len(names)} models ({listed}).", f"Name one: {endpoint.url}#MODEL")
    return names[0]


def _local(name: str, trust_remote_code: bool) -> Local:
    from tinyforge.models.resolve import resolve
    from tinyforge.run import hash_folder, hash_json, read_json

    folder = Path(name).expanduser()
    if not (folder / "adapter").is_dir():
        base = resolve(name)
        return Local(name, base.hash, lambda: _writer(base.folder, None, trust_remote_code))
    recorded = read_json(folder / "base.json")
    base, adapter = resolve(str(recorded["name"])), folder / "adapter"
    identity = hash_json([base.hash, hash_folder(adapter)])
    return Local(name, identity, lambda: _writer(base.folder, adapter, trust_remote_code, recorded["quantize"]))


def _writer(folder: Path, adapter: Path | None, trust_remote_code: bool, quantize: str = "") -> Writer:
    from tinyforge import adapters
    from tinyforge.models.generate import Writer
    from tinyforge.models.resolve import load_model, load_tokenizer

    model: Any = load_model(folder, "fp32", trust_remote_code, quantize)
    if adapter is not None:
        model = adapters.load(model, adapter)
    return Writer(model, load_tokenizer(folder, trust_remote_code), Options().max_tokens)
