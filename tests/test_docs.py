"""The documentation is true: its commands exist, its blocks run and print what the page says, its links lead on."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tinyforge import cli
from tinyforge.lessons.page import PageBlock, blocks, quiz
from tinyforge.lessons.workspace import Workspace

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
WRITTEN = sorted(p for folder in ("tutorials", "concepts", "guides") for p in (DOCS / folder).glob("*.md"))
PAGES = [ROOT / "README.md", *WRITTEN]
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
NOT_RUN = re.compile(r"\bGPU\b|\bthe hub\b|\binstalls\b|\bbrowser\b")
"""What keeps a block from being run on a CPU without a network; there is no other reason."""


def name(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def read(path: Path) -> list[PageBlock]:
    return blocks(path.read_text(encoding="utf-8"), name(path))


def is_slow(path: Path) -> bool:
    return "run: slow" in path.read_text(encoding="utf-8").split("\n---", 1)[0]


def runnable(path: Path) -> bool:
    return any(b.kind in ("bash", "python") and not b.skipped for b in read(path))


# --- commands --------------------------------------------------------------------------------------------------------


def commands(script: str) -> list[list[str]]:
    """The words of every ``tinyforge`` call in a shell script."""
    joined = re.sub(r"\\\n\s*", " ", script)
    found = []
    for line in joined.splitlines():
        if "tinyforge " not in line:
            continue
        kept = re.sub(r"\d?>>?\s*(?:&\d|\S+)|\s#.*", "", line)  # without where output goes, and comments
        lexer = shlex.shlex(kept, posix=True, punctuation_chars="|&;<>()")
        lexer.whitespace_split, lexer.commenters = True, ""
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
    assert commands("tinyforge compare a http://b/v1#c  # why\n") == [["compare", "a", "http://b/v1#c"]]
    for wrong in (["ask", "run", "q", "--no-such-flag"], ["no-such-command"], ["train"]):
        with pytest.raises(SystemExit):
            check_command(wrong)


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_command_and_every_flag_exists(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in read(path):
        if block.kind == "bash":
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


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_shell_block_is_a_script_and_says_why_it_is_not_run(path: Path) -> None:
    for block in read(path):
        if block.kind == "bash":
            done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
            assert done.returncode == 0, f"{name(path)}:{block.line}: {done.stderr}"
        if block.skipped:
            assert NOT_RUN.search(block.skipped), f"{name(path)}:{block.line}: {block.skipped}"


def test_a_block_is_left_out_for_a_good_reason_only() -> None:
    assert NOT_RUN.search("needs a GPU") and NOT_RUN.search("needs the base from the hub")
    assert not NOT_RUN.search("takes long")


def long_steps(page: list[PageBlock]) -> list[int]:
    """The lines of blocks in which more than two commands are typed."""
    found = []
    for block in page:
        joined = re.sub(r"\\\n\s*", " ", block.text)
        typed = [line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        if block.kind == "bash" and len(typed) > 2:
            found.append(block.line)
    return found


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_no_step_takes_more_than_two_commands(path: Path) -> None:
    assert long_steps(read(path)) == []


def test_a_step_of_three_commands_is_caught() -> None:
    assert long_steps(blocks("```bash\na\nb \\\n  --c\n# why\n```\n```bash\na\nb\nc\n```\n")) == [8]


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


def test_a_page_that_says_what_is_not_so_is_caught(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for wrong in ("```bash\nfalse\n```\n", "```python\nprint(2)\n```\n\n```text\n3\n```\n"):
        page.write_text(wrong)
        with pytest.raises(AssertionError):
            follow(page, tmp_path / "work")


@pytest.mark.parametrize("path", [p for p in WRITTEN if runnable(p) and not is_slow(p)], ids=name)
def test_a_page_runs_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    follow(path, tmp_path / "work")


@pytest.mark.slow
@pytest.mark.parametrize("path", [p for p in WRITTEN if runnable(p) and is_slow(p)], ids=name)
def test_a_long_page_runs_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    follow(path, tmp_path / "work")


@pytest.mark.slow
def test_the_readme_runs(tmp_path: Path) -> None:
    """Its documents and rows are stood in for by the samples."""
    folder = tmp_path / "work"
    shutil.copytree(ROOT / "src" / "tinyforge" / "samples", folder / "path" / "to" / "documents")
    rows = [{"input": f"What costs {n} crowns?", "output": f"Tool {n} costs {n} crowns."} for n in range(4)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    follow(ROOT / "README.md", folder)


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
    made = nbformat.read(DOCS / "notebooks" / f"{path.stem}.ipynb", as_version=4)
    nbclient.NotebookClient(made, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()


def test_terms_link_to_the_glossary_where_they_are_first_said() -> None:
    hooks = runpy.run_path(str(DOCS / "hooks.py"))
    page = "# Tokens\n\nA token is `token`. Another token.\n\n```bash\ntoken\n```\n"
    assert "token" in hooks["terms"]()
    shown = hooks["linked"](page, "../glossary.md")
    assert shown.count("](../glossary.md#token-tokens)") == 1 and shown.index("[token]") < shown.index("`token`")


# Words of the trade: where one is written, the glossary has to explain it.
JARGON = """accumulation adapter adapters batch batches benchmark checkpoint decoder distillation embedding embeddings
encoder epoch epochs fine-tuning gradient greedy held-out inference layer layers logits loss lora margin metric
objective optimizer overfitting parameters perplexity pretraining prompt pruning quantization rank retrieval safetensors
sampling seed temperature template tensor token tokens tokenizer transformer vocabulary""".split()
NAMES = {
    "TinyForge",
    "TinyLlama",
    "OpenAI",
    "DiscordChatExporter",
    "WhatsApp",
    "DistilBERT",
    "BERT",
    "CONTRIBUTING",
    "reStructuredText",
    "EleutherAI",
}
EVERYDAY = {"PDF", "HTML", "CSV", "II", "OK", "TV", "URL", "DOCX", "PPTX", "XLSX", "EPUB", "NOT"}


def unexplained(page: str, explained: set[str]) -> set[str]:
    """Abbreviations and words of the trade in running text that the glossary does not have."""
    code = re.compile(
        r"<!-- measured.*?<!-- end|^```.*?^```$|`[^`\n]+`|\]\([^)]*\)|<[^>\n]+>|^---\n.*?\n---\n", re.M | re.S
    )
    told = code.sub(" ", page)
    short = set(re.findall(r"(?<![\w-])(?:[A-Z][A-Z0-9]+|[a-z]+[A-Z]\w*|[A-Z][a-z]+[A-Z]\w*)(?![\w-])", told))
    trade = {word for word in re.findall(r"(?<![\w-])[a-z-]+(?![\w-])", told) if word in JARGON}
    known = explained | {word for term in explained for word in term.split()}
    return {word for word in (short - NAMES - EVERYDAY) | trade if word.lower() not in known}


@pytest.mark.parametrize("path", WRITTEN, ids=name)
def test_no_term_is_left_unexplained(path: Path) -> None:
    explained = set(runpy.run_path(str(DOCS / "hooks.py"))["terms"]())
    assert unexplained(path.read_text(encoding="utf-8"), explained) == set()


def test_a_term_without_an_explanation_is_caught() -> None:
    assert unexplained("The MLP has logits. A `KV` cache.", {"token"}) == {"MLP", "logits"}


def test_the_measured_tables_are_current() -> None:
    for path, content in runpy.run_path(str(DOCS / "make_tables.py"))["pages"]().items():
        assert path.read_text(encoding="utf-8") == content, (
            f"{path.name} is stale: .venv/bin/python docs/make_tables.py"
        )


def test_a_table_of_old_numbers_is_caught(tmp_path: Path) -> None:
    filled = runpy.run_path(str(DOCS / "make_tables.py"))["filled"]
    old = "a\n<!-- measured: build -->\n| old | 1 s |\n<!-- end of measured -->\nb\n"
    assert "Not measured yet" in filled(old, tmp_path), "where there is no result, the page says so"
    now = filled(old)
    assert "| old |" not in now and "Measured by" in now and now.startswith("a\n") and now.endswith("\nb\n")
    assert filled(now) == now


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
