from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingest_files import write
from tinyforge.config import IngestConfig
from tinyforge.errors import InputError, TinyForgeError
from tinyforge.ingest import FORMATS, read_sources
from tinyforge.ingest.pool import Call, Limits, Pool

LIMITS = Limits(seconds=20, megabytes=200)


def outcomes(limits: Limits, *calls: tuple[str, dict[str, object]], size: int = 2) -> list[object]:
    with Pool(limits, size) as pool:
        return list(pool.map([Call(f"hostile:{name}", arguments) for name, arguments in calls]))


def message(outcome: object) -> str:
    assert isinstance(outcome, InputError), outcome
    assert outcome.fix
    return outcome.message


def test_answers_come_in_the_order_of_the_calls() -> None:
    waits = [("slow", {"seconds": 0.4})] + [("echo", {"value": n}) for n in range(40)]
    assert outcomes(LIMITS, *waits) == ["awake", *range(40)]


def test_every_way_to_fail_is_told_and_the_next_call_is_answered() -> None:
    found = outcomes(
        replace(LIMITS, seconds=1.5),
        ("spin", {}),
        ("hoard", {"megabytes": 900}),
        ("crash", {}),
        ("leave", {}),
        ("kill_itself", {}),
        ("recurse", {}),
        ("much", {"megabytes": 201}),
        ("nothing", {}),
        ("echo", {"value": "é\ud800"}),
    )
    assert [message(outcome) for outcome in found[:8]] == [
        "reading it takes longer than ingest.timeout_seconds = 1.5.",
        "reading it needs more than ingest.memory_mb = 200.",
        "its parser crashed (SIGSEGV).",
        "its parser crashed (status 3).",
        "its parser crashed (SIGKILL).",
        "nested too deeply to be read.",
        "reading it needs more than ingest.memory_mb = 200.",
        "its parser failed (AttributeError: module 'hostile' has no attribute 'nothing').",
    ]
    assert "ingest.timeout_seconds=3" in found[0].fix and "ingest.memory_mb=400" in found[1].fix  # type: ignore[attr-defined]
    assert found[8] == "é\ud800"


def test_the_memory_limit_is_above_what_the_process_uses_and_lets_the_rest_through() -> None:
    assert outcomes(LIMITS, ("hoard", {"megabytes": 150})) == [150_000_000]


def test_without_the_kernel_the_resident_size_is_watched() -> None:
    watched = replace(LIMITS, kernel=False, megabytes=100)
    found = outcomes(watched, ("hoard_slowly", {"megabytes": 600}), ("hoard_slowly", {"megabytes": 20}))
    assert message(found[0]) == "reading it needs more than ingest.memory_mb = 100."
    assert found[1] == 20


def test_workers_are_reused_and_replaced_when_they_have_grown() -> None:
    with Pool(LIMITS, 1) as pool:
        first = pool.run("hostile:who")
        assert pool.run("hostile:who") == first
        with pytest.raises(TinyForgeError):
            pool.run("hostile:crash")
        assert pool.run("hostile:who") != first


def test_stopping_early_leaves_no_answer_behind() -> None:
    with Pool(LIMITS, 1) as pool:
        answers = pool.map([Call("hostile:echo", {"value": n}) for n in range(9)])
        assert next(answers) == 0
        answers.close()  # type: ignore[attr-defined]
        assert pool.run("hostile:echo", value="mine") == "mine"


def test_no_process_is_left_and_no_core_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Pool(LIMITS, 2) as pool:
        pids = [p for p in pool.map([Call("hostile:who", {})] * 4) if isinstance(p, int)]
        list(pool.map([Call("hostile:crash", {})]))
    assert pids and not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert list(tmp_path.iterdir()) == []


def test_a_module_beside_the_documents_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "yaml.py", "raise SystemExit('taken over')")
    write(tmp_path, "page.md", "---\ntitle: A page\n---\n\ntext\n")
    monkeypatch.chdir(tmp_path)
    assert read_sources(["page.md"], IngestConfig()).documents[0].title == "A page"


def test_one_slow_and_one_greedy_file_among_good_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for suffix, parser in ((".slow", "hostile:parse_forever"), (".fat", "hostile:parse_into_memory")):
        monkeypatch.setitem(FORMATS, suffix, parser)
    write(tmp_path, "a.slow", "x")
    write(tmp_path, "b.fat", "x")
    for number in range(20):
        write(tmp_path, f"c{number:02}.md", f"text {number}")
    config = IngestConfig(timeout_seconds=1.5, memory_mb=200.0)
    seen: list[str] = []
    result = read_sources([tmp_path], config, lambda name, outcome: seen.append(name))
    assert [d.source for d in result.documents] == [f"c{number:02}.md" for number in range(20)]
    assert [skip.reason for skip in result.skipped] == [
        "reading it takes longer than ingest.timeout_seconds = 1.5.",
        "reading it needs more than ingest.memory_mb = 200.",
    ]
    assert seen == ["a.slow", "b.fat", *(f"c{number:02}.md" for number in range(20))]
    assert all("--set ingest." in skip.fix for skip in result.skipped)


def test_many_small_files_share_their_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    popen = subprocess.Popen

    def counted(*arguments: Any, **options: Any) -> Any:
        started.append(arguments)
        return popen(*arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", counted)
    for number in range(200):
        write(tmp_path, f"{number:03}.md", f"# Page {number}\n\nText {number}.\n")
    result = read_sources([tmp_path], IngestConfig())
    assert len(result.documents) == 200 and result.skipped == []
    assert 1 <= len(started) <= 4
