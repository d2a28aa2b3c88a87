"""Packed rows and lean layers: the same losses, gradients and weights as transformers' own way, in every family."""

from __future__ import annotations

import copy
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from tinyforge import adapters
from tinyforge.config import TrainConfig
from tinyforge.models import attention
from tinyforge.models.attention import Packed, attend, own_attention
from tinyforge.models.lean import lean_layers
from tinyforge.records import Tokens
from tinyforge.train.loop import Training
from tinyforge.train.loss import IGNORED, next_token_loss
from tinyforge.train.objectives.base import Batch, pack_rows, pad_rows
from tinyforge.train.objectives.sft import SupervisedFineTuning
from tinyforge.train.rows import EncodedRows

SHAPE = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2 = {
    "vocab_size": 128,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", SHAPE),
    "qwen2": ("qwen2", SHAPE),
    "qwen3": ("qwen3", {**SHAPE, "head_dim": 8}),
    "mistral, window": ("mistral", {**SHAPE, "sliding_window": 16}),
    "phi3": ("phi3", SHAPE),
    "gemma3, window": ("gemma3_text", {**SHAPE, "head_dim": 8, "sliding_window": 16}),
    "gpt2": ("gpt2", {**GPT2, "attn_pdrop": 0.0}),
}


def make_model(kind: str, settings: dict[str, Any], dtype: torch.dtype = torch.float32, lora: bool = False) -> Any:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = transformers.AutoConfig.for_model(kind, **settings)
    model: Any = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
    if lora:
        model = adapters.attach(model, TrainConfig.model_validate({"method": "lora"}), 0)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.1)
    return model.train()


def make_rows(lengths: tuple[int, ...] = (5, 9, 300, 40, 44, 45, 2)) -> list[Tokens]:
    rng = Random(0)
    rows = []
    for length in lengths:
        ids = [rng.randrange(3, 128) for _ in range(length)]
        rows.append(Tokens(ids, [IGNORED] * (length // 2) + ids[length // 2 :]))
    return rows


def losses_and_gradients(model: Any, batch: Batch) -> tuple[float, int, dict[str, torch.Tensor]]:
    model.zero_grad()
    total, count = next_token_loss(model, batch.ids_BT, batch.labels_BT, batch.packed)
    total.backward()  # type: ignore[no-untyped-call]
    found = {name: p.grad.float().clone() for name, p in model.named_parameters() if p.grad is not None}
    return float(total.detach()), count, found


def largest_difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """Of all parameters' gradients, as a share of the gradient's norm."""
    assert set(first) == set(second)
    return max(float((first[n] - second[n]).norm() / (first[n].norm() + 1e-9)) for n in first)


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_equals_unpacked_in_every_family(family: str, lora: bool) -> None:
    model = make_model(*FAMILIES[family], lora=lora)
    rows = make_rows()
    own = losses_and_gradients(model, pad_rows(rows, 0))
    with lean_layers(model), own_attention(model) as packs:
        assert packs
        packed = losses_and_gradients(model, pack_rows(rows))
        padded = losses_and_gradients(model, pad_rows(rows, 0))
    assert own[1] == packed[1] == padded[1]
    assert packed[0] == pytest.approx(own[0], rel=1e-6)
    assert padded[0] == pytest.approx(own[0], rel=1e-6)
    assert largest_difference(own[2], packed[2]) < 1e-5
    assert largest_difference(own[2], padded[2]) < 1e-5


def test_rows_that_are_not_told_apart_are_found_out() -> None:
    """Control: the same ids in one row, each seeing all before it."""
    model = make_model("llama", SHAPE)
    rows = make_rows()
    own = losses_and_gradients(model, pad_rows(rows, 0))
    batch = pack_rows(rows)
    run_together = losses_and_gradients(model, Batch(batch.ids_BT, batch.labels_BT))
    assert largest_difference(own[2], run_together[2]) > 0.1


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("gpt2", {**GPT2, "attn_pdrop": 0.1}),
        ("gemma2", {**SHAPE, "head_dim": 8, "attn_logit_softcapping": 1.0}),
    ],
    ids=["dropout of attention", "capped scores"],
)
def test_a_model_that_packing_would_change_is_left_alone(kind: str, settings: dict[str, Any]) -> None:
    model = make_model(kind, settings)
    before = torch.get_rng_state()
    with own_attention(model) as packs:
        assert not packs
        assert model.config._attn_implementation != attention.NAME
    assert torch.equal(before, torch.get_rng_state())
    assert model.training


def test_packed_rows_are_never_run_without_their_attention() -> None:
    model = make_model("llama", SHAPE)
    with own_attention(model):
        model.config.attention_dropout = 0.5
        for module in model.modules():
            if hasattr(module, "attention_dropout"):
                module.attention_dropout = 0.5
        with pytest.raises(RuntimeError, match="see each other"):
            losses_and_gradients(model, pack_rows(make_rows()))


def test_packed_rows_after_the_training_give_no_numbers_instead_of_wrong_ones() -> None:
    model = make_model("llama", SHAPE).eval()
    batch = pack_rows(make_rows((6, 3)))
    with torch.no_grad():
        assert not next_token_loss(model, batch.ids_BT, batch.labels_BT, batch.packed)[0].isfinite()


def test_attention_by_hand() -> None:
    """One head of width 1, two rows of two tokens: a token's share of the first is e^(qk) over the sum."""
    query = torch.tensor([0.0, 1.0, 5.0, 2.0]).view(4, 1, 1)
    key = torch.tensor([1.0, 2.0, 9.0, 9.0]).view(4, 1, 1)
    value = torch.tensor([10.0, 20.0, 1.0, 3.0]).view(4, 1, 1)
    found = attend(query, key, value, Packed.of([2, 2]), 1.0).flatten().tolist()
    share = torch.tensor([1.0, 2.0]).softmax(0)
    assert found == pytest.approx([10.0, float(share[0]) * 10 + float(share[1]) * 20, 1.0, 2.0])


@pytest.mark.parametrize("window", [None, 3, 100, 130, 250])
def test_attention_and_gradients_against_torch(window: int | None) -> None:
    """Blocks, windows across blocks and grouped heads; float64, so that only real differences count."""
    torch.manual_seed(0)
    lengths = [300, 7, 280, 1]
    query, key, value = (torch.randn(sum(lengths), h, 8, dtype=torch.float64, requires_grad=True) for h in (6, 2, 2))
    above = torch.randn(sum(lengths), 6, 8, dtype=torch.float64)
    mine = attend(query, key, value, Packed.of(lengths), 0.3, window)
    parts = []
    pieces = (torch.split(part, lengths) for part in (query, key, value))
    for row in zip(*pieces, strict=True):
        q, k, v = (part.transpose(0, 1)[None] for part in row)
        seen = torch.ones(len(row[0]), len(row[0])).tril().bool()
        if window is not None:
            seen &= ~torch.ones(len(row[0]), len(row[0])).tril(-window).bool()
        wanted = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=0.3, enable_gqa=True)
        parts.append(wanted[0].transpose(0, 1))
    theirs = torch.cat(parts)
    torch.testing.assert_close(mine, theirs)
    inputs = (query, key, value)
    for a, b in zip(torch.autograd.grad(mine, inputs, above), torch.autograd.grad(theirs, inputs, above), strict=True):
        torch.testing.assert_close(a, b)


def test_bf16_is_as_near_to_fp32_as_transformers_own_is() -> None:
    rows = make_rows()
    truth = losses_and_gradients(make_model("llama", SHAPE, lora=True), pad_rows(rows, 0))
    model = make_model("llama", SHAPE, torch.bfloat16, lora=True)
    own = losses_and_gradients(model, pad_rows(rows, 0))
    with lean_layers(model), own_attention(model):
        lean = losses_and_gradients(model, pack_rows(rows))

    def error(found: tuple[float, int, dict[str, torch.Tensor]]) -> float:
        wanted = torch.cat([g.flatten() for g in truth[2].values()])
        return float((torch.cat([g.flatten() for g in found[2].values()]) - wanted).norm() / wanted.norm())

    assert error(lean) < 1.2 * error(own)


def test_layers_take_their_own_form_back() -> None:
    model = make_model("llama", SHAPE, lora=True)
    classes = [type(module) for module in model.modules()]
    with lean_layers(model) as exchanged, own_attention(model):
        assert exchanged == 2 * 7 + 2 * 2 + 1 + 2  # LoRA layers, norms, the last norm, MLPs
        twin = copy.deepcopy(model)
        batch = pack_rows(make_rows((6, 3)))
        assert losses_and_gradients(twin, batch)[0] == losses_and_gradients(model, batch)[0]
    assert [type(module) for module in model.modules()] == classes
    assert model.get_base_model().config._attn_implementation == "sdpa"


def test_adapters_that_are_switched_off_stay_off() -> None:
    """DPO's reference is the model without its adapters."""
    model = make_model("llama", SHAPE, lora=True)
    batch = pad_rows(make_rows((6, 3)), 0)
    with torch.no_grad(), model.disable_adapter():
        wanted = next_token_loss(model, batch.ids_BT, batch.labels_BT)[0]
    with lean_layers(model), torch.no_grad(), model.disable_adapter():
        found = next_token_loss(model, batch.ids_BT, batch.labels_BT)[0]
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "computed again"])
def test_a_training_is_the_same_packed_and_padded(tmp_path: Path, checkpointing: bool) -> None:
    def train(packing: bool, folder: str) -> tuple[list[float], dict[str, torch.Tensor]]:
        settings = {"batch_tokens": 128, "epochs": 3.0, "packing": packing, "gradient_checkpointing": checkpointing}
        model = make_model("llama", SHAPE)
        losses: list[float] = []
        Training(
            model=model,
            objective=SupervisedFineTuning(0),
            rows=EncodedRows(make_rows((5, 9, 60, 40, 44, 45, 12, 30, 31, 8))),
            dev=EncodedRows(make_rows((20, 30))),
            config=TrainConfig.model_validate(settings),
            learning_rate=1e-3,
            folder=tmp_path / folder,
            key="",
            seed=0,
            on_status=lambda status: losses.append(status.loss),
        ).run()
        return losses, model.state_dict()

    packed, padded = train(True, "packed"), train(False, "padded")
    assert len(packed[0]) > 5
    assert packed[0] == pytest.approx(padded[0], abs=1e-5)
    for name, tensor in packed[1].items():
        torch.testing.assert_close(tensor, padded[1][name], atol=1e-5, rtol=1e-4)


def test_padding_is_what_packing_saves() -> None:
    rows = make_rows((5, 9, 40))
    assert pack_rows(rows).ids_BT.numel() == 54
    assert pad_rows(rows, 0).ids_BT.numel() == 120
