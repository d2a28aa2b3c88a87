"""Graphs of deep decoders from the trace of four blocks, and their matrices in 8 bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tr

from tinyforge.export.onnx_graphs import _decoder
from tinyforge.export.onnx_int8 import eight_bits
from tinyforge.export.onnx_repeat import TRACED, grown

LITTLE = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "vocab_size": 500}
DEEP = 7


def llama(**changes: Any) -> Any:
    config = tr.LlamaConfig(**LITTLE, num_key_value_heads=2, num_hidden_layers=DEEP, **changes)
    return settled(tr.LlamaForCausalLM(config))


def tied() -> Any:
    """Its head reads the embedding, which int8 then stores once."""
    return llama(tie_word_embeddings=True)


def qwen3() -> Any:
    config = tr.Qwen3Config(**LITTLE, num_key_value_heads=2, num_hidden_layers=DEEP, head_dim=16)
    return settled(tr.Qwen3ForCausalLM(config))


def gpt2() -> Any:
    return settled(tr.GPT2LMHeadModel(tr.GPT2Config(n_embd=64, n_head=4, n_layer=DEEP, vocab_size=500)))


def settled(model: Any) -> Any:
    """Weights with which every block and every norm matters."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return model.eval()


def counted(traced: list[int]) -> Callable[[Any], Any]:
    def trace(model: Any) -> Any:
        traced.append(model.config.num_hidden_layers)
        return _decoder(model)

    return trace


def scores(path: Path, ids_BT: np.ndarray[Any, Any]) -> list[Any]:
    """What plain onnxruntime makes of the tokens, read in two goes so that the caches count."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    past = {i.name: np.zeros((len(ids_BT), i.shape[1], 0, i.shape[3]), np.float32) for i in session.get_inputs()[3:]}
    read = 0
    for stop in (3, ids_BT.shape[1]):
        feed = {
            "input_ids": ids_BT[:, read:stop],
            "attention_mask": np.ones((len(ids_BT), stop), np.int64),
            "position_ids": np.arange(read, stop)[None].repeat(len(ids_BT), 0),
        }
        names = [output.name for output in session.get_outputs()]
        wanted = {one.name for one in session.get_inputs()}
        found = session.run(None, {name: v for name, v in {**feed, **past}.items() if name in wanted})
        past = {n.replace("present", "past_key_values"): v for n, v in zip(names[1:], found[1:], strict=True)}
        read = stop
    return [names, found[0]]


@pytest.mark.parametrize("make", [tied, *(pytest.param(make, marks=pytest.mark.slow) for make in (llama, qwen3, gpt2))])
def test_four_blocks_are_traced_and_all_are_written(make: Callable[[], Any], tmp_path: Path) -> None:
    import onnx_ir

    model, traced = make(), list[int]()
    program = grown(model, counted(traced))
    assert program is not None and traced == [TRACED]
    onnx_ir.save(program, str(tmp_path / "model.onnx"), external_data="model.data")
    ids_BT = np.arange(14).reshape(2, 7)
    with torch.no_grad():
        asked = model(torch.tensor(ids_BT)).logits[:, 3:].numpy()
    names, found = scores(tmp_path / "model.onnx", ids_BT)
    assert names == ["logits", *(f"present.{n}.{part}" for n in range(DEEP) for part in ("key", "value"))]
    assert np.abs(found - asked).max() < 1e-4 * np.abs(asked).max()

    eight_bits(program.graph)
    onnx_ir.save(program, str(tmp_path / "eight.onnx"), external_data="eight.data")
    _, rounded = scores(tmp_path / "eight.onnx", ids_BT)
    assert 0 < np.abs(rounded - asked).max() < 0.2 * np.abs(asked).max()
    assert (tmp_path / "eight.data").stat().st_size < 0.4 * (tmp_path / "model.data").stat().st_size


def never(model: Any) -> Any:
    raise AssertionError("was traced")


def test_blocks_that_differ_are_left_to_a_whole_trace() -> None:
    model = llama()
    model.config.layer_types = ["full_attention"] * (DEEP - 1) + ["sliding_attention"]
    assert grown(model, never) is None
    assert grown(settled(tr.GPT2LMHeadModel(tr.GPT2Config(n_embd=64, n_head=4, n_layer=TRACED))), never) is None
    model = llama()
    model.model.layers[5].mlp.up_proj = torch.nn.Linear(64, 96, bias=True)
    assert grown(model, never) is None


@pytest.mark.slow
def test_weights_that_were_reckoned_with_are_left_to_a_whole_trace() -> None:
    """Gemma's norms multiply by one more than their weight, which the tracer adds up beforehand."""
    config = tr.GemmaConfig(**LITTLE, num_key_value_heads=2, num_hidden_layers=DEEP, head_dim=16)
    traced = list[int]()
    assert grown(settled(tr.GemmaForCausalLM(config)), counted(traced)) is None
    assert traced == [TRACED]


def test_blocks_that_compute_otherwise_are_left_to_a_whole_trace() -> None:
    """Nothing in GPT-2's configuration tells its blocks apart here: each divides by its number."""
    config = tr.GPT2Config(n_embd=64, n_head=4, n_layer=DEEP, vocab_size=500, scale_attn_by_inverse_layer_idx=True)
    traced = list[int]()
    assert grown(settled(tr.GPT2LMHeadModel(config)), counted(traced)) is None
    assert traced == [TRACED]
