"""Ask a model that `tinyforge export RUN --to onnx` wrote. Needs onnxruntime, tokenizers, jinja2 and numpy; no torch.

python run_onnx.py FOLDER "Your question"
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer


def prompt(folder: Path, question: str) -> str:
    """The question as the model's chat template writes it, ready for an answer."""
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    messages = [{"role": "user", "content": question}]
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    tokens = {name: settings.get(name) or "" for name in ("bos_token", "eos_token")}
    return environment.from_string(template).render(messages=messages, add_generation_prompt=True, **tokens)


def stop_tokens(folder: Path) -> set[int]:
    found = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))["eos_token_id"]
    return set(found) if isinstance(found, list) else {found}


def answer(folder: Path, question: str, most: int = 96) -> str:
    """Greedy: the likeliest token each time, until the model stops."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    cached = [i for i in session.get_inputs() if i.name.startswith("past_key_values")]
    past = {i.name: np.zeros((1, int(i.shape[1]), 0, int(i.shape[3])), np.float32) for i in cached}
    ids = tokenizer.encode(prompt(folder, question), add_special_tokens=False).ids
    stops, written, seen = stop_tokens(folder), [], 0
    wanted = {i.name for i in session.get_inputs()}
    names = [o.name for o in session.get_outputs()]
    while len(written) < most:
        feed = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, seen + len(ids)), np.int64),
            "position_ids": np.arange(seen, seen + len(ids), dtype=np.int64)[None],
            **past,
        }
        seen += len(ids)
        found = dict(zip(names, session.run(names, {k: v for k, v in feed.items() if k in wanted}), strict=False))
        token = int(found["logits"][0, -1].argmax())
        if token in stops:
            break
        written.append(token)
        ids = [token]
        past = {name.replace("present", "past_key_values"): v for name, v in found.items() if "present" in name}
    return tokenizer.decode(written)


if __name__ == "__main__":
    print(answer(Path(sys.argv[1]), sys.argv[2]))
