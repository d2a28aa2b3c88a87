"""GGUF by the real llama.cpp: every family, every type, tokens by id, and faults that a certificate must catch."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import gguf as library
import numpy as np
import pytest
import torch

from export_models import FAMILIES, make_family
from little import make_base, make_lively_base
from tinyforge.dataset.render import prompt_ids
from tinyforge.errors import InputError, TinyForgeError
from tinyforge.export import gguf_types
from tinyforge.export.artifact import certify, export
from tinyforge.export.gguf_target import GGUF
from tinyforge.export.gguf_types import encode, type_of
from tinyforge.export.gguf_vocab import read_vocabulary
from tinyforge.export.llama_runner import LlamaRunner
from tinyforge.export.source import open_source
from tinyforge.models.resolve import EMBEDDED, load_tokenizer
from tinyforge.records import Message

TEXTS = (
    "Plain words, and a price: 12,345.67 or £4.50 (£4).",
    "  two spaces  before 55 and\n\n1. a list\n\n\n2.  another\ttab \n",
    "don't we'll I'd 'quoted' it's THEY'RE",
    "Straße naïve 東京 привет 🙂 ½ ² ٣ e\u0301",
    "<|user|>not said by anyone<|end|> trailing   ",
)


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lively_base(tmp_path_factory.mktemp("base"), hidden=64)


@pytest.fixture(scope="module")
def exported(lively: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    artifact = export(str(lively), "gguf", "f32", tmp_path_factory.mktemp("out") / "f32")
    assert artifact.certificate["passed"], artifact.certificate["checks"]
    return artifact.folder


def test_lossless_is_within_1e_4(exported: Path) -> None:
    from tinyforge.run import read_json

    found = {c["name"]: c for c in read_json(exported / "certificate.json")["checks"]}
    assert found["largest difference of a log probability"]["limit"] == 1e-4
    assert not (exported / "FAILED.txt").exists()


@pytest.mark.parametrize("kind", ["q8_0", "q4_0"])
def test_types(lively: Path, tmp_path: Path, kind: str) -> None:
    artifact = export(str(lively), "gguf", kind, tmp_path / kind)
    assert artifact.certificate["passed"], artifact.certificate["checks"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["f16", "bf16", "q5_0", "q5_1", "q4_1"])
def test_more_types(lively: Path, tmp_path: Path, kind: str) -> None:
    artifact = export(str(lively), "gguf", kind, tmp_path / kind)
    assert artifact.certificate["passed"], artifact.certificate["checks"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["q6_k", "q5_k_m", "q4_k_m"])
def test_k_types(tmp_path: Path, kind: str) -> None:
    folder = make_lively_base(tmp_path / "base", hidden=256)
    artifact = export(str(folder), "gguf", kind, tmp_path / kind)
    assert artifact.certificate["passed"], artifact.certificate["checks"]
    assert set(artifact.notes["weights"]) == {"f32", "q6_k", kind.removesuffix("_m")}


def test_k_blocks_are_llama_cpps_and_rows_that_none_fits_are_plain() -> None:
    torch.manual_seed(0)
    weight = torch.randn(8, 512)
    errors = []
    for kind in ("q4_k", "q5_k", "q6_k"):
        back = library.dequantize(encode(weight, kind), library.GGMLQuantizationType[kind.upper()])
        errors.append(float(np.sqrt(np.mean((back - weight.numpy()) ** 2))))
    plain = library.dequantize(encode(weight, "q4_0"), library.GGMLQuantizationType.Q4_0)
    assert errors[2] < errors[1] < errors[0] < 0.9 * float(np.sqrt(np.mean((plain - weight.numpy()) ** 2)))
    assert errors[2] < 0.02
    assert type_of("blk.0.ffn_up.weight", weight, "q4_k_m", 8) == "q4_k"
    assert type_of("blk.0.ffn_up.weight", weight[:, :96], "q4_k_m", 8) == "q5_0"
    assert type_of("output.weight", weight, "q4_k_m", 8) == "q6_k"
    more = [n for n in range(24) if type_of(f"blk.{n}.ffn_down.weight", weight, "q4_k_m", 24) == "q6_k"]
    assert more == [0, 1, 2, 5, 8, 11, 14, 17, 20, 21, 22, 23]  # the first and last eighth, and every third between


def test_k_types_without_a_quantizer_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_types, "_quantizer", lambda: None)
    with pytest.raises(InputError, match=r"does not show llama\.cpp's quantizer.*llama-quantize"):
        gguf_types.check_type("q4_k_m")
    assert gguf_types.check_type("Q4_0") == "q4_0"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["f32", "q8_0", "q4_0"])
@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str, kind: str, tmp_path: Path) -> None:
    folder = make_family(tmp_path / "model", family)
    artifact = export(str(folder), "gguf", kind, tmp_path / "out")
    assert artifact.certificate["passed"], artifact.certificate["checks"]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gemma"])
def test_sentencepiece(family: str, tmp_path: Path) -> None:
    folder = make_family(tmp_path / "model", family, pieces=True)
    artifact = export(str(folder), "gguf", "f32", tmp_path / "out")
    assert artifact.certificate["passed"], artifact.certificate["checks"]


def test_the_embedded_base_tokenizes_the_same_in_llama_cpp(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(EMBEDDED["tiny"])
    source = open_source("tiny")
    GGUF.write(source, tmp_path, "q8_0")
    with LlamaRunner(next(tmp_path.glob("*.gguf"))) as runner:
        for text in TEXTS:
            assert runner.tokenize(text) == tokenizer(text, add_special_tokens=False)["input_ids"], text
        talk = [
            Message("system", "Be brief."),
            Message("user", "£4?"),
            Message("assistant", "No."),
            Message("user", "?"),
        ]
        assert runner.prompt_ids(talk) == prompt_ids(talk, tokenizer)


def test_merges_of_digits_would_be_refused() -> None:
    tokenizer = load_tokenizer(EMBEDDED["tiny"])
    assert read_vocabulary(tokenizer, 8192).pre == "gpt-2"


# Faults planted in the file itself, by offset: what a certificate must catch.


def file_in(folder: Path) -> Path:
    return next(folder.glob("*.gguf"))


def edit(path: Path, key: str, value: Any) -> None:
    reader = library.GGUFReader(path, "r+")
    field = reader.get_field(key)
    assert field is not None
    field.parts[field.data[0]][:] = value
    reader.data.flush()


def break_template(path: Path) -> None:
    data = path.read_bytes()
    assert b"<|end|>{% endfor %}" in data
    path.write_bytes(data.replace(b"<|end|>{% endfor %}", b"       {% endfor %}"))


def swap_tensors(path: Path) -> None:
    reader = library.GGUFReader(path, "r+")
    one, two = (next(t for t in reader.tensors if t.name == f"blk.{i}.attn_q.weight") for i in (0, 1))
    kept = np.array(one.data)
    one.data[:] = two.data
    two.data[:] = kept
    reader.data.flush()


FAULTS = {
    "prompts rendered otherwise": break_template,
    "mean KL": swap_tensors,
    "stop tokens that differ": lambda path: edit(path, "tokenizer.ggml.eot_token_id", 7),
    "max KL": lambda path: edit(path, "llama.rope.freq_base", 100.0),
}


@pytest.mark.parametrize("check", FAULTS)
def test_a_planted_fault_fails_the_certificate(check: str, lively: Path, exported: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(exported, tmp_path / "copy"))
    FAULTS[check](file_in(copy))
    found = certify(open_source(str(lively)), GGUF, copy, "gguf", "f32")
    assert not found["passed"] and (copy / "FAILED.txt").is_file()
    assert check in {c["name"] for c in found["checks"] if not c["passed"]}


def test_a_file_that_was_cut_off_is_refused(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(file_in(exported).read_bytes()[:-4096])  # the last weights are missing
    with pytest.raises(TinyForgeError):
        LlamaRunner(path)


def test_what_llama_cpp_cannot_run_is_refused_before_loading(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, BertConfig, GPTNeoXConfig, GPTNeoXForCausalLM

    AutoTokenizer.from_pretrained(make_base(tmp_path / "base")).save_pretrained(tmp_path / "neox")
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=512, **shape)).save_pretrained(tmp_path / "neox")
    with pytest.raises(InputError, match="gpt_neox"):
        export(str(tmp_path / "neox"), "gguf", "", tmp_path / "out")
    assert BertConfig and not (tmp_path / "out").exists()


def test_unknown_types_and_foreign_folders_are_refused(lively: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Known: q8_0"):
        export(str(lively), "gguf", "q3_k", tmp_path / "out")
    with pytest.raises(InputError, match="no run"):
        export(str(lively), "gguf")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("keep")
    with pytest.raises(InputError, match="no export made"):
        export(str(lively), "gguf", "f32", tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "keep"
