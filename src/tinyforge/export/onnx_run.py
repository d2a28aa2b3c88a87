"""Answer with exported graphs by onnxruntime. A decoder needs no torch.

Legend: B rows, T tokens, H heads, P cached tokens, D width of a head, V vocabulary size.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyforge.dataset.render import prompt_ids
from tinyforge.environment import cores
from tinyforge.export.onnx_graphs import DECODER, ENCODER, GRAPH
from tinyforge.export.runners import Speed, Step, log_softmax
from tinyforge.models.resolve import load_tokenizer
from tinyforge.records import Message

if TYPE_CHECKING:
    from tinyforge.models.predict import Predictor


def session(folder: Path, file: str = GRAPH) -> Any:
    """A graph on the CPU."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, cores() // 2)
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(folder / file), sess_options=options, providers=["CPUExecutionProvider"])


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

    def text(self, ids: Sequence[int]) -> str:
        """What these tokens say."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

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


class _Graph:
    """A graph that is called as its transformers model is: tensors in, named tensors out. So one code reads both."""

    def __init__(self, folder: Path, file: str = GRAPH) -> None:
        from transformers import AutoConfig

        self.config = AutoConfig.from_pretrained(folder)
        self._session = session(folder, file)
        self._inputs = [i.name for i in self._session.get_inputs()]
        self._outputs = [o.name for o in self._session.get_outputs()]
        self.device = "cpu"

    def eval(self) -> _Graph:
        return self

    def __call__(self, **given: Any) -> SimpleNamespace:
        """Segments that are not given are all the first."""
        import torch

        given.setdefault("token_type_ids", torch.zeros_like(given["input_ids"]))
        found = self._session.run(self._outputs, {name: given[name].numpy() for name in self._inputs})
        return SimpleNamespace(**{name: torch.from_numpy(v) for name, v in zip(self._outputs, found, strict=True)})


class _TwoGraphs:
    """An encoder-decoder: the first graph reads the text once, the second all that was written at every step."""

    def __init__(self, folder: Path) -> None:
        from transformers import GenerationConfig

        self._encoder, self._decoder = _Graph(folder, ENCODER), _Graph(folder, DECODER)
        self.config, settings = self._encoder.config, GenerationConfig.from_pretrained(folder)
        first = settings.decoder_start_token_id
        self._first = self.config.decoder_start_token_id if first is None else first
        ends = settings.eos_token_id
        self._stops = {*ends} if isinstance(ends, list) else {ends}

    def eval(self) -> _TwoGraphs:
        return self

    def __call__(self, input_ids: Any, attention_mask: Any, decoder_input_ids: Any) -> SimpleNamespace:
        read = self._encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self._decoder(
            input_ids=decoder_input_ids, encoder_hidden_states=read, encoder_attention_mask=attention_mask
        )

    def generate(self, input_ids: Any, attention_mask: Any, max_new_tokens: int, **greedy: Any) -> Any:
        """The likeliest token each time, (B, 1 + T) with the start token; a row that has ended repeats its end."""
        import torch

        read = self._encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        written = torch.full((len(input_ids), 1), self._first)
        ended = torch.zeros(len(input_ids), dtype=torch.bool)
        while written.shape[1] <= max_new_tokens and not ended.all():
            told = self._decoder(
                input_ids=written, encoder_hidden_states=read, encoder_attention_mask=attention_mask
            ).logits[:, -1]
            chosen = torch.where(ended, written[:, -1], told.argmax(-1))
            ended |= torch.tensor([int(token) in self._stops for token in chosen])
            written = torch.cat([written, chosen[:, None]], 1)
        return written


def open_predictor(folder: Path) -> Predictor:
    """Classes, spans, stored responses or text, as the source gives them; the graphs compute."""
    from tinyforge.models.predict import kind_of, predictor

    kind, tokenizer = kind_of(folder), load_tokenizer(folder)
    return predictor(kind, _TwoGraphs(folder) if kind == "seq2seq" else _Graph(folder), tokenizer, folder)
