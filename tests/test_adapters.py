"""Adapters: a fresh one changes nothing, a merged one answers as before, and every method learns and comes back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from little import make_base
from tinyforge import adapters
from tinyforge.adapters import four_bit, methods
from tinyforge.config import TrainConfig
from tinyforge.errors import InputError
from tinyforge.models.generate import Writer
from tinyforge.models.resolve import count_parameters, load_model, load_tokenizer
from tinyforge.records import Tokens
from tinyforge.train.loop import Training, dev_loss
from tinyforge.train.loss import next_token_loss
from tinyforge.train.objectives.base import pad_rows
from tinyforge.train.objectives.pretrain import Pretrain
from tinyforge.train.optimizer import MasterOptimizer
from tinyforge.train.rows import EncodedRows

needs_bitsandbytes = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="the qlora extra is not installed")
IDS = torch.tensor([[7, 50, 60, 70, 80, 90, 100, 110, 31, 12]])
# Virtual tokens cannot be merged, and LLaMA-Adapter adds attention to them.
UNMERGEABLE = {"prefix_tuning", "prompt_tuning", "p_tuning", "adaption_prompt"}
METHODS = ["lora", "rslora", "dora", "qlora", "ia3", "loha", "lokr", "vera", "boft", "oft", "hra", "miss"]
METHODS += ["fourierft", "ln_tuning", *sorted(UNMERGEABLE)]
CASES = [("llama", method) for method in METHODS]
CASES += [(family, method) for family in ("gpt2", "qwen3", "gemma") for method in ("lora", "dora")]
CASES += [("gpt2", "qlora"), ("gpt2", "ia3"), ("gpt2", "prefix_tuning"), ("gemma", "prompt_tuning")]
CASES = [
    pytest.param(*case, marks=needs_bitsandbytes if case[1] == "qlora" else (), id="-".join(case)) for case in CASES
]


def build(family: str, folder: Path) -> Path:
    from transformers import GemmaConfig, GemmaForCausalLM, GPT2Config, GPT2LMHeadModel, Qwen3Config, Qwen3ForCausalLM

    if family == "llama":
        return make_base(folder, hidden=64)
    torch.manual_seed(0)
    shared: dict[str, Any] = {"vocab_size": 256, "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 128}
    shared |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256}
    if family == "gpt2":
        off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        model: Any = GPT2LMHeadModel(GPT2Config(vocab_size=256, n_embd=64, n_layer=2, n_head=4, n_positions=256, **off))
    elif family == "qwen3":
        model = Qwen3ForCausalLM(Qwen3Config(**shared))
    else:
        model = GemmaForCausalLM(GemmaConfig(**shared))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.set_num_threads(1)
    return cache(lambda family: build(family, tmp_path_factory.mktemp(family)))


def settings(method: str, **changes: Any) -> TrainConfig:
    chosen = {"method": method, "lora_rank": 4, "lora_alpha": 8.0, "epochs": 12.0, "batch_tokens": 512}
    return TrainConfig(**{**chosen, "checkpoint_seconds": 1e9, "patience": 99, "evaluations": 3, **changes})


def load_base(folder: Path, method: str) -> Any:
    return load_model(folder, "fp32", quantize=adapters.quantization(method))


def ten_rows() -> list[Tokens]:
    generator = torch.Generator().manual_seed(1)
    return [Tokens(ids, ids) for ids in torch.randint(6, 250, (10, 12), generator=generator).tolist()]


def training(model: Any, folder: Path, method: str, **changes: Any) -> Training:
    rows = EncodedRows(ten_rows())
    return Training(model, Pretrain(1), rows, rows, settings(method, **changes), 2e-2, folder, "k", 3)


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model.eval()(input_ids=IDS).logits[:, -IDS.shape[1] :]


@dataclass
class Story:
    base: torch.Tensor
    fresh: torch.Tensor
    trained: torch.Tensor
    before: float
    after: float
    adapter: Path
    folder: Path


@pytest.fixture(scope="module")
def story(bases: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What happens to an adapter from its attaching to its saving; once for each family and method."""

    @cache
    def tell(family: str, method: str) -> Story:
        folder, scratch = bases(family), tmp_path_factory.mktemp(f"{family}-{method}")
        model = load_base(folder, method)
        base = logits(model)
        wrapped = adapters.attach(model, settings(method), 0)
        fresh = logits(wrapped)
        rows = EncodedRows(ten_rows())
        before = dev_loss(wrapped, Pretrain(1), rows, 512)
        training(wrapped, scratch / "checkpoints", method).run()
        after = dev_loss(wrapped, Pretrain(1), rows, 512)
        wrapped.save_pretrained(scratch / "adapter")
        return Story(base, fresh, logits(wrapped), before, after, scratch / "adapter", folder)

    return tell


def reloaded(told: Story, method: str) -> Any:
    return adapters.load(load_base(told.folder, method), told.adapter)


@pytest.mark.parametrize(("family", "method"), CASES)
def test_a_fresh_adapter_changes_nothing(story: Any, family: str, method: str) -> None:
    told = story(family, method)
    change = float((told.fresh - told.base).abs().max())
    if method in methods.NOT_IDENTITY:
        assert change > 1e-3, "it belongs no longer in NOT_IDENTITY"
    else:
        assert change < 1e-5


@pytest.mark.parametrize(("family", "method"), CASES)
def test_every_method_learns_and_comes_back_from_its_file(story: Any, family: str, method: str) -> None:
    told = story(family, method)
    assert told.after < told.before - 1e-3
    again = logits(reloaded(told, method))
    torch.testing.assert_close(again, told.trained, atol=1e-5, rtol=1e-5)
    assert (again - told.fresh).abs().max() > 1e-4, "the control: training changed the answers"


@pytest.mark.parametrize(("family", "method"), [case for case in CASES if case.values[1] not in UNMERGEABLE])
def test_merged_equals_unmerged(story: Any, tmp_path: Path, family: str, method: str) -> None:
    told = story(family, method)
    merged = adapters.merge(reloaded(told, method))
    torch.testing.assert_close(logits(merged), told.trained, atol=2e-5, rtol=1e-4)
    merged.save_pretrained(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(plain) is type(load_base(told.folder, "lora")) and not four_bit.layers(plain)
    torch.testing.assert_close(logits(plain), told.trained, atol=2e-5, rtol=1e-4)


def test_the_comparison_of_merged_weights_sees_one_changed_matrix(story: Any) -> None:
    told = story("llama", "lora")
    model = reloaded(told, "lora")
    with torch.no_grad():
        next(p for n, p in model.named_parameters() if "lora_B" in n).mul_(1.5)
    assert (logits(adapters.merge(model)) - told.trained).abs().max() > 1e-4


@needs_bitsandbytes
def test_merging_into_four_bits_would_lose_what_was_learned(story: Any) -> None:
    told = story("llama", "qlora")
    error = (logits(reloaded(told, "qlora").merge_and_unload()) - told.trained).abs().max()
    assert error > 1e-3, "the control of dequantizing first"


@pytest.mark.parametrize("method", sorted(UNMERGEABLE))
def test_what_is_no_weight_cannot_be_merged(story: Any, method: str) -> None:
    with pytest.raises(InputError, match=f"an adapter of {method} cannot be merged: it"):
        adapters.merge(reloaded(story("llama", method), method))


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "gemma"])
@pytest.mark.parametrize("method", ["lora", pytest.param("qlora", marks=needs_bitsandbytes)])
def test_targets_are_all_linear_layers_but_the_head(bases: Any, family: str, method: str) -> None:
    wrapped = adapters.attach(load_base(bases(family), method), settings(method), 0)
    targets = set(wrapped.base_model.targeted_module_names)
    attention = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    if family != "gpt2":
        attention = [f"self_attn.{name}_proj" for name in "qkvo"] + [f"mlp.{n}_proj" for n in ("gate", "up", "down")]
    stem = "transformer.h" if family == "gpt2" else "model.layers"
    assert targets == {f"{stem}.{layer}.{name}" for layer in (0, 1) for name in attention}


def test_ia3_scales_inputs_of_the_projections_down(bases: Any) -> None:
    config = methods.peft_config("ia3", load_base(bases("gpt2"), "ia3"), settings("ia3"))
    assert config.feedforward_modules == {"transformer.h.0.mlp.c_proj", "transformer.h.1.mlp.c_proj"}


@pytest.mark.parametrize("name", ["BertForSequenceClassification", "DistilBertForSequenceClassification", "qa", "t5"])
def test_tasks_and_their_heads(name: str) -> None:
    import transformers as t

    torch.manual_seed(0)
    small: dict[str, Any] = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    distil = t.DistilBertConfig(vocab_size=64, dim=32, hidden_dim=64, n_layers=1, n_heads=2)
    model, task, heads = {
        "BertForSequenceClassification": lambda: (
            t.BertForSequenceClassification(t.BertConfig(**small, intermediate_size=64)),
            "SEQ_CLS",
            ["classifier"],
        ),
        "DistilBertForSequenceClassification": lambda: (
            t.DistilBertForSequenceClassification(distil),
            "SEQ_CLS",
            ["pre_classifier", "classifier"],
        ),
        "qa": lambda: (t.DistilBertForQuestionAnswering(distil), "QUESTION_ANS", ["qa_outputs"]),
        "t5": lambda: (
            t.T5ForConditionalGeneration(t.T5Config(vocab_size=64, d_model=32, d_kv=16, d_ff=64, num_layers=1)),
            "SEQ_2_SEQ_LM",
            [],
        ),
    }[name]()
    assert methods.task_of(model) == task and methods.heads(model) == heads
    linear = {n for n, m in model.named_modules() if type(m) is torch.nn.Linear}
    wrapped = adapters.attach(model, settings("lora"), 0)
    assert set(wrapped.base_model.targeted_module_names) == linear - {*heads, "lm_head"}
    trained = {n for n, p in wrapped.named_parameters() if p.requires_grad and "lora_" not in n}
    assert trained == {f"base_model.model.{h}.modules_to_save.default.{w}" for h in heads for w in ("weight", "bias")}


@pytest.mark.parametrize("method", ["prompt_tuning", "p_tuning", "prefix_tuning"])
def test_virtual_tokens_take_part_in_the_loss(story: Any, method: str) -> None:
    told = story("llama", method)
    model = reloaded(told, method)
    batch = pad_rows([*ten_rows()[:2], Tokens(IDS[0].tolist(), IDS[0].tolist())], 1)
    mask = (torch.arange(12)[None] < torch.tensor([12, 12, 10])[:, None]).long()
    with torch.no_grad():
        total, count = next_token_loss(model, batch.ids_BT, batch.labels_BT)
    # PEFT aligns the labels itself. Behind a virtual token even a row's first token could be predicted; here, as
    # without virtual tokens, it is not learned.
    labels = batch.labels_BT.clone()
    labels[:, 0] = -100
    with torch.no_grad():
        reference = model(input_ids=batch.ids_BT, attention_mask=mask, labels=labels).loss
    assert float(total) / count == pytest.approx(float(reference), abs=1e-4)
    ignored, _ = next_token_loss(model.get_base_model(), batch.ids_BT, batch.labels_BT)
    assert abs(float(ignored) - float(total)) > 0.1, "the control: without its virtual tokens the model says otherwise"


@pytest.mark.parametrize("method", ["prompt_tuning", "prefix_tuning", "lora"])
def test_writing_with_a_cache_equals_reading_everything_anew(story: Any, method: str) -> None:
    told = story("llama", method)
    model = reloaded(told, method)
    writer = Writer(model, load_tokenizer(told.folder), 8)
    writer._stops = set()
    written = [token for (token,) in writer._decode(IDS, None)]
    ids = IDS
    with torch.no_grad():
        for _ in range(8):
            ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(-1)], 1)
    assert written == ids[0, IDS.shape[1] :].tolist()
    assert writer.context == 1024 - adapters.virtual_tokens(model)


class StopError(Exception):
    pass


@pytest.mark.parametrize("method", ["dora", pytest.param("qlora", marks=needs_bitsandbytes), "prefix_tuning"])
def test_resumed_equals_uninterrupted(bases: Any, tmp_path: Path, method: str) -> None:
    def fresh() -> Any:
        return adapters.attach(load_base(bases("llama"), method), settings(method, lora_dropout=0.1), 3)

    def stop_at_seven(status: Any) -> None:
        if status.step == 7:
            raise StopError

    whole, resumed = fresh(), fresh()
    training(whole, tmp_path / "whole", method).run()
    job = training(fresh(), tmp_path / "parts", method, checkpoint_seconds=1e-9)
    job.on_status = stop_at_seven
    with pytest.raises(StopError):
        job.run()
    job = training(resumed, tmp_path / "parts", method)
    notes: list[str] = []
    job.on_note = notes.append
    job.run()
    assert notes[0].startswith("continuing at step")
    for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_parameter_that_never_had_a_gradient_does_not_break_the_checkpoint() -> None:
    def optimizer() -> MasterOptimizer:
        torch.manual_seed(0)
        return MasterOptimizer(torch.nn.ModuleList([torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)]), settings("full"), 1)

    first, second = optimizer(), optimizer()
    used = first._parameters["0.weight"]
    used.grad = torch.ones_like(used)
    first.gather()
    first.step(1, 1.0)
    second.load(first.tensors())
    assert second.tensors().keys() == first.tensors().keys()
    assert torch.equal(second._parameters["0.weight"], used)


@needs_bitsandbytes
def test_measuring_between_steps_does_not_change_a_quantized_model(bases: Any) -> None:
    from bitsandbytes.functional import has_avx512bf16

    def gradient(repacking: bool) -> tuple[torch.Tensor, torch.Tensor]:
        wrapped = adapters.attach(load_base(bases("llama"), "qlora"), settings("qlora"), 0)
        for _, layer in four_bit.layers(wrapped):
            layer.support_avx512bf16_for_cpu = repacking and has_avx512bf16()
        measured = logits(wrapped)
        wrapped.train()(input_ids=IDS).logits.square().sum().backward()
        return measured, next(p.grad for n, p in wrapped.named_parameters() if "lora_B" in n)

    measured, kept = gradient(False)
    again, same = gradient(False)
    assert torch.equal(measured, again) and torch.equal(kept, same)
    if has_avx512bf16():
        assert (gradient(True)[1] - kept).abs().max() > 1e-3 * kept.abs().max(), "the control: a repacked model"


SNIPPET = """
import sys, torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
base, out, *adapters = sys.argv[1:]
ids = torch.tensor([[7, 50, 60, 70, 80, 90, 100, 110, 31, 12]])
found = {}
for path in adapters:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), path)
    assert model.peft_config["default"].base_model_name_or_path == base
    with torch.no_grad():
        found[path] = model.eval()(input_ids=ids).logits[:, -10:].contiguous()
assert not any(name.startswith("tinyforge") for name in sys.modules)
save_file(found, out)
"""


def test_the_plain_peft_snippet_loads_a_saved_adapter(story: Any, tmp_path: Path) -> None:
    told = [story("llama", method) for method in ("lora", "dora", "ia3", "prompt_tuning")]
    paths = [str(one.adapter) for one in told]
    command = [sys.executable, "-c", SNIPPET, str(told[0].folder), str(tmp_path / "logits.safetensors"), *paths]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    found = load_file(tmp_path / "logits.safetensors")
    for one, path in zip(told, paths, strict=True):
        torch.testing.assert_close(found[path], one.trained, atol=1e-5, rtol=1e-5)


def test_choosing_a_method() -> None:
    assert adapters.choose_method("auto", 100_000_000) == "full"
    assert adapters.choose_method("auto", 100_000_001) == "lora"
    for wanted in ("full", "lora", "rslora", "dora", "qlora", "ia3", "prefix_tuning", "loha"):
        assert adapters.choose_method(wanted, 1) == wanted
    with pytest.raises(InputError, match=r"unknown train.method 'lorra'.*Known: auto, full, lora, rslora.*ia3"):
        adapters.choose_method("lorra", 1)
    with pytest.raises(InputError, match="adalora cannot be trained here: its ranks"):
        adapters.choose_method("adalora", 1)
    assert adapters.quantization("qlora") == "nf4" and adapters.quantization("dora") == ""


def test_default_learning_rates() -> None:
    assert adapters.default_learning_rate("full", 10_000_000) == pytest.approx(1e-3)
    assert adapters.default_learning_rate("full", 1_000_000_000) == pytest.approx(1e-4)
    for method in ("lora", "qlora", "dora", "rslora", "loha"):
        assert adapters.default_learning_rate(method, 1_000_000_000) == pytest.approx(2e-4)
    assert adapters.default_learning_rate("ia3", 1_000_000_000) == pytest.approx(3e-3)


@pytest.mark.parametrize(
    ("family", "method", "why"),
    [
        ("gpt2", "loha", "Conv1D"),
        ("gpt2", "osf", "finds nothing to train"),
        ("llama", "c3a", "block size"),
        ("llama", "qlora", "needs a base loaded in 4 bits"),
    ],
)
def test_a_method_that_does_not_fit_is_refused_in_one_line(bases: Any, family: str, method: str, why: str) -> None:
    with pytest.raises(InputError, match=why) as caught:
        adapters.attach(load_model(bases(family), "fp32"), settings(method), 0)
    assert "\n" not in str(caught.value)


def with_another_rank(folder: Path) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "r": 3}))


def cut_off(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("damage", [with_another_rank, cut_off])
@pytest.mark.parametrize("beside", [False, True])
def test_an_adapter_that_does_not_fit_leaves_the_model_as_it_was(
    story: Any, tmp_path: Path, damage: Any, beside: bool
) -> None:
    told = story("llama", "lora")
    shutil.copytree(told.adapter, tmp_path / "bad")
    damage(tmp_path / "bad")
    model = load_base(told.folder, "lora")
    around = adapters.add(model, told.adapter, "good") if beside else model
    with pytest.raises(InputError, match="bad: does not fit the model"):
        adapters.add(around, tmp_path / "bad", "bad")
    assert torch.equal(logits(around), told.trained if beside else told.base)
    if not beside:
        assert torch.equal(logits(adapters.add(model, told.adapter, "good")), told.trained)


def test_too_little_memory_is_not_called_a_misfit(story: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise MemoryError("no room")

    told = story("llama", "lora")
    monkeypatch.setattr(methods.peft().PeftModel, "load_adapter", full)
    with pytest.raises(MemoryError, match="no room"):
        adapters.add(load_base(told.folder, "lora"), told.adapter, "good")


def test_missing_bitsandbytes_names_the_extra(bases: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(four_bit, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install "tinyforgeai\[qlora\]"'):
        load_base(bases("llama"), "qlora")


def test_parameters_are_counted_without_loading(bases: Any) -> None:
    for family in ("llama", "gpt2", "qwen3"):
        model = load_base(bases(family), "full")
        assert count_parameters(bases(family)) == sum(p.numel() for p in model.parameters())


def test_bf16_adapters_take_the_dtype_of_the_model(bases: Any) -> None:
    for method in ("lora", "dora", "prompt_tuning"):
        wrapped = adapters.attach(load_model(bases("llama"), "bf16"), settings(method), 0)
        assert {p.dtype for p in wrapped.parameters()} == {torch.bfloat16}
