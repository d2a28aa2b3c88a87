"""The command line as a person meets it: help, exit codes, and no weight before it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tinyforge.cli import COMMANDS, main
from tinyforge.cli.common import Screen, describe_status
from tinyforge.cli.demo import pick_questions
from tinyforge.config import options
from tinyforge.environment import clock
from tinyforge.train.status import Status


def tinyforge(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "tinyforge", *words], capture_output=True, text=True, timeout=120)


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom tinyforge.cli import main\n"
        "try:\n main(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'transformers', 'rich', 'numpy', 'lancedb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.rstrip().endswith("[]"), done.stdout
    for name, summary in COMMANDS.items():
        assert name in done.stdout and summary.split()[0] in done.stdout


def test_counting_says_what_is_left_at_the_pace_since_it_began(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stage that goes on with 60 of 100 done has made none of them at this pace."""
    now = 100.0
    monkeypatch.setattr("tinyforge.cli.common.time.monotonic", lambda: now)
    screen = Screen({})
    for name, done in (("pages", 60), ("pages", 70), ("pages", 80), ("pages", 100), ("questions", 1)):
        screen.count(name, done, 100)
        now += 11.0
    assert capsys.readouterr().err.splitlines() == [
        "  pages 60/100",
        "  pages 70/100 · 0:33 left",
        "  pages 80/100 · 0:22 left",
        "  pages 100/100",
        "  questions 1/100",
    ]


def test_a_line_of_training_says_first_what_a_narrow_terminal_has_to_show() -> None:
    status = Status(7, 1256, 3.8461, None, 1e-3, 0.9, 7654.0, 62.0, 1400.0, 0.4)
    line = describe_status(status, 3.5)
    assert line.startswith("step 7/1256 · 1:02 left · loss 3.846 · dev 3.500 · 7,654 tok/s") and len(line) < 90


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0 and f"tinyforge {command}" in capsys.readouterr().out


def test_build_help_shows_each_option_as_declared(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["build", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for key, kind, _, text in options():
        if not key.startswith(("pretrain.", "chats.", "serve.")):
            assert f"{key} ({kind}" in shown and text in shown, key


@pytest.mark.parametrize(
    "words", [[], ["nonsense"], ["build"], ["build", "x"], ["ask", "x"], ["build", "x", "--ou", "y"]]
)
def test_wrong_usage_exits_2(words: list[str]) -> None:
    done = tinyforge(*words)
    assert done.returncode == 2 and "usage: tinyforge" in done.stderr and "Traceback" not in done.stderr


def test_config_is_machine_readable(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["key"] for row in rows} == {key for key, *_ in options()}


def test_a_closed_pipe_is_no_error() -> None:
    code = f"{sys.executable} -m tinyforge config | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == "" and done.stdout.startswith("seed")


def test_models_lists_the_embedded_base_and_prints_its_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["tiny"]["where"] == "embedded" and 0 < rows["tiny"]["megabytes"] <= 40
    assert rows["tiny"]["parameters"] == 6_524_160 and rows["tiny"]["method"] == "full"
    larger = rows["Qwen/Qwen3-1.7B"]
    assert larger["method"] == "lora" and larger["tuning_seconds"] > 100 * rows["tiny"]["tuning_seconds"]
    assert sum(row["recommended"] for row in rows.values() if row["where"] != "hub") == 1
    assert main(["models", "path", "tiny"]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert (folder / "model.safetensors").is_file() and (folder / "README.md").is_file()
    assert main(["models", "path", "nonsense"]) == 2
    assert "unknown base" in capsys.readouterr().err


def test_clock() -> None:
    assert [clock(s) for s in (0, 59.6, 61, 3600, 7325)] == ["0:00", "1:00", "1:01", "1:00:00", "2:02:05"]


def test_the_demo_shows_middling_questions_not_the_best() -> None:
    def row(number: int, base: float, tuned: float) -> dict[str, object]:
        answers = {"base": {"token_f1": base}, "tuned": {"token_f1": tuned}}
        return {"set": "wordings", "id": str(number), "source": f"s{number}", "answers": answers}

    rows = [row(i, 0.0, i / 10) for i in range(11)]
    chosen = pick_questions({"questions": rows})
    assert sorted(float(r["answers"]["tuned"]["token_f1"]) for r in chosen) == [0.4, 0.5, 0.6]
