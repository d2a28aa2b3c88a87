"""What the five tutorials promised is kept: every command of docs/promises.md runs, and the introduction as it stands.

The introduction's snippets name a base on the hub. In its place there is an untrained DistilBERT of a few thousand
weights, in the layout of the hub's cache and under the same name, so that the lines stay as they are.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from test_docs import OFFLINE, check_command, commands, masked, missing, name, unmasked
from tinyforge.lessons.page import PageBlock, blocks
from tinyforge.lessons.workspace import Workspace

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "promises.md"
ROWS = [
    ("What is fine-tuning?", "Fine-tuning continues the training of a model on rows of your own."),
    ("What is an epoch?", "An epoch is one pass over all rows."),
    ("What is a token?", "A token is a piece of text that the model reads at once."),
]


def page() -> list[PageBlock]:
    return blocks(PAGE.read_text(encoding="utf-8"), name(PAGE))


def promises(prose: str) -> Iterator[tuple[str, str]]:
    """Promise and what keeps it, of every row of every table."""
    for line in prose.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 2 and cells[0] != "Promise" and not set(cells[0]) <= set("-: "):
            yield cells[0], cells[1]


def spans(kept_by: str) -> list[str]:
    """The code spans of a cell; a bar is written as ``\\|`` in a table."""
    return [span.replace("\\|", "|") for span in re.findall(r"`([^`]+)`", kept_by)]


def typed(kept_by: str) -> list[str]:
    return [span for span in spans(kept_by) if span.startswith(("tinyforge ", "echo ", "tail "))]


def links(kept_by: str) -> list[str]:
    return re.findall(r"\]\(([^)#]+)\)", kept_by)


def known_tests() -> set[str]:
    found: set[str] = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        found |= set(re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.M))
    return found


def test_a_row_of_the_table_is_taken_apart() -> None:
    rows = list(
        promises("| Promise | Kept by |\n|---|---|\n| it talks | `echo a \\| tinyforge chat x`, [so](a.md) |\n")
    )
    assert [promise for promise, _ in rows] == ["it talks"]
    assert typed(rows[0][1]) == ["echo a | tinyforge chat x"] and links(rows[0][1]) == ["a.md"]


def test_every_promise_names_what_keeps_it_and_that_exists() -> None:
    known, kept = known_tests(), 0
    for block in page():
        for promise, kept_by in promises(block.text) if block.kind == "prose" else ():
            for command in typed(kept_by):
                for words in commands(command):
                    check_command(words)
            named = [span for span in spans(kept_by) if span.startswith("test_")]
            assert set(named) <= known, promise
            assert typed(kept_by) or named or links(kept_by), f"nothing keeps: {promise}"
            kept += 1
    assert kept >= 50


def test_the_students_guide_has_its_three_levels() -> None:
    levels = re.findall(r"^### (Level \d)", PAGE.read_text(encoding="utf-8"), re.M)
    assert levels == ["Level 1", "Level 2", "Level 3"]


@pytest.mark.slow
def test_every_promise_is_kept(tmp_path: Path) -> None:
    """The commands of the tables and the blocks between them, in the order of the page."""
    folder = tmp_path / "work"
    with Workspace(folder, environment=OFFLINE) as workspace:
        (folder / "recipes").symlink_to(ROOT / "recipes")
        printed, likeness = "", masked
        for block in page():
            if block.kind == "prose":
                for promise, kept_by in promises(block.text):
                    for command in typed(kept_by):
                        done = workspace.run(PageBlock("bash", command + "\n", block.line))
                        assert done.code == 0, f"{promise}: {command}\ncode {done.code}\n{done.output}"
            elif block.kind == "text" and not block.skipped:
                line = missing(block.text, printed, likeness)
                assert not line, f"promises.md:{block.line}: was not printed: {line!r}\nprinted was:\n{printed}"
            else:
                done = workspace.run(block)
                assert done.code == 0, f"promises.md:{block.line}: code {done.code}\n{done.output}"
                printed, likeness = done.output or printed, unmasked if block.kind == "python" else masked


# --- the introduction ------------------------------------------------------------------------------------------------


def snippets() -> list[str]:
    found = [b.text for b in page() if b.kind == "python" and "RealTrainer" in b.text]
    assert len(found) == 2
    return found


def put_in_cache(home: Path, base: str) -> None:
    """An untrained DistilBERT, as the hub's cache would hold it after a download."""
    import torch
    import transformers as tr

    words = re.findall(r"\w+|[^\w\s]", " ".join(q + " " + a for q, a in ROWS).lower())
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(words)]
    tokenizer = tr.BertTokenizerFast(vocab={piece: i for i, piece in enumerate(pieces)}, model_max_length=64)
    shape = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 64}
    torch.manual_seed(0)
    model = tr.DistilBertForMaskedLM(tr.DistilBertConfig(vocab_size=len(pieces), **shape))
    kept = home / "hub" / f"models--{base.replace('/', '--')}"
    snapshot = kept / "snapshots" / ("0" * 40)
    model.save_pretrained(snapshot)
    tokenizer.save_pretrained(snapshot)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("0" * 40)


def beginners_folder(folder: Path) -> dict[str, str]:
    """A folder with the three rows, and an environment without a network whose cache holds the base."""
    folder.mkdir()
    put_in_cache(folder / "cache", "distilbert-base-uncased")
    rows = [json.dumps({"input": question, "output": answer}) for question, answer in ROWS]
    (folder / "my_data.jsonl").write_text("\n".join(rows) + "\n")
    environment = {**os.environ, **OFFLINE, "HF_HOME": str(folder / "cache")}
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE"):
        environment.pop(variable, None)
    return environment


def python(source: str, folder: Path, environment: dict[str, str], program: str = sys.executable) -> str:
    done = subprocess.run([program, "-c", source], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def tinyforge(*words: str, folder: Path, environment: dict[str, str]) -> str:
    command = [sys.executable, "-m", "tinyforge", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def asked_of_a_server(run: str, question: str, folder: Path, environment: dict[str, str]) -> str:
    """What the server says to the request that the tutorial's client makes."""
    command = [sys.executable, "-m", "tinyforge", "serve", run, "--port", "0"]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as p:
        try:
            assert p.stdout is not None
            said = b""
            for line in p.stdout:
                said += line
                address = re.search(rb"http://127\.0\.0\.1:\d+", line)
                if address:
                    break
            else:
                pytest.fail(said.decode())
            body = json.dumps({"input": question}).encode()
            for _ in range(120):
                try:
                    request = urllib.request.Request(
                        f"{address[0].decode()}/predict", body, {"Content-Type": "application/json"}
                    )
                    with urllib.request.urlopen(request) as answer:
                        return str(json.load(answer)["output"])
                except OSError:
                    time.sleep(0.5)
            return pytest.fail("the server never answered")
        finally:
            p.terminate()


@pytest.mark.slow
def test_the_introductions_snippets(tmp_path: Path) -> None:
    """Both as they stand, then the saved models are asked: from Python, on the command line, through a server."""
    folder = tmp_path / "beginner"
    environment = beginners_folder(folder)
    answers = {answer for _, answer in ROWS}
    for snippet, run in zip(snippets(), ("my-model", "my-first-model"), strict=True):
        asked = f"\nprint('said:', trainer.generate({ROWS[0][0]!r}))"
        told = python(snippet + asked, folder, environment)
        assert told.partition("said: ")[2].strip() in answers
        assert list((folder / run).glob("model/*.safetensors")), "the model is saved where the snippet says"
    told = tinyforge("predict", "my-model", ROWS[1][0], folder=folder, environment=environment)
    assert told.partition("  (")[0].strip() in answers, "behind it stands how near the question was"
    assert asked_of_a_server("my-first-model", ROWS[1][0], folder, environment) in answers


@pytest.mark.slow
def test_without_its_base_the_snippet_says_what_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "beginner"
    environment = beginners_folder(folder)
    shutil.rmtree(folder / "cache")
    done = subprocess.run([sys.executable, "-c", snippets()[0]], cwd=folder, env=environment, capture_output=True)
    assert done.returncode != 0 and b"distilbert-base-uncased" in done.stderr


@pytest.mark.slow
def test_the_introductions_installation(tmp_path: Path) -> None:
    """``pip install -e .`` in a copy, in a new environment that finds the dependencies but not TinyForge itself."""
    copy = tmp_path / "TinyForgeAI"
    copy.mkdir()
    for entry in ("src", "docs", "README.md", "LICENSE", "pyproject.toml"):
        source = ROOT / entry
        shutil.copytree(source, copy / entry) if source.is_dir() else shutil.copy(source, copy / entry)
    subprocess.run([sys.executable, "-m", "venv", "venv"], cwd=tmp_path, check=True)
    bin_ = tmp_path / "venv" / "bin"
    packages = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {**OFFLINE, "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}"}
    environment |= {
        "PIP_NO_INDEX": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",
    }  # 0 is how pip spells "without"
    for command in ("pip install -e .", 'pip install -e ".[training]"'):
        done = subprocess.run(command, shell=True, cwd=copy, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        assert "does not provide the extra" not in done.stdout + done.stderr
    where = "import backend, tinyforge; print(backend.__file__, tinyforge.__file__)"
    found = python(where, tmp_path, environment, str(bin_ / "python")).split()
    assert all(Path(path).is_relative_to(copy) for path in found), found
