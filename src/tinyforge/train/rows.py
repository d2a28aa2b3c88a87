"""The encoded rows that a training goes through."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

from tinyforge.records import Tokens


class Rows(Protocol):
    """Encoded examples that know their lengths: a list behind :class:`EncodedRows`, or a memory-mapped store."""

    @property
    def lengths(self) -> Any: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Tokens: ...


class EncodedRows:
    """Rows held in memory, end to end in two arrays: a quarter of what lists of Python integers take."""

    def __init__(self, rows: Iterable[Tokens]) -> None:
        ids, labels = array("i"), array("i")
        lengths, borders = [], array("i")
        for row in rows:
            ids.extend(row.ids)
            labels.extend(row.labels)
            lengths.append(len(row.ids))
            borders.append(row.border)
        self._ids, self._labels, self._borders = ids, labels, borders
        self.lengths = np.array(lengths, dtype=np.int64)
        self._ends = np.cumsum(self.lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Tokens:
        end = int(self._ends[index])
        start = end - int(self.lengths[index])
        return Tokens(list(self._ids[start:end]), list(self._labels[start:end]), self._borders[index])
