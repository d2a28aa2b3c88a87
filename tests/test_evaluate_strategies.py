"""The sampling study: its measures by hand, and every strategy on a real small model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from little import make_lively_base
from tinyforge.cli import main
from tinyforge.dataset.render import prompt_ids
from tinyforge.errors import InputError
from tinyforge.evaluate.strategies import STRATEGIES, Written, compare_strategies, overlap
from tinyforge.models.contrastive import contrastive_search
from tinyforge.models.generate import Writer
from tinyforge.pipeline.sampling import _open, beam_search, study
from tinyforge.recipe import load_config
from tinyforge.records import Example, Message

CONFIG = load_config(None, ["evaluate.max_new_tokens=12", "train.threads=1", "train.precision=fp32"])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lively_base(tmp_path_factory.mktemp("base"))


def example(question: str, answer: str) -> Example:
    return Example(question, (Message("user", question), Message("assistant", answer)))


def test_the_measures_by_hand() -> None:
    asked = [example("one?", "red saw"), example("two?", "")]  # the second has no reference
    written = {
        "greedy": Written([["red saw", "b c b c b c b"]], 10, 2.0),
        "top-p 0.9": Written([["red saw", "a b"], ["blue saw", "x y"]], 8, 4.0),
    }
    greedy, drawn = compare_strategies(asked, written)
    assert greedy["token_f1"] == 1.0 and greedy["overlap"] == 1.0 and greedy["tokens_per_second"] == 5.0
    # pairs: "red saw"; "b c" three times and "c b" three times -> 3 of 7 differ
    assert greedy["distinct_2"] == pytest.approx(3 / 7)
    # four-word stretches of "b c b c b c b": bcbc cbcb bcbc cbcb -> half were said before; none in the other answer
    assert greedy["repetition"] == pytest.approx(0.25)
    assert drawn["token_f1"] == pytest.approx((1.0 + 0.5) / 2)
    assert drawn["overlap"] == pytest.approx((0.5 + 0.0) / 2)  # "saw" of two words; nothing
    assert drawn["seeds"] == 2 and drawn["tokens_per_second"] == 2.0
    assert compare_strategies(asked[1:], {"greedy": Written([["b c"]], 2, 0.0)})[0]["token_f1"] is None
    assert overlap([["a"]]) == 1.0


def test_a_study_of_a_real_model_repeats_itself(base: Path) -> None:
    found = study(str(base), ["What is a loan?", "Tell me."], "", 2, CONFIG)
    rows = {row["name"]: row for row in found["strategies"]}
    assert set(rows) == {strategy.name for strategy in STRATEGIES}
    assert all(len(row["answers"]) == row["seeds"] for row in rows.values())
    assert rows["greedy"]["seeds"] == rows["beam 4"]["seeds"] == 1 and rows["top-k 40"]["seeds"] == 2
    assert rows["temperature 1.3"]["answers"][0] != rows["temperature 1.3"]["answers"][1]
    assert rows["temperature 1.3"]["overlap"] < 1.0 == rows["greedy"]["overlap"]
    assert rows["greedy"]["token_f1"] is None  # no references were given
    again = study(str(base), ["What is a loan?", "Tell me."], "", 2, CONFIG)
    assert [row["answers"] for row in again["strategies"]] == [row["answers"] for row in found["strategies"]]
    other = study(str(base), ["What is a loan?", "Tell me."], "", 2, CONFIG.model_copy(update={"seed": 7}))
    assert [row["answers"] for row in other["strategies"]] != [row["answers"] for row in found["strategies"]]
    assert found["not_offered"] == {} and rows["contrastive"]["seeds"] == 1


def test_one_beam_is_greedy_and_four_are_not(base: Path) -> None:
    writer = _open(str(base), CONFIG)
    prompts = [writer.prompt(f"What is {name}?", []) for name in ("a loan", "a fee", "a tool")]
    greedy = [(answer.text.strip(), answer.tokens) for answer in writer.write_all(prompts)]
    assert [beam_search(writer, prompt, 1) for prompt in prompts] == greedy
    assert [beam_search(writer, prompt, 4) for prompt in prompts] != greedy


def recomputed(writer: Writer, prompt: list[Message], candidates: int, penalty: float) -> tuple[str, int]:
    """Contrastive search as its equation says it: every candidate's whole text is read anew, without a cache."""
    ids = prompt_ids(prompt, writer.tokenizer)
    start = len(ids)
    while len(ids) < start + writer.max_new_tokens:
        with torch.inference_mode():
            shares = writer.model(torch.tensor([ids])).logits[0, -1].softmax(-1)
            scored = []
            for token in shares.topk(candidates).indices.tolist():
                states = writer.model(torch.tensor([[*ids, token]]), output_hidden_states=True).hidden_states[-1][0]
                alike = max(float(torch.cosine_similarity(states[-1], state, dim=0)) for state in states[:-1])
                scored.append(((1 - penalty) * float(shares[token]) - penalty * alike, token))
        ids.append(max(scored)[1])
    return str(writer.tokenizer.decode(ids[start:])).strip(), len(ids) - start


def test_contrastive_search_is_what_its_equation_says(base: Path) -> None:
    writer = _open(str(base), CONFIG)
    prompts = [writer.prompt(f"What is {name}?", []) for name in ("a loan", "a fee", "a tool")]
    greedy = [(answer.text.strip(), answer.tokens) for answer in writer.write_all(prompts)]
    found = [contrastive_search(writer, prompt) for prompt in prompts]
    assert found == [recomputed(writer, prompt, 4, 0.6) for prompt in prompts] != greedy
    assert [contrastive_search(writer, prompt, penalty=0.0) for prompt in prompts] == greedy  # the control


def test_what_cannot_be_searched_says_why_and_the_rest_is_shown(
    base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import LlamaForCausalLM

    monkeypatch.setattr(LlamaForCausalLM, "_is_stateful", True)
    assert main(["sampling", str(base), "Hi", "--seeds", "1", "--set", "evaluate.max_new_tokens=8"]) == 0
    shown = capsys.readouterr().out
    assert "contrastive: not offered; this model keeps a state" in shown and "beam 4: " in shown


def test_wrong_input_is_named(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a prompt is empty"):
        study(str(base), [" "], "", 1, CONFIG)
    with pytest.raises(InputError, match="--seeds 0"):
        study(str(base), ["Hi"], "", 0, CONFIG)
    with pytest.raises(InputError, match="no-such"):
        study("no-such", ["Hi"], "", 1, CONFIG)


def test_the_command_prints_json_and_a_table(base: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "What is a loan?", "answer": "A loan."}\n{"question": "A fee?", "answer": "Two."}\n')
    options = ["--seeds", "1", "--set", "evaluate.max_new_tokens=8"]
    assert main(["sampling", str(base), "--data", str(rows), "--json", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {p["reference"] for p in found["prompts"]} == {"A loan.", "Two."}
    assert all(row["token_f1"] is not None for row in found["strategies"])
    assert main(["sampling", str(base), "What is a loan?", *options]) == 0
    shown = capsys.readouterr().out
    assert "contrastive: of the 4 likeliest" in shown and "beam 4" in shown and "What is a loan?" in shown
