"""The stored answers of a response-retrieval model: their texts and embeddings, beside its weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from tinyforge.dataset.batches import plan_epoch
from tinyforge.errors import InputError
from tinyforge.models.forward import embed, padded
from tinyforge.run import read_jsonl, write_atomic, write_jsonl

TEXTS, VECTORS = "responses.jsonl", "responses.safetensors"
BATCH_TOKENS = 8192


@torch.inference_mode()
def embed_all(model: Any, rows: Sequence[list[int]], padding: int) -> Tensor:
    """Unit vectors of token rows, (n, D) in float32, in their order; rows of similar length are read together."""
    found: dict[int, Tensor] = {}
    for batch in plan_epoch([len(row) for row in rows], BATCH_TOKENS, 0, 0):
        ids_BT, mask_BT = padded([rows[int(i)] for i in batch], padding)
        vectors = embed(model, ids_BT.to(model.device), mask_BT.to(model.device)).cpu()
        found.update(zip(map(int, batch), vectors, strict=True))
    return torch.stack([found[index] for index in range(len(rows))])


def store_responses(folder: Path, model: Any, tokenizer: Any, texts: Sequence[str]) -> int:
    """Write the distinct ``texts``, in alphabetical order, with their embeddings; returns how many there are."""
    from safetensors.torch import save

    model.eval()
    texts = sorted(set(texts))
    rows = [tokenizer(text, verbose=False)["input_ids"] for text in texts]
    vectors = embed_all(model, rows, tokenizer.pad_token_id)

    def write(handle: IO[bytes]) -> None:
        handle.write(save({"embeddings": vectors.contiguous()}))

    write_atomic(folder / VECTORS, write)
    return write_jsonl(folder / TEXTS, ({"text": text} for text in texts))


def load_responses(folder: Path) -> tuple[list[str], Tensor]:
    """The texts and their embeddings (n, D). Raises InputError when they do not belong together."""
    from safetensors.torch import load_file

    texts = [row["text"] for row in read_jsonl(folder / TEXTS)]
    vectors = load_file(folder / VECTORS)["embeddings"]
    if len(texts) != len(vectors):
        raise InputError(
            f"{folder / TEXTS}: has {len(texts)} responses, but {VECTORS} has {len(vectors)} embeddings.",
            "Train the model again.",
        )
    return texts, vectors
