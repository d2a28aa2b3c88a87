"""Imports point one way, form no cycle, and nothing before tokenizing brings in torch.

The first half reads the source as text: a checker, shown to catch a planted fault, then the real tree. What counts for
the direction is every import, also inside a function or a ``TYPE_CHECKING`` block, and every name in a table such as
``"tinyforge.ingest.pdf:parse"``; for cycles between modules, what runs when a module is imported.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "tinyforge"

# From the bottom to the top: a room imports from its own layer or from those before it.
LAYERS = (
    ("records", "errors", "config", "recipe", "run", "plugins", "environment"),
    ("ingest", "dataset", "retrieve", "synthesize", "models", "adapters"),
    ("train",),
    ("evaluate", "compress", "export", "serve", "registry"),
    ("pipeline", "cluster", "lessons"),
    ("cli", "studio", "trainer", "__main__"),
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
_NAME = re.compile(r"tinyforge(?:\.\w+)+(?::\w+)?")


@dataclass(frozen=True)
class Import:
    """``module`` imports ``target`` in ``line``; ``runs`` tells whether importing the module does so."""

    module: str
    target: str
    line: int
    runs: bool


def modules(folder: Path) -> dict[str, Path]:
    """Dotted names below ``tinyforge`` ("ingest.pdf"; "" is the package itself) and their files."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _targets(node: ast.AST, known: Mapping[str, Path]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: a relative import"
        names = [_inside(f"{node.module}.{alias.name}", known, str(node.module)) for alias in node.names]
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _NAME.fullmatch(node.value):
        names = [node.value.partition(":")[0]]
    else:
        return
    for name in names:
        if name.partition(".")[0] == "tinyforge":
            yield name.removeprefix("tinyforge").removeprefix(".")


def _inside(name: str, known: Mapping[str, Path], otherwise: str) -> str:
    return name if name.removeprefix("tinyforge.") in known else otherwise


def _visit(node: ast.AST, runs: bool) -> Iterator[tuple[ast.AST, bool]]:
    yield node, runs
    inside_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    for child in ast.iter_child_nodes(node):
        yield from _visit(child, runs and not inside_function and not for_types)


def imports(folder: Path) -> list[Import]:
    known = modules(folder)
    found = []
    for module, path in known.items():
        for node, runs in _visit(ast.parse(path.read_text(encoding="utf-8")), True):
            executed = runs and not isinstance(node, ast.Constant)
            found += [Import(module, t, getattr(node, "lineno", 0), executed) for t in _targets(node, known)]
    return found


def room(module: str) -> str:
    return module.partition(".")[0]


def wrong_directions(found: list[Import]) -> list[str]:
    """Imports that go up. The package itself (its version) may be imported by all, and imports nothing when run."""
    wrong = []
    for i in found:
        if not i.target:
            continue
        unknown = [name for name in (room(i.module), room(i.target)) if name and name not in LEVEL]
        if unknown:
            wrong.append(f"{i.module}:{i.line} {unknown[0]} is in no layer")
        elif i.module == "" and i.runs:
            wrong.append(f"tinyforge/__init__.py:{i.line} imports {i.target} when imported")
        elif i.module and LEVEL[room(i.target)] > LEVEL[room(i.module)]:
            wrong.append(f"{i.module}:{i.line} imports {i.target}")
    return wrong


def cycle(edges: set[tuple[str, str]]) -> list[str]:
    """The names along one cycle, or nothing."""
    graph: dict[str, set[str]] = {}
    for start, end in edges:
        graph.setdefault(start, set()).add(end)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def module_cycle(found: list[Import]) -> list[str]:
    return cycle({(i.module, i.target) for i in found if i.runs and i.target})


def room_cycle(found: list[Import]) -> list[str]:
    """A cycle between rooms, with imports in functions counted: there, two rooms would be one."""
    pairs = {(room(i.module), room(i.target)) for i in found if i.target and i.module}
    return cycle({(a, b) for a, b in pairs if a != b})


# --- the checker catches what it is for ------------------------------------------------------------------------------


def plant(folder: Path, **files: str) -> list[Import]:
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return imports(folder)


@pytest.mark.parametrize(
    ("text", "caught"),
    [
        ("from tinyforge.train import loop\n", "ingest.pdf:1 imports train.loop"),
        ("import tinyforge.train.loop\n", "ingest.pdf:1 imports train.loop"),
        ("import tinyforge.train\n", "ingest.pdf:1 imports train"),
        ("def late():\n    from tinyforge.train.loop import train\n", "ingest.pdf:2 imports train.loop"),
        ("if TYPE_CHECKING:\n    from tinyforge.train.loop import Status\n", "ingest.pdf:2 imports train.loop"),
        ('TABLE = {".x": "tinyforge.train.loop:train"}\n', "ingest.pdf:1 imports train.loop"),
    ],
)
def test_an_import_upwards_is_caught(tmp_path: Path, text: str, caught: str) -> None:
    assert wrong_directions(plant(tmp_path, ingest__pdf=text, train__loop="")) == [caught]


def test_an_import_downwards_is_fine(tmp_path: Path) -> None:
    found = plant(tmp_path, ingest__pdf="", train__loop="from tinyforge.ingest import pdf\nimport json\n")
    assert [(i.module, i.target) for i in found] == [("train.loop", "ingest.pdf")]
    assert wrong_directions(found) == []


def test_a_room_without_a_layer_is_caught(tmp_path: Path) -> None:
    assert "misc is in no layer" in wrong_directions(plant(tmp_path, misc="from tinyforge import errors", errors=""))[0]


def test_a_package_that_imports_the_world_is_caught(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text("from tinyforge.train import loop\n")
    assert wrong_directions(plant(tmp_path, train__loop="")) == [
        "tinyforge/__init__.py:1 imports train.loop when imported"
    ]


def test_a_cycle_of_modules_is_caught(tmp_path: Path) -> None:
    one, two = "from tinyforge.ingest.b import x\n", "from tinyforge.ingest import a\n"
    assert set(module_cycle(plant(tmp_path, ingest__a=one, ingest__b=two))) == {"ingest.a", "ingest.b"}
    late = "def f():\n    from tinyforge.ingest import a\n"
    assert module_cycle(plant(tmp_path, ingest__b=late)) == []


def test_a_cycle_of_rooms_is_caught(tmp_path: Path) -> None:
    found = plant(
        tmp_path,
        ingest__a="def f():\n    from tinyforge.dataset import b\n",
        dataset__b="",
        dataset__c="from tinyforge.ingest import d\n",
        ingest__d="",
    )
    assert module_cycle(found) == []
    assert set(room_cycle(found)) == {"ingest", "dataset"}


# --- the real tree ---------------------------------------------------------------------------------------------------


def test_imports_point_one_way() -> None:
    assert wrong_directions(imports(SOURCE)) == []


def test_no_cycle_of_modules_and_none_of_rooms() -> None:
    found = imports(SOURCE)
    assert module_cycle(found) == []
    assert room_cycle(found) == []


def test_every_name_leads_to_a_module() -> None:
    """Also those in tables and inside functions, which would fail only on use."""
    known = modules(SOURCE)
    assert [f"{i.module}:{i.line} {i.target}" for i in imports(SOURCE) if i.target not in known] == []


def test_the_reading_found_the_tree() -> None:
    found = imports(SOURCE)
    assert len(found) > 100
    assert ("recipe", "errors") in {(i.module, i.target) for i in found}
    assert ("ingest", "ingest.pdf") in {(i.module, i.target) for i in found if not i.runs}


# --- what comes along ------------------------------------------------------------------------------------------------

HEAVY = ("torch", "transformers")
CHECK = f"\nimport sys\nprint([name for name in {HEAVY} if name in sys.modules])\n"


def brought_along(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code + CHECK], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


LIGHT = {
    "import tinyforge": "import tinyforge",
    "every room of a document's way": (
        "import tinyforge.ingest, tinyforge.synthesize, tinyforge.records, tinyforge.recipe, tinyforge.run\n"
        "import tinyforge.plugins, tinyforge.environment, tinyforge.dataset.split\n"
        "import tinyforge.evaluate, tinyforge.retrieve, tinyforge.models, tinyforge.pipeline, tinyforge.cli"
    ),
    "the command line's help": (
        "from tinyforge.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n    assert stop.code == 0"
    ),
    "the versions in a report": "from tinyforge.environment import machine, versions\nmachine(), versions()",
    "reading and asking": (
        "from tinyforge.config import Config\n"
        "from tinyforge.ingest import read_sources\n"
        "from tinyforge.synthesize import synthesize\n"
        "config = Config()\n"
        f"documents = read_sources([{str(SOURCE / 'samples')!r}], config.ingest).documents\n"
        "assert synthesize(documents, config.synthesize, 1).examples\n"
    ),
}


@pytest.mark.parametrize("what", LIGHT)
def test_light_without_torch(what: str) -> None:
    assert brought_along(LIGHT[what]) == "[]"


def test_the_check_sees_torch() -> None:
    assert brought_along("import torch") == "['torch']"
