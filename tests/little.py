"""Small real parts for tests: a tokenizer and a Llama of a few thousand weights, made in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tinyforge.config import PretrainConfig
from tinyforge.models.create import create_model
from tinyforge.models.tokenizer import train_tokenizer

TEXT = (
    "The library lends tools. A loan is an agreement to bring a tool back within seven days. "
    "Members pay a yearly fee, because the tools wear out. Question: What is a loan? [1] Fees. "
    "The documents do not say. "
)


def make_base(folder: Path, hidden: int = 32, layers: int = 2, seed: int = 0, context: int = 1024) -> Path:
    """A transformers folder with an untrained model; the same arguments give the same weights."""
    # Heads of eight numbers: angles of a large base would leave most of them nothing to tell places by.
    heads: dict[str, Any] = {"heads": 4, "kv_heads": 2, "rope_theta": 10_000.0}
    shape = PretrainConfig(
        vocabulary=512, hidden=hidden, layers=layers, intermediate=2 * hidden, context=context, **heads
    )
    tokenizer = train_tokenizer([TEXT * 4], shape.vocabulary, shape.context)
    model = create_model(shape, tokenizer, seed)
    torch.set_num_threads(1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_lively_base(folder: Path, hidden: int = 32, layers: int = 2, seed: int = 0, context: int = 1024) -> Path:
    """The same with weights so large that its answers differ from prompt to prompt, and never stop by themselves."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    make_base(folder, hidden, layers, seed, context)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, tie_word_embeddings=False)
    specials = AutoTokenizer.from_pretrained(folder).all_special_ids
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[1] ** 0.5)
        model.model.embed_tokens.weight.mul_(hidden**0.5)
        head = torch.randn(model.lm_head.weight.shape, generator=generator) / hidden**0.5 * 3
        head[specials] = 0
        model.lm_head.weight = torch.nn.Parameter(head)
    model.save_pretrained(folder)
    return folder
