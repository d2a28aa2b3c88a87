"""Which byte may come next: a nondeterministic pushdown automaton over bytes, and which tokens that leaves.

A state is the set of everything that may still have to come, each a stack of rules as nested pairs. States are values:
equal ones are interchangeable, so each step and each set of tokens is worked out once and looked up afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from tinyforge.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Rule: TypeAlias = "tuple[Any, ...]"
Stack: TypeAlias = "tuple[Any, ...]"  # () or (rule, rest)
State: TypeAlias = "frozenset[Stack]"

EMPTY: Rule = ("seq", ())
MASKS = 512  # sets of allowed tokens that are kept; each takes a byte for each token of the vocabulary
STEPS = 200_000  # steps that are kept


def literal(text: str) -> Rule:
    return seq(*[chars(byte, byte) for byte in text.encode("utf-8")])


def chars(first: int, last: int) -> Rule:
    """One byte in ``[first, last]``."""
    return ("chars", first, last)


def seq(*parts: Rule) -> Rule:
    return ("seq", parts)


def alt(*options: Rule) -> Rule:
    return ("alt", options)


def repeat(rule: Rule, low: int, high: int | None) -> Rule:
    return ("repeat", rule, low, high)


def ref(name: str) -> Rule:
    return ("ref", name)


class Automaton:
    """The grammar at work. ``start`` is the state before the first byte; the empty state accepts nothing more."""

    def __init__(self, rules: Mapping[str, Rule], start: Rule) -> None:
        self.rules, self.whole = rules, start
        self._steps: dict[tuple[State, int], State] = {}
        self.masks: dict[tuple[State, int], Tensor] = {}
        self.start = self._closed([(start, ())])
        if not self.start:
            raise InputError("response_format: no text fits the schema, which only holds itself.", "Correct it.")

    def step(self, state: State, byte: int) -> State:
        found = self._steps.get((state, byte))
        if found is None:
            if len(self._steps) >= STEPS:
                self._steps.clear()
            taken = [stack[1] for stack in state if stack and stack[0][1] <= byte <= stack[0][2]]
            found = self._steps[state, byte] = self._closed(taken)
        return found

    def walk(self, state: State, text: bytes) -> State:
        for byte in text:
            state = self.step(state, byte)
            if not state:
                break
        return state

    @staticmethod
    def done(state: State) -> bool:
        """Whether the text may end here."""
        return () in state

    def _closed(self, stacks: Sequence[Stack]) -> State:
        """The same with every stack's top being a byte: rules are opened until there are bytes."""
        found: set[Stack] = set()
        seen: set[Stack] = set()
        todo = list(stacks)
        while todo:
            stack = todo.pop()
            if stack in seen:
                continue
            seen.add(stack)
            if not stack or stack[0][0] == "chars":
                found.add(stack)
            else:
                todo.extend(self._opened(*stack))
        return frozenset(found)

    def _opened(self, rule: Rule, rest: Stack) -> list[Stack]:
        kind = rule[0]
        if kind == "seq":
            for part in reversed(rule[1]):
                rest = (part, rest)
            return [rest]
        if kind == "alt":
            return [(option, rest) for option in rule[1]]
        if kind == "ref":
            return [(self.rules[rule[1]], rest)]
        _, inner, low, high = rule
        if high == 0:
            return [rest]
        again = (inner, (("repeat", inner, max(0, low - 1), None if high is None else high - 1), rest))
        return [again] if low else [again, rest]


class Vocabulary:
    """The bytes of every token, and the tokens by their bytes as a tree: ``{byte: subtree, END: [token, ...]}``."""

    END = -1

    def __init__(self, pieces: Mapping[int, bytes], ends: Sequence[int]) -> None:
        """``pieces`` holds every token that writes bytes; ``ends`` those that end the answer."""
        self.pieces, self.ends = pieces, tuple(ends)

    @cached_property
    def tree(self) -> dict[int, Any]:
        root: dict[int, Any] = {}
        for token, text in self.pieces.items():
            node = root
            for byte in text:
                node = node.setdefault(byte, {})
            node.setdefault(self.END, []).append(token)
        root.pop(self.END, None)  # a token that writes nothing could come for ever
        return root

    def allowed(self, automaton: Automaton, state: State) -> list[int]:
        """The tokens after whose bytes the text can still be completed, or that end it where it may end."""
        found = list(self.ends) if automaton.done(state) else []
        todo = [(self.tree, state)]
        while todo:
            node, here = todo.pop()
            for byte, below in node.items():
                if byte == self.END:
                    found += below
                elif there := automaton.step(here, byte):
                    todo.append((below, there))
        return found


class Follow:
    """The :class:`tinyforge.models.sample.Constraint` of one answer."""

    def __init__(self, automaton: Automaton, vocabulary: Vocabulary) -> None:
        self.automaton, self._vocabulary = automaton, vocabulary
        self._state = automaton.start

    def allows(self, token: int) -> bool:
        if token in self._vocabulary.ends:
            return self.automaton.done(self._state)
        text = self._vocabulary.pieces.get(token)
        return bool(text) and bool(self.automaton.walk(self._state, text or b""))

    def mask(self, size: int) -> Tensor:
        import torch

        masks, key = self.automaton.masks, (self._state, size)
        if key not in masks:
            tokens = self._vocabulary.allowed(self.automaton, self._state)
            if not tokens:
                raise InputError("the model has no token with which this JSON could go on.", "Use another schema.")
            if len(masks) >= MASKS:
                masks.clear()
            masks[key] = torch.zeros(size, dtype=torch.bool)
            masks[key][tokens] = True
        return masks[key]

    def advance(self, token: int) -> None:
        if token not in self._vocabulary.ends:
            self._state = self.automaton.walk(self._state, self._vocabulary.pieces[token])


def token_bytes(tokenizer: Any) -> dict[int, bytes] | None:
    """The bytes that each token writes, special ones left out; None where the tokenizer's way is not known."""
    import json

    from transformers.convert_slow_tokenizer import bytes_to_unicode

    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = json.loads(backend.to_str()).get("decoder") if backend is not None else None
    if not decoder:
        return None
    kinds = {step["type"] for step in decoder.get("decoders", [decoder])}
    special = set(tokenizer.all_special_ids)
    special |= {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    written = {token: text for text, token in tokenizer.get_vocab().items() if token not in special}
    added = {token: str(one.content) for token, one in tokenizer.added_tokens_decoder.items()}
    if kinds == {"ByteLevel"}:
        back = {character: byte for byte, character in bytes_to_unicode().items()}
        return {
            token: added[token].encode() if token in added else bytes(back[character] for character in text)
            for token, text in written.items()
            if token in added or all(character in back for character in text)
        }
    if "ByteFallback" in kinds:
        return {token: _fallback(text) for token, text in written.items()}
    return None


def _fallback(text: str) -> bytes:
    if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
        return bytes([int(text[3:5], 16)])
    return text.replace("\u2581", " ").encode("utf-8")
