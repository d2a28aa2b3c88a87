"""Codes instead of weights: what rounding does by hand, that a file gives back what was measured, and that a program
which does not know the form stops instead of writing nonsense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from little import make_base
from tinyforge.compress.gptq import gptq, upper_inverse
from tinyforge.compress.quantize import quantize
from tinyforge.compress.rounding import grid_of, round_to_nearest
from tinyforge.models.quantized import (
    ALIGNED,
    QuantizedEmbedding,
    QuantizedLinear,
    TiedHead,
    dequantize,
    fitting_group,
    pack,
    store_as,
    unpack,
)
from tinyforge.models.resolve import load_model

IDS = torch.tensor([[7, 11, 13, 17, 19, 23]])
ROWS = [[3 + (7 * n + 5 * k) % 400 for k in range(24)] for n in range(12)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base") / "model", hidden=64)


def logits(model: Any) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model(input_ids=IDS).logits.float()
    return found


# --- rounding, by hand -----------------------------------------------------------------------------------------------


def test_eight_bits_by_hand() -> None:
    codes, grid = round_to_nearest(torch.tensor([[1.27, -0.64, 0.013]]), 8, 0)
    assert grid.scale.item() == pytest.approx(0.01)
    assert codes.tolist() == [[127, -64, 1]]


def test_four_bits_by_hand() -> None:
    """From -0.5 to 1.0 there are 15 steps of 0.1, and zero is the fifth point: it stays exactly zero."""
    codes, grid = round_to_nearest(torch.tensor([[-0.5, 0.0, 0.26, 1.0]]), 4, 0)
    assert grid.scale.item() == pytest.approx(0.1, rel=1e-3)
    assert grid.zero.item() == 5
    assert codes.tolist() == [[0, 5, 8, 15]]
    assert grid.values(codes[:, None])[0, 0, 1] == 0


def test_each_group_has_its_own_scale() -> None:
    weight = torch.tensor([[100.0, -100.0, 0.1, -0.1]])
    codes, grid = round_to_nearest(weight, 4, 2)
    back = grid.values(codes.view(1, 2, 2)).view(1, 4)
    assert (back - weight).abs()[0, 2:].max() < 0.01
    coarse, one = round_to_nearest(weight, 4, 0)  # the control: one scale for all loses the small ones
    assert one.values(coarse[:, None]).view(1, 4)[0, 2:].abs().max() == 0


def test_the_search_never_rounds_worse() -> None:
    weight = torch.randn(16, 1, 64, generator=torch.Generator().manual_seed(1)) ** 3
    plain, searched = grid_of(weight, 4), grid_of(weight, 4, search=True)
    errors = [(g.values(g.codes(weight)) - weight).square().sum((1, 2)) for g in (plain, searched)]
    assert (errors[1] <= errors[0] + 1e-6).all()
    assert errors[1].sum() < 0.97 * errors[0].sum()


def test_packing_comes_back() -> None:
    codes = torch.randint(0, 16, (5, 12))
    assert pack(codes.to(torch.uint8)).shape == (5, 6)
    assert torch.equal(unpack(pack(codes.to(torch.uint8))), codes.to(torch.uint8))


def test_groups_divide_the_row() -> None:
    assert [fitting_group(n, 64) for n in (256, 704, 96, 7, 50)] == [64, 64, 48, 7, 50]


# --- GPTQ ------------------------------------------------------------------------------------------------------------


def test_the_second_input_takes_up_the_error_of_the_first() -> None:
    """With two inputs the best second weight, given the first one's error e, is w2 + e h12 / h22: by calculus."""
    hessian = torch.tensor([[4.0, 3.0], [3.0, 5.0]])
    factor = upper_inverse(hessian)
    damped = hessian + 0.01 * 4.5 * torch.eye(2)
    error = 0.1
    moved = -(error / factor[0, 0]) * factor[0, 1]
    assert moved.item() == pytest.approx(error * (damped[0, 1] / damped[1, 1]).item(), rel=1e-4)


def correlated(inputs: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(400, 8, generator=generator) @ torch.randn(8, inputs, generator=generator) + 0.3 * torch.randn(
        400, inputs, generator=generator
    )


@pytest.mark.parametrize(("inputs", "group"), [(96, 0), (96, 32), (320, 64), (160, 160)])
def test_gptq_loses_less_of_what_a_layer_gives(inputs: int, group: int) -> None:
    x = correlated(inputs)
    weight = torch.randn(24, inputs, generator=torch.Generator().manual_seed(3))

    def lost(codes: Tensor, grid: Any) -> float:
        back = grid.values(codes.view(24, grid.scale.shape[1], -1)).view(24, inputs)
        return float((x @ (back - weight).T).square().mean())

    assert lost(*gptq(weight, x.T @ x, 4, group)) < 0.5 * lost(*round_to_nearest(weight, 4, group, search=True))


def test_inputs_that_have_nothing_in_common_are_rounded_to_the_nearest() -> None:
    """The control: without correlation there is nothing to take up."""
    weight = torch.randn(8, 32, generator=torch.Generator().manual_seed(4))
    codes, _ = gptq(weight, torch.eye(32), 4, 16)
    assert torch.equal(codes, round_to_nearest(weight, 4, 16, search=True)[0])


def test_an_input_that_was_never_seen_breaks_nothing() -> None:
    x = correlated(16)
    x[:, 5] = 0
    codes, grid = gptq(torch.randn(4, 16), x.T @ x, 4, 0)
    assert torch.isfinite(grid.scale).all()
    assert torch.equal(codes[:, 5], grid.zero[:, 0])  # it counts for nothing, so it becomes zero


# --- layers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "group"), [(8, 0), (4, 16), (4, 32)])
def test_a_layer_computes_with_what_its_codes_stand_for(bits: int, group: int) -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(32, 32), torch.randn(3, 5, 32)
    codes, grid = round_to_nearest(weight, bits, group)
    layer = QuantizedLinear(32, 32, bits, group, True)
    layer.weight = (pack(codes.to(torch.uint8)) if bits == 4 else codes.to(torch.int8)).flatten()
    layer.scale, layer.bias = grid.scale.to(layer.scale.dtype), torch.randn(32)
    if bits == 4:
        layer.zero = grid.zero.to(torch.uint8)
    back = grid.values(codes.view(32, grid.scale.shape[1], -1)).view(32, 32)
    wanted = nn.functional.linear(x, back, layer.bias)
    assert torch.allclose(layer(x), wanted, atol=1e-5)
    for rows in (x[:1, :2], x.repeat(4, 1, 1)):  # the fused product, and the other
        wide = nn.functional.linear(rows, back, layer.bias)
        assert (layer(rows.bfloat16()).float() - wide).abs().max() < 0.04 * wide.std()


@pytest.mark.parametrize("outputs", [32, 369, 40])
@pytest.mark.parametrize("offset", [20, 32, 1])
def test_the_fused_product_takes_any_number_of_outputs(outputs: int, offset: int) -> None:
    """Torch's own crashed on codes at an odd address, as a file's offsets make them: these are copied."""
    codes = torch.randint(-127, 128, (outputs, 64), dtype=torch.int8)
    layer = QuantizedLinear(64, outputs, 8, 0, False)
    layer.weight = torch.cat([torch.zeros(offset, dtype=torch.int8), codes.flatten()])[offset:]
    assert layer.weight.data_ptr() % ALIGNED
    layer.scale = torch.rand(outputs, 1) * 0.01
    x = torch.randn(2, 64)
    wanted = x @ (codes.float() * layer.scale).T
    assert (layer(x.bfloat16()).float() - wanted).abs().max() < 0.03 * wanted.std()
    assert layer.weight.data_ptr() % ALIGNED == 0


@pytest.mark.parametrize(("bits", "method"), [(8, "rtn"), (4, "rtn"), (4, "gptq")])
def test_a_saved_model_is_the_one_that_was_measured(base: Path, tmp_path: Path, bits: int, method: str) -> None:
    model = quantize(load_model(base, "fp32"), bits, 32, method, ROWS)
    model.save_pretrained(tmp_path)
    back: Any = load_model(tmp_path, "fp32")
    assert torch.equal(logits(back), logits(model))
    assert isinstance(back.lm_head, TiedHead)
    assert (tmp_path / "model.safetensors").stat().st_size < (0.36 if bits == 8 else 0.3) * _size(base)
    first = logits(load_model(base, "fp32"))
    assert 0 < (logits(back) - first).abs().max() < (0.05 if bits == 8 else 0.8) * first.std()


def _size(folder: Path) -> int:
    return (folder / "model.safetensors").stat().st_size


def test_ordinary_weights_again_say_the_same(base: Path, tmp_path: Path) -> None:
    model = quantize(load_model(base, "fp32"), 4, 32, "rtn")
    before = logits(model)
    plain = dequantize(model)
    assert not any(isinstance(m, QuantizedLinear | QuantizedEmbedding) for m in plain.modules())
    assert torch.equal(logits(plain), before)
    plain.save_pretrained(tmp_path)
    from transformers import AutoModelForCausalLM

    again: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.allclose(logits(again), before, atol=1e-5)
    assert again.lm_head.weight is again.model.embed_tokens.weight


def test_plain_transformers_stops_instead_of_writing_nonsense(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM
    from transformers.quantizers import auto

    quantize(load_model(base, "fp32"), 8, 0, "rtn").save_pretrained(tmp_path)
    for table in (auto.AUTO_QUANTIZATION_CONFIG_MAPPING, auto.AUTO_QUANTIZER_MAPPING):
        monkeypatch.delitem(table, "tinyforge")
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        AutoModelForCausalLM.from_pretrained(tmp_path)


def test_a_changed_scale_is_seen(base: Path) -> None:
    """The control of all comparisons above."""
    model = quantize(load_model(base, "fp32"), 8, 0, "rtn")
    before = logits(model)
    model.model.layers[0].mlp.down_proj.scale[3] *= 2
    assert not torch.equal(logits(model), before)


FAMILIES = ("gpt2", "qwen3", "gemma", "untied")


def make_family(name: str) -> Any:
    from transformers import (
        GemmaConfig,
        GemmaForCausalLM,
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        Qwen3Config,
        Qwen3ForCausalLM,
    )

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
    }
    if name == "gpt2":
        return GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=32, n_layer=3, n_head=4, n_positions=64)).eval()
    if name == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**sizes, tie_word_embeddings=True)).eval()
    if name == "gemma":
        return GemmaForCausalLM(GemmaConfig(**sizes)).eval()
    return LlamaForCausalLM(LlamaConfig(**sizes, attention_bias=True, tie_word_embeddings=False)).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_other_families_come_back_from_their_files(family: str, tmp_path: Path) -> None:
    model = make_family(family)
    before = logits(model)
    model = store_as(quantize(model, 8, 0, "rtn"), torch.float32)
    model.save_pretrained(tmp_path)
    back = load_model(tmp_path, "fp32")
    assert torch.equal(logits(back), logits(model))
    assert (logits(back) - before).abs().max() < 0.1 * before.std()
    assert torch.allclose(logits(dequantize(back)), logits(model), atol=1e-5)
