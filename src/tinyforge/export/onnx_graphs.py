"""A model as ONNX graphs, traced by transformers' own exporter.

A decoder becomes one graph that reads any number of tokens after any number of cached ones; inputs and outputs carry
the names that transformers.js and other runtimes look for (``past_key_values.0.key``, ``present.0.key``). An encoder
becomes one graph from ids and mask to what its head gives; an encoder-decoder becomes two, the second of which reads
all that was written so far together with what the first made of the text.

Legend: B rows, T tokens, P cached tokens.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tinyforge.export.onnx_repeat import grown

GRAPH, ENCODER, DECODER = "model.onnx", "encoder_model.onnx", "decoder_model.onnx"
ROWS = 2  # no size in an example may be 0 or 1, or it would become a constant of the graph


@contextmanager
def quiet() -> Iterator[None]:
    """The exporters print what they are doing, and warn of what does not matter here."""
    from contextlib import redirect_stdout
    from io import StringIO

    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def graphs(model: Any, objective: str, writes: bool) -> Iterator[tuple[str, Any]]:
    """Each graph's file name and the graph, one at a time."""
    if writes:
        yield GRAPH, grown(model, _decoder) or _decoder(model)
    elif objective == "seq2seq":
        yield ENCODER, _reader(model.get_encoder())
        yield DECODER, _second_half(model)
    else:
        yield GRAPH, _reader(model)


def _export(model: Any, inputs: dict[str, Any], shapes: dict[str, Any]) -> Any:
    """``shapes`` names the sizes that vary: left to find them out, torch would try every one of every layer's cache."""
    from transformers.exporters import OnnxConfig, OnnxExporter

    with quiet():
        return OnnxExporter().export(model, inputs, config=OnnxConfig(dynamic=True, dynamic_shapes=shapes)).program


def _vary(*axes: int) -> dict[int, Any]:
    from torch.export import Dim

    return dict.fromkeys(axes, Dim.AUTO)


def _decoder(model: Any) -> Any:
    """Traced with some cached tokens and some new ones."""
    import torch
    from torch.utils._pytree import tree_leaves
    from transformers import DynamicCache
    from transformers.exporters.exporter_dynamo import register_cache_pytrees_for_model

    cached, new = 4, 3
    ids_BT = torch.arange(ROWS * (cached + new)).reshape(ROWS, -1) % model.config.vocab_size
    with torch.inference_mode():
        past = model(input_ids=ids_BT[:, :cached], use_cache=True).past_key_values
        if len(getattr(past, "layers", ())) and any(getattr(layer, "is_sliding", False) for layer in past.layers):
            own, past = past, DynamicCache()  # a window's cache counts tokens in a number that no graph keeps up
            for number, layer in enumerate(own.layers):
                past.update(layer.keys, layer.values, number)
    register_cache_pytrees_for_model(model)
    inputs = {
        "input_ids": ids_BT[:, cached:],
        "attention_mask": torch.ones_like(ids_BT),
        "position_ids": torch.arange(cached, cached + new)[None].expand(ROWS, new).contiguous(),
        "past_key_values": past,
        "use_cache": True,
    }
    shapes: dict[str, Any] = {name: _vary(0, 1) for name in ("input_ids", "attention_mask", "position_ids")}
    shapes |= {"past_key_values": [_vary(0, 2) for _ in tree_leaves(past)]}
    program = _export(model, inputs, shapes)
    for values, prefix in ((program.graph.inputs, "past_key_values"), (program.graph.outputs, "present")):
        for value in values:
            parts = str(value.name).split(".")  # such as input.past_key_values.layers.0.keys
            if "layers" in parts:
                value.name = f"{prefix}.{parts[parts.index('layers') + 1]}.{parts[-1].removesuffix('s')}"
    _name_sizes(program.graph)
    return program


def _name_sizes(graph: Any) -> None:
    """torch calls the sizes that vary s3 and s70; transformers.js makes an empty cache from what they are called."""
    import onnx_ir

    for value in graph.inputs:
        if str(value.name).startswith("past_key_values"):
            _, heads, _, width = value.shape
            value.shape = onnx_ir.Shape(["batch_size", heads, "past_sequence_length", width])
        else:
            new = "total_sequence_length" if value.name == "attention_mask" else "sequence_length"
            value.shape = onnx_ir.Shape(["batch_size", new])


def _reader(model: Any) -> Any:
    """Classes, spans or hidden states, whatever the model gives; a question's segments where it was taught them."""
    import torch

    ids_BT = torch.arange(ROWS * 5).reshape(ROWS, 5) % model.config.vocab_size
    inputs = {"input_ids": ids_BT, "attention_mask": torch.ones_like(ids_BT)}
    if getattr(model.config, "type_vocab_size", 0) > 1:
        inputs["token_type_ids"] = torch.zeros_like(ids_BT)
    return _export(model, inputs, {name: _vary(0, 1) for name in inputs})


def _second_half(model: Any) -> Any:
    """The decoder of an encoder-decoder: from what was read and what was written to the next token's scores."""
    import torch
    from transformers.modeling_outputs import BaseModelOutput

    ids_BT = torch.arange(ROWS * 4).reshape(ROWS, 4) % model.config.vocab_size
    mask_BT = torch.ones(ROWS, 5, dtype=torch.long)
    with torch.inference_mode():
        read = model.get_encoder()(input_ids=mask_BT, attention_mask=mask_BT).last_hidden_state.clone()
    inputs = {
        "encoder_outputs": BaseModelOutput(last_hidden_state=read),
        "attention_mask": mask_BT,
        "decoder_input_ids": ids_BT,
        "use_cache": False,
    }
    shapes = {
        "encoder_outputs": [_vary(0, 1)],
        "attention_mask": _vary(0, 1),
        "decoder_input_ids": _vary(0, 1),
    }
    program = _export(model, inputs, shapes)
    names = {"attention_mask": "encoder_attention_mask", "decoder_input_ids": "input_ids"}
    for value in program.graph.inputs:
        found = str(value.name)
        value.name = names.get(found, "encoder_hidden_states" if "encoder" in found else found)
    for value in list(program.graph.outputs):
        if value.name != "logits":
            program.graph.outputs.remove(value)
    return program
