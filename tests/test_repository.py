"""What stands around the code: pins, targets, documentation and samples agree with it."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from evaluate_sample import sample_report

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # mypy and pytest bring it on 3.10

from tinyforge.cli import COMMANDS
from tinyforge.config import Config
from tinyforge.ingest import Ingested, read_sources
from tinyforge.synthesize import synthesize

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "src" / "tinyforge" / "samples"
TARGETS = ("demo", "test", "check", "bench", "docs")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# --- dependencies ----------------------------------------------------------------------------------------------------


def declared(section: str = "") -> set[str]:
    project = tomllib.loads(text("pyproject.toml"))["project"]
    listed = project["optional-dependencies"][section] if section else project["dependencies"]
    return {canonical(re.split(r"[^\w.-]", requirement, maxsplit=1)[0]) for requirement in listed}


def pins(constraints: str) -> dict[str, str]:
    """Package -> version; fails on anything but ``name==version``, a Python version to hold it for, and comments."""
    found = {}
    for line in constraints.splitlines():
        if line.strip() and not line.startswith("#"):
            match = re.fullmatch(r"([\w.-]+)==(\d[\w.]*)(?: ; python(?:_full)?_version >= \"[\d.]+\")?", line)
            assert match, f"not an exact, portable pin: {line}"
            found[canonical(match[1])] = match[2]
    return found


def test_constraints_pin_everything_that_is_declared() -> None:
    assert (declared() | declared("dev")) - set(pins(text("constraints.txt"))) == set()


@pytest.mark.parametrize(
    "line", ["torch==2.13.0+cpu", "x @ file:///opt/x.whl", "x>=1", "-e /work/x", "--index-url https://example.org"]
)
def test_a_pin_that_is_not_portable_is_caught(line: str) -> None:
    with pytest.raises(AssertionError, match="not an exact, portable pin"):
        pins(line)


def test_every_dependency_says_why_it_is_here() -> None:
    explained = {
        canonical(name) for name in re.findall(r"^\| `([\w.-]+)` \|", text("docs/decisions/dependencies.md"), re.M)
    }
    assert explained == declared()


# --- make and continuous integration ----------------------------------------------------------------------------------


def make(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=folder, env=outside, capture_output=True, text=True, timeout=60, check=False)


def test_make_alone_lists_every_target() -> None:
    done = make()
    assert done.returncode == 0
    listed = dict(re.findall(r"^make (\w+) +(\S.*)$", done.stdout, re.M))
    assert set(listed) == {"help", *TARGETS}
    phony = re.search(r"^\.PHONY: (.*)$", text("Makefile"), re.M)
    assert phony and set(phony[1].split()) == set(listed)


def test_an_interpreter_that_is_missing_or_too_old_is_named_and_nothing_is_made(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text(text(name))
    before = sorted(tmp_path.iterdir())
    done = make("test", "PYTHON=no-such-python", folder=tmp_path)
    assert done.returncode != 0
    assert "TinyForge needs Python 3.10 or newer; 'no-such-python'" in done.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_an_installation_that_fails_is_not_taken_for_done(tmp_path: Path) -> None:
    """pip is offered no package at all, so it fails; the next `make` has to try again."""
    for name in ("Makefile", "pyproject.toml"):
        (tmp_path / name).write_text(text(name))
    (tmp_path / "constraints.txt").write_text("torch==0.0.0\n")
    bin_ = tmp_path / ".venv" / "bin"
    bin_.mkdir(parents=True)
    (bin_ / "python").write_text("#!/bin/sh\nexit 1\n")
    (bin_ / "python").chmod(0o755)
    assert make("test", folder=tmp_path).returncode != 0
    assert list((tmp_path / ".venv").glob(".installed-*")) == []


def test_continuous_integration_runs_the_command_of_the_readme() -> None:
    assert "exec make test" in text(".ci/run")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    for target in ("demo", "test"):
        assert f"\nmake {target} " in text("README.md")


# --- documentation ----------------------------------------------------------------------------------------------------


def test_the_reference_is_current() -> None:
    for name, content in runpy.run_path(str(ROOT / "docs" / "make_reference.py"))["pages"]().items():
        assert text(f"docs/reference/{name}") == content, f"{name} is stale: .venv/bin/python docs/make_reference.py"


def test_the_reference_knows_every_command() -> None:
    for command in COMMANDS:
        assert f"## tinyforge {command}\n" in text("docs/reference/cli.md")


def outside_requests(svg: str) -> list[str]:
    """Addresses that a viewer would fetch; the names of XML namespaces are not fetched."""
    return re.findall(r"(?:url\(|href=)[\"']?(?!#)[^\"')]+", svg) + re.findall(r"@import|@font-face", svg)


def test_the_picture_loads_nothing_from_elsewhere() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "make_picture.py"))
    drawn = script["picture"](sample_report())
    assert outside_requests(drawn) == []
    assert "before" in drawn and "perplexity" in drawn
    assert drawn == script["picture"](sample_report())
    committed = ROOT / "docs" / "images" / "demo.svg"
    assert outside_requests(committed.read_text(encoding="utf-8")) == []


def test_a_font_from_a_server_is_caught() -> None:
    assert outside_requests('@font-face { src: url("https://cdnjs.cloudflare.com/font.woff2") }')
    assert outside_requests('<image href="https://example.org/x.png"/>')
    assert not outside_requests('<svg xmlns="http://www.w3.org/2000/svg"><g clip-path="url(#demo)"/></svg>')


def pages() -> Iterator[Path]:
    yield from sorted(ROOT.glob("*.md"))
    yield from sorted((ROOT / "docs").rglob("*.md"))


def broken_links(page: str, folder: Path) -> list[str]:
    links = re.findall(r"\]\((?!https?:|mailto:|#)([^)\s]+)\)", page)
    return [link for link in links if not (folder / unquote(link.partition("#")[0])).exists()]


def test_links_lead_somewhere() -> None:
    found = {
        str(page.relative_to(ROOT)): broken_links(page.read_text(encoding="utf-8"), page.parent) for page in pages()
    }
    assert {page: links for page, links in found.items() if links} == {}


def test_a_broken_link_is_caught() -> None:
    assert broken_links("[a](README.md#x) [b](docs/none.md) [c](https://example.org)", ROOT) == ["docs/none.md"]


def test_the_readme_has_one_line_for_each_part_of_the_tree() -> None:
    tree = re.findall(r"^ {2}([\w.]+/?) {2,}\S", text("README.md"), re.M)
    actual = [
        path.name + ("/" if path.is_dir() else "")
        for path in (ROOT / "src" / "tinyforge").iterdir()
        if path.name != "__pycache__" and (path.is_file() or any(path.glob("*.*")))
    ]
    assert sorted(tree) == sorted(actual)


def test_every_module_says_what_it_is_for() -> None:
    for path in (ROOT / "src" / "tinyforge").rglob("*.py"):
        if path.stat().st_size:
            assert path.read_text(encoding="utf-8").startswith('"""'), path


# --- samples ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def samples() -> Ingested:
    return read_sources([SAMPLES], Config().ingest)


def test_the_samples_are_read_whole(samples: Ingested) -> None:
    assert samples.skipped == []
    assert sorted({document.source.rpartition(".")[2] for document in samples.documents}) == ["html", "md", "txt"]
    assert 45 <= sum(len(document.sections()) for document in samples.documents) <= 70


def test_the_samples_show_what_the_rules_can_find(samples: Ingested) -> None:
    made = synthesize(samples.documents, Config().synthesize, 42)
    assert made.coverage.share >= 0.9
    rules = {example.rule for example in made.examples}
    assert {"definition", "table", "because", "steps", "faq", "glossary", "amount"} <= rules
