"""A chat endpoint for tests: a real HTTP server that answers as a teacher would, and misbehaves on demand.

By default the answers are written from the prompt alone, by rule: what a good teacher gives, the same each time. With a
``Writer`` they come from a real model. ``faults`` is a list of what happens to the first calls, in order.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[list[dict[str, str]]], str]


def excerpts(prompt: str) -> list[str]:
    """The sentences of the first excerpt."""
    body = prompt.split("\n\n[2] ", maxsplit=1)[0].split("\n", 1)[1]
    body = re.split(r"\n\n(?:Write |You are |Question: |Only one )", body)[0]
    return [s for s in re.split(r"(?<=[.!?])\s+|\n+", body) if len(s.split()) >= 5]


def by_rule(messages: list[dict[str, str]]) -> str:
    """Sound items about the excerpt, and one of each kind that a gate must refuse."""
    prompt = messages[1]["content"]
    if messages[0]["content"].startswith("Answer the question"):
        return json.dumps({"answer": prompt.split("\n")[1][:200]})
    sentences = excerpts(prompt) or ["Nothing is said here at all."]
    asked = re.search(r"Question: (.*)", prompt)
    if "other ways" in prompt and asked:
        return json.dumps({"items": [{"question": f"Could somebody tell me: {asked[1]}"}]})
    if "does not answer" in prompt:
        return json.dumps({"items": [{"question": "Which zebra colour does the marine biologist prefer on Jupiter?"}]})
    items = [
        {"question": f"What is known about {' '.join(s.split()[:5])}?", "answer": s, "quotes": [s]}
        for s in sentences[:3]
    ]
    if "conversations" in prompt:
        return json.dumps({"items": [{"turns": [items[0], {**items[-1], "question": "And what else is known?"}]}]})
    if "two or more separate" in prompt and len(sentences) > 1:
        both = sentences[:2]
        items = [{"question": f"What holds for {both[0][:40]}?", "answer": " ".join(both), "quotes": both}]
    bad = {"question": "How many dragons does the office keep?", "answer": "It keeps 977 dragons."}
    return json.dumps({"items": [*items, {**bad, "quotes": ["It keeps 977 dragons in a cave."]}]})


class Teacher:
    """The server; ``calls`` counts how often each call (by its key) was asked, ``paid`` how often answered in full."""

    def __init__(self, answer: Answer = by_rule, faults: list[str] | None = None, latency: float = 0.0) -> None:
        self.answer, self.faults, self.latency = answer, list(faults or []), latency
        self.calls: Counter[str] = Counter()
        self.paid: Counter[str] = Counter()
        self.keys: list[str] = []
        self.prompts: list[str] = []
        self.busy = self.most = 0
        self.allowed = 1 << 30
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1#little"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Teacher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _handler(teacher) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # head and body are two writes, and the second waited 40 ms for an ACK

            def log_message(self, *_: Any) -> None: ...

            def do_GET(self) -> None:
                self.send(200, {"data": [{"id": "little"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with teacher.lock:
                    teacher.keys.append(self.headers.get("Authorization", ""))
                    teacher.busy += 1
                    teacher.most = max(teacher.most, teacher.busy)
                    fault = teacher.faults.pop(0) if teacher.faults else ""
                    fault = "429" if teacher.busy > teacher.allowed else fault
                try:
                    self.reply(body, fault)
                finally:
                    with teacher.lock:
                        teacher.busy -= 1

            def reply(self, body: dict[str, Any], fault: str) -> None:
                prompt = json.dumps(body["messages"])
                name = self.headers.get("Idempotency-Key") or prompt
                if not fault:
                    with teacher.lock:
                        teacher.calls[name] += 1
                        teacher.prompts.append(prompt)
                time.sleep(teacher.latency)
                if fault in ("429", "500", "401"):
                    wait = {"Retry-After": "0.05"} if fault == "429" else {}
                    said = {"error": {"message": f"fault {fault} for {self.headers.get('Authorization')}"}}
                    return self.send(int(fault), said, wait)
                if fault == "nonsense":
                    return self.raw(200, b"<html>not what you asked for</html>")
                if fault == "format" and "response_format" in body:
                    return self.send(400, {"error": {"message": "response_format is not supported"}})
                text = teacher.answer(body["messages"])
                usage = {"prompt_tokens": len(prompt) // 4, "completion_tokens": len(text) // 4}
                usage["total_tokens"] = sum(usage.values())
                choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
                answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "little"}
                answer |= {"choices": [choice], "usage": usage}
                if fault == "cut":
                    return self.raw(200, json.dumps(answer).encode(), cut=True)
                self.send(200, answer)
                with teacher.lock:
                    teacher.paid[name] += 1
                return None

            def send(self, status: int, data: Any, headers: dict[str, str] | None = None) -> None:
                self.raw(status, json.dumps(data).encode(), headers)

            def raw(self, status: int, data: bytes, headers: dict[str, str] | None = None, cut: bool = False) -> None:
                self.send_response(status)
                kind = "text/html" if data.startswith(b"<") else "application/json"
                for key, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(data[: len(data) // 2] if cut else data)
                if cut:
                    self.close_connection = True

        return Handler
