"""JSON of a schema: what the grammar takes is valid, and a model that knows nothing writes nothing else."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

from little import make_lively_base
from tinyforge.errors import InputError
from tinyforge.models.resolve import load_tokenizer
from tinyforge.models.sample import Chooser
from tinyforge.models.sampling import Sampling
from tinyforge.serve.grammar import Automaton, Follow, Vocabulary, token_bytes
from tinyforge.serve.schema import Grammar


def nested(depth: int) -> Any:
    return {"type": "array", "items": nested(depth - 1)} if depth else {}


PERSON = {
    "type": "object",
    "title": "Person",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 5},
        "age": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "kind": {"enum": ["red", "grün", 3]},
        "marks": {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 2},
    },
    "required": ["name", "marks"],
    "additionalProperties": False,
}
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"on": {"type": "boolean"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
            "required": ["on", "next"],
        }
    },
}


def automaton(schema: Any) -> Automaton:
    grammar = Grammar(schema)
    return Automaton(grammar.rules, grammar.start)


def takes(schema: Any, text: str) -> bool:
    machine = automaton(schema)
    return machine.done(machine.walk(machine.start, text.encode()))


@pytest.mark.parametrize(
    "text",
    [
        '{"name":"ü","marks":[1]}',
        '{"name": "abc", "age": -12, "kind": "grün", "marks": [0.5, 1e3]}',
        '{"name":"\\u00e9\\n","age":null,"marks":[-0]}',
        '{"name":"a","kind":3,"marks":[1]}',
    ],
)
def test_takes(text: str) -> None:
    jsonschema.validate(json.loads(text), PERSON)
    assert takes(PERSON, text)


@pytest.mark.parametrize(
    "text",
    [
        '{"name":"","marks":[1]}',  # too short
        '{"name":"abcdef","marks":[1]}',
        '{"name":"a","marks":[]}',
        '{"name":"a","marks":[1,2,3]}',
        '{"name":"a"}',  # required
        '{"marks":[1],"name":"a"}',  # the order of declaration
        '{"name":"a","marks":[01]}',
        '{"name":"a","kind":"blue","marks":[1]}',
        '{"name":"a","more":1,"marks":[1]}',
        '{"name":"a","marks":[1],}',
        '{"name":"a\n","marks":[1]}',
        '{"name":"\\ud800","marks":[1]}',  # half a surrogate pair
        '{"name":"a","marks":[1]} ',
        "",
    ],
)
def test_does_not_take(text: str) -> None:
    assert not takes(PERSON, text)


def test_recursion_and_anything() -> None:
    assert takes(TREE, '{"on":true,"next":{"on":false,"next":null}}')
    assert not takes(TREE, '{"on":true,"next":{"on":false}}')
    assert takes({}, '{"a":[1,"x",null,{"b":true}]}') and takes(True, "3")
    assert takes({"type": "object", "additionalProperties": {"type": "integer"}}, '{"x":1, "y":2}')
    assert not takes({"type": "object", "additionalProperties": {"type": "integer"}}, '{"x":"1"}')
    machine = Grammar.of_object()
    whole = Automaton(machine.rules, machine.start)
    assert whole.done(whole.walk(whole.start, b'{"a":[]}')) and not whole.walk(whole.start, b"[")


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"type": "string", "pattern": "a+"}, "schema.pattern"),
        ({"type": "integer", "minimum": 3}, "schema.minimum"),
        ({"oneOf": [{"type": "null"}]}, "schema.oneOf"),
        ({"type": "object", "properties": {"a": {"type": "string", "format": "date"}}}, "schema.a.format"),
        ({"type": "text"}, "schema.type"),
        ({"$ref": "#/nowhere"}, "leads nowhere"),
        ({"$ref": "#"}, "only holds itself"),
        ({"type": "object", "required": ["a"]}, "names 'a'"),
        ({"type": "array", "minItems": 3, "maxItems": 2}, "minItems"),
        ({"enum": []}, "enum"),
        (3, "is not a schema"),
        ({"type": [["string"]]}, "schema.type"),
        ({"type": "object", "properties": {"a": {}}, "required": [{}]}, "schema has properties or required"),
        ({"enum": ["\ud800"]}, "half of a surrogate pair"),
        ({"\ud800": 1}, "half of a surrogate pair"),
        (nested(700), "nested too deeply"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(schema: Any, named: str) -> None:
    with pytest.raises(InputError) as refusal:
        automaton(schema)
    assert named in str(refusal.value)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> tuple[Vocabulary, int]:
    tokenizer = load_tokenizer(make_lively_base(tmp_path_factory.mktemp("base")))
    pieces = token_bytes(tokenizer)
    assert pieces is not None
    for token in random.Random(0).sample(sorted(pieces), 100):
        assert tokenizer.decode([token]) == pieces[token].decode("utf-8", "replace")
    return Vocabulary(pieces, [tokenizer.eos_token_id]), len(tokenizer)


@pytest.mark.parametrize("schema", [PERSON, TREE, {"type": "array", "items": {"type": "boolean"}, "maxItems": 4}])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_random_scores_write_valid_json(schema: Any, temperature: float, vocabulary: tuple[Vocabulary, int]) -> None:
    words, size = vocabulary
    machine = automaton(schema)
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        chooser = Chooser(Sampling(temperature=temperature, seed=seed), [], Follow(machine, words))
        written: list[int] = []
        while len(written) < 400:
            scores = torch.randn(size, generator=generator)
            scores[list(words.ends)] += 5  # so that it ends where it may
            token = chooser.choose(scores)
            if token in words.ends:
                break
            written.append(token)
        else:
            continue  # random scores may nest for ever
        text = b"".join(words.pieces[token] for token in written).decode("utf-8")
        jsonschema.validate(json.loads(text), schema)


def test_greedy_by_trial_equals_greedy_by_mask(vocabulary: tuple[Vocabulary, int]) -> None:
    words, size = vocabulary
    machine = automaton(PERSON)
    follow = Follow(machine, words)
    for byte in b'{"name":"':
        assert follow.mask(size).tolist() == [follow.allows(token) for token in range(size)]
        follow.advance(next(token for token, text in words.pieces.items() if text == bytes([byte])))
    assert follow.mask(size).sum() > 100  # the control: inside of a text much may come


def test_sentencepiece_pieces_are_bytes(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<unk>": 0, "</s>": 1, "\u2581a": 2, "<0xC3>": 3, "<0xBC>": 4, "b": 5}
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    backend.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="</s>")
    assert token_bytes(tokenizer) == {2: b" a", 3: b"\xc3", 4: b"\xbc", 5: b"b"}
    backend.decoder = decoders.WordPiece()
    assert token_bytes(PreTrainedTokenizerFast(tokenizer_object=backend)) is None
