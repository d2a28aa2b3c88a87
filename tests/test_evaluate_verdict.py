from __future__ import annotations

from tinyforge.evaluate.verdict import Verdict, verdict
from tinyforge.records import Score

SETS = ("wordings", "documents")
MARGIN = 0.06


def judge(margin: float = MARGIN, **means: tuple[float, float]) -> Verdict:
    """The verdict on token F1 means given as (wordings, documents), every difference within ``margin``."""
    named = {"few-shot" if name == "few_shot" else name.replace("_", "+"): pair for name, pair in means.items()}
    scores = {
        name: {variant: {"token_f1": Score(pair[place], 0, 1, 100)} for variant, pair in named.items()}
        for place, name in enumerate(SETS)
    }
    differences = {}
    for name in (*SETS, "both"):
        value = {v: sum(p) / 2 if name == "both" else p[SETS.index(name)] for v, p in named.items()}
        differences[name] = {
            a: {b: Score(d := value[a] - value[b], d - margin, d + margin, 100) for b in named if b != a} for a in named
        }
    return verdict(scores, differences)


def test_tuning_helped_and_its_reader_is_chosen() -> None:
    found = judge(
        base=(0.05, 0.05), tuned=(0.55, 0.08), base_retrieval=(0.2, 0.2), tuned_retrieval=(0.8, 0.7), quote=(0.6, 0.6)
    )
    assert found.text == (
        "Tuning helped: on new wordings of what was taught, token F1 rose from 0.05 to 0.55 "
        "(+0.50, 95% interval +0.44 to +0.56). Chat will use tuned+retrieval (the tuned model reading retrieved "
        "passages): the highest token F1 over both sets, 0.75."
    )
    assert found.choice == "tuned+retrieval"
    assert found.reasons == (
        "On facts it was never taught, tuned is not measurably different from base: 0.08 against 0.05 "
        "(+0.03, 95% interval -0.03 to +0.09).",
        "On new wordings of what was taught, tuned+retrieval beats base+retrieval: 0.80 against 0.20 "
        "(+0.60, 95% interval +0.54 to +0.66).",
        "On facts it was never taught, tuned+retrieval beats base+retrieval: 0.70 against 0.20 "
        "(+0.50, 95% interval +0.44 to +0.56).",
        "On new wordings of what was taught, tuned+retrieval beats quote: 0.80 against 0.60 "
        "(+0.20, 95% interval +0.14 to +0.26).",
        "On facts it was never taught, tuned+retrieval beats quote: 0.70 against 0.60 "
        "(+0.10, 95% interval +0.04 to +0.16).",
    )


def test_a_simpler_variant_wins_when_it_is_not_measurably_behind() -> None:
    means = {"base": (0.05, 0.05), "tuned": (0.55, 0.08), "tuned_retrieval": (0.7, 0.68), "quote": (0.66, 0.66)}
    found = judge(**means)
    assert found.choice == "quote"
    assert found.text.startswith("Tuning helped: ")
    assert "it is not measurably behind tuned+retrieval at 0.69 (+0.03, 95% interval -0.03 to +0.09)" in found.text
    assert judge(margin=0.02, **means).choice == "tuned+retrieval"


def test_small_steps_do_not_add_up_to_a_large_loss() -> None:
    # quote ~ base+retrieval ~ tuned+retrieval as neighbours, but quote is clearly behind the best
    found = judge(
        base=(0, 0), tuned=(0.5, 0), quote=(0.5, 0.5), base_retrieval=(0.55, 0.55), tuned_retrieval=(0.6, 0.6)
    )
    assert found.choice == "base+retrieval"


def test_retrieval_alone_is_better() -> None:
    found = judge(
        base=(0.05, 0.05), tuned=(0.5, 0.06), base_retrieval=(0.3, 0.3), tuned_retrieval=(0.4, 0.4), quote=(0.7, 0.68)
    )
    assert found.text.startswith(
        "Retrieval alone is better: quoting the best passage reaches a token F1 of 0.69 over both sets, "
        "the tuned model reading retrieved passages 0.40 (+0.29, 95% interval +0.23 to +0.35). Chat will use quote"
    )
    assert found.reasons[0].startswith("Tuning helped: ")
    assert "On facts it was never taught, tuned+retrieval is behind quote" in found.reasons[-1]


def test_no_measurable_change_and_worse() -> None:
    same = judge(base=(0.30, 0.3), tuned=(0.33, 0.3), quote=(0.7, 0.7))
    assert same.text.startswith(
        "No measurable change: on new wordings of what was taught, token F1 went from 0.30 to 0.33 "
        "(+0.03, 95% interval -0.03 to +0.09). Chat will use quote"
    )
    worse = judge(base=(0.50, 0.3), tuned=(0.2, 0.3), quote=(0.7, 0.7))
    assert worse.text.startswith("Tuning made it worse: ")
    assert "fell from 0.50 to 0.20 (-0.30, 95% interval -0.36 to -0.24)" in worse.text


def test_without_retrieval_only_what_was_asked_is_spoken_of() -> None:
    found = judge(base=(0.1, 0.1), tuned=(0.6, 0.2))
    assert found.choice == "tuned"
    assert len(found.reasons) == 1
    assert "retrieval" not in found.text + found.reasons[0]


def test_prompting_is_enough_only_where_that_is_shown() -> None:
    means = {
        "base": (0.05, 0.05),
        "tuned": (0.5, 0.3),
        "few_shot": (0.5, 0.32),
        "base_retrieval": (0.3, 0.3),
        "tuned_retrieval": (0.39, 0.39),
    }
    found = judge(margin=0.02, **means)
    assert found.text.startswith(
        "Prompting is enough: the base model shown a few examples reaches a token F1 of 0.41 over both sets, "
        "the tuned model alone 0.40 (+0.01, 95% interval -0.01 to +0.03)."
    )
    assert found.reasons[0].startswith("Tuning helped: ")
    assert found.choice == "few-shot"  # nothing that is simpler is as good
    wide = judge(margin=0.2, **means)  # the same means, but too few questions to tell
    assert wide.text.startswith("Tuning helped: ")


def test_prompting_is_better() -> None:
    found = judge(base=(0.05, 0.05), tuned=(0.3, 0.1), few_shot=(0.6, 0.5), quote=(0.4, 0.4))
    assert found.text.startswith("Prompting is better: the base model shown a few examples reaches")
    assert found.choice == "few-shot" and "Chat will use few-shot (the base model shown" in found.text


def test_what_was_forgotten_is_told_beside_the_gain() -> None:
    lost, kept = ["general text takes 43% more bits per byte (1.94 before, 2.78 after)"], ["it follows as before"]
    scores = {"wordings": {v: {"token_f1": Score(x, 0, 1, 9)} for v, x in (("base", 0.1), ("tuned", 0.6))}}
    gain = {"tuned": {"base": Score(0.5, 0.4, 0.6, 9)}, "base": {"tuned": Score(-0.5, -0.6, -0.4, 9)}}
    found = verdict(scores, {"wordings": gain, "both": gain}, forgotten=(lost, kept))
    assert found.text.startswith("Tuning helped: on new wordings")
    assert "Tuning cost the model some of what it could do: general text takes 43% more bits per byte" in found.text
    assert found.reasons[-1] == "No forgetting was measured here: it follows as before."
    assert "cost" not in verdict(scores, {"wordings": gain, "both": gain}).text
