"""A tokenizer as llama.cpp reads it: tokens, kinds, merges or scores, the way text is cut first, and special tokens.

Everything is read from the tokenizer's own JSON (the `tokenizers` library's format), which fast tokenizers all have.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tinyforge.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # llama.cpp's token kinds

# How the text is cut before merging: our patterns to llama.cpp's names for the same ones (src/llama-vocab.cpp).
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_OURS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
PRETOKENIZERS = {
    _GPT2: "gpt-2",
    _LLAMA3: "llama-bpe",
    _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}"): "qwen2",
    _GPT4O: "gpt-4o",
    _TEKKEN: "tekken",
}


@dataclass
class Vocabulary:
    """What goes into ``tokenizer.ggml.*``. ``model`` is ``gpt2`` (byte-level BPE) or ``llama`` (SentencePiece)."""

    model: str
    pre: str
    tokens: list[str]
    kinds: list[int]
    merges: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    space_prefix: bool = False


def read_vocabulary(tokenizer: PreTrainedTokenizerBase, size: int) -> Vocabulary:
    """The vocabulary of a fast tokenizer, padded with unused tokens to the model's ``size``.

    Raises InputError for a kind that llama.cpp does not know, by name.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise _unknown("a tokenizer without a tokenizer.json")
    data = json.loads(backend.to_str())
    if data["model"]["type"] != "BPE":
        raise _unknown(f"a {data['model']['type']} vocabulary")
    merges = [m if isinstance(m, str) else " ".join(m) for m in data["model"]["merges"]]
    tokens, kinds = _tokens(data, size)
    if data["model"].get("byte_fallback"):
        scores = _scores(tokens, data["model"]["merges"])
        _mark_bytes(tokens, kinds)
        return Vocabulary("llama", "default", tokens, kinds, scores=scores, space_prefix=_prefixes_space(data))
    return Vocabulary("gpt2", _pretokenizer(data, merges), tokens, kinds, merges)


def _unknown(what: str) -> InputError:
    return InputError(f"llama.cpp has no equal of {what}.", "Export to safetensors or onnx instead.")


def _tokens(data: dict[str, Any], size: int) -> tuple[list[str], list[int]]:
    found = {index: (token, NORMAL) for token, index in data["model"]["vocab"].items()}
    unknown = data["model"].get("unk_token")
    for added in data["added_tokens"]:
        kind = CONTROL if added["special"] else USER_DEFINED
        found[added["id"]] = (added["content"], UNKNOWN if added["content"] == unknown else kind)
    rows = [found.get(index, (f"[PAD{index}]", UNUSED)) for index in range(max(size, max(found) + 1))]
    if len(rows) > size:
        raise InputError(
            f"the tokenizer has {len(rows)} tokens and the model's embedding only {size} rows.",
            "Give the model the tokenizer it was trained with.",
        )
    return [token for token, _ in rows], [kind for _, kind in rows]


def _mark_bytes(tokens: list[str], kinds: list[int]) -> None:
    for index, token in enumerate(tokens):
        if re.fullmatch(r"<0x[0-9A-F]{2}>", token):
            kinds[index] = BYTE


def _scores(tokens: list[str], merges: list[Any]) -> list[float]:
    """SentencePiece merges the pair whose joined piece scores highest; so a piece's score is minus its first merge."""
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(merges):
        ranks.setdefault("".join(merge.split(" ") if isinstance(merge, str) else merge), rank)
    return [-float(ranks[token]) if token in ranks else -1e6 for token in tokens]


def _prefixes_space(data: dict[str, Any]) -> bool:
    normalizer, cutter = data.get("normalizer") or {}, data.get("pre_tokenizer") or {}
    steps = [*normalizer.get("normalizers", [normalizer]), *cutter.get("pretokenizers", [cutter])]
    return any(
        step.get("type") == "Prepend"
        or (step.get("type") == "Metaspace" and step.get("prepend_scheme", "always") != "never")
        for step in steps
    )


def _pretokenizer(data: dict[str, Any], merges: list[str]) -> str:
    """llama.cpp's name for the way this tokenizer cuts text. Raises InputError where it has none."""
    cutter = data.get("pre_tokenizer") or {}
    steps = cutter.get("pretokenizers", [cutter])
    pattern = next((s["pattern"].get("Regex") for s in steps if s.get("type") == "Split"), None)
    if pattern in PRETOKENIZERS:
        return PRETOKENIZERS[pattern]
    level = next((s for s in steps if s.get("type") == "ByteLevel"), None)
    digits = any(s.get("type") == "Digits" and s.get("individual_digits") for s in steps)
    if pattern is None and level is not None and level.get("use_regex", True):
        return "smollm" if digits else "gpt-2"
    # TinyForge's own is GPT-2's with single digits. No merge of such a vocabulary joins a digit to anything, so
    # GPT-2's pattern, which keeps numbers together until then, ends with the same tokens.
    if pattern == _OURS and not any(re.search("[0-9]", merge) for merge in merges):
        return "gpt-2"
    raise _unknown(f"this tokenizer's way of cutting text ({pattern or cutter.get('type')})")
