"""The measures behind a certificate, worked by hand; Modelfiles; vocabularies."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from little import make_base
from tinyforge.errors import InputError
from tinyforge.export.certificate import Check, Measured, checks, divergence, metric
from tinyforge.export.gguf_vocab import NORMAL, UNUSED, read_vocabulary
from tinyforge.export.ollama import go_template, modelfile, read_turns
from tinyforge.export.runners import Step, log_softmax
from tinyforge.export.thresholds import BITS, THRESHOLDS, threshold
from tinyforge.models.resolve import EMBEDDED, load_tokenizer
from tinyforge.records import Message


def test_divergence_by_hand() -> None:
    source, artifact = np.log([0.5, 0.5]), np.log([0.25, 0.75])
    assert divergence(source, artifact) == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3))
    assert divergence(source, source) == 0


def test_divergence_counts_what_was_not_told_as_one() -> None:
    source, artifact = np.log([0.5]), np.log([0.25])
    expected = 0.5 * np.log(2) + 0.5 * np.log(0.5 / 0.75)
    assert divergence(source, artifact) == pytest.approx(expected)


def test_divergence_forgives_the_rounding_of_a_sum_and_no_more() -> None:
    source = np.log([0.6, 0.3])
    assert divergence(source, source + 5e-5) == pytest.approx(0, abs=1e-12)
    assert divergence(source, source + 5e-3) > 1e-6


def place(token: int, logits: list[float], source: list[float]) -> Measured:
    found = Measured()
    found.add_place(Step(token, np.arange(3), log_softmax(np.array(logits))), log_softmax(np.array(source)))
    return found


def test_a_near_tie_that_falls_otherwise_is_no_disagreement() -> None:
    near = place(1, [0.0, 0.1, -5.0], [0.1, 0.0, -5.0])
    far = place(1, [0.0, 3.0, -5.0], [3.0, 0.0, -5.0])
    assert near.agreement() == (0.0, 1.0)
    assert far.agreement() == (0.0, 0.0)


def test_each_fault_fails_its_check() -> None:
    good = place(0, [3.0, 0.0, 0.0], [3.0, 0.0, 0.0])
    limits = THRESHOLDS["32"]
    assert all(check.passed for check in checks(good, limits, ({2}, {2})))
    failed = {c.name for c in checks(good, limits, ({2}, {0, 2})) if not c.passed}
    assert failed == {"stop tokens that differ"}
    good.other_prompts.append("q1")
    assert "prompts rendered otherwise" in {c.name for c in checks(good, limits, ({2}, {2})) if not c.passed}
    empty = {c.name for c in checks(Measured(), limits, ({2}, {2})) if not c.passed}
    assert "places compared" in empty


def test_metric_loss_by_hand() -> None:
    found = Measured(scores=[(1.0, 0.5), (1.0, 0.5), (0.5, 0.5), (0.5, 0.25)], clusters=["a", "b", "c", "d"])
    result = metric(found)
    assert (result["source"], result["artifact"]) == (0.75, 0.4375)
    assert result["loss"] == pytest.approx(0.3125 / 0.75)
    assert result["loss_low"] < result["loss"] < result["loss_high"]


def test_checks_have_a_right_side() -> None:
    assert Check("a", 1.0, 1.0).passed and not Check("a", 1.1, 1.0).passed
    assert Check("a", 1.0, 1.0, at_most=False).passed and not Check("a", 0.9, 1.0, at_most=False).passed


def test_fewer_bits_allow_more_and_every_row_says_why() -> None:
    order = [THRESHOLDS[bits] for bits in ("32", "16", "8", "5", "4")]
    assert all(a.mean_kl < b.mean_kl and a.max_kl < b.max_kl for a, b in itertools.pairwise(order))
    assert threshold("f32").log_probability == 1e-4
    assert all(THRESHOLDS[bits].why for bits in BITS.values())


def go(template: str, messages: list[Message]) -> str:
    """Ollama's Go templates, as far as the Modelfiles here use them: one range, and a chain of comparisons."""
    matched = re.fullmatch(r"\{\{- range \.Messages }}(.*)\{\{ end }}\{\{ end }}(.*)", template, re.DOTALL)
    assert matched
    branches = dict(
        re.findall(
            r'\{\{ (?:else )?if eq \.Role "(\w+)" }}(.*?\{\{ \.Content }}.*?)(?=\{\{ else|$)', matched[1], re.DOTALL
        )
    )
    return "".join(branches[m.role].replace("{{ .Content }}", m.content) for m in messages) + matched[2]


TALK = [Message("user", "One?"), Message("assistant", "Two."), Message("user", "Three?")]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OPENED = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "[{{ m.role }}]{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.mark.parametrize("template", [None, CHATML, OPENED])
def test_a_modelfile_renders_what_the_chat_template_renders(template: str | None) -> None:
    tokenizer = load_tokenizer(EMBEDDED["tiny"])
    if template:
        tokenizer.chat_template = template
    turns = read_turns(tokenizer)
    rows = [{"role": m.role, "content": m.content} for m in TALK]
    wanted = tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=True)
    assert turns.start + go(go_template(turns), TALK) == wanted
    assert turns.start == ("<|endoftext|>" if template == OPENED else "")
    assert ("system" in turns.around) == (template != OPENED)


def test_a_template_that_treats_turns_by_place_gets_no_modelfile() -> None:
    tokenizer = load_tokenizer(EMBEDDED["tiny"])
    tokenizer.chat_template = "{% for m in messages %}{{ loop.revindex }}{{ m.content }}{% endfor %}"
    with pytest.raises(InputError, match="by their place"):
        read_turns(tokenizer)


def test_modelfile_names_file_stops_and_system() -> None:
    turns = read_turns(load_tokenizer(EMBEDDED["tiny"]))
    text = modelfile("m.gguf", turns, ["<|end|>", "<|endoftext|>"], 2048, "Be brief.")
    for line in ("FROM ./m.gguf", 'PARAMETER stop "<|end|>"', "PARAMETER num_ctx 2048", 'SYSTEM """Be brief."""'):
        assert line in text


def test_the_vocabulary_is_padded_and_never_cut(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(make_base(tmp_path))
    size = len(tokenizer)
    padded = read_vocabulary(tokenizer, size + 2)
    assert padded.kinds[-3:] == [NORMAL, UNUSED, UNUSED] and len(padded.tokens) == size + 2
    with pytest.raises(InputError, match="only"):
        read_vocabulary(tokenizer, size - 1)


def test_an_unknown_way_of_cutting_text_is_refused() -> None:
    from tokenizers import Regex, pre_tokenizers

    tokenizer = load_tokenizer(EMBEDDED["tiny"])
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("x+"), "isolated")
    with pytest.raises(InputError, match="way of cutting text"):
        read_vocabulary(tokenizer, len(tokenizer))
