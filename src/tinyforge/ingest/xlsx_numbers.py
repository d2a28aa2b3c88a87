"""What a spreadsheet shows for a stored value: dates, percentages, decimals, thousands and currency by number format.

The number formats are those of ECMA-376 part 1, 18.8.31; of their sections only the one that applies by sign is read.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from typing import Any

_QUOTED = re.compile(r'"([^"]*)"|\\(.)|\[\$([^\]-]*)(?:-[^\]]*)?\]')
_IGNORED = re.compile(r"\[[^\]]*\]|_.|\*.")  # colours and conditions, and the space as wide as a character
_DIGITS = re.compile(r"[#0?][#0?,]*(?:\.[#0?]+)?,*")


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
    negative = value < 0 and len(sections) > 1 and bool(sections[1])
    before = sum(section.count("\x00") for section in sections[: int(negative)])
    section = _IGNORED.sub("", sections[int(negative)])
    digits = _DIGITS.search(section)
    if digits is None or re.search("[eE][+-]|[?#0]/", section) or "general" in section.lower():
        return _general(value)
    percent = section.count("%")
    text = _digits(abs(value) if negative else value, digits[0], percent)
    whole = section[: digits.start()] + text + section[digits.end() :]
    first, *rest = whole.split("\x00")
    return (first + "".join(literal + part for literal, part in zip(literals[before:], rest, strict=False))).strip()


def _digits(value: float, pattern: str, percent: int) -> str:
    scale = len(pattern) - len(pattern.rstrip(","))  # each comma at the end divides by a thousand
    whole, _, decimals = pattern.rstrip(",").partition(".")
    value = value * 100**percent / 1000**scale
    text = f"{value:{',' if ',' in whole else ''}.{len(decimals)}f}"
    optional = len(decimals) - len(decimals.rstrip("#?"))
    while optional and text.endswith("0"):
        text, optional = text[:-1], optional - 1
    return text.removesuffix(".")
