from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tinyforge.errors import InputError
from tinyforge.retrieve.embed import Embedder

TEXTS = [
    "The library opens at nine.",
    "",
    "Boats! 🚣 Ångström",
    "A longer text about late fees. " * 12,
    "图书馆九点开门。",
]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder()


def test_same_as_sentence_transformers(embedder: Embedder) -> None:
    reference = pytest.importorskip("sentence_transformers")
    model = reference.SentenceTransformer(str(embedder.folder), device="cpu", local_files_only=True)
    expected = model.encode(TEXTS, normalize_embeddings=True)
    found = embedder.embed(TEXTS)
    assert found.shape == (5, 384) and found.dtype == np.float32
    assert (found * expected).sum(axis=1).min() > 0.9999
    # the control: the rows in another order (what a bucketed batch gives that is not put back) are far off
    assert (found[::-1] * expected).sum(axis=1).min() < 0.9


def test_unit_rows_in_order_whatever_the_batch(embedder: Embedder) -> None:
    together = embedder.embed(TEXTS)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    alone = np.concatenate([embedder.embed([text]) for text in TEXTS])
    assert np.abs(together - alone).max() < 1e-5
    assert np.array_equal(together, embedder.embed(TEXTS))
    assert embedder.embed([]).shape == (0, 384)


def test_what_is_remembered_is_not_read_again_and_is_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    remembering, read = Embedder(), []
    wanted = remembering.embed(TEXTS)
    remembering.remember(4)
    whole = Embedder._embed
    monkeypatch.setattr(Embedder, "_embed", lambda self, texts: read.append(list(texts)) or whole(self, texts))
    assert np.abs(remembering.embed([*TEXTS, TEXTS[4]]) - wanted[[0, 1, 2, 3, 4, 4]]).max() < 1e-5
    assert np.abs(remembering.embed(TEXTS[1:]) - wanted[1:]).max() < 1e-5
    assert np.abs(remembering.embed(TEXTS[:1]) - wanted[:1]).max() < 1e-5
    assert read == [TEXTS, [], TEXTS[:1]]  # four are kept: the first had been forgotten
    assert remembering.embed([]).shape == (0, 384)


def test_the_end_of_a_long_text_counts(embedder: Embedder) -> None:
    head = "Rowing boats are hired by the hour. " * 60  # more than 256 tokens
    fees = "Late fees are due for novels and films. " * 60
    both, only_head, only_fees = embedder.embed([head + fees, head, fees])
    assert both @ only_fees > only_head @ only_fees + 0.2


def test_lone_surrogates_do_not_stop_it(embedder: Embedder) -> None:
    assert np.isfinite(embedder.embed(["\ud800 broken"])).all()


def _copy(embedder: Embedder, folder: Path, pooling: dict[str, object]) -> Path:
    folder.mkdir()
    for file in embedder.folder.iterdir():
        if file.is_file():
            (folder / file.name).symlink_to(file)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


def test_pooling_is_what_the_model_says(embedder: Embedder, tmp_path: Path) -> None:
    mean = Embedder(str(_copy(embedder, tmp_path / "mean", {"pooling_mode_mean_tokens": True})))
    cls = Embedder(str(_copy(embedder, tmp_path / "cls", {"pooling_mode_cls_token": True})))
    other = Embedder(str(_copy(embedder, tmp_path / "max", {"pooling_mode_max_tokens": True})))
    assert np.allclose(mean.embed(TEXTS[:1]), embedder.embed(TEXTS[:1]), atol=1e-6)
    assert (cls.embed(TEXTS[:1]) * embedder.embed(TEXTS[:1])).sum() < 0.99
    with pytest.raises(InputError, match=r"max_tokens.*not supported"):
        other.embed(["x"])
    assert len({embedder.content_hash, mean.content_hash, cls.content_hash}) == 3


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json"):
        Embedder(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="not usable as an embedding model"):
        Embedder(str(tmp_path)).embed(["x"])
    with pytest.raises(InputError, match="neither a folder"):
        Embedder("no such/model name")
