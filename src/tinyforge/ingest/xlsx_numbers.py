"""What a spreadsheet shows for a stored value: dates, percentages, decimals, thousands and currency by number format.

The number formats are those of ECMA-376 part 1, 18.8.31; of their sections only the first two are read,
of which the sign or a condition takes one.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import Any

_QUOTED = re.compile(r'"([^"]*)"|\\(.)|\[\$([^\]-]*)(?:-[^\]]*)?\]')
_IGNORED = re.compile(r"\[[^\]]*\]|_.|\*.")  # colours and conditions, and the space as wide as a character
_CONDITION = re.compile(r"\[(<=|>=|<>|<|>|=)(-?\d+(?:\.\d+)?)\]")
_HOLDS = {"<=": operator.le, ">=": operator.ge, "<>": operator.ne, "<": operator.lt, ">": operator.gt, "=": operator.eq}
_DIGITS = re.compile(r"(?:[#0?][#0?,]*(?:\.[#0?]+)?|\.[#0?]+),*")

_EXACT = Context(prec=400)  # every number of a sheet with its decimals


def shown(value: Any, number_format: str) -> str:
    """The text of a cell; empty for none."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, datetime):
        return _moment(value, number_format)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return _hours(value)
    return _number(value, number_format) if isinstance(value, int | float) else str(value)


def _moment(value: datetime, number_format: str) -> str:
    if re.search("[hs]", _IGNORED.sub("", _QUOTED.sub("", number_format.lower()))) or value.time() != time():
        return value.isoformat(sep=" ", timespec="minutes" if value.second == 0 else "seconds")
    return value.date().isoformat()


def _hours(value: timedelta) -> str:
    minutes, seconds = divmod(round(value.total_seconds()), 60)
    return f"{minutes // 60}:{minutes % 60:02d}" + (f":{seconds:02d}" if seconds else "")


def _general(value: float) -> str:
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return str(int(value))
    return f"{value:.15g}"


def _number(value: float, number_format: str) -> str:
    literals: list[str] = []

    def keep(match: re.Match[str]) -> str:
        literals.append(next((group for group in match.groups() if group is not None), ""))
        return "\x00"

    sections = _QUOTED.sub(keep, number_format or "General").split(";")
    second = len(sections) > 1 and bool(sections[1]) and not _is_for_first(value, sections[0])
    before = sections[0].count("\x00") if second else 0
    section = _IGNORED.sub("", sections[second])
    digits = _DIGITS.search(section)
    if digits is None or re.search("[eE][+-]|[?#0]/", section) or "general" in section.lower():
        return _general(value)
    runs = [run[0] for run in _DIGITS.finditer(section)]
    if any("." in run or "," in run for run in runs):
        runs = runs[:1]
    scale = len(runs[0]) - len(runs[0].rstrip(","))  # each comma at the end divides by a thousand
    places = len(runs[0].rstrip(",").partition(".")[2])
    exact = _rounded(value, 2 * section.count("%") - 3 * scale, places)
    if exact is None:
        return _general(value)
    filled = iter(_mask(exact, runs) if len(runs) > 1 else [_digits(exact, runs[0].rstrip(","))])
    whole = _DIGITS.sub(lambda run: next(filled, run[0]), section)
    first, *rest = whole.split("\x00")
    text = first + "".join(literal + part for literal, part in zip(literals[before:], rest, strict=False))
    return ("-" if exact < 0 and not second else "") + text.strip()


def _is_for_first(value: float, section: str) -> bool:
    condition = _CONDITION.search(section)
    return bool(_HOLDS[condition[1]](value, float(condition[2]))) if condition else value >= 0


def _rounded(value: float, shift: int, places: int) -> Decimal | None:
    """The value times ten to ``shift``, halves away from zero as sheets do; None for one that has no digits."""
    try:
        exact = Decimal(repr(value)).scaleb(shift, _EXACT).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, _EXACT)
    except InvalidOperation:
        return None
    return exact if exact.is_finite() else None


def _digits(value: Decimal, pattern: str) -> str:
    """The digits without a sign: as many as the pattern has zeros at least, and one before the point."""
    whole, _, decimals = pattern.partition(".")
    before, _, after = f"{value.copy_abs():f}".partition(".")
    before = before.zfill(len(whole[whole.find("0") :].replace(",", "")) if "0" in whole else 1)
    if "," in whole:
        before = re.sub(r"(?<=\d)(?=(?:\d{3})+$)", ",", before)
    optional = len(decimals) - len(decimals.rstrip("#?"))
    needed = after[: len(after) - optional]
    after = needed + after[len(needed) :].rstrip("0")
    return f"{before}.{after}" if after else before


def _mask(value: Decimal, runs: Sequence[str]) -> list[str]:
    """The digits dealt to several runs from the right, as in (000) 000-0000; the first takes what is left."""
    digits = _digits(value, "".join(runs))
    filled = []
    for run in reversed(runs[1:]):
        digits, part = digits[: -len(run)], digits[-len(run) :]
        filled.append(part)
    return [digits, *reversed(filled)]
