"""Which sections a model still gets wrong, out of the report of its evaluation."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from statistics import fmean

from tinyforge.errors import InputError
from tinyforge.run import read_json

MOST = 4.0  # the weight of a section whose every answer was wrong; 1 where all were right


def weights(path: str) -> dict[tuple[str, str], float]:
    """The weight of each section that was asked about, by source and section path.

    Raises InputError when the file is no report.
    """
    report = read_json(Path(path))
    wrong: dict[tuple[str, str], list[float]] = defaultdict(list)
    try:
        choice = report["choice"]
        for row in report["questions"]:
            right = row["answers"].get(choice, {}).get("token_f1")
            if right is not None:
                wrong[row["source"], row["section"]].append(1 - float(right))
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is not the report of an evaluation.", "Give the report.json of a build.") from error
    if not wrong:
        raise InputError(f"{path}: holds no answers to learn from.", "Give the report.json of a build.")
    return {key: 1 + (MOST - 1) * fmean(found) for key, found in wrong.items()}
