from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import pytest

from tinyforge.retrieve.sentences import sentences


def split(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Mr. Ray paid 3.5 euros, e.g. by card. He left.", ["Mr. Ray paid 3.5 euros, e.g. by card.", "He left."]),
        ("The U.S. Navy came. It left the U.S. The end.", ["The U.S. Navy came.", "It left the U.S.", "The end."]),
        ("Bring pens, paper, etc. Then sit.", ["Bring pens, paper, etc.", "Then sit."]),
        ("Open till 5 p.m. daily. See No. 7 too.", ["Open till 5 p.m. daily.", "See No. 7 too."]),
        ("J. Doe of Acme Inc. Holdings. The firm.", ["J. Doe of Acme Inc. Holdings.", "The firm."]),
        ('She said "Stop." Then she left.', ['She said "Stop."', "Then she left."]),
        ("See example.com. Wait... and go.", ["See example.com.", "Wait... and go."]),
        ("- First item\n- Second item\n2. Third", ["First item", "Second item", "Third"]),
        ("A paragraph without a stop\n\nAnother one", ["A paragraph without a stop", "Another one"]),
        (
            "This line was wrapped because it had grown too long\nfor the page. Next.",
            ["This line was wrapped because it had grown too long\nfor the page.", "Next."],
        ),
        ("图书馆九点开门。周日休息！", ["图书馆九点开门。", "周日休息！"]),
        ("", []),
        (" \n ... \n", []),
    ],
)
def test_sentences_by_hand(text: str, expected: list[str]) -> None:
    assert split(text) == expected


def faults(text: str, spans: list[tuple[int, int]]) -> list[str]:
    """What is wrong with the spans of a text; nothing when all is well."""
    found = [] if all(left[1] <= right[0] for left, right in pairwise(spans)) else ["overlap"]
    if any(not text[a:b] or text[a:b] != text[a:b].strip() for a, b in spans):
        found.append("white space")
    borders = [0, *(edge for span in spans for edge in span), len(text)]
    if any(c.isalpha() for a, b in zip(borders[::2], borders[1::2], strict=True) for c in text[a:b]):
        found.append("lost")
    return found


def test_spans_are_ordered_stripped_and_lose_no_word() -> None:
    text = "  Dr. Lee came.  (He was late.) \n\n* Why?\n* 3.14 is pi\r\nYes. "
    spans = sentences(text)
    assert faults(text, spans) == []
    assert faults(text, [(a + 1, b + 1) for a, b in spans]) == ["white space", "lost"]
    assert faults(text, spans[1:]) == ["lost"]
    assert faults(text, [*spans, spans[-1]]) == ["overlap"]


def test_module_is_light() -> None:
    code = (
        "import sys, tinyforge.retrieve.sentences, tinyforge.retrieve.index, tinyforge.serve.chat;"
        "heavy = {'torch', 'transformers', 'lancedb', 'numpy', 'rich'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
