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
# training; a tuned model that reads can be checked against its passages, and what writes without them cannot, whether
# prompted or tuned. The bare base comes last: it is simple to run, but knows nothing of the documents.
VARIANTS: dict[str, str] = {
    "quote": "quoting the best passage",
    "base+retrieval": "the base model reading retrieved passages",
    "tuned+retrieval": "the tuned model reading retrieved passages",
    "few-shot": "the base model shown a few examples",
    "tuned": "the tuned model alone",
    "base": "the base model alone",
}
TRAINED = ("tuned", "tuned+retrieval")
READING_ORDER = ("base", "few-shot", "tuned", "base+retrieval", "tuned+retrieval", "quote")
VARIANT_HELP: dict[str, str] = {
    "quote": "One or two sentences copied from the best retrieved passage. No model writes anything: "
    "this is the floor that a trained model has to beat.",
    "base": "The model as it was before training, given only the question; scored as it wrote.",
    "few-shot": "The untrained model, given a few questions with their answers before the question. The examples are "
    "facts that the tuned model was trained on, and never the fact that is asked about.",
    "tuned": "The model after training on your documents, given only the question; scored as it wrote.",
    "base+retrieval": "The untrained model, given the question and what was found for it. As in chat, an answer that "
    "its passages do not support gives way to the quote; “Token F1 as written” is without that.",
    "tuned+retrieval": "The trained model, given the question and what was found for it. As in chat, an answer that "
    "its passages do not support gives way to the quote; “Token F1 as written” is without that.",
}

METRICS: dict[str, str] = {
    "exact_match": "Exact match",
    "token_f1": "Token F1",
    "written_f1": "Token F1 as written",
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
    "brier": "Brier score",
    "calibration_error": "Calibration error",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU",
    "chrf": "chrF",
    "meteor": "METEOR",
    "similarity": "Similarity",
    "groundedness": "Grounded",
    "context_use": "Context use",
    "refusal_f1": "Refusal F1",
    "coherence": "Coherence",
    "distinct_1": "Distinct words",
    "distinct_2": "Distinct pairs",
    "repetition": "Repetition",
    "length_ratio": "Length ratio",
    "loss": "Loss",
    "perplexity": "Perplexity",
    "bits_per_byte": "Bits per byte",
    "quoted": "Quoted instead",
    "declined": "Declined",
    "seconds_per_answer": "Seconds per answer",
    "tokens_per_second": "Tokens per second",
}
METRIC_HELP: dict[str, str] = {
    "exact_match": "Share of answers that equal the reference word for word, "
    "leaving aside capitals, punctuation and “a”, “an”, “the”.",
    "token_f1": "How many words the answer and the reference share, from 0 (none) to 1 (all, and nothing more). "
    "The measure that the verdict rests on.",
    "written_f1": "Token F1 of what the model wrote itself, before a quote took the place of what its passages do not "
    "support.",
    "accuracy": "Share of texts that were given the right class.",
    "macro_f1": "How well each class is found, the rare ones counting as much as the frequent ones. From 0 to 1.",
    "brier": "How far the probabilities are from the truth, from 0 (sure and right) to 2 (sure and wrong).",
    "calibration_error": "How far confidence and accuracy lie apart: 0 when of the answers given with 80% "
    "confidence 80% are right, and so on.",
    "rouge_1": "Like token F1, on all words.",
    "rouge_2": "Like token F1, on pairs of words that follow each other.",
    "rouge_l": "Like token F1, but the shared words have to come in the same order.",
    "bleu": "Shared runs of one to four words over the whole set, as in machine translation. "
    "Where answers have three words or fewer it is 0.",
    "chrf": "Like token F1 on pieces of words, so a near spelling still earns something. From 0 to 1.",
    "meteor": "Shared words, also by their stem, where recall counts most and words out of order cost.",
    "similarity": "How near the answer's meaning is to the reference's, by sentence embeddings: 1 is the same.",
    "groundedness": "Share of the answer's sentences that one of its passages bears out, by words, numbers and names.",
    "context_use": "How much the answer changes when the passages are those of another question.",
    "refusal_f1": "Whether the questions without an answer are declined, and only those. From 0 to 1.",
    "coherence": "How near each sentence of an answer is to the next, by sentence embeddings.",
    "distinct_1": "Different words among all words of the answers.",
    "distinct_2": "Different pairs of words among all pairs in the answers.",
    "repetition": "Share of an answer's four-word stretches that it has said before.",
    "length_ratio": "Words of the answer for each word of the reference.",
    "loss": "Nats per token of the reference answer; perplexity is another way to write it.",
    "perplexity": "How surprised the model is by the reference answer, as the number of tokens it hesitates between. "
    "Lower is better; 1 means it would have written exactly this.",
    "bits_per_byte": "The same surprise per byte of text, so that models with different tokenizers can be compared.",
    "quoted": "Share of questions where what the model wrote was empty, a refusal, or not supported by its passages, "
    "so that the best passage is quoted instead, as in chat.",
    "declined": "Share of questions where the variant said that it does not know. "
    "Declining a question that has an answer scores 0.",
    "seconds_per_answer": "A batch's time divided among its answers, on this machine.",
    "tokens_per_second": "Tokens written per second, reading the prompts included.",
}
LOWER_IS_BETTER = (
    *("perplexity", "declined", "loss", "bits_per_byte", "brier", "calibration_error", "repetition"),
    "seconds_per_answer",
)
NO_BEST = ("declined", "quoted", "length_ratio", "coherence", "distinct_1", "distinct_2", "context_use")
"""Metrics that describe and do not rank: more of them is neither better nor worse."""


def ordered(names: Iterable[str], order: Iterable[str]) -> list[str]:
    """``names`` in the given order; names that it does not know come last, as they came."""
    given, known = list(names), list(order)
    return [name for name in known if name in given] + [name for name in given if name not in known]
