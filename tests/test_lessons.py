"""Pages are cut into blocks, run, kept score of and turned into notebooks as they are written."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from tinyforge.cli import learn, main
from tinyforge.errors import InputError
from tinyforge.lessons import place
from tinyforge.lessons.notebook import notebook
from tinyforge.lessons.page import blocks, quiz, title
from tinyforge.lessons.workspace import Workspace

PAGE = """---
minutes: 3
---
# A first page

Save this:

```jsonl title="rows.jsonl"
{"input": "a", "output": "b"}
```

```bash
wc -l rows.jsonl
```

```text
1 rows.jsonl
```

<!-- not run: needs a GPU -->
```bash
nvidia-smi
```

```python
number = 20
```

```python
print(number + 1)
```

```quiz
How many rows?
- [ ] none
- [x] one
The file has one line.
```

The end.
"""


def test_a_page_is_cut_into_blocks_in_order() -> None:
    found = blocks(PAGE)
    assert [b.kind for b in found] == ["prose", "file", "bash", "text", "bash", "python", "python", "quiz", "prose"]
    assert found[1].name == "rows.jsonl" and found[1].language == "jsonl"
    assert found[4].skipped == "needs a GPU" and not found[2].skipped
    assert "not run" not in "".join(b.text for b in found)
    assert PAGE.splitlines()[found[2].line - 1] == "wc -l rows.jsonl"
    assert title(PAGE) == "A first page"


def test_a_quiz_knows_what_is_right_and_why() -> None:
    asked = quiz(next(b for b in blocks(PAGE) if b.kind == "quiz"))
    assert (asked.question, asked.answers, asked.right) == ("How many rows?", ("none", "one"), frozenset({1}))
    assert asked.why == "The file has one line."


@pytest.mark.parametrize("page", ["```bash\necho", "```quiz\nWhat?\n- [ ] this\n- [ ] that\n```"])
def test_a_broken_page_is_refused(page: str) -> None:
    with pytest.raises(InputError):
        [quiz(block) for block in blocks(page) if block.kind == "quiz"]


def test_blocks_run_in_one_folder_and_one_interpreter(tmp_path: Path) -> None:
    with Workspace(tmp_path / "w") as workspace:
        done = [workspace.run(block) for block in blocks(PAGE)]
    assert [d.code for d in done] == [0] * 9
    assert done[2].output == "1 rows.jsonl\n"
    assert done[4].output == ""  # not run
    assert done[6].output == "21\n"


def test_failures_are_told_and_do_not_end_the_page(tmp_path: Path) -> None:
    page = "```bash\nfalse | true\n```\n```python\nprint(1 / 0)\n```\n```python\nprint('on')\n```\n"
    with Workspace(tmp_path) as workspace:
        done = [workspace.run(block) for block in blocks(page)]
    assert [d.code for d in done] == [1, 1, 0]
    assert "ZeroDivisionError" in done[1].output and done[2].output == "on\n"


def test_what_was_started_in_the_background_lasts_for_the_page_and_no_longer(tmp_path: Path) -> None:
    page = "```bash\nsleep 600 & echo $! > pid\n```\n```bash\nkill -0 $(cat pid)\n```\n"
    with Workspace(tmp_path) as workspace:
        assert [workspace.run(block).code for block in blocks(page)] == [0, 0]
        pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().split(") ")[1][0] == "Z":
            return
        __import__("time").sleep(0.05)
    pytest.fail("it still runs")


def test_a_page_cannot_write_outside_of_its_folder(tmp_path: Path) -> None:
    page = '```text title="../x"\n1\n```\n'
    with Workspace(tmp_path / "w") as workspace, pytest.raises(InputError, match="outside"):
        workspace.run(blocks(page)[0])


def test_the_notebook_of_a_page_is_valid_and_always_the_same() -> None:
    nbformat = pytest.importorskip("nbformat")
    made = notebook(PAGE, "page")
    nbformat.validate(nbformat.from_dict(made))
    assert made == notebook(PAGE, "page")
    sources = ["".join(cell["source"]) for cell in made["cells"] if cell["cell_type"] == "code"]
    assert sources[0].startswith("%%writefile rows.jsonl\n") and sources[1].startswith("%%bash\n")
    assert not any("nvidia-smi" in source for source in sources)


# --- learn -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "01-first.md").write_text(PAGE)
    monkeypatch.setattr(place, "_PLACES", (folder,))
    monkeypatch.chdir(tmp_path)
    return folder


def take(typed: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(learn.sys, "stdin", io.StringIO(typed))
    return main(["learn", *arguments])


def test_a_lesson_is_left_and_gone_on_with(
    pages: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert take("\nq\n", monkeypatch, "1") == 0
    assert "1 rows.jsonl" in capfd.readouterr().out
    assert main(["learn", "--json"]) == 0
    listed = json.loads(capfd.readouterr().out)
    assert listed[0]["step"] == 5 and not listed[0]["finished"]
    assert take("\n\n1\n2\n", monkeypatch, "1") == 0  # two Python blocks, then the quiz: wrong, then right
    shown = capfd.readouterr().out
    assert "Going on at step 6 of 9" in shown and "21" in shown and "Not that one" in shown and "Right." in shown
    assert main(["learn"]) == 0
    assert "done, 0 of 1 quizzes right at once" in capfd.readouterr().out


def test_a_word_is_explained_at_any_question(
    pages: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert take("? Gradient\n?nonsense\nq\n", monkeypatch, "1") == 0
    shown = capfd.readouterr().out
    assert "For every weight" in shown and "Not in the glossary. It has: accumulation, " in shown


def test_names_that_python_made_before_are_there_again(
    pages: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    take("\n\nq\n", monkeypatch, "1")
    take("\n2\n", monkeypatch, "1")
    assert "21\n" in capfd.readouterr().out


def test_a_whole_lesson_without_a_question(pages: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["learn", "1", "--yes"]) == 0
    assert "Lesson done" in capfd.readouterr().out


def test_a_lesson_that_is_not_there(pages: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["learn", "7"]) == 2
    assert "there is no lesson 7" in capfd.readouterr().err


def test_the_installed_package_carries_the_lessons(tmp_path: Path) -> None:
    """Not only the source tree: what a wheel is made of."""
    builder = pytest.importorskip("hatchling.builders.wheel").WheelBuilder(str(Path(__file__).parent.parent))
    carried = {file.distribution_path for file in builder.recurse_included_files()}
    for page in place.lessons():
        assert f"tinyforge/lessons/pages/{page.name}" in carried
    assert "tinyforge/lessons/glossary.md" in carried
    assert "tinyforge/__init__.py" in carried and not any(name.startswith(("src/", "docs/")) for name in carried)
