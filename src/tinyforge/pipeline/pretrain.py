"""A corpus into a base model: tokenizer, token store, training from scratch, a plain transformers folder."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from tinyforge.config import Config
from tinyforge.errors import InputError
from tinyforge.pipeline.stages import Job
from tinyforge.pipeline.teach import take_as_model, teach, write_declines, write_lessons
from tinyforge.records import content_id
from tinyforge.run import Run, hash_file, read_jsonl, write_folder_atomic, write_jsonl

SAMPLE_PROMPT, SAMPLE_TOKENS = 12, 40
TOKENIZER_CHARACTERS = 40_000_000  # more text changes an 8k vocabulary little and costs minutes


def _held_out(name: str, text: str, fraction: float) -> bool:
    return int(content_id(name, text), 16) % 10_000 < fraction * 10_000


def pretrain(
    sources: Sequence[str | Path],
    out: str | Path,
    config: Config,
    say: Callable[[str, str], None],
    on_status: Callable[[Any], None],
) -> dict[str, Any]:
    """Train a base model from scratch on ``sources``; returns the summary that is also in the run.

    The result is ``out/model``: a folder that ``AutoModelForCausalLM.from_pretrained`` loads with no custom code.
    """
    from tinyforge.train.distributed import join

    world = join(config.train)
    run = Run.create(out, "pretrain")
    with run.lock():
        job = Job(run, say, world=world)
        job.keep_config(config.model_dump())
        corpus = _corpus_stage(job, sources, config)
        tokens = _token_stage(job, corpus, config)
        trained = _train_stage(job, tokens, config, on_status)
        job.keep_config(config.model_dump(), trained=True)
        if not config.pretrain.reading_tokens:
            take_as_model(job, "pretrained")
        else:
            lessons = write_lessons(job, tokens["key"], _named_texts(run, config), config)
            declines = ""
            if config.pretrain.declining_tokens:
                declines = write_declines(job, lessons, _named_texts(run, config), config)
            trained["reading"] = teach(job, [trained["key"], lessons], declines, config, on_status)
        return trained


def corpus_key(sources: Sequence[str | Path]) -> list[list[str]]:
    """Names with the hash of each file, or the revision of each hub dataset. Raises InputError for a missing one."""
    from tinyforge.dataset.corpus import HUB, hub_revision

    files = []
    for name in sources:
        if str(name).startswith(HUB):
            files.append([str(name), hub_revision(str(name))])
            continue
        source = Path(name)
        if not source.exists():
            raise InputError(f"{source}: no such file or folder.", "Or a dataset of the hub: hub:org/name.")
        found = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
        files += [[str(p), hash_file(p)] for p in found]
    return files


def _corpus_stage(job: Job, sources: Sequence[str | Path], config: Config) -> dict[str, Any]:
    from tinyforge.dataset.corpus import CorpusReport, deduplicate, read_texts

    def work(key: str) -> dict[str, Any]:
        report = CorpusReport()
        texts = read_texts(sources, config.pretrain.hub_characters)
        unique = deduplicate(texts, config.pretrain.near_duplicate, report, config.seed)
        write_jsonl(job.run.path("corpus.jsonl"), ({"name": n, "text": t} for n, t in unique))
        return {"key": key, **report.to_json()}

    settings = config.pretrain
    inputs = [corpus_key(sources), settings.near_duplicate, settings.hub_characters, config.seed]
    return job.stage("corpus", inputs, work)


def _set_of(name: str, text: str, config: Config) -> str:
    """``train``, or ``validation``: held out; of those for reading questions only, ``reading`` or ``held out``."""
    settings = config.pretrain
    for_reading = any(fnmatch(name, pattern) for pattern in settings.reading_only)
    if _held_out(name, text, settings.validation_fraction):
        return "held out" if for_reading else "validation"
    if not for_reading:
        return "train"
    return "held out" if _held_out(name, text, settings.reading_test_fraction) else "reading"


def _texts(run: Run, config: Config, wanted: str) -> Iterator[str]:
    for row in read_jsonl(run.path("corpus.jsonl")):
        if _set_of(row["name"], row["text"], config) == wanted:
            yield row["text"]


def held_out_texts(run: Run, config: Config) -> Iterator[str]:
    """The documents of running text that a pretraining run was not trained on."""
    return _texts(run, config, "validation")


def _named_texts(run: Run, config: Config) -> Iterator[tuple[str, str, str]]:
    """``(name, text, set)`` of every document, in an order that mixes the sources.

    Of the held-out documents a quarter are for the dev loss, the others for the test.
    """
    rows = list(read_jsonl(run.path("corpus.jsonl")))
    random.Random(config.seed).shuffle(rows)
    for row in rows:
        name, text = row["name"], row["text"]
        found = _set_of(name, text, config)
        if found in ("train", "reading"):
            yield name, text, "train"
        else:
            dev = int(content_id("dev", name, text), 16) % 4 == 0
            yield name, text, "dev" if dev else "test"


def _first_characters(texts: Iterator[str], limit: int) -> Iterator[str]:
    total = 0
    for text in texts:
        yield text
        total += len(text)
        if total > limit:
            return


def _token_stage(job: Job, corpus: dict[str, Any], config: Config) -> dict[str, Any]:
    from tinyforge.dataset.corpus import write_store
    from tinyforge.models.tokenizer import train_tokenizer

    settings = config.pretrain
    inputs = [
        [corpus["key"], settings.vocabulary, settings.context],
        [settings.validation_fraction, settings.reading_only],
    ]

    def work(key: str) -> dict[str, Any]:
        sample = _first_characters(_texts(job.run, config, "train"), TOKENIZER_CHARACTERS)
        tokenizer = train_tokenizer(sample, settings.vocabulary, settings.context)
        write_folder_atomic(job.run.path("tokenizer"), lambda folder: tokenizer.save_pretrained(folder) and None)
        counts = {}
        for name in ("train", "validation"):
            write_store(job.run.path("tokens", name), _texts(job.run, config, name), tokenizer)
            counts[name] = json.loads(job.run.path("tokens", name, "meta.json").read_text())
        if not counts["validation"]["documents"]:
            raise InputError(
                "No document was held out for validation.", "Raise pretrain.validation_fraction or add documents."
            )
        return {"key": key, **counts}

    return job.stage("tokens", inputs, work)


def _train_stage(job: Job, tokens: dict[str, Any], config: Config, on_status: Callable[[Any], None]) -> dict[str, Any]:
    later = {name for name in type(config.pretrain).model_fields if name.startswith(("reading_", "declining_"))}
    shape = config.pretrain.model_dump(exclude={"tokens", "near_duplicate", "hub_characters", *later})
    training = config.train.decisive()
    inputs = [tokens["key"], shape, config.pretrain.tokens, training, config.seed]
    return job.stage("train", inputs, lambda key: _train(job, key, config, on_status), together=True, trains=True)


def _train(job: Job, key: str, config: Config, on_status: Callable[[Any], None]) -> dict[str, Any]:
    import torch
    from transformers import AutoTokenizer

    from tinyforge.dataset.corpus import TokenStore
    from tinyforge.models.create import create_model
    from tinyforge.models.machine import set_threads, settle_precision, torch_dtype
    from tinyforge.pipeline.fit import fit
    from tinyforge.plugins import load
    from tinyforge.train import OBJECTIVES
    from tinyforge.train.device import choose_device

    threads, device = set_threads(config.train.threads), choose_device(config.train.device)
    precision = job.world.share(settle_precision(job.run.folder, config.train.precision, device.type))
    tokenizer = AutoTokenizer.from_pretrained(job.run.path("tokenizer"))
    model = create_model(config.pretrain, tokenizer, config.seed).to(device, torch_dtype(precision))
    rows = TokenStore(job.run.path("tokens", "train"), config.pretrain.sequence)
    dev = TokenStore(job.run.path("tokens", "validation"), config.pretrain.sequence)
    settings = config.train
    epochs = config.pretrain.tokens / rows.tokens if config.pretrain.tokens else settings.epochs or 1.0
    settings = settings.model_copy(update={"epochs": epochs})
    result = fit(
        job,
        "train",
        key,
        model=model,
        objective=load("train", "pretrain", OBJECTIVES)(tokenizer.pad_token_id),
        rows=rows,
        dev=dev,
        settings=settings,
        learning_rate=settings.learning_rate or 3e-3,
        folder=job.run.path("checkpoints"),
        seed=config.seed,
        machine=(precision, threads),
        on_status=on_status,
        on_measure=_sampler(job, model, tokenizer, dev),
    )

    def save(folder: Path) -> None:
        model.to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    job.overwrite()
    write_folder_atomic(job.run.path("pretrained"), save)
    predicted = int((dev.lengths - 1).sum())
    bits = result.best_loss * predicted / dev.bytes / math.log(2)
    return {
        "key": key,
        "steps": result.steps,
        "tokens": result.tokens,
        "train_seconds": round(result.seconds, 1),
        "best_step": result.best_step,
        "validation_loss": result.best_loss,
        "validation_bits_per_byte": bits,
        "parameters": sum(p.numel() for p in model.parameters()),
        "precision": precision,
        "threads": threads,
    }


def _sampler(job: Job, model: Any, tokenizer: Any, dev: Any) -> Callable[[int], None]:
    """Lets the model continue the opening of a held-out document, so that a person sees it learn."""
    import torch

    longest = max(range(len(dev)), key=lambda i: int(dev.lengths[i]))
    opening = torch.tensor([dev[longest].ids[:SAMPLE_PROMPT]], device=model.device)

    def sample(step: int) -> None:
        if not job.world.first:
            return
        with torch.inference_mode():
            ids = model.generate(opening, attention_mask=torch.ones_like(opening), max_new_tokens=SAMPLE_TOKENS)
        prompt = tokenizer.decode(opening[0], skip_special_tokens=True)
        text = tokenizer.decode(ids[0, opening.shape[1] :], skip_special_tokens=True)
        job.run.event("sample", step=step, prompt=prompt, text=text)
        job.say("train", " ".join(f"step {step} writes: {prompt}|{text}".split()))

    return sample
