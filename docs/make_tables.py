"""Fill the tables of measured numbers in the pages from bench/results; a test fails when a page is stale.

A table stands between ``<!-- measured: NAME -->`` and ``<!-- end of measured -->``. Where a benchmark has not been run
yet, the page says so and names the command.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tinyforge.environment import clock

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "bench" / "results"
CARD = DOCS.parent / "src" / "tinyforge" / "models" / "base" / "tiny" / "README.md"
_REGION = re.compile(r"(<!-- measured: (\w+) -->\n).*?(<!-- end of measured -->)", re.S)


def _machine(result: Mapping[str, Any], command: str) -> str:
    """Where a number was measured, in one line."""
    found, versions = result["machine"], result["versions"]
    return (
        f"Measured by `{command}` on {found['cores']} cores of {found['cpu']} with {found['memory_gb']:.0f} GB, "
        f"{found['os'].split()[0]}, Python {found['python']}, torch {versions['torch'].partition('+')[0]}."
    )


def _table(head: str, rows: Sequence[str]) -> str:
    cells = [cell.strip() for cell in head.strip("|").split("|")]
    line = "|".join("--:" if cell.endswith(">") else "---" for cell in cells)
    return "\n".join(["| " + " | ".join(cell.rstrip("> ") for cell in cells) + " |", f"|{line}|", *rows])


def _off(share: float) -> str:
    return f"{round(100 * share) or 0:+d}%"


def _mb(number: float) -> str:
    return f"{number:,.0f} MB"


def plan(result: Mapping[str, Any]) -> str:
    """What the planner said beforehand and what training then took, side by side."""
    rows = []
    for line in result["lines"]:
        said, took, off = line["predicted"], line["measured"], line["error"]
        rows.append(
            f"| {line['name']} | {_mb(said['memory_mb'])} | {_mb(took['memory_mb'])} ({_off(off['memory_mb'])}) "
            f"| {line['steps']} | {said['seconds']:.0f} s | {took['seconds']:.0f} s ({_off(off['seconds'])}) |"
        )
    head = "Training | Memory planned > | measured > | Steps > | Time planned > | measured >"
    most = {key: max((line["error"][key] for line in result["lines"]), key=abs) for key in ("memory_mb", "seconds")}
    within = {
        key: sum(abs(line["error"][key]) <= limit for line in result["lines"])
        for key, limit in (("memory_mb", 0.15), ("seconds", 0.25))
    }
    count = len(result["lines"])
    told = (
        f"Memory was planned to within 15% in {within['memory_mb']} of {count} (at worst {_off(most['memory_mb'])}), "
        f"time to within 25% in {within['seconds']} of {count} (at worst {_off(most['seconds'])})."
    )
    return "\n\n".join([_table(head, rows), told, _machine(result, "python bench/plan.py")])


def tutorial(result: Mapping[str, Any]) -> str:
    """The steps of lesson 1, followed literally in a fresh virtual environment."""
    rows, before = [], ""
    for row in result["steps"]:
        section = row["section"] if row["section"] != before else ""
        typed = row["typed"].splitlines()[0].replace("|", "\\|")
        rows.append(f"| {section} | `{typed}` | {clock(row['seconds'])} |")
        before = row["section"]
    rows.append(f"| | **in all** | **{clock(result['seconds'])}** |")
    told = _machine(result, "python bench/tutorial.py")
    size = f" The environment takes {result['environment_mb']:,} MB." if "environment_mb" in result else ""
    return f"{_table('Step | Typed | Minutes >', rows)}\n\n{told}{size} The times are the machine's, not the reader's."


def build(result: Mapping[str, Any]) -> str:
    """What a whole build takes."""
    shown = {"build from nothing": "a build from nothing", "build, peak memory": "the most memory it took"}
    shown["build again, nothing changed"] = "the same build again, with nothing changed"
    rows = [
        f"| {shown[line['name']]} | {line['value']:,.1f} {line['unit']} |"
        for line in result["lines"]
        if line["name"] in shown
    ]
    return f"{_table('A handbook of 104 KB | >', rows)}\n\n{_machine(result, 'python bench/build.py')}"


def summary(result: Mapping[str, Any]) -> str:
    """The README's sentence about a whole build."""
    value = {line["name"]: line["value"] for line in result["lines"]}
    found = result["machine"]
    return (
        f"On {found['cores']} cores ({found['cpu']}, no GPU), building the 104 KB of a real employee handbook from "
        f"nothing takes {value['build from nothing']:.0f} s and {value['build, peak memory']:.2f} GB of memory at its "
        f"peak; doing it again with nothing changed takes {value['build again, nothing changed']:.1f} s. `make bench` "
        "measures this, and [bench/results/build.json](bench/results/build.json) holds what it printed, with machine "
        "and versions."
    )


def evaluate(result: Mapping[str, Any]) -> str:
    """How long many questions take, and whether memory grows with them."""
    rows = [
        f"| {run['questions']:,} | {run['seconds']:.0f} s | {run['peak_gb']:.2f} GB |" for run in result["evaluations"]
    ]
    table = _table("Questions, four variants each | Time > | Memory at its peak >", rows)
    return f"{table}\n\n{_machine(result, 'python bench/evaluate.py')}"


def train_cpu(result: Mapping[str, Any]) -> str:
    """Training speed and memory beside the peers."""
    rows = []
    for key, peer, name in (("comparisons", "trl", "TRL"), ("comparisons_trainer", "trainer", "transformers")):
        for cell, found in result.get(key, {}).items():
            speed = [f"{found[f'{side} tokens_per_second']:,.0f}" for side in ("ours", peer)]
            memory = [_mb(found[f"{side} memory_mb"]) for side in ("ours", peer)]
            ratios = [f"{found[f'{what}_ratio']:.2f}×" for what in ("speed", "memory")]
            cells = [cell, name, *speed, ratios[0], *memory, ratios[1], f"{100 * found['ours peak_share']:.0f}%"]
            rows.append(f"| {' | '.join(cells)} |")
    sides = "Ours, tok/s > | peer > | ratio > | Ours, memory > | peer > | ratio > | of the matrix peak >"
    return f"{_table(f'Shape/rows | Peer | {sides}', rows)}\n\n{_machine(result, 'python bench/train_cpu.py')}"


def base(result: Mapping[str, Any]) -> str:
    """What the embedded base can do: the same tables in its decision and on its card."""
    bits = [f"| {name} | {value:.3f} |" for name, value in result["bits_per_byte"].items()]
    shown = {"gold": "gold passage", "passages": "three passages", "missing": "three passages without the answer"}
    asked = []
    for kind, name in shown.items():
        for stage, rows in result["reading"].items():
            row, when = rows[kind], "after stage one" if stage == "stage one" else stage
            f1 = exact = ""
            if "token_f1" in row:
                f1 = f"{row['token_f1']:.2f} ({row['token_f1_low']:.2f} to {row['token_f1_high']:.2f})"
                exact = f"{row['exact_match']:.2f}"
            cells = [f"{name}, {when}", str(row["questions"]), f1, exact, f"{row['declined']:.0%}"]
            asked.append(f"| {' | '.join(cells)} |")
    points = [f"| {p['tokens'] / 1e6:.1f} million | {p['bits_per_byte']:.3f} |" for p in result["curve"]]
    speed, health = result["speed"], result["health"]
    told = (
        f"{speed['ms_per_token']:.1f} ms per generated token, {speed['load_seconds']:.2f} s to load in a new process "
        f"(nearly all of it imports of transformers; {speed['load_again_seconds']:.2f} s once they are done). Of "
        f"{health['generations']} answers (half of them from memory), {health['empty']:.1%} were empty, "
        f"{health['broken_unicode']:.1%} held broken characters, and {health['repeats']:.1%} repeated four words three "
        "times or more."
    )
    again = result["weights"]["the recipe a second time"]
    same = "the same weights, byte for byte" if again == result["weights"]["shipped"] else "other weights, shown above"
    run = f"The recipe, run a second time from nothing in another folder, gave {same} (SHA-256 {again[:16]}…)."
    return "\n\n".join(
        [
            "Bits per byte on documents that were held out of everything, read in pieces of 256 or of 1,024 tokens:",
            _table("By | Bits per byte >", bits),
            "Reading, on questions over documents that were held out of both stages, by our own synthesis (F1 with its "
            "95% interval):",
            _table("Prompt | Questions > | Token F1 > | Exact match > | Declined >", asked),
            "Bits per byte of those documents while stage one learned:",
            _table("Tokens seen | Bits per byte >", points),
            told,
            run,
            _machine(result, "python bench/base.py --run RUN --again RUN --first FOLDER"),
        ]
    )


def retrieval(result: Mapping[str, Any]) -> str:
    """Retrieval, follow-ups and declining against their targets, and beside the halves of the search alone."""
    rows = []
    names = {"first": "chosen on", "held_out": "held out", "third": "third set", "follow_ups": "follow-ups"}
    found = [(names[rows], way, scores) for rows, ways in result["quality"].items() for way, scores in ways.items()]
    for asked, way, scores in [*found, ("textbook", "hybrid", result["textbook"])]:
        shares = " | ".join(f"{scores[key]:.3f}" for key in ("recall@1", "recall@3", "recall@5", "mrr"))
        rows.append(f"| {asked} | {way} | {scores['n']} | {shares} |")
    head = "Questions | Search | Number > | Recall at 1 > | at 3 > | at 5 > | MRR >"
    both = [_table(head, rows), _targets(result)]
    return "\n\n".join([*both, _machine(result, "python bench/retrieval.py")])


def _targets(result: Mapping[str, Any]) -> str:
    rows = [
        f"| {line['name']} | {line['value']:.3g} {line['unit']}".rstrip()
        + f" | {'at least' if line['more'] else 'at most'} {line['target']:g} "
        f"| {'met' if line['met'] else '**missed**'} |"
        for line in result["lines"]
    ]
    return _table("Target | Measured > | Asked > | Result", rows)


def compress(result: Mapping[str, Any]) -> str:
    """What quantize, prune and distill make of a tuned run of the embedded base."""
    source = result["table"][0]["tokens_per_second"]
    rows = [
        f"| {row['name']} | {row['parameters'] / 1e6:.2f}M | {row['model_bytes'] / 1e6:.1f} "
        f"| {row['tokens_per_second']:,.0f} ({row['tokens_per_second'] / source:.2f}×) | {row['token_f1']:.3f} "
        f"| {row['mean_kl']:.4f} | {row['agreement']:.1%} |"
        for row in result["table"]
    ]
    table = _table("Model | Parameters > | MB > | Tokens/s > | Token F1 > | Mean KL > | Agreement >", rows)
    return "\n\n".join([table, _targets(result), _machine(result, "python bench/compress.py --run RUN --out DIR")])


def export(result: Mapping[str, Any]) -> str:
    """Every export format of a tuned run by its certificate, and what writing a larger shape takes."""
    rows = [
        f"| {row['format']} {row['type']} | {row['megabytes']:.1f} | {row['tokens_per_second']:,.0f} "
        f"| {row['mean_kl']:.1e} | {row['max_kl']:.1e} | {row['agreement']:.3f} "
        f"| {(row['metric'] or {}).get('artifact', 0.0):.3f} | {'yes' if row['passed'] else '**no**'} |"
        for row in result["rows"]
    ]
    head = "Format | MB > | Tokens/s > | Mean KL > | Max KL > | Agreement > | Token F1 > | Passed"
    return "\n\n".join(
        [_table(head, rows), _targets(result), _machine(result, "python bench/export.py RUN --work DIR")]
    )


def data(result: Mapping[str, Any]) -> str:
    """Reading sources and writing examples against their targets, PDFs beside other readers of the same files."""
    rows = [
        f"| {name} | {row['measured']:g} | {row['asked']} | {'met' if row['met'] else '**missed**'} |"
        for name, row in result["targets"].items()
    ]
    peers = [
        f"| {files}, {found['pages']} pages | {found['pages_per_second']:.0f} "
        f"| {found['pypdf']['pages_per_second']:.0f} | {found['markitdown']['pages_per_second']:.0f} |"
        for files, found in result["pdf"].items()
    ]
    names = (f"{peer} {result['pdf']['one file'][peer]['version']} >" for peer in ("pypdf", "markitdown"))
    both = [
        _table("Target | Measured > | Asked > | Result", rows),
        _table(f"PDF, pages a second | TinyForge > | {' | '.join(names)}", peers),
    ]
    return "\n\n".join([*both, _machine(result, "python bench/data.py --peers PYTHON --sizes 1 10 100 1000")])


TABLES: dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "plan": ("plan.json", plan),
    "tutorial": ("tutorial.json", tutorial),
    "build": ("build.json", build),
    "summary": ("build.json", summary),
    "evaluate": ("evaluate.json", evaluate),
    "train_cpu": ("train_cpu.json", train_cpu),
    "base": ("base.json", base),
    "retrieval": ("retrieval.json", retrieval),
    "compress": ("compress.json", compress),
    "export": ("export.json", export),
    "data": ("data.json", data),
}


def filled(markdown: str, results: Path = RESULTS) -> str:
    """The page with every table written from what was last measured."""

    def fill(match: re.Match[str]) -> str:
        file, make = TABLES[match[2]]
        path = results / file
        if path.is_file():
            told = make(json.loads(path.read_text(encoding="utf-8")))
        else:
            told = f"*Not measured yet; `python bench/{path.stem}.py` measures it.*"
        return f"{match[1]}{told}\n{match[3]}"

    return _REGION.sub(fill, markdown)


def pages() -> dict[Path, str]:
    """Every page that has such a table -> what it should say."""
    places = (DOCS.parent / "README.md", CARD, *sorted(DOCS.rglob("*.md")))
    texts = {page: page.read_text(encoding="utf-8") for page in places}
    return {page: filled(text) for page, text in texts.items() if _REGION.search(text)}


if __name__ == "__main__":
    for path, content in pages().items():
        path.write_text(content, encoding="utf-8")
        print(path.relative_to(DOCS.parent))
