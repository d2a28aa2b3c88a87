"""What is cut is what did least: parts that are made to do nothing go first, and the model says the same without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from little import make_base
from test_compress_quantize import ROWS, logits, make_family
from tinyforge.compress.blocks import blocks_of
from tinyforge.compress.depth import block_influence, drop_blocks, least_influential
from tinyforge.compress.fidelity import fidelity
from tinyforge.compress.masks import mask, parse_pattern, prune_weights
from tinyforge.compress.student import is_made, make_student
from tinyforge.compress.width import group_importance, narrow_heads, narrow_mlp, neuron_importance
from tinyforge.errors import InputError
from tinyforge.models.resolve import load_model
from tinyforge.records import Tokens


@pytest.fixture
def model(tmp_path: Path) -> Any:
    return load_model(make_base(tmp_path / "model", layers=4), "fp32")


def silence(block: Any) -> None:
    with torch.no_grad():
        block.self_attn.o_proj.weight.zero_()
        block.mlp.down_proj.weight.zero_()


def test_a_block_that_does_nothing_has_no_influence_and_goes_first(model: Any) -> None:
    silence(model.model.layers[2])
    influence = block_influence(model, ROWS)
    assert influence[2] == pytest.approx(0, abs=1e-6)
    assert min(influence[:2] + influence[3:]) > 1e-4
    assert least_influential(influence, 1) == [2]
    shorter = drop_blocks(model, [2])
    assert shorter.config.num_hidden_layers == 3
    assert torch.equal(logits(shorter), logits(model))
    assert not torch.equal(logits(drop_blocks(model, [1])), logits(model))


def test_influence_by_hand(model: Any) -> None:
    """A block that turns every stream round has cosine -1: influence 2."""
    model.model.layers[1].forward = lambda hidden_states, **rest: -hidden_states
    assert block_influence(model, ROWS)[1] == pytest.approx(2, abs=1e-5)


def test_a_shorter_model_comes_back_from_its_file_and_uses_its_cache(model: Any, tmp_path: Path) -> None:
    shorter = drop_blocks(model, [0, 3])
    shorter.save_pretrained(tmp_path / "shorter")
    back: Any = load_model(tmp_path / "shorter", "fp32")
    assert torch.equal(logits(back), logits(shorter))
    first = back(input_ids=torch.tensor([[7, 11, 13]]), use_cache=True)
    rest = back(input_ids=torch.tensor([[17, 19, 23]]), past_key_values=first.past_key_values)
    assert torch.allclose(rest.logits[0], logits(back)[0, 3:], atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "qwen3", "gemma"])
def test_every_family_loses_blocks(family: str) -> None:
    whole = make_family(family)
    shorter = drop_blocks(whole, [1])
    assert len(blocks_of(shorter)) == 2
    ours, theirs = (dict(part.named_parameters()) for part in (blocks_of(shorter)[1], blocks_of(whole)[2]))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert torch.isfinite(logits(shorter)).all()


@pytest.mark.parametrize(("drop", "said"), [([4], "no block 4"), ([0, 1, 2, 3], "no block would be left")])
def test_blocks_that_are_not_there(model: Any, drop: list[int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        drop_blocks(model, drop)


def test_the_heads_that_write_nothing_go_with_their_keys(model: Any) -> None:
    """4 query heads of width 8 read 2 key heads: the second key head's are the columns from 16 on."""
    with torch.no_grad():
        for number, layer in enumerate(model.model.layers):
            silent = slice(16, 32) if number % 2 else slice(0, 16)
            layer.self_attn.o_proj.weight[:, silent] = 0
    importance = group_importance(model, ROWS)
    assert [int(found.argmin()) for found in importance] == [0, 1, 0, 1]
    narrow = narrow_heads(model, 0.5, ROWS)
    assert (narrow.config.num_attention_heads, narrow.config.num_key_value_heads) == (2, 1)
    assert narrow.model.layers[0].self_attn.q_proj.weight.shape == (16, 32)
    assert torch.allclose(logits(narrow), logits(model), atol=1e-5)


def test_the_importance_of_a_head_is_what_it_writes(model: Any) -> None:
    """Against the sum formed the long way: the squared length of W_o[:, head] x_head over every token."""
    seen = []
    attention = model.model.layers[1].self_attn
    handle = attention.o_proj.register_forward_pre_hook(lambda module, given: seen.append(given[0][0]))
    with torch.inference_mode():
        for row in ROWS:
            model(input_ids=torch.tensor([row]))
    handle.remove()
    x = torch.cat(seen)
    written = [
        (x[:, h * 8 : h * 8 + 8] @ attention.o_proj.weight[:, h * 8 : h * 8 + 8].T).square().sum() for h in range(4)
    ]
    wanted = torch.stack([written[0] + written[1], written[2] + written[3]])
    assert torch.allclose(group_importance(model, ROWS)[1], wanted, rtol=1e-3)


def test_neurons_that_write_nothing_go(model: Any) -> None:
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.down_proj.weight[:, ::2] = 0
    assert (neuron_importance(model, ROWS)[0][::2] == 0).all()
    narrow = narrow_mlp(model, 0.5, ROWS)
    assert narrow.config.intermediate_size == 32
    assert torch.allclose(logits(narrow), logits(model), atol=1e-5)
    assert not torch.allclose(logits(narrow_mlp(model, 0.75, ROWS)), logits(model), atol=1e-3)


def test_fused_layers_cannot_be_narrowed() -> None:
    for narrow in (narrow_heads, narrow_mlp):
        with pytest.raises(InputError, match="--depth"):
            narrow(make_family("gpt2"), 0.5, ROWS)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_that_leaves_all_or_nothing(model: Any, share: float) -> None:
    with pytest.raises(InputError, match="share from"):
        narrow_mlp(model, share, ROWS)


def test_masks_by_hand() -> None:
    score = torch.tensor([[1.0, 4.0, 2.0, 3.0], [9.0, 8.0, 1.0, 2.0]])
    assert mask(score, 0.5, None).tolist() == [[False, True, False, True], [True, True, False, False]]
    assert mask(score, 0.0, (1, 2)).tolist() == [[False, True, False, True], [True, False, False, True]]
    with pytest.raises(InputError, match="groups of 3"):
        mask(score, 0.0, (2, 3))


def test_two_of_every_four_stay(model: Any) -> None:
    assert prune_weights(model, 0.0, parse_pattern("2:4"), "wanda", ROWS) == 0.5
    weight = model.model.layers[0].mlp.up_proj.weight
    assert ((weight.view(weight.shape[0], -1, 4) != 0).sum(-1) == 2).all()
    assert (model.model.embed_tokens.weight[2:] != 0).all()  # the padding token is all zeros from the start


def test_wanda_spares_small_weights_of_large_inputs(model: Any) -> None:
    """Input 5 of a layer is made a thousand times larger than the rest: magnitude does not know, wanda does."""
    norms = model.model.layers[0].input_layernorm.weight
    with torch.no_grad():
        norms[5] = 1000
    weights = {}
    for scores in ("wanda", "magnitude"):
        import copy

        pruned = copy.deepcopy(model)
        prune_weights(pruned, 0.5, None, scores, ROWS)
        weights[scores] = (pruned.model.layers[0].self_attn.q_proj.weight[:, 5] != 0).float().mean()
    assert weights["wanda"] == 1
    assert weights["magnitude"] < 0.8


@pytest.mark.parametrize("text", ["2", "4:2", "a:b", "2:2"])
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(InputError, match="pattern"):
        parse_pattern(text)


def test_students_are_copied_evenly_or_drawn_anew(model: Any) -> None:
    copied = make_student(model, "layers:2", 0)
    layers = model.model.layers
    for ours, theirs in zip(copied.model.layers, (layers[0], layers[2]), strict=True):
        assert torch.equal(ours.mlp.up_proj.weight, theirs.mlp.up_proj.weight)
    fresh, again, other = (make_student(model, "scratch:2", seed) for seed in (1, 1, 2))
    weights = [m.model.layers[0].mlp.up_proj.weight for m in (fresh, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], layers[0].mlp.up_proj.weight)
    assert [is_made(name) for name in ("layers:2", "scratch", "runs/a", "tiny")] == [True, True, False, False]
    for wrong in ("layers", "layers:9", "layers:0"):
        with pytest.raises(InputError, match="--student"):
            make_student(model, wrong, 0)


def test_divergence_by_hand() -> None:
    """(1/2, 1/2) against (1/4, 3/4): 1/2 ln 2 + 1/2 ln 2/3 = 0.14384 nats; the first choices differ at one of two."""
    source = torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log()
    result = torch.tensor([[0.25, 0.75], [0.9, 0.1]]).log()
    found = fidelity(source, result, [Tokens([0, 1, 0], [-100, 1, 0])])
    assert found.max_kl == pytest.approx(0.14384, abs=1e-4)
    assert found.mean_kl == pytest.approx(0.07192, abs=1e-4)
    assert found.loss == pytest.approx(-(torch.tensor(0.75).log() + torch.tensor(0.9).log()).item() / 2, abs=1e-5)
    assert (found.agreement, found.positions) == (0.5, 2)
