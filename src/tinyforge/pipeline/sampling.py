"""Answer the same prompts with every way of choosing tokens: the sampling study."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.config import Config
from tinyforge.errors import InputError
from tinyforge.recipe import config_of
from tinyforge.records import Example, Message, content_id
from tinyforge.run import Run, read_jsonl

if TYPE_CHECKING:
    from tinyforge.evaluate.strategies import Strategy, Written
    from tinyforge.models.generate import Writer

Count = Callable[[str, int, int], None]
PROMPTS = 4  # held-out questions of a run that are asked when none are given
OWN = ("Tell me about the sea.", "What is a library?", "Why do people plant trees?")
"""What a base is asked when nothing is given."""


def study(
    name: str, prompts: Sequence[str], data: str, seeds: int, config: Config, count: Count = lambda *_: None
) -> dict[str, Any]:
    """Every strategy's answers to the prompts, with what they measure (evaluate/strategies.py).

    ``name`` is a run, whose tuned model is asked, or a base. Without prompts and ``data`` (rows with answers), a run is
    asked held-out questions of its own, whose answers are known. One prompt is answered at a time, as in a chat, and
    that is what the speed means. Raises InputError for a name or data that cannot be used.
    """
    from tinyforge.environment import machine
    from tinyforge.evaluate.strategies import STRATEGIES, compare_strategies
    from tinyforge.models.contrastive import unsupported

    if seeds < 1:
        raise InputError(f"--seeds {seeds}: nothing would be asked.", "Give 1 or more.")
    asked = _asked(name, prompts, data, config)
    writer = _open(name, config)
    ready = [writer.prompt(example.question, []) for example in asked]
    writer.answer_all([ready[0]])  # the first answer also pays for what is set up once
    not_offered = {"contrastive": why} if (why := unsupported(writer)) else {}
    written = {}
    for strategy in STRATEGIES:
        if strategy.name in not_offered:
            continue
        drawn = [config.seed + i for i in range(seeds if strategy.draws else 1)]
        written[strategy.name] = _write(writer, strategy, ready, drawn, count)
    return {
        "model": name,
        "prompts": [{"prompt": e.question, "reference": e.answer} for e in asked],
        "seed": config.seed,
        "max_new_tokens": writer.max_new_tokens,
        "strategies": compare_strategies(asked, written),
        "not_offered": not_offered,
        "machine": machine(),
    }


def _asked(name: str, prompts: Sequence[str], data: str, config: Config) -> list[Example]:
    from tinyforge.pipeline.contenders import is_run

    given = [_example(prompt) for prompt in prompts]
    if data:
        given += _from_data(data, config.seed)
    if given:
        return given
    held_out = Path(name).expanduser() / "dataset" / "wordings.jsonl"
    if is_run(name) and held_out.is_file():
        return _drawn([Example.from_json(row) for row in read_jsonl(held_out)], config.seed)
    return [_example(prompt) for prompt in OWN]


def _example(prompt: str) -> Example:
    if not prompt.strip():
        raise InputError("a prompt is empty.", 'Ask something: "What is a loan?"')
    return Example(content_id("prompt", prompt), (Message("user", prompt), Message("assistant", "")))


def _from_data(data: str, seed: int) -> list[Example]:
    from tinyforge.dataset.rows import read_rows

    found = read_rows(data)
    if found.kind != "chat":
        raise InputError(f"{data}: holds {found.kind} rows.", "Give rows with a question and an answer.")
    return _drawn(list(found.examples), seed)


def _drawn(examples: Sequence[Example], seed: int) -> list[Example]:
    """PROMPTS of the examples on different facts, the same for a seed."""
    import random

    order = list(examples)
    random.Random(seed).shuffle(order)
    return list({e.fact or e.id: e for e in order}.values())[:PROMPTS]


def _open(name: str, config: Config) -> Writer:
    from tinyforge.models.generate import Writer
    from tinyforge.models.machine import choose_precision, set_threads
    from tinyforge.models.resolve import load_model, load_tokenizer, resolve
    from tinyforge.pipeline.contenders import is_run
    from tinyforge.serve.load import load_writer

    if is_run(name):
        run = Run.open(Path(name).expanduser())
        own = config_of(run)
        return load_writer(run, "tuned", own.model_copy(update={"evaluate": config.evaluate}))
    base = resolve(name)
    set_threads(config.train.threads)
    model = load_model(base.folder, choose_precision(config.train.precision), config.trust_remote_code)
    return Writer(model, load_tokenizer(base.folder, config.trust_remote_code), config.evaluate.max_new_tokens)


def _write(
    writer: Writer, strategy: Strategy, prompts: Sequence[list[Message]], seeds: Sequence[int], count: Count
) -> Written:
    from tinyforge.evaluate.strategies import Written

    texts: list[list[str]] = []
    tokens, began, total = 0, time.perf_counter(), len(seeds) * len(prompts)
    for seed in seeds:
        texts.append([])
        for prompt in prompts:
            text, length = _answer(writer, strategy, prompt, seed)
            texts[-1].append(text)
            tokens += length
            count(strategy.name, sum(map(len, texts)), total)
    return Written(texts, tokens, time.perf_counter() - began)


def _answer(writer: Writer, strategy: Strategy, prompt: list[Message], seed: int) -> tuple[str, int]:
    """The answer and how many tokens it has."""
    from tinyforge.evaluate.strategies import BEAMS
    from tinyforge.models.contrastive import contrastive_search

    if strategy.search == "contrastive":
        return contrastive_search(writer, prompt)
    if strategy.sampling is None:
        return beam_search(writer, prompt, BEAMS)
    (answer,) = writer.write_all([prompt], sampling=replace(strategy.sampling, seed=seed))
    return answer.text.strip(), answer.tokens


def beam_search(writer: Writer, prompt: list[Message], beams: int) -> tuple[str, int]:
    """The likeliest answer that so many beams find, by transformers' own ``generate``; and its tokens."""
    import torch

    from tinyforge.dataset.render import prompt_ids, stop_ids

    ids_BT = torch.tensor([prompt_ids(prompt, writer.tokenizer)], device=writer.model.device)
    stops = sorted(stop_ids(writer.model, writer.tokenizer))
    with torch.inference_mode():
        written_BT = writer.model.generate(
            ids_BT,
            attention_mask=torch.ones_like(ids_BT),
            num_beams=beams,
            do_sample=False,
            early_stopping=beams > 1,
            max_new_tokens=min(writer.max_new_tokens, writer.context - ids_BT.shape[1]),
            eos_token_id=stops or None,
            pad_token_id=writer.tokenizer.pad_token_id or 0,
        )
    new = [token for token in written_BT[0, ids_BT.shape[1] :].tolist() if token not in stops]
    return str(writer.tokenizer.decode(new, skip_special_tokens=True)).strip(), len(new)
