"""What the sets, variants and metrics are called, in the report, the verdict and the terminal alike."""

from __future__ import annotations

from collections.abc import Iterable

SETS: dict[str, str] = {
    "wordings": "new wordings of what was taught",
    "documents": "facts it was never taught",
}
SET_HELP: dict[str, str] = {
    "wordings": "The model was trained on these facts, and is asked about them in words it has not seen. "
    "This shows whether it learned the fact or only memorised the sentence.",
    "documents": "These facts were kept out of training altogether. The weights cannot know them; "
    "only finding the right passage and reading it can answer.",
}

# Simplest first: a quote cannot invent anything and needs no model; retrieval around an unchanged model needs no
# training; a tuned model that reads can be checked against its passages, and one that recites cannot. The untuned
# model alone comes last: it is simple to run, but knows nothing of the documents.
VARIANTS: dict[str, str] = {
    "quote": "quoting the best passage",
    "base+retrieval": "the base model reading retrieved passages",
    "tuned+retrieval": "the tuned model reading retrieved passages",
    "tuned": "the tuned model alone",
    "base": "the base model alone",
}
TRAINED = ("tuned", "tuned+retrieval")
READING_ORDER = ("base", "tuned", "base+retrieval", "tuned+retrieval", "quote")
VARIANT_HELP: dict[str, str] = {
    "quote": "One or two sentences copied from the best retrieved passage. No model writes anything: "
    "this is the floor that a trained model has to beat.",
    "base": "The model as it was before training, given only the question.",
    "tuned": "The model after training on your documents, given only the question.",
    "base+retrieval": "The untrained model, given the question and the passages that were found for it.",
    "tuned+retrieval": "The trained model, given the question and the passages that were found for it.",
}

METRICS: dict[str, str] = {
    "exact_match": "Exact match",
    "token_f1": "Token F1",
    "rouge_l": "ROUGE-L",
    "chrf": "chrF",
    "perplexity": "Perplexity",
    "declined": "Declined",
}
METRIC_HELP: dict[str, str] = {
    "exact_match": "Share of answers that equal the reference word for word, "
    "leaving aside capitals, punctuation and “a”, “an”, “the”.",
    "token_f1": "How many words the answer and the reference share, from 0 (none) to 1 (all, and nothing more). "
    "The measure that the verdict rests on.",
    "rouge_l": "Like token F1, but the shared words have to come in the same order.",
    "chrf": "Like token F1 on pieces of words, so a near spelling still earns something. From 0 to 1.",
    "perplexity": "How surprised the model is by the reference answer, as the number of tokens it hesitates between. "
    "Lower is better; 1 means it would have written exactly this.",
    "declined": "Share of questions where the variant said that it does not know. "
    "Every question here has an answer, so a declined one scores 0.",
}
LOWER_IS_BETTER = ("perplexity", "declined")


def ordered(names: Iterable[str], order: Iterable[str]) -> list[str]:
    """``names`` in the given order; names that it does not know come last, as they came."""
    given, known = list(names), list(order)
    return [name for name in known if name in given] + [name for name in given if name not in known]
