"""Tiny random models of every family that is exported, with byte-level or SentencePiece-like tokenizers; and runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from little import TEXT, make_base
from tinyforge import adapters
from tinyforge.config import Config, TrainConfig
from tinyforge.models.resolve import load_model, resolve
from tinyforge.models.responses import store_responses
from tinyforge.models.tokenizer import CHAT_TEMPLATE, END_OF_TEXT, END_OF_TURN, PADDING, ROLES
from tinyforge.run import Run, write_json

SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 256,
}
FAMILIES = ("llama", "llama3", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3", "gpt2")


def _config(family: str, vocabulary: int) -> Any:
    import transformers as t

    common = {**SHAPE, "vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    scaled = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    if family == "gpt2":
        shape = {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": 256}
        return t.GPT2Config(vocab_size=vocabulary, bos_token_id=0, eos_token_id=0, pad_token_id=1, **shape)
    made = {
        "llama": lambda: t.LlamaConfig(**common),
        "llama3": lambda: t.LlamaConfig(**common, tie_word_embeddings=True, rope_parameters=scaled),
        "mistral": lambda: t.MistralConfig(**common, sliding_window=None),
        "qwen2": lambda: t.Qwen2Config(**{k: v for k, v in common.items() if k != "head_dim"}),
        "qwen3": lambda: t.Qwen3Config(**common),
        "gemma": lambda: t.GemmaConfig(**common),
        "gemma2": lambda: t.Gemma2Config(**common, sliding_window=16, query_pre_attn_scalar=32),
        "gemma3": lambda: t.Gemma3TextConfig(**common, sliding_window=16, query_pre_attn_scalar=32),
        "phi3": lambda: t.Phi3Config(**{k: v for k, v in common.items() if k != "head_dim"}, sliding_window=None),
    }
    return made[family]()


def sentencepiece(vocabulary: int) -> Any:
    """A BPE over characters with a byte for what is unknown and a space before the text, as Llama 2's is."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers
    from transformers import PreTrainedTokenizerFast

    specials = ["<unk>", "<s>", "</s>", END_OF_TURN, *ROLES]
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=specials + bytes_, show_progress=False)
    tokenizer.train_from_iterator(list(TEXT.replace(" ", " ▁").split()), trainer)
    import json

    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [row for row in data["added_tokens"] if row["content"] in specials]
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(data)),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<unk>",
        extra_special_tokens=[END_OF_TURN, *ROLES],
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def make_family(folder: Path, family: str, pieces: bool = False, seed: int = 0) -> Path:
    """A transformers folder with an untrained model whose weights are large enough that its answers differ."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    tokenizer = sentencepiece(420) if pieces else AutoTokenizer.from_pretrained(make_base(folder / "tokenizer"))
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(_config(family, len(tokenizer)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)
            elif "norm" in name or "ln_" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
            else:
                parameter.copy_(0.1 * torch.randn_like(parameter))
    stops = [tokenizer.convert_tokens_to_ids(END_OF_TURN), tokenizer.eos_token_id]
    model.generation_config = GenerationConfig(eos_token_id=stops, pad_token_id=tokenizer.pad_token_id, do_sample=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    assert END_OF_TEXT != PADDING
    return folder


def make_run(folder: Path, base: Path, method: str = "lora") -> Run:
    """A finished run with an adapter on ``base`` that was moved at random."""
    run = Run.create(folder, "train")
    config = Config(base=str(base), train=TrainConfig(method=method))
    write_json(run.path("config.json"), config.model_dump())
    found = resolve(str(base))
    quantize = adapters.quantization(method)
    write_json(run.path("base.json"), {"name": found.name, "hash": found.hash, "quantize": quantize})
    write_json(run.path("train.json"), {"objective": "sft"})
    model = adapters.attach(load_model(base, "fp32", quantize=quantize), config.train, 0)
    torch.manual_seed(1)
    # rsLoRA multiplies by alpha over the root of the rank, four times as much: moved as far, its updates would drown
    # the base, and rounding alone would exceed what a merge may differ by.
    far = 0.025 if method == "rslora" else 0.1
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(far * torch.randn_like(parameter))
    adapters.save(model, run.path("adapter"))
    return run


def make_classifier(folder: Path) -> Path:
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    AutoTokenizer.from_pretrained(make_base(folder / "tokenizer")).save_pretrained(folder)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    names = {0: "loans", 1: "fees", 2: "tools"}
    labels = {"id2label": names, "label2id": {name: i for i, name in names.items()}}
    torch.manual_seed(0)
    BertForSequenceClassification(BertConfig(vocab_size=512, pad_token_id=1, **shape, **labels)).save_pretrained(folder)
    return folder


def make_reader(folder: Path, kind: str) -> Path:
    """A model that reads whole texts: extract and respond on an encoder, seq2seq on an encoder-decoder."""
    import transformers as t

    tokenizer = t.AutoTokenizer.from_pretrained(make_base(folder / "tokenizer"))
    tokenizer.save_pretrained(folder)
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    model: Any
    if kind in ("t5", "bart"):
        start = {"decoder_start_token_id": tokenizer.pad_token_id, **ids}
        shape: dict[str, Any] = {"d_model": 32, "vocab_size": len(tokenizer)}
        if kind == "t5":
            # Its own start is so large that, with the factor below, rounding would move a log probability by 1e-4.
            shape |= {"d_kv": 16, "num_heads": 2, "num_layers": 2, "d_ff": 64, "initializer_factor": 0.7}
            model = t.T5ForConditionalGeneration(t.T5Config(**shape, **start))
        else:
            for side in ("encoder", "decoder"):
                shape |= {f"{side}_layers": 2, f"{side}_attention_heads": 2, f"{side}_ffn_dim": 64}
            model = t.BartForConditionalGeneration(t.BartConfig(**shape, **start, forced_eos_token_id=None))
    else:
        shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        made = t.BertForQuestionAnswering if kind == "extract" else t.BertModel
        model = made(t.BertConfig(vocab_size=len(tokenizer), **shape, **ids))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    model.save_pretrained(folder)
    if kind == "respond":
        store_responses(folder, model, tokenizer, [text for text in TEXT.split(". ") if text])
    return folder
