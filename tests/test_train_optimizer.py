"""The optimizer's moments in 8 bits, and compiled steps: close to the plain ones, smaller, and resumed exactly."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from families import make_model
from little import make_base
from tinyforge.config import TrainConfig
from tinyforge.errors import InputError
from tinyforge.records import Tokens
from tinyforge.train import compiled, eight_bit
from tinyforge.train.loop import Training
from tinyforge.train.objectives.pretrain import Pretrain
from tinyforge.train.optimizer import MasterOptimizer, hidden_matrices
from tinyforge.train.rows import EncodedRows
from tinyforge.train.status import Status

pytest.importorskip("bitsandbytes")

TOLERANCE = 0.05  # nats, at every one of 30 steps; the losses fall from 6.2 to about 4


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"), hidden=64)  # so that matrices have 4,096 values and more


def fresh(base: Path) -> Any:
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)


def some_rows() -> list[Tokens]:
    generator = torch.Generator().manual_seed(1)
    rows = []
    for _ in range(12):
        ids = torch.randint(
            6, 60, (int(torch.randint(8, 40, (1,), generator=generator)),), generator=generator
        ).tolist()
        rows.append(Tokens(ids, ids))
    return rows


def training(model: Any, folder: Path, on_status: Any = lambda status: None, **changes: Any) -> Training:
    settings = {"epochs": 6.0, "batch_tokens": 64, "threads": 1, "checkpoint_seconds": 1e9, "max_steps": 30, **changes}
    return Training(
        model=model,
        objective=Pretrain(1),
        rows=EncodedRows(some_rows()),
        dev=None,
        config=TrainConfig(**settings),
        learning_rate=3e-3,
        folder=folder,
        key="k",
        seed=3,
        on_status=on_status,
    )


def losses(base: Path, folder: Path, **changes: Any) -> list[float]:
    seen: list[Status] = []
    training(fresh(base), folder, seen.append, **changes).run()
    return [status.loss for status in seen]


def digest(model: Any) -> str:
    data = b"".join(p.detach().float().numpy().tobytes() for _, p in sorted(model.named_parameters()))
    return hashlib.sha256(data).hexdigest()


def coarse_adamw(groups: Any, learning_rate: float, betas: Any, eps: float) -> Any:
    """The control: AdamW whose moments are rounded to 16 equal steps of each whole tensor."""
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=betas, eps=eps)

    def round_states(*_: object) -> None:
        for state in optimizer.state.values():
            for key, levels in (("exp_avg", 7), ("exp_avg_sq", 15)):
                scale = state[key].abs().max() / levels
                state[key].div_(scale).round_().mul_(scale)

    optimizer.register_step_post_hook(round_states)
    return optimizer


def test_eight_bits_learn_as_thirty_two_do(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = losses(base, tmp_path / "32")
    eight = losses(base, tmp_path / "8", optimizer_bits=8)
    assert plain[0] - plain[-1] > 1, "the comparison is of something that is learned"
    assert eight != plain and max(abs(a - b) for a, b in zip(eight, plain, strict=True)) < TOLERANCE
    monkeypatch.setattr(eight_bit, "adamw", coarse_adamw)
    coarse = losses(base, tmp_path / "4", optimizer_bits=8, divergence_steps=0)
    assert max(abs(a - b) for a, b in zip(coarse, plain, strict=True)) > 5 * TOLERANCE, "the control must differ"


def state_bytes(model: Any, bits: int) -> int:
    optimizer = MasterOptimizer(model, TrainConfig(optimizer_bits=bits), 1e-3)  # type: ignore[call-arg]
    model(torch.arange(6, 20)[None], labels=torch.arange(6, 20)[None]).loss.backward()
    optimizer.gather()
    optimizer.step(1, 1.0)
    return sum(t.nbytes for name, t in optimizer.tensors().items() if not name.startswith("master."))


def test_the_state_takes_a_quarter(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", hidden=128, layers=1)  # all of its matrices are kept in 8 bits
    plain, eight = (state_bytes(fresh(base), bits) for bits in (32, 8))
    parameters = sum(p.numel() for p in fresh(base).parameters())
    assert plain == pytest.approx(8 * parameters, rel=0.01)
    assert 0.25 < eight / plain < 0.27


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_resumed_equals_uninterrupted(base: Path, tmp_path: Path, optimizer: str) -> None:
    changes: dict[str, Any] = {"optimizer": optimizer, "optimizer_bits": 8, "max_steps": 10}
    whole = fresh(base)
    training(whole, tmp_path / "whole", **changes).run()

    def stop(status: Status) -> None:
        if status.step == 5:
            raise KeyboardInterrupt

    for spoilt in (False, True):
        folder = tmp_path / f"parts{spoilt}"
        with pytest.raises(KeyboardInterrupt):
            training(fresh(base), folder, stop, **{**changes, "checkpoint_seconds": 1e-9}).run()
        tensors = load_file(sorted(folder.glob("step-*"))[-1] / "state.safetensors")
        states = [t for name, t in tensors.items() if name.startswith("adamw8bit.state")]
        assert any(t.dtype == torch.uint8 and t.numel() >= eight_bit.SMALLEST for t in states)
        resumed, notes = fresh(base), list[str]()
        job = training(resumed, folder, **changes)
        job.on_note = notes.append
        if spoilt:  # the control
            load = MasterOptimizer.load
            broken = {n: t * 0.5 if n.startswith("adamw8bit.absmax1") else t for n, t in tensors.items()}
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(MasterOptimizer, "load", lambda self, _, load=load, broken=broken: load(self, broken))
                job.run()
        else:
            job.run()
        assert any(note.startswith("continuing at step") for note in notes)
        assert (digest(resumed) == digest(whole)) is not spoilt


def test_without_bitsandbytes_it_says_what_to_install(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eight_bit, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"bitsandbytes.*tinyforgeai\[qlora\]"):
        state_bytes(fresh(base), 8)


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled.require_compiler("cpu")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match="C\\+\\+ compiler; 'no-such-compiler' is not found"):
        compiled.require_compiler("cpu")
    monkeypatch.delenv("CXX")
    monkeypatch.setattr("sysconfig.get_path", lambda name: "/nowhere")
    with pytest.raises(InputError, match="C headers"):
        compiled.require_compiler("cpu")


@pytest.mark.slow
def test_compiled_steps_equal_plain_ones(base: Path, tmp_path: Path) -> None:
    from torch._dynamo.utils import counters

    counters.clear()
    plain = losses(base, tmp_path / "plain", max_steps=20)
    assert not counters["stats"], "nothing is compiled unless asked for"
    fast = losses(base, tmp_path / "compiled", max_steps=20, compile="on")
    assert counters["stats"]["unique_graphs"] >= 1
    for a, b in zip(plain, fast, strict=True):
        assert a == pytest.approx(b, rel=1e-5)


@pytest.mark.parametrize("kind", ["bert", "distilbert", "t5"])
def test_muon_moves_neither_embeddings_nor_heads(kind: str) -> None:
    model = make_model(kind)
    hidden = hidden_matrices(model)
    inputs = {id(p) for m in model.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters()}
    named = dict(model.named_parameters())
    assert hidden and not any(id(named[name]) in inputs for name in hidden)
    assert all(named[name].ndim == 2 for name in hidden)


def test_muon_leaves_a_classifiers_head_alone_with_an_adapter_too(base: Path) -> None:
    import peft

    model: Any = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    assert "score.weight" not in hidden_matrices(model) and "model.layers.0.mlp.up_proj.weight" in hidden_matrices(
        model
    )
    adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["q_proj"]))
    learned = {name for name, p in adapted.named_parameters() if p.requires_grad} & hidden_matrices(adapted)
    assert learned and all("lora" in name for name in learned)
