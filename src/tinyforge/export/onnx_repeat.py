"""A graph of a deep decoder from the graph of one with four blocks.

Tracing costs seconds a block, though the blocks of a decoder are computed alike. So a copy of the model with four
blocks and random weights is traced, what one block comes to in it is repeated as often as the model has blocks, and
every weight is put in its place. Where the second and the third block do not come to the same, or a weight cannot be
told from the others, the whole model is traced; the certificate compares what comes out with the source either way.

A block is here the nodes that follow from its weights and not from those of the next one: its last nodes are the first
of the next block, up to where that one's weights come in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

TRACED = 4
"""Blocks: the first, which also computes what all share; two alike, to see how one follows the other; and the last."""


def grown(model: Any, trace: Callable[[Any], Any]) -> Any | None:
    """The program of ``trace(model)``, by repeating; None where that is impossible. Inputs and outputs of the program
    are called ``past_key_values.N.…`` and ``present.N.…`` for block N."""
    blocks = _prefix(model)
    count = getattr(model.config, "num_hidden_layers", 0)
    if blocks is None or count <= TRACED or not _alike(model, blocks, count):
        return None
    small = _small(model)
    program = trace(small)
    weights = _weights(program.graph, small)
    if weights is None:
        return None
    own = {value: _Weight(name, turned, blocks) for value, (name, turned) in weights.items()}
    parts = _parts(program.graph, own)
    follows = _follows(parts[1], parts[2], own)
    if follows is None:
        return None
    _repeat(program.graph, parts, follows, own, count)
    _fill(program.graph, own, model)
    return program


@dataclass
class _Weight:
    """Which weight a value holds, and whether with rows for columns; ``blocks`` begins the names of the blocks'."""

    name: str
    turned: bool
    blocks: str

    @property
    def block(self) -> int | None:
        found = self.name.removeprefix(self.blocks).partition(".")[0]
        return int(found) if self.name.startswith(self.blocks) else None

    def of(self, block: int) -> _Weight:
        rest = self.name.removeprefix(self.blocks).partition(".")[2]
        return _Weight(f"{self.blocks}{block}.{rest}", self.turned, self.blocks)


def _prefix(model: Any) -> str | None:
    """What the names of the blocks' weights begin with, such as ``model.layers.``."""
    import torch

    count = getattr(model.config, "num_hidden_layers", 0)
    lists = [n for n, m in model.named_modules() if isinstance(m, torch.nn.ModuleList) and len(m) == count]
    return f"{lists[0]}." if len(lists) == 1 else None


def _alike(model: Any, blocks: str, count: int) -> bool:
    """All blocks have weights of the same shapes, and the configuration tells none from the others."""
    for value in model.config.to_dict().values():
        if isinstance(value, list) and len(value) == count and any(one != value[0] for one in value):
            return False
    shapes: list[dict[str, Any]] = [{} for _ in range(count)]
    for name, weight in model.state_dict().items():
        if name.startswith(blocks):
            number, _, rest = name.removeprefix(blocks).partition(".")
            shapes[int(number)][rest] = weight.shape
    return all(one == shapes[0] for one in shapes)


def _small(model: Any) -> Any:
    """The model's class with four blocks, every weight random, so that each is told from all others by its numbers."""
    import torch

    config = deepcopy(model.config)
    count, config.num_hidden_layers = config.num_hidden_layers, TRACED
    for name, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == count:
            setattr(config, name, value[:TRACED])
    config._attn_implementation = model.config._attn_implementation
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        small = type(model)(config).to(torch.float32).eval()
        for weight in small.parameters():
            weight.normal_()
    return small


def _weights(graph: Any, small: Any) -> dict[Any, tuple[str, bool]] | None:
    """For each value with a weight its name and whether it is turned; None when one is missing or was reckoned with."""
    known: dict[tuple[Any, bytes], tuple[str, bool]] = {}
    names = []
    for name, weight in small.named_parameters():
        names.append(name)
        known[tuple(weight.shape), _first(weight)] = (name, False)
        if weight.dim() == 2:
            known[tuple(weight.T.shape), _first(weight.T)] = (name, True)
    found = {}
    for value in graph.initializers.values():
        if value.const_value is not None and value.dtype is not None and value.dtype.name == "FLOAT":
            array = value.const_value.numpy()
            weight_of = known.get((tuple(array.shape), array.reshape(-1)[:_TOLD_BY].tobytes()))
            if weight_of is not None:
                found[value] = weight_of
    return found if {name for name, _ in found.values()} == set(names) else None


_TOLD_BY = 8  # numbers: of random weights, two never agree in so many


def _first(weight: Any) -> bytes:
    row = weight.detach().reshape(-1)[:_TOLD_BY] if weight.dim() != 2 else weight.detach()[:_TOLD_BY].reshape(-1)
    return bytes(row[:_TOLD_BY].contiguous().numpy().tobytes())


def _parts(graph: Any, own: dict[Any, _Weight]) -> list[list[Any]]:
    """The nodes of each block in their order; the last part also holds all that follows the blocks."""
    reached: list[set[Any]] = [set() for _ in range(TRACED)]
    for node in graph:
        for block in range(TRACED):
            if any(_from(value, own, block, reached[block]) for value in node.inputs):
                reached[block].add(node)
    after: list[set[Any]] = [*reached[1:], set()]
    return [[node for node in graph if node in reached[n] and node not in after[n]] for n in range(TRACED)]


def _from(value: Any, own: dict[Any, _Weight], block: int, reached: set[Any]) -> bool:
    if value is None:
        return False
    if value in own:
        return own[value].block == block
    return value.producer() in reached


def _follows(first: list[Any], second: list[Any], own: dict[Any, _Weight]) -> dict[Any, Any] | None:
    """For each value that ``second`` reads of ``first`` that which ``first`` reads in its place, of the part before;
    None when the two do not compute the same."""
    if len(first) != len(second):
        return None
    same: dict[Any, Any] = {}
    chain: dict[Any, Any] = {}
    for a, b in zip(first, second, strict=True):
        if (a.op_type, a.domain, len(a.inputs), len(a.outputs)) != (b.op_type, b.domain, len(b.inputs), len(b.outputs)):
            return None
        if {k: str(v) for k, v in a.attributes.items()} != {k: str(v) for k, v in b.attributes.items()}:
            return None
        for x, y in zip(a.inputs, b.inputs, strict=True):
            if x is y or (x in same and same[x] is y) or _match(x, y, own):
                continue
            if x is None or y is None or y.producer() not in first or chain.setdefault(y, x) is not x:
                return None
        same.update(zip(a.outputs, b.outputs, strict=True))
    followed = {value: after for value, after in same.items() if value in chain}
    return followed if followed.keys() == chain.keys() else None


def _match(x: Any, y: Any, own: dict[Any, _Weight]) -> bool:
    """Whether they are the same weight of two blocks, their caches, or equal constants."""
    if x in own and y in own:
        return own[x].of(2) == own[y]
    if x is None or y is None or x in own or y in own:
        return False
    if x.is_graph_input() and y.is_graph_input():
        return bool(_renamed(x.name, 2) == y.name)
    constants = (x.const_value, y.const_value)
    if any(one is None for one in constants):
        return False
    a, b = (one.numpy() for one in constants)
    return bool(a.dtype == b.dtype and a.shape == b.shape and (a == b).all())


def _renamed(name: str, block: int) -> str:
    """``past_key_values.1.key`` for another block; other names as they are."""
    parts = name.split(".")
    if parts[0] in ("past_key_values", "present") and len(parts) == 3:
        parts[1] = str(block)
    return ".".join(parts)


def _repeat(graph: Any, parts: list[list[Any]], follows: dict[Any, Any], own: dict[Any, _Weight], count: int) -> None:
    """Put copies of the third block before the last one, and call the last one's caches by its number."""
    tail = set(parts[3])
    for value in (*graph.inputs, *graph.outputs):
        if value.name == _renamed(value.name, TRACED - 1):
            value.name = _renamed(value.name, count - 1)
    for value, weight in list(own.items()):
        if weight.block == TRACED - 1:
            own[value] = weight.of(count - 1)
    latest: dict[Any, Any] = {value: value for node in parts[2] for value in node.outputs}
    copies = []
    for block in range(TRACED - 1, count - 1):
        nodes, latest = _copy(graph, parts[2], block, {before: latest[it] for before, it in follows.items()}, own)
        copies += nodes
    for node in tail:
        for index, value in enumerate(node.inputs):
            if value in latest:
                node.replace_input_with(index, latest[value])
    graph.insert_before(next(node for node in graph if node in tail), copies)
    _order(graph.inputs)
    _order(graph.outputs)
    graph.sort()


def _copy(
    graph: Any, nodes: Sequence[Any], block: int, made: dict[Any, Any], own: dict[Any, _Weight]
) -> tuple[list[Any], dict[Any, Any]]:
    """The nodes again for ``block``, and what stands there for each of their values.

    ``made`` says what is read in place of the second block's values. New weights and caches are registered.
    """
    import onnx_ir as ir

    def again(value: Any, name: str) -> Any:
        made[value] = ir.Value(name=name, shape=value.shape, type=value.type)
        return made[value]

    def reads(value: Any) -> Any:
        if value in made:
            return made[value]
        if value in own and own[value].block == 2:
            weight = again(value, f"{value.name}.{block}")
            weight.const_value = value.const_value
            own[weight] = own[value].of(block)
            graph.register_initializer(weight)
        elif value is not None and value.is_graph_input() and value.name.startswith("past_key_values.2."):
            graph.inputs.append(again(value, _renamed(value.name, block)))
        return made.get(value, value)

    copies = []
    for node in nodes:
        inputs = [reads(value) for value in node.inputs]
        for value in node.outputs:
            if value.is_graph_output():
                graph.outputs.append(again(value, _renamed(value.name, block)))
            else:
                again(value, f"{value.name}.{block}")
        outputs = [made[value] for value in node.outputs]
        copies.append(ir.Node(node.domain, node.op_type, inputs, list(node.attributes.values()), outputs=outputs))
    return copies, {value: made[value] for node in nodes for value in node.outputs}


def _order(values: Any) -> None:
    """By block, as a whole trace would have them; what belongs to no block stays in front."""

    def place(value: Any) -> tuple[int, int]:
        parts = str(value.name).split(".")
        return (int(parts[1]), parts[2] == "value") if len(parts) == 3 and parts[1].isdigit() else (-1, 0)

    ordered = sorted(values, key=place)
    values.clear()
    values.extend(ordered)


def _fill(graph: Any, own: dict[Any, _Weight], model: Any) -> None:
    """The model's weights, each read only when it is written to the file."""
    import onnx_ir as ir

    state = dict(model.named_parameters())

    def tensor(weight: _Weight, name: str) -> Any:
        source = state[weight.name].detach()
        return ir.tensor((source.T if weight.turned else source).contiguous().numpy(), name=name)

    for value, weight in own.items():
        value.const_value = ir.LazyTensor(
            lambda weight=weight, name=value.name: tensor(weight, name), value.dtype, value.shape, name=value.name
        )
