"""Matrices of an ONNX graph in 8 bits, one at a time while the file is written, so that memory stays that of one.

onnxruntime's ``quantize_dynamic`` holds the graph in both forms and copies of it (4.8 times a model's size). What is
written here are the same operators: what a matrix reads is rounded as it comes (DynamicQuantizeLinear), the product is
made of integers (MatMulInteger), and every column has a scale. An embedding has a scale for every row instead.

Legend: I inputs, O outputs of a matrix; V rows, D columns of a table.
"""

from __future__ import annotations

from typing import Any

SMALLEST = 1024  # numbers: below, rounding saves nothing worth having
_ROWS = 1024  # rounded at a time


def eight_bits(graph: Any) -> None:
    """Round every matrix that something is multiplied with, and every table that is looked up, in place."""
    rounded: dict[Any, tuple[Any, ...]] = {}
    for node in list(graph):
        if node.op_type == "MatMul":
            weight, turned = _turned(node.inputs[1])
            if _is_matrix(weight):
                _multiply(graph, node, weight, turned, None, rounded)
        elif node.op_type == "Gemm" and _is_matrix(node.inputs[1]) and _plain(node):
            bias = node.inputs[2] if len(node.inputs) > 2 else None
            _multiply(graph, node, node.inputs[1], bool(node.attributes.get_int("transB", 0)), bias, rounded)
    for node in list(graph):
        if node.op_type == "Gather" and _is_matrix(node.inputs[0]) and node.attributes.get_int("axis", 0) == 0:
            _look_up(graph, node)
    for node in reversed(list(graph)):
        if node.op_type == "Transpose" and not node.outputs[0].uses() and not node.outputs[0].is_graph_output():
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]


def _turned(value: Any) -> tuple[Any, bool]:
    """The matrix that a value is, or is with rows for columns: so a head reads the embedding that it shares."""
    made_by = value.producer() if value is not None else None
    if made_by is not None and made_by.op_type == "Transpose" and _is_matrix(made_by.inputs[0]):
        return made_by.inputs[0], True
    return value, False


def _is_matrix(value: Any) -> bool:
    if value is None or value.const_value is None or not value.is_initializer():
        return False
    tensor = value.const_value
    return bool(tensor.dtype.name == "FLOAT" and len(tensor.shape) == 2 and tensor.size >= SMALLEST)


def _plain(gemm: Any) -> bool:
    known = gemm.attributes
    return bool(
        known.get_float("alpha", 1.0) == known.get_float("beta", 1.0) == 1.0 and known.get_int("transA", 0) == 0
    )


def _multiply(graph: Any, node: Any, weight: Any, turned: bool, bias: Any, rounded: dict[Any, tuple[Any, ...]]) -> None:
    """``x W`` as integers; what several matrices read is rounded once."""
    made: list[Any] = []
    read = node.inputs[0]
    if read not in rounded:
        made.append(_node("DynamicQuantizeLinear", [read], 3))
        rounded[read] = made[0].outputs
    x, x_scale, x_zero = rounded[read]
    codes, scale_O = _stored(graph, weight, 1 if turned else 0, turned)
    made.append(_node("MatMulInteger", [x, codes, x_zero]))
    made.append(_node("Cast", [made[-1].outputs[0]], to=1))
    made.append(_node("Mul", [x_scale, scale_O]))
    made.append(_node("Mul", [made[-2].outputs[0], made[-1].outputs[0]]))
    if bias is not None:
        made.append(_node("Add", [made[-1].outputs[0], bias]))
    _replace(graph, node, made)


def _look_up(graph: Any, node: Any) -> None:
    """Rows of a table, or columns of the matrix that a head multiplies with, if it is the same."""
    import numpy as np
    import onnx_ir as ir

    table, ids = node.inputs[:2]
    as_head = f"{table.name}{_SUFFIX[1, True]}.codes" in graph.initializers
    codes, scale_V = _stored(graph, table, 1, as_head)
    found = _node("Gather", [codes, ids], axis=int(as_head))
    made = [found]
    if as_head:  # D, then the shape of the ids
        rank = len(ids.shape)
        made.append(_node("Transpose", [found.outputs[0]], perm=[*range(1, rank + 1), 0]))
    made.append(_node("Cast", [made[-1].outputs[0]], to=1))
    last = ir.Value(name=f"{node.outputs[0].name}.last", shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.INT64))
    last.const_value = ir.tensor(np.array([-1], np.int64), name=last.name)
    graph.register_initializer(last)
    scales = _node("Gather", [scale_V, ids], axis=0)
    each = _node("Unsqueeze", [scales.outputs[0], last])
    _replace(graph, node, [*made, scales, each, _node("Mul", [made[-1].outputs[0], each.outputs[0]])])


_SUFFIX = {(0, False): "", (1, False): ".rows", (1, True): ".turned"}


def _stored(graph: Any, weight: Any, axis: int, turned: bool) -> tuple[Any, Any]:
    """The codes and the scales of a matrix, a scale for all along ``axis``; reckoned when they are written."""
    import numpy as np
    import onnx_ir as ir

    name = f"{weight.name}{_SUFFIX[axis, turned]}"
    if f"{name}.codes" in graph.initializers:
        return graph.initializers[f"{name}.codes"], graph.initializers[f"{name}.scale"]
    source = weight.const_value

    def scale() -> Any:
        numbers = source.numpy()
        largest = np.maximum(numbers.max(axis), -numbers.min(axis)) / np.float32(127)
        return np.where(largest == 0, np.float32(1), largest).astype(np.float32)

    def codes() -> Any:
        numbers, each = source.numpy(), scale()
        found = np.empty(shape, np.int8)
        for start in range(0, len(numbers), _ROWS):
            part = slice(start, start + _ROWS)
            rounded = np.rint(numbers[part] / (each if axis == 0 else each[part, None]))
            if turned:
                found[:, part] = rounded.T
            else:
                found[part] = rounded
        return found

    rows, columns = source.shape
    shape = (columns, rows) if turned else (rows, columns)
    parts = (
        ("codes", codes, ir.DataType.INT8, shape),
        ("scale", scale, ir.DataType.FLOAT, (columns if axis == 0 else rows,)),
    )
    for part, make, dtype, size in parts:
        value = ir.Value(name=f"{name}.{part}", shape=ir.Shape(size), type=ir.TensorType(dtype))
        value.const_value = ir.LazyTensor(
            lambda make=make, name=value.name: ir.tensor(make(), name=name), dtype, ir.Shape(size), name=value.name
        )
        graph.register_initializer(value)
    return graph.initializers[f"{name}.codes"], graph.initializers[f"{name}.scale"]


def _node(operator: str, inputs: list[Any], outputs: int = 1, **attributes: Any) -> Any:
    import onnx_ir as ir

    return ir.node(operator, inputs, attributes=attributes or None, num_outputs=outputs)


def _replace(graph: Any, node: Any, made: list[Any]) -> None:
    """``made``, whose last output is what the node's was."""
    import onnx_ir as ir

    old, new = node.outputs[0], made[-1].outputs[0]
    new.name, new.shape, new.type = old.name, old.shape, old.type
    graph.insert_before(node, made)
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    graph.remove(node, safe=True)
