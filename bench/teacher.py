"""How much of a teacher's allowed concurrency is used, with an endpoint that takes 200 ms for an answer.

    python bench/teacher.py                  at most 8, 16 and 32 calls at once, 100 for each place
    python bench/teacher.py --each 200 --most 64

An endpoint on this machine that answers after 0.2 s by the clock; the share is calls x 0.2 s over what the time would
have held at that concurrency, the start and the end included. In the first measurement the endpoint takes all calls;
in the second it refuses (429) what is beyond half of them, and the share is of that half. Writes
bench/results/teacher.json. Quit other work first.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lines import ROOT

from tinyforge.environment import machine, versions
from tinyforge.models.calls import Budget, Call, Caller, Store
from tinyforge.models.endpoint import Options, connect
from tinyforge.records import Message
from tinyforge.run import write_json

sys.path.insert(0, str(ROOT / "tests"))
LATENCY, TARGET = 0.2, 0.95


def measure(calls: int, most: int, allowed: int) -> dict[str, Any]:
    """``allowed`` is what the endpoint takes at once; ``most`` what it is asked for at once."""
    from teacher_server import Teacher

    asked = [Call((Message("user", f"question {n}"),), "bench", Options(16)) for n in range(calls)]
    with Teacher(lambda messages: "an answer", latency=LATENCY) as server, tempfile.TemporaryDirectory() as folder:
        server.allowed = allowed
        store = Store(Path(folder) / "calls.sqlite")
        caller = Caller(connect(server.url, connections=most), store, Budget(), most)
        began = time.perf_counter()
        answers = caller.ask_all(asked)
        seconds = time.perf_counter() - began
        store.close()
        if None in answers or max(server.paid.values()) > 1:
            raise SystemExit("a call was lost or made twice")
        share = calls * LATENCY / seconds / min(most, allowed)
        return {"calls": calls, "most": most, "allowed": min(most, allowed), "seconds": round(seconds, 2),
                "share": round(share, 4)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=100, help="calls for each of the places")
    parser.add_argument("--most", type=int, nargs="+", default=[8, 16, 32])
    args = parser.parse_args()
    results: dict[str, Any] = {"latency_seconds": LATENCY, "target": TARGET}
    for name, part in (("all taken", 1), ("half refused", 2)):
        results[name] = [measure(args.each * most // part, most, most // part) for most in args.most]
        for row in results[name]:
            print(name, json.dumps(row), "met" if row["share"] >= TARGET else "MISSED", flush=True)
    write_json(ROOT / "bench" / "results" / "teacher.json", {**results, "machine": machine(), "versions": versions()})


if __name__ == "__main__":
    main()
