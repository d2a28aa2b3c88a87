"""Proof that an exported model still says what its source says, measured by running both.

The artifact renders each prompt itself, with its own template and tokenizer, and writes an answer; the source reads the
same prompt and the same answer, and at every place of the answer the two distributions are compared. So a fault in the
template, the stop tokens, the weights or the settings shows.

Legend: A places in an answer, K tokens that the runner told the probabilities of, V vocabulary size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tinyforge.dataset.render import prompt_ids, stop_ids
from tinyforge.evaluate.bootstrap import cluster_sums, interval, resample
from tinyforge.evaluate.metrics.squad import token_f1
from tinyforge.export.runners import Runner, Step, log_softmax
from tinyforge.export.thresholds import Threshold
from tinyforge.records import Example, Message
from tinyforge.run import hash_file, write_json, write_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tinyforge.models.predict import Predictor

ANSWER_TOKENS = 48
CLEAR = 0.1  # by how much the source must prefer its token for a disagreement to count
NOISE = 1e-3
FAILED = "FAILED.txt"


@dataclass(frozen=True)
class Check:
    """One measurement against its limit; ``at_most`` tells which side of the limit is right."""

    name: str
    value: float
    limit: float
    at_most: bool = True

    @property
    def passed(self) -> bool:
        return self.value <= self.limit if self.at_most else self.value >= self.limit


@dataclass
class Measured:
    """What was seen so far, place by place and question by question."""

    kl: list[float] = field(default_factory=list)
    log_probability: float = 0.0
    same: list[bool] = field(default_factory=list)
    clear: list[bool] = field(default_factory=list)
    other_prompts: list[str] = field(default_factory=list)
    too_long: list[str] = field(default_factory=list)
    scores: list[tuple[float, float]] = field(default_factory=list)
    clusters: list[str] = field(default_factory=list)

    def add_place(self, step: Step, source_V: npt.NDArray[np.float64]) -> None:
        if not len(step.ids_K):  # the runner does not tell; the places after it lean on this token all the same
            return
        source_K = source_V[step.ids_K]
        self.kl.append(divergence(source_K, step.logs_K))
        likely = np.exp(source_K) > 1e-6  # below, the difference of two logarithms is noise
        apart_K = np.abs(among(source_K) - among(step.logs_K))
        self.log_probability = max(self.log_probability, float(apart_K[likely].max(initial=0)))
        best = int(source_V.argmax())
        self.same.append(best == step.token)
        self.clear.append(float(np.exp(source_V[best]) - np.exp(np.sort(source_V)[-2])) > CLEAR)

    def agreement(self) -> tuple[float, float]:
        """Shares of places with the same likeliest token: of all, and of those where the source's is clear."""
        clear = [same for same, sure in zip(self.same, self.clear, strict=True) if sure]
        return float(np.mean(self.same)), float(np.mean(clear)) if clear else 1.0


def divergence(source_K: npt.NDArray[np.float64], artifact_K: npt.NDArray[np.float64]) -> float:
    """KL(source, artifact) in nats over K tokens and all others as one; both as natural log probabilities, (K,).

    By the chain rule it is that of the K tokens among themselves, times their share, and that of being among them. The
    latter counts from a difference of NOISE on: a runner that adds up a vocabulary in float32 knows it no better.
    """
    share, other = float(np.exp(source_K).sum()), float(np.exp(artifact_K).sum())
    source, artifact = among(source_K), among(artifact_K)
    told = share * float((np.exp(source) * (source - artifact)).sum())
    if abs(share - other) > NOISE:
        for one, two in ((share, other), (1 - share, 1 - other)):
            told += one * float(np.log(max(one, 1e-30) / max(two, 1e-30)))
    return max(told, 0.0)


def among(logs_K: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Log probabilities given that it is one of these K tokens."""
    return np.asarray(logs_K - np.logaddexp.reduce(logs_K), dtype=np.float64)


def measure(
    model: Any, tokenizer: PreTrainedTokenizerBase, runner: Runner, examples: Sequence[Example], budget: int
) -> Measured:
    """Ask the artifact each question and let the source ``model`` read along. ``budget`` is tokens of prompt."""
    from tinyforge.models.generate import Writer

    found, writer = Measured(), Writer(model, tokenizer, ANSWER_TOKENS)
    for example in examples:
        messages = _prompt(example)
        ids = prompt_ids(messages, tokenizer)
        if len(ids) > min(budget, writer.context - ANSWER_TOKENS):
            found.too_long.append(example.id)
            continue
        if runner.prompt_ids(messages) != ids:
            found.other_prompts.append(example.id)
        steps = runner.write(ids, ANSWER_TOKENS)
        for step, logs_V in zip(steps, _read_along(model, ids, steps), strict=True):
            found.add_place(step, logs_V)
        if example.answer:
            said = _text(tokenizer, [step.token for step in steps], stop_ids(model, tokenizer))
            own = writer.answer_all([messages])[0]
            found.scores.append((token_f1(own, example), token_f1(said, example)))
            found.clusters.append(example.cluster or example.id)
    return found


def _prompt(example: Example) -> list[Message]:
    """What stands before the answer that is scored."""
    last = max(i for i, m in enumerate(example.messages) if m.role == "assistant")
    return list(example.messages[:last])


def _read_along(model: Any, ids: Sequence[int], steps: Sequence[Step]) -> list[npt.NDArray[np.float64]]:
    """The source's log probabilities, (V,) at each of the A places, given what the artifact wrote before it."""
    import torch

    row = [*ids, *(step.token for step in steps[:-1])]
    with torch.inference_mode():
        logits_AV = model(input_ids=torch.tensor([row])).logits[0, -len(steps) :].float().numpy()
    return [log_softmax(logits_V) for logits_V in logits_AV]


def _text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], stops: set[int]) -> str:
    text: str = tokenizer.decode([token for token in ids if token not in stops], skip_special_tokens=True)
    return text


def compare_predictions(source: Predictor, artifact: Predictor, examples: Sequence[Example]) -> Measured:
    """The same for a model that does not hold a conversation: the shares of its classes, the text that it writes.

    Spans and stored responses, which have no distribution to compare, have to be the same.
    """
    from tinyforge.models.predict import TextToText

    found = Measured()
    texts = [example.question for example in examples]
    for example, own, said in zip(examples, source.predict(texts), artifact.predict(texts), strict=True):
        if own.probabilities:
            source_K = np.log(np.maximum([own.probabilities[name] for name in own.probabilities], 1e-30))
            artifact_K = np.log(np.maximum([said.probabilities[name] for name in own.probabilities], 1e-30))
            found.add_place(Step(int(artifact_K.argmax()), np.arange(len(artifact_K)), artifact_K), source_K)
        elif isinstance(source, TextToText) and isinstance(artifact, TextToText):
            written = artifact.write(example.question, ANSWER_TOKENS)
            both = (side.logits(example.question, written).numpy() for side in (source, artifact))
            for own_V, said_V in zip(*both, strict=True):
                logs_V = log_softmax(said_V)
                found.add_place(Step(int(logs_V.argmax()), np.arange(len(logs_V)), logs_V), log_softmax(own_V))
        else:
            found.kl.append(0.0)
            found.same.append(own.text == said.text)
            found.clear.append(True)
        if example.label or example.answer:
            found.scores.append((token_f1(own.text, example), token_f1(said.text, example)))
            found.clusters.append(example.cluster or example.id)
    return found


def checks(found: Measured, limits: Threshold, stops: tuple[set[int], set[int]]) -> list[Check]:
    """Every measurement with its limit. ``stops`` are the source's and the artifact's stop tokens."""
    made = [
        Check("prompts rendered otherwise", len(found.other_prompts), 0),
        Check("stop tokens that differ", len(stops[0] ^ stops[1]), 0),
        Check("places compared", len(found.kl), 1, at_most=False),
        Check("mean KL", float(np.mean(found.kl or [0])), limits.mean_kl),
        Check("max KL", max(found.kl, default=0.0), limits.max_kl),
        Check(
            "agreement where the source is clear", found.agreement()[1] if found.kl else 0.0, limits.agreement, False
        ),
    ]
    if limits.log_probability is not None:
        made.append(Check("largest difference of a log probability", found.log_probability, limits.log_probability))
    if found.scores:
        # What is surely lost: the near end of the interval, not the middle of it.
        made.append(Check("relative loss of the metric, at least", metric(found)["loss_low"], limits.metric_loss))
    return made


def metric(found: Measured, name: str = "token_f1") -> dict[str, Any]:
    """The mean of source and artifact, and the relative loss with its paired 95% interval."""
    columns = np.array(found.scores)
    source, artifact = columns.mean(0)
    result: dict[str, Any] = {"name": name, "n": len(columns), "source": float(source), "artifact": float(artifact)}
    loss = float((source - artifact) / source) if source else 0.0
    clusters = len(set(found.clusters))
    if clusters < 2 or not source or not np.ptp(columns[:, 0] - columns[:, 1]):
        return result | {"loss": loss, "loss_low": loss, "loss_high": loss}
    sums = cluster_sums(np.column_stack([columns[:, 0] - columns[:, 1], columns[:, 0]]), found.clusters)
    low, high = interval(resample(sums[:, :1], sums[:, 1:], resamples=1000, seed=0), clusters)
    return result | {"loss": loss, "loss_low": float(low[0]), "loss_high": float(high[0])}


def write_certificate(
    folder: Path, made: Sequence[Check], found: Measured, runner_speed: Any, limits: Threshold, about: dict[str, Any]
) -> dict[str, Any]:
    """``certificate.json`` in the artifact's folder, and a file named FAILED.txt where a check failed; returns it."""
    failed = [check for check in made if not check.passed]
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != FAILED)
    result: dict[str, Any] = {
        "passed": not failed,
        **about,
        "checks": [{**asdict(check), "passed": check.passed} for check in made],
        "limits_because": limits.why,
        "agreement": found.agreement()[0] if found.kl else 0.0,
        "metric": metric(found) if found.scores else None,
        "prompts_rendered_otherwise": found.other_prompts,
        "not_asked_as_too_long": found.too_long,
        "tokens_per_second": round(runner_speed.tokens_per_second, 1),
        "peak_memory_bytes": runner_speed.peak_bytes,
        "size_bytes": sum(path.stat().st_size for path in files),
        "files": {str(path.relative_to(folder)): hash_file(path) for path in files},
    }
    write_json(folder / "certificate.json", result)
    if failed:
        reasons = "\n".join(f"{c.name}: {c.value:.4g}, the limit is {c.limit:.4g}" for c in failed)
        write_text(folder / FAILED, f"This export does not say what its source says. Do not use it.\n{reasons}\n")
    return result
