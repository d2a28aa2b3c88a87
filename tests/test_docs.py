"""The documentation is true: its commands exist, its blocks run and print what the page says, its links lead on."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tinyforge import cli
from tinyforge.lessons.notebook import notebook
from tinyforge.lessons.page import PageBlock, blocks, quiz
from tinyforge.lessons.workspace import Workspace

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
WRITTEN = sorted(p for folder in ("tutorials", "concepts", "guides") for p in (DOCS / folder).glob("*.md"))
PAGES = [ROOT / "README.md", *WRITTEN]
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def read(path: Path) -> list[PageBlock]:
    return blocks(path.read_text(encoding="utf-8"), name(path))


def is_slow(path: Path) -> bool:
    return "run: slow" in path.read_text(encoding="utf-8").split("\n---", 1)[0]


def runnable(path: Path) -> bool:
    return path.name != "README.md" and any(b.kind in ("bash", "python") and not b.skipped for b in read(path))


# --- commands --------------------------------------------------------------------------------------------------------


def commands(script: str) -> list[list[str]]:
    """The words of every ``tinyforge`` call in a shell script."""
    joined = re.sub(r"\\\n\s*", " ", script)
    found = []
    for line in joined.splitlines():
        if "tinyforge " not in line:
            continue
        kept = re.sub(r"\d?>>?\s*(?:&\d|\S+)", "", line)  # without where output goes
        lexer = shlex.shlex(kept, posix=True, punctuation_chars="|&;<>()")
        lexer.whitespace_split = True
        words = list(lexer)
        while "tinyforge" in words:
            words = words[words.index("tinyforge") + 1 :]
            end = next((i for i, word in enumerate(words) if set(word) <= set("|&;<>()")), len(words))
            found.append(words[:end])
    return found


def check_command(words: list[str]) -> None:
    command = next((word for word in words if word in cli.COMMANDS), None)
    cli._parser(command).parse_args(words)


def test_the_check_of_commands_can_fail() -> None:
    assert commands("a; tinyforge ask x 'y z' --json 2>&1 | head > f\n") == [["ask", "x", "y z", "--json"]]
    for wrong in (["ask", "run", "q", "--no-such-flag"], ["no-such-command"], ["train"]):
        with pytest.raises(SystemExit):
            check_command(wrong)


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_command_and_every_flag_exists(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in read(path):
        if block.kind == "bash" or (path.name == "README.md" and block.kind == "other" and not block.language):
            for words in commands(block.text):
                try:
                    check_command(words)
                except SystemExit as stop:
                    if stop.code:
                        pytest.fail(
                            f"{name(path)}:{block.line}: tinyforge {shlex.join(words)}\n{capsys.readouterr().err}"
                        )


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_python_block_is_python_and_every_quiz_has_an_answer(path: Path) -> None:
    for block in read(path):
        if block.language == "python":
            compile(block.text, f"{name(path)}:{block.line}", "exec")
        if block.kind == "quiz":
            assert quiz(block).question


@pytest.mark.parametrize("path", WRITTEN, ids=name)
def test_no_step_takes_more_than_two_commands(path: Path) -> None:
    for block in read(path):
        if block.kind == "bash":
            joined = re.sub(r"\\\n\s*", " ", block.text)
            typed = [line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]
            assert len(typed) <= 2, f"{name(path)}:{block.line}"


# --- running ---------------------------------------------------------------------------------------------------------


def masked(line: str) -> str:
    """A line with numbers, times and runs of blanks made alike."""
    return re.sub(r"\s+", " ", re.sub(r"[-+−]?\d[\d,]*(?:[.:]\d+)*(?:e[-+]?\d+)?", "#", line)).strip()


def unmasked(line: str) -> str:
    return re.sub(r"\s+", " ", line).strip()


def missing(told: str, printed: str, masked: Callable[[str], str] = masked) -> str:
    """The first line of ``told`` that ``printed`` does not hold, in order; ``...`` stands for anything."""
    lines = [masked(line) for line in printed.splitlines()]
    place = 0
    for line in told.splitlines():
        if not line.strip() or line.strip() == "...":
            continue
        pattern = re.compile(".*".join(map(re.escape, masked(line).split("..."))))
        found = next((i for i in range(place, len(lines)) if pattern.fullmatch(lines[i])), None)
        if found is None:
            return line
        place = found + 1
    return ""


def test_what_a_page_says_is_printed_has_to_be() -> None:
    assert missing("loss 3.2\n...\nend in 4 s", "x\nloss 10.25\ny\nend in 1 s\n") == ""
    assert missing("loss 3.2\nend", "end\nloss 1\n") == "end"
    assert missing("loss 3.2", "loss 3.1", unmasked) == "loss 3.2"
    assert missing("the tuned model ... better", "the tuned model is much better") == ""


def follow(path: Path, folder: Path) -> None:
    """Do what the page says, in order. What Python computes has to be printed to the digit, commands may vary."""
    with Workspace(folder, environment=OFFLINE) as workspace:
        printed, likeness = "", masked
        for block in read(path):
            place = f"{name(path)}:{block.line}"
            if block.kind == "text" and not block.skipped:
                line = missing(block.text, printed, likeness)
                assert not line, f"{place}: was not printed: {line!r}\nprinted was:\n{printed}"
                continue
            done = workspace.run(block)
            assert done.code == 0, f"{place}: code {done.code}\n{done.output}"
            if done.output:
                printed, likeness = done.output, unmasked if block.kind == "python" else masked


@pytest.mark.parametrize("path", [p for p in WRITTEN if runnable(p) and not is_slow(p)], ids=name)
def test_a_page_runs_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    follow(path, tmp_path / "work")


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in WRITTEN if runnable(p) and is_slow(p)], ids=name)
def test_a_long_page_runs_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    follow(path, tmp_path / "work")


# --- notebooks and site ----------------------------------------------------------------------------------------------


def notebooks() -> dict[Path, str]:
    return runpy.run_path(str(DOCS / "make_notebooks.py"))["notebooks"]()


def test_the_notebooks_are_those_of_the_pages() -> None:
    for path, content in notebooks().items():
        assert path.read_text(encoding="utf-8") == content, (
            f"{path.name} is stale: .venv/bin/python docs/make_notebooks.py"
        )


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in WRITTEN if p.parent.name == "tutorials"], ids=name)
def test_a_notebook_executes(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"])
    for key, value in OFFLINE.items():
        monkeypatch.setenv(key, value)
    made = nbformat.from_dict(notebook(path.read_text(encoding="utf-8"), path.stem))
    nbclient.NotebookClient(made, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()


def test_terms_link_to_the_glossary_where_they_are_first_said() -> None:
    hooks = runpy.run_path(str(DOCS / "hooks.py"))
    page = "# Tokens\n\nA token is `token`. Another token.\n\n```bash\ntoken\n```\n"
    assert "token" in hooks["terms"]()
    shown = hooks["linked"](page, "../glossary.md")
    assert shown.count("](../glossary.md#token-tokens)") == 1 and shown.index("[token]") < shown.index("`token`")


def test_the_site_builds_without_a_warning_and_asks_nobody_for_anything(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "true"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    fetched = re.compile(r"<(?:link|script|img|iframe|source)\b[^>]*\b(?:href|src)=[\"']?(https?:)?//")
    for page in (tmp_path / "site").rglob("*.html"):
        assert not fetched.search(page.read_text(encoding="utf-8")), page
