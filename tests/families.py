"""Little models of every family, rows that they can learn, and a training of them as the product does it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers as tr
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from little import make_base
from tinyforge.config import TrainConfig
from tinyforge.dataset.pairs import classes_of
from tinyforge.dataset.prompts import NOT_FOUND
from tinyforge.models.family import load_for
from tinyforge.models.resolve import load_tokenizer
from tinyforge.plugins import load
from tinyforge.records import Example, Message, Tokens
from tinyforge.train import OBJECTIVES
from tinyforge.train.encoding import encode_all
from tinyforge.train.finish import finish
from tinyforge.train.loop import Training
from tinyforge.train.rows import EncodedRows

NAMES = "ada ben cleo dora emil finn greta hugo ida jan".split()
PLACES = "attic barn cabin dune entry field garden hall inn jetty".split()
GOOD, BAD = "good fine great lovely nice".split(), "bad awful poor nasty broken".split()
WORDS = [*NAMES, *PLACES, *GOOD, *BAD, *"who lives in the and near a is where ? . , : this was question filler".split()]


def chat(number: int, asked: str, answer: str) -> Example:
    return Example(f"e{number}", (Message("user", asked), Message("assistant", answer)))


LABELLED = [
    Example(f"e{n}", (Message("user", f"this was {word} , {PLACES[n]}"),), label=label)
    for n, (word, label) in enumerate([*((w, "praise") for w in GOOD), *((w, "complaint") for w in BAD)])
]
PAIRS = [chat(n, f"who lives in the {p} ?", f"{NAMES[n]} is near the {PLACES[n - 1]}") for n, p in enumerate(PLACES)]
SPANS = [
    chat(n, f"who lives in the {p} ?\n\n{'filler . ' * (n % 4)}{NAMES[n]} is in the {p} .", NAMES[n])
    for n, p in enumerate(PLACES[:9])
]
SPANS.append(chat(9, "who lives in the jetty ?\n\nfiller . near the attic .", NOT_FOUND))


def wordpiece() -> Any:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(WORDS)]
    return tr.BertTokenizerFast(vocab={piece: i for i, piece in enumerate(pieces)}, model_max_length=64)


def unigram() -> Any:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), *((f"▁{word}", -2.0) for word in dict.fromkeys(WORDS))]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tr.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", unk_token="<unk>", model_max_length=64
    )


def make_model(kind: str) -> Any:
    torch.manual_seed(0)
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    if kind == "bert":
        shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        config = tr.BertConfig(
            vocab_size=len(wordpiece()), max_position_embeddings=64, pad_token_id=0, **shape, **quiet
        )
        return tr.BertForMaskedLM(config)
    if kind == "distilbert":
        none = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0, "qa_dropout": 0.0}
        shape = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 64}
        return tr.DistilBertForMaskedLM(tr.DistilBertConfig(vocab_size=len(wordpiece()), **shape, **none))
    shape = {"d_model": 32, "d_kv": 16, "num_heads": 2, "num_layers": 2, "d_ff": 64, "dropout_rate": 0.0}
    ids = {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    return tr.T5ForConditionalGeneration(tr.T5Config(vocab_size=len(unigram()), classifier_dropout=0.0, **shape, **ids))


def make_bases(root: Path) -> dict[str, Path]:
    """A folder with an untrained model for each family."""
    torch.set_num_threads(1)
    for kind in ("bert", "distilbert", "t5"):
        make_model(kind).save_pretrained(root / kind)
        (unigram() if kind == "t5" else wordpiece()).save_pretrained(root / kind)
    make_base(root / "llama")
    return {path.name: path for path in root.iterdir()}


def made(base: Path, name: str, examples: Sequence[Example], limit: int = 64) -> tuple[Any, Any, Any, list[Tokens]]:
    """Tokenizer, model, objective and rows, as a training has them."""
    tokenizer = load_tokenizer(base)
    labels = classes_of(examples) if name == "classify" else ()
    more = {"labels": labels} if labels else {}
    objective = load("train", name, OBJECTIVES)(tokenizer.pad_token_id, **more)
    model = load_for(name, base, "fp32", labels, tokenizer.pad_token_id)
    return tokenizer, model, objective, encode_all(objective, examples, tokenizer, limit)[0]


def train(base: Path, name: str, examples: Sequence[Example], folder: Path, epochs: float = 40.0) -> Path:
    tokenizer, model, objective, rows = made(base, name, examples)
    config = TrainConfig(
        epochs=epochs, batch_tokens=1024, threads=1, checkpoint_seconds=1e9, evaluations=1, weight_decay=0.0
    )
    dev = EncodedRows(rows)
    result = Training(model, objective, dev, dev, config, 1e-2, folder / "checkpoints", "k", 1).run()
    assert result.best_loss < 0.1, "ten rows must be learned"
    saved = folder / "model"
    model.save_pretrained(saved)
    tokenizer.save_pretrained(saved)
    finish(name, saved, model, tokenizer, objective, examples, dev)
    return saved
