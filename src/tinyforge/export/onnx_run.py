"""Answer with an exported graph: onnxruntime and the tokenizer, no torch.

Legend: B rows, T tokens, H heads, P cached tokens, D width of a head, V vocabulary size, C classes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from tinyforge.dataset.render import prompt_ids
from tinyforge.environment import cores
from tinyforge.export.runners import Speed, Step, log_softmax
from tinyforge.models.predict import Prediction
from tinyforge.models.resolve import load_tokenizer
from tinyforge.records import Message


def session(folder: Path) -> Any:
    """The graph on the CPU."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, cores() // 2)
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        str(folder / "model.onnx"), sess_options=options, providers=["CPUExecutionProvider"]
    )


class OnnxRunner:
    """A decoder's graph with its cache."""

    def __init__(self, folder: Path) -> None:
        self.speed, self.tokenizer = Speed(), load_tokenizer(folder)
        self._folder, self._session = folder, session(folder)
        self._past = [i for i in self._session.get_inputs() if i.name.startswith("past_key_values")]
        self._names = {i.name for i in self._session.get_inputs()}

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        return prompt_ids(messages, self.tokenizer)

    def stops(self) -> set[int]:
        from tinyforge.models.resolve import saved_stop_ids

        return saved_stop_ids(self._folder, self.tokenizer)

    def write(self, ids: Sequence[int], steps: int) -> list[Step]:
        past: dict[str, Any] = {i.name: np.zeros(_empty(i.shape), np.float32) for i in self._past}
        ids_BT, seen, written = np.array([list(ids)], dtype=np.int64), 0, list[Step]()
        stops, began = self.stops(), perf_counter()
        for _ in range(steps):
            logits_V, past = self._read(ids_BT, seen, past)
            seen += ids_BT.shape[1]
            logs_V = log_softmax(logits_V)
            token = int(logs_V.argmax())
            written.append(Step(token, np.arange(len(logs_V)), logs_V))
            if token in stops:
                break
            ids_BT = np.array([[token]], dtype=np.int64)
        self.speed.tokens += len(written)
        self.speed.seconds += perf_counter() - began
        return written

    def _read(self, ids_BT: Any, seen: int, past: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The scores (V,) after the last token, and the cache with these tokens in it."""
        count = ids_BT.shape[1]
        feed = {
            "input_ids": ids_BT,
            "attention_mask": np.ones((1, seen + count), np.int64),
            "position_ids": np.arange(seen, seen + count, dtype=np.int64)[None],
            **past,
        }
        names = [output.name for output in self._session.get_outputs()]
        values = self._session.run(names, {name: feed[name] for name in self._names})
        found = dict(zip(names, values, strict=True))
        kept = {
            name.replace("present", "past_key_values"): v for name, v in found.items() if name.startswith("present")
        }
        return found["logits"][0, -1], kept

    def close(self) -> None:
        pass


def _empty(shape: Sequence[Any]) -> tuple[int, int, int, int]:
    """The cache's shape (B, H, P, D) before the first token."""
    return 1, int(shape[1]), 0, int(shape[3])


class OnnxClassifier:
    """Classes with probabilities, calibrated as the source is."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer, self._session = load_tokenizer(folder), session(folder)
        names = json.loads((folder / "config.json").read_text(encoding="utf-8"))["id2label"]
        self.labels = [names[str(i)] for i in range(len(names))]
        self._temperature = _temperature(folder)

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        return [self._named(self._scores(text)) for text in texts]

    def _scores(self, text: str) -> Any:
        ids = np.array([self.tokenizer(text, verbose=False)["input_ids"]], dtype=np.int64)
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        names = {i.name for i in self._session.get_inputs()}
        outputs = [o.name for o in self._session.get_outputs()]
        found = self._session.run(outputs, {k: v for k, v in feed.items() if k in names})
        return found[outputs.index("logits")][0]

    def _named(self, scores_C: Any) -> Prediction:
        shares = np.exp(log_softmax(scores_C / self._temperature)).tolist()
        best = max(range(len(shares)), key=shares.__getitem__)
        return Prediction(self.labels[best], shares[best], dict(zip(self.labels, shares, strict=True)))


def _temperature(folder: Path) -> float:
    from tinyforge.models.calibrate import Calibration

    calibration = Calibration.load(folder)
    return calibration.temperature if calibration else 1.0
