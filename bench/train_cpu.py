"""Training speed and memory on this CPU, beside TRL and transformers: LoRA on random weights of known shapes.

    python bench/train_cpu.py            every comparison; writes bench/results/train_cpu.json
    python bench/train_cpu.py --only smollm2-135m/short --peer trainer

Both sides train the same model object (bf16 weights and adapters, or fp32) on the same rows with the loss on the
completions alone. Each run has a process of its own, the sides take turns, and what is compared are their medians:
tokens per second counts tokens of rows only, never padding; memory is the peak of the process. The peers are TRL's
SFTTrainer and the Trainer of transformers, each at the fastest of the settings in ``PEER_SETTINGS``, found first.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from lines import ROOT
from shapes import SHAPES

LENGTHS = {"short": ((30, 150), (10, 80)), "long": ((500, 900), (40, 120))}
"""Tokens of prompt and completion, from and to."""
BATCH_TOKENS = {"smollm2-135m": 2048, "qwen3-0.6b": 1024}
WARM_UP = 2  # steps that are not counted: kernels are chosen and memory is first touched
STEPS = {"smollm2-135m": 5, "qwen3-0.6b": 2}
ROUNDS = {"smollm2-135m": 3, "qwen3-0.6b": 2}
PEERS = {"trl": "comparisons", "trainer": "comparisons_trainer"}
"""Where the results of each are kept."""
PEER_SETTINGS: dict[str, dict[str, Any]] = {
    "full batch": {"share": 1.0},
    "half batch": {"share": 0.5},
    "half batch, autocast": {"share": 0.5, "bf16": True},
}
"""With every one: rows grouped by length, no gradient checkpointing. A full batch has about as many tokens as ours."""


def make_rows(lengths: str, vocabulary: int, count: int, seed: int = 0) -> list[tuple[list[int], int]]:
    """``(ids, tokens of the prompt)`` of random content."""
    import random

    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        prompt, completion = (rng.randint(*span) for span in LENGTHS[lengths])
        rows.append(([rng.randrange(10, vocabulary) for _ in range(prompt + completion)], prompt))
    return rows


def make_model(shape: str, precision: str) -> Any:
    """Random weights with fresh LoRA on every linear layer, all in one precision."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from tinyforge import adapters
    from tinyforge.models.machine import torch_dtype

    settings = dict(SHAPES[shape])
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch_dtype(precision))
    return adapters.attach(model, training_config(), seed=0)


def usual_rows(shape: str, lengths: str) -> float:
    """Rows of average length that come to a batch of ours."""
    return BATCH_TOKENS[shape] / (sum(map(sum, LENGTHS[lengths])) / 2)


def training_config(**changes: Any) -> Any:
    from tinyforge.config import TrainConfig

    settings = {"method": "lora", "schedule": "wsd", "warmup_fraction": 0.0, "decay_fraction": 1e-9}
    return TrainConfig.model_validate({"weight_decay": 0.0, **settings, **changes})


def ours(shape: str, lengths: str, precision: str, steps: int, setting: dict[str, Any]) -> dict[str, Any]:
    from tinyforge.records import Tokens
    from tinyforge.train.loop import Training
    from tinyforge.train.loss import IGNORED
    from tinyforge.train.objectives.sft import SupervisedFineTuning
    from tinyforge.train.rows import EncodedRows

    rows = make_rows(lengths, SHAPES[shape]["vocab_size"], setting["count"])
    tokens = EncodedRows(Tokens(ids, [IGNORED] * prompt + ids[prompt:]) for ids, prompt in rows)
    settings = training_config(
        batch_tokens=BATCH_TOKENS[shape],
        epochs=1.0,
        max_steps=steps,
        checkpoint_seconds=1e9,
        batch_rows=setting.get("rows", 0),
        divergence_steps=0,
    )
    seen: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        training = Training(
            model=make_model(shape, precision),
            objective=SupervisedFineTuning(0),
            rows=tokens,
            dev=None,
            config=settings,
            learning_rate=2e-4,
            folder=Path(folder),
            key="",
            seed=0,
            on_status=lambda status: seen.append((time.perf_counter(), status)),
        )
        order = [[int(i) for i in training.batches[n]] for n in range(len(training.batches))]
        training.run()
    counts = [sum(len(rows[i][0]) for i in batch) for batch in order]
    operations = [training._work.operations([tokens[i] for i in batch]) for batch in order]
    first, last = seen[WARM_UP - 1][0], seen[-1][0]
    return {
        "tokens_per_second": sum(counts[WARM_UP:steps]) / (last - first),
        "operations_per_second": sum(operations[WARM_UP:steps]) / (last - first),
        "losses": [status.loss for _, status in seen],
        "order": order[:steps],
    }


def watch(seen: list[tuple[float, int]]) -> Any:
    """A callback of transformers that notes, after each step, when it was and how many tokens were seen."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            seen.append((time.perf_counter(), int(state.num_input_tokens_seen)))

    return Watch()


def stock(folder: str, steps: int, setting: dict[str, Any]) -> dict[str, Any]:
    """What both peers are told."""
    return {
        "output_dir": folder,
        "per_device_train_batch_size": setting["rows"],
        "train_sampling_strategy": "sequential" if "order" in setting else "group_by_length",
        "gradient_checkpointing": False,
        "bf16": setting.get("bf16", False),
        "use_cpu": True,
        "max_steps": steps,
        "learning_rate": 2e-4,
        "lr_scheduler_type": "constant",
        "adam_beta2": 0.95,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "include_num_input_tokens_seen": "non_padding",
    }


def peer(kind: str, shape: str, lengths: str, precision: str, steps: int, setting: dict[str, Any]) -> dict[str, Any]:
    """A training by a peer."""
    from datasets import Dataset

    from tinyforge.models.resolve import load_tokenizer, resolve

    rows = make_rows(lengths, SHAPES[shape]["vocab_size"], setting["count"])
    if "order" in setting:
        rows = [rows[i] for batch in setting["order"] for i in batch]
    model, tokenizer = make_model(shape, precision), load_tokenizer(resolve("tiny").folder)
    seen: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        told = stock(folder, steps, setting)
        if kind == "trl":
            from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]

            data = Dataset.from_list(
                [{"input_ids": i, "completion_mask": [0] * p + [1] * (len(i) - p)} for i, p in rows]
            )
            trainer = SFTTrainer(
                model,
                args=SFTConfig(**told, max_length=None, completion_only_loss=True),
                train_dataset=data,
                processing_class=tokenizer,
                callbacks=[watch(seen)],
            )
        else:
            from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

            data = Dataset.from_list([{"input_ids": i, "labels": [-100] * p + i[p:]} for i, p in rows])
            trainer = Trainer(
                model,
                args=TrainingArguments(**told),
                train_dataset=data,
                data_collator=DataCollatorForSeq2Seq(tokenizer),  # pads the labels as well
                callbacks=[watch(seen)],
            )
        trainer.train()
    (first, before), (last, after) = seen[WARM_UP - 1], seen[-1]
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"tokens_per_second": (after - before) / (last - first), "losses": losses}


def work(request: dict[str, Any]) -> dict[str, Any]:
    """One run, in this process."""
    import torch

    from tinyforge.models.machine import matrix_rates, set_threads, torch_dtype

    set_threads(0)
    side = ours if request["side"] == "ours" else partial(peer, request["side"])
    dtype = torch_dtype(request["precision"])
    before = matrix_rates((dtype,), size=1024, rounds=20)[0]
    found = side(request["shape"], request["lengths"], request["precision"], request["steps"], request["setting"])
    peak = max(before, matrix_rates((dtype,), size=1024, rounds=20)[0])
    if "operations_per_second" in found:
        found["peak_share"] = found.pop("operations_per_second") / peak
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**found, "memory_mb": memory, "peak_gflops": peak / 1e9, "torch": torch.__version__}


def in_process(**request: Any) -> dict[str, Any]:
    """One run, in a process of its own."""
    made = subprocess.run(
        [sys.executable, __file__, "--work", json.dumps(request)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise SystemExit(made.stderr[-3000:])
    found: dict[str, Any] = json.loads(made.stdout.splitlines()[-1])
    return found


def compare(shape: str, lengths: str, other: str) -> dict[str, Any]:
    """Medians of both sides over alternating runs, the ``other`` at its fastest setting."""
    steps = WARM_UP + STEPS[shape]
    rows = usual_rows(shape, lengths)
    count = int(4 * rows * steps) + 64
    common = {"shape": shape, "lengths": lengths, "precision": "bf16", "steps": steps}
    tried: dict[str, dict[str, Any]] = {}
    for name, setting in PEER_SETTINGS.items():
        changed = {**setting, "rows": max(1, round(setting["share"] * rows)), "count": count}
        if changed["rows"] not in [t["rows"] for t in tried.values() if t.get("bf16") == changed.get("bf16")]:
            tried[f"{name} ({changed['rows']} rows)"] = changed
    speeds = {name: in_process(side=other, **common, setting=s)["tokens_per_second"] for name, s in tried.items()}
    best = max(speeds, key=lambda name: speeds[name])
    print(f"{shape}/{lengths}: {other}'s tok/s by setting: { {n: round(s) for n, s in speeds.items()} }", flush=True)
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], other: []}
    for _ in range(ROUNDS[shape]):
        runs["ours"].append(in_process(side="ours", **common, setting={"count": count}))
        runs[other].append(in_process(side=other, **common, setting=tried[best]))
    found: dict[str, Any] = {f"{other}_setting": best, f"{other}_settings": speeds}
    for side, results in runs.items():
        for key in ("tokens_per_second", "memory_mb", "peak_share", "peak_gflops"):
            if key in results[0]:
                found[f"{side} {key}"] = median(r[key] for r in results)
    found["speed_ratio"] = found["ours tokens_per_second"] / found[f"{other} tokens_per_second"]
    found["memory_ratio"] = found["ours memory_mb"] / found[f"{other} memory_mb"]
    print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in found.items()}), flush=True)
    return found


def equal_losses(shape: str, steps: int = 20) -> dict[str, Any]:
    """The largest difference of the loss curves in fp32 on the same batches."""
    common = {"shape": shape, "lengths": "short", "precision": "fp32", "steps": steps}
    mine = in_process(side="ours", **common, setting={"count": 4 * steps, "rows": 4})
    setting = {"count": 4 * steps, "rows": 4, "order": mine["order"]}
    theirs = in_process(side="trl", **common, setting=setting)
    differences = [abs(a - b) for a, b in zip(mine["losses"], theirs["losses"], strict=True)]
    print(f"{shape}: losses differ by at most {max(differences):.2e} over {steps} steps", flush=True)
    return {
        "steps": steps,
        "largest_difference": max(differences),
        "first": mine["losses"][0],
        "last": mine["losses"][-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="SHAPE/LENGTHS", help="one comparison; repeatable")
    parser.add_argument("--peer", choices=PEERS, help="the one to compare with (default: both)")
    parser.add_argument("--losses", action="store_true", help="compare the loss curves only")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        print(json.dumps(work(json.loads(args.work))))
        return
    from tinyforge.environment import machine, versions
    from tinyforge.run import read_json, write_json

    path = ROOT / "bench" / "results" / "train_cpu.json"
    found = read_json(path) if path.exists() else {}
    found |= {"machine": machine(), "versions": versions()}
    if not args.only:
        found["equal_losses"] = equal_losses("smollm2-135m")
    if not args.losses:
        for name in args.only or [f"{shape}/{lengths}" for shape in SHAPES for lengths in LENGTHS]:
            shape, lengths = name.split("/")
            for other in [args.peer] if args.peer else PEERS:
                found.setdefault(PEERS[other], {})[name] = compare(shape, lengths, other)
                write_json(path, found)
    write_json(path, found)


if __name__ == "__main__":
    main()
