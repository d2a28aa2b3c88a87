"""The server's speed beside its peers, taking turns in one run: about eight minutes, alone on the machine.

    python bench/serve.py [--rounds 3] [--threads N] [--only llamacpp] [--only transformers] [--keep DIR]

The llama.cpp engine with random weights of the Qwen3-0.6B shape at 4 bits (q4_0), against llama.cpp's own server with
the same file, threads and slots: one stream, the time to the first token, and 16 streams. The transformers engine with
the embedded base, against plain `generate` and `transformers serve`: 8 streams. Everybody is asked over HTTP by the
same client, except `generate`. Writes bench/results/serve.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from lines import ROOT, Line, finish
from shapes import SHAPES

from tinyforge.environment import cores
from tinyforge.models.machine import llama_threads

SHAPE, STREAMS, CONTEXT = "qwen3-0.6b", 16, 512
DECODE, BATCHED, PLAIN = 64, 24, 96  # tokens of an answer: one stream, 16 streams, the embedded base
FIRST = 15  # pairs of requests for the time to the first token
START_SECONDS = 120


@dataclass
class Asked:
    """One request as the client saw it: seconds to its first token and from there to its last, and its tokens."""

    first: float
    rest: float
    tokens: int

    @property
    def rate(self) -> float:
        return (self.tokens - 1) / self.rest


Ask = Callable[[str, int], Asked]


def prompt(number: int) -> str:
    """Prompts of one length that share no beginning, so that no server answers out of an earlier one."""
    return f"{number * 7919 % 100_000:05d} is the number of a loan. Tell everything about it."


def client(url: str, model: str, key: str = "") -> Ask:
    """Ask as a stream, and count its pieces."""
    kept = threading.local()  # one connection for each thread, as clients keep theirs

    def ask(text: str, tokens: int) -> Asked:
        if not hasattr(kept, "http"):
            kept.http = httpx.Client(timeout=600, headers={"Authorization": f"Bearer {key}"} if key else {})
        body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": tokens}
        options = {"stream": True, "stream_options": {"include_usage": True}, "temperature": 0}
        began, moments, written = time.perf_counter(), list[float](), 0
        with kept.http.stream("POST", f"{url}/v1/chat/completions", json={**body, **options}) as answer:
            if answer.status_code != 200:
                raise SystemExit(f"{url} answered {answer.status_code}: {answer.read().decode()[:300]}")
            for line in answer.iter_lines():
                said = json.loads(line[6:]) if line.startswith("data: {") else {}
                written = (said.get("usage") or {}).get("completion_tokens") or written
                if any(choice["delta"].get("content") for choice in said.get("choices", ())):
                    moments.append(time.perf_counter())
        return Asked(moments[0] - began, moments[-1] - moments[0], written or len(moments))

    return ask


def together(ask: Ask, count: int, tokens: int, first: int) -> float:
    """Tokens per second of so many streams at once, their prompts included."""
    found = list[Asked]()
    numbers = range(first, first + count)
    threads = [threading.Thread(target=lambda n=n: found.append(ask(prompt(n), tokens))) for n in numbers]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(found) != count:
        raise SystemExit(f"{count - len(found)} of {count} streams failed.")
    return sum(one.tokens for one in found) / (time.perf_counter() - began)


# --- llama.cpp -------------------------------------------------------------------------------------------------------


def make_files(folder: Path) -> Path:
    """A folder with the tokenizer and the configuration, and the model as GGUF; made once."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from tinyforge.dataset.render import stop_ids
    from tinyforge.export.gguf import write_model
    from tinyforge.models.resolve import EMBEDDED, load_tokenizer

    file = folder / "q4_0.gguf"
    if file.is_file():
        return file
    folder.mkdir(parents=True, exist_ok=True)
    print("making random weights at 4 bits", flush=True)
    tokenizer: Any = load_tokenizer(EMBEDDED["tiny"])
    torch.manual_seed(0)
    config = AutoConfig.for_model(**SHAPES[SHAPE], max_position_embeddings=CONTEXT)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    with torch.no_grad():  # tokens that write nothing are never the likeliest, so that every answer has its length
        readable = torch.zeros(config.vocab_size, 1, dtype=torch.bfloat16)
        for token in range(len(tokenizer)):
            readable[token] = float(tokenizer.decode([token], skip_special_tokens=True).isascii())
        readable[tokenizer.all_special_ids] = 0
        model.get_input_embeddings().weight.mul_(readable)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    tokenizer.save_pretrained(folder)
    config.save_pretrained(folder)
    write_model(file, model, tokenizer, "q4_0", SHAPE, stop_ids(model, tokenizer))
    return file


def serve(file: str, threads: int) -> None:
    """Our server over one file, in a process of its own; prints its address."""
    from tinyforge.config import Config, ServeConfig
    from tinyforge.models.resolve import load_tokenizer, saved_stop_ids
    from tinyforge.serve.catalogue import Catalogue
    from tinyforge.serve.engines.llamacpp import LlamaEngine
    from tinyforge.serve.served import Base, Served
    from tinyforge.serve.server import Server

    folder = Path(file).parent
    tokenizer = load_tokenizer(folder)
    engine = LlamaEngine(Path(file), tokenizer, saved_stop_ids(folder, tokenizer), CONTEXT, threads, STREAMS)
    catalogue = Catalogue(Config(serve=ServeConfig(port=0)))
    catalogue.add(Served("model", Base("model", engine)))
    server = Server(catalogue, ServeConfig(port=0))
    server.run_until_stopped(server.listen(), lambda url: print(url, flush=True))


@contextmanager
def started(command: Sequence[str], url: str = "") -> Iterator[str]:
    """A server in a process of its own. Without ``url`` it prints its address."""
    out = subprocess.DEVNULL if url else subprocess.PIPE
    with subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            if process.stdout is not None:
                url = process.stdout.readline().strip()
            if not url.startswith("http"):
                raise SystemExit(f"{command[0]} did not start.")
            yield url
        finally:
            process.terminate()


def llamacpp(folder: Path, threads: int, rounds: int) -> tuple[dict[str, Any], list[Line]]:
    from tinyforge.models.llama_process import LlamaProcess

    file = make_files(folder)
    command = [sys.executable, __file__, "--serve", str(file), "--threads", str(threads)]
    found: dict[str, Any] = {"shape": SHAPE, "type": "q4_0", "threads": threads, "single": [], "batched": []}
    with LlamaProcess(file, CONTEXT, threads, STREAMS) as peer, started(command) as url:
        ours, theirs = client(url, "model"), client(peer.address, "model", peer.key)
        own_rate = _own_rate(peer)
        for round_ in range(rounds + 1):
            one, other = ours(prompt(round_), DECODE).rate, theirs(prompt(round_), DECODE).rate
            row = {"ours": one, "its server": other, "its own rate": own_rate(prompt(round_ + 500))}
            print(" · ".join(f"{name} {rate:.2f} tok/s" for name, rate in row.items()), flush=True)
            found["single"] += [row] if round_ else []
        firsts = [(ours(prompt(n), 1).first, theirs(prompt(n), 1).first) for n in range(100, 101 + FIRST)][1:]
        found["first_token_ms"] = [[1000 * a, 1000 * b] for a, b in firsts]
        for round_ in range(rounds + 1):
            start, tokens = 1000 * (round_ + 1), BATCHED if round_ else 4
            row = {
                "ours": together(ours, STREAMS, tokens, start),
                "its server": together(theirs, STREAMS, tokens, start),
            }
            print(f"{STREAMS} streams: " + " · ".join(f"{k} {v:.1f} tok/s" for k, v in row.items()), flush=True)
            found["batched"] += [row] if round_ else []
    found["one_stream_by_threads"] = _by_threads(file)
    lines = [
        Line("one stream, of llama.cpp's own rate", _ratio(found["single"], "its own rate"), "x", 0.95, more=True),
        Line("one stream, of its server's", _ratio(found["single"], "its server"), "x", 0.95, more=True),
        Line("added to the first token", 1000 * median(a - b for a, b in firsts), "ms", 5),
        Line(f"{STREAMS} streams, of its server's", _ratio(found["batched"], "its server"), "x", 0.95, more=True),
    ]
    return found, lines


def _own_rate(peer: Any) -> Callable[[str], float]:
    """Tokens per second as llama.cpp itself measures them, with nobody listening to each."""

    def rate(text: str) -> float:
        reply = peer.post("/completion", {"prompt": text, "n_predict": DECODE, "temperature": 0})
        return float(reply["timings"]["predicted_per_second"])

    return rate


def _by_threads(file: Path) -> dict[str, float]:
    """Its own rate on one core fewer than there are, and on all of them."""
    from tinyforge.models.llama_process import LlamaProcess

    found = {}
    for threads in sorted({max(1, cores() - 1), cores()}):
        with LlamaProcess(file, CONTEXT, threads) as process:
            rate = _own_rate(process)
            rate(prompt(1))
            found[str(threads)] = median(rate(prompt(n)) for n in range(2, 5))
    print("llama.cpp alone by threads: " + ", ".join(f"{n}: {rate:.1f} tok/s" for n, rate in found.items()))
    return found


def _ratio(rows: Sequence[dict[str, float]], peer: str) -> float:
    """The median of what each round gave, since a round's two sides had the same company."""
    return median(row["ours"] / row[peer] for row in rows)


# --- transformers ----------------------------------------------------------------------------------------------------


def by_generate(count: int, tokens: int) -> Callable[[int], float]:
    """Plain `generate` one prompt after the other, as a script without an engine does it."""
    import torch

    from tinyforge.dataset.render import prompt_ids
    from tinyforge.models.machine import choose_precision, set_threads
    from tinyforge.models.resolve import EMBEDDED, load_model, load_tokenizer
    from tinyforge.records import Message

    set_threads(0)
    model: Any = load_model(EMBEDDED["tiny"], choose_precision("auto"))
    tokenizer = load_tokenizer(EMBEDDED["tiny"])

    @torch.inference_mode()
    def rate(first: int) -> float:
        encoded = [prompt_ids([Message("user", prompt(n))], tokenizer) for n in range(first, first + count)]
        began, written = time.perf_counter(), 0
        for ids in encoded:
            ids_1T = torch.tensor([ids])
            out = model.generate(ids_1T, attention_mask=torch.ones_like(ids_1T), max_new_tokens=tokens, do_sample=False)
            written += out.shape[1] - len(ids)
        return written / (time.perf_counter() - began)

    return rate


def transformers(rounds: int, streams: int = 8) -> tuple[dict[str, Any], list[Line]]:
    from tinyforge.models.machine import choose_precision
    from tinyforge.models.resolve import EMBEDDED

    tiny, precision = str(EMBEDDED["tiny"]), choose_precision("auto")
    mine = [sys.executable, "-m", "tinyforge", "serve", "model=tiny", "--port", "0", "--json"]
    found: dict[str, Any] = {"base": "tiny", "precision": precision, "rates": []}
    generate = by_generate(streams, PLAIN)
    with started([sys.executable, "-c", _ADDRESS, *mine]) as url, _transformers_serve(tiny, precision) as peer:
        sides = {"ours": client(url, "model")} | ({"transformers serve": client(peer, tiny)} if peer else {})
        for round_ in range(rounds + 1):
            row = {name: together(ask, streams, PLAIN, 100 * round_) for name, ask in sides.items()}
            row["generate"] = generate(100 * round_)
            print(f"{streams} streams: " + " · ".join(f"{k} {v:.0f} tok/s" for k, v in row.items()), flush=True)
            found["rates"] += [row] if round_ else []
    lines = [Line(f"{streams} streams, of plain generate", _ratio(found["rates"], "generate"), "x", 1.5, more=True)]
    if peer:
        ratio = _ratio(found["rates"], "transformers serve")
        lines.append(Line(f"{streams} streams, of transformers serve", ratio, "x", 1.0, more=True))
    return found, lines


_ADDRESS = (
    "import json, subprocess, sys\n"
    "process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True)\n"
    "print(json.loads(process.stdout.readline())['url'], flush=True)\n"
    "import signal\n"
    "signal.signal(signal.SIGTERM, lambda *_: process.terminate())\n"
    "process.wait()\n"
)
"""Starts a command that prints JSON, and prints the address in it."""


@contextmanager
def _transformers_serve(model: str, precision: str) -> Iterator[str]:
    """The address of `transformers serve` with the same weights; "" where it does not start."""
    port = _free_port()
    url, dtype = f"http://127.0.0.1:{port}", "float32" if precision == "fp32" else "bfloat16"
    program = str(Path(sys.executable).parent / "transformers")
    options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", dtype]
    with started([program, "serve", model, *options], url):
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            try:
                client(url, model)("Hello.", 4)
                break
            except httpx.TransportError:
                time.sleep(0.5)
        else:
            print("transformers serve did not start; it is left out.")
            url = ""
        yield url


def _free_port() -> int:
    import socket

    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=llama_threads(), help="of llama.cpp, on both sides")
    parser.add_argument("--only", choices=("llamacpp", "transformers"))
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the random weights for another time")
    parser.add_argument("--serve", default="", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "serve.json")
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, args.threads)
        return 0
    found, lines = dict[str, Any](), list[Line]()
    with tempfile.TemporaryDirectory() as scratch:
        if args.only != "transformers":
            found["llamacpp"], more = llamacpp(args.keep or Path(scratch), args.threads, args.rounds)
            lines += more
        if args.only != "llamacpp":
            found["transformers"], more = transformers(args.rounds)
            lines += more
    command = " ".join(["python bench/serve.py", *sys.argv[1:]])
    return finish(lines, args.out, command=command, rounds=args.rounds, **found)


if __name__ == "__main__":
    sys.exit(main())
