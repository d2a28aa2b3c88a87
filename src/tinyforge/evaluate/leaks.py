"""How much of an evaluation set was already trained on.

A question has leaked when training holds its twin, found in four ways, each on words without case and punctuation:

    exact     the same question
    ngrams    thirteen words of the question in a row in one trained row (Brown et al. 2020, arXiv:2005.14165, app. C)
    near      a question whose character 5-grams overlap by a Jaccard of at least 0.8 (MinHash; Broder 1997)
    similar   a question of nearly the same meaning: cosine of the sentence embeddings of at least 0.95

The last three are twins only where the answers agree as well (token F1 of at least 0.8) or the trained row is running
text: questions made alike about different facts are no help to each other. Where question and row name the same fact,
the set asks on purpose in new words about what was trained. Nearness in meaning is then what was wanted, and a long
name of the matter stands in both of necessity; only the same question and a near one count.

Training is read once, in blocks, against an index of the questions: memory grows with the questions alone.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from tinyforge.evaluate.metrics.squad import normalise, word_f1
from tinyforge.records import Example

if TYPE_CHECKING:
    from tinyforge.retrieve.embed import Embedder, Vectors

GRAM = 13  # words
SHINGLE = 5  # characters
NEAR = 0.8  # Jaccard
SIMILAR = 0.95  # cosine
AGREE = 0.8  # token F1 of two answers
LEAKED_SHARE = 0.01  # of the questions, from which on a set is called leaked
KINDS = ("exact", "ngrams", "near", "similar")
_PERMUTATIONS, _BANDS = 128, 32
_BLOCK = 1024
_SHOWN = 300  # characters of a twin
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Leak:
    """A question with its closest twin in training: by the first of KINDS that finds one."""

    id: str
    question: str
    kind: str
    trained: str


@dataclass(frozen=True, slots=True)
class LeakReport:
    """``kinds`` counts the questions with a twin of each kind; ``taught`` those on facts that are trained on purpose;
    ``answers_seen`` those whose answer, word for word, is the answer of a trained row."""

    questions: int
    training: int
    kinds: dict[str, int]
    taught: int
    answers_seen: int
    leaks: tuple[Leak, ...]

    @property
    def share(self) -> float:
        return len(self.leaks) / self.questions if self.questions else 0.0

    @property
    def leaked(self) -> bool:
        """Whether the set as a whole is called leaked: one question in a hundred or more."""
        return bool(self.leaks) and self.share >= LEAKED_SHARE

    @property
    def verdict(self) -> str:
        return "leaked" if self.leaked else "nearly clean" if self.leaks else "clean"

    def line(self) -> str:
        """One line to stand beside a score."""
        found = f"{self.verdict}: {len(self.leaks)} of {self.questions} questions have a twin in training"
        counts = ", ".join(f"{kind} {count}" for kind, count in self.kinds.items() if count)
        taught = f"; {self.taught} ask in new words about trained facts" if self.taught else ""
        return f"{found}{f' ({counts})' if self.leaks else ''}{taught}"

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "leaked": self.leaked,
            "share": self.share,
            "questions": self.questions,
            "training": self.training,
            "kinds": dict(self.kinds),
            "taught": self.taught,
            "answers_seen": self.answers_seen,
            "leaks": [asdict(leak) for leak in self.leaks],
        }


def leaks(questions: Sequence[Example], training: Iterable[Example], embedder: Embedder | None = None) -> LeakReport:
    """What of ``questions`` is in ``training``; ``embedder`` is the offline MiniLM unless given."""
    from tinyforge.retrieve.embed import Embedder

    index = _Index(questions, embedder or Embedder())
    facts: set[str] = set()
    answers: set[str] = set()
    rows = 0
    for block in _blocks(training):
        rows += len(block)
        facts.update(row.fact for row in block if row.fact)
        answers.update(_plain(answer_of(row)) for row in block)
        index.meet(block)
    return LeakReport(
        questions=len(questions),
        training=rows,
        kinds=dict(Counter({kind: len(index.found[kind]) for kind in KINDS})),
        taught=sum(bool(example.fact) and example.fact in facts for example in questions),
        answers_seen=sum(_plain(answer_of(example)) in answers for example in questions),
        leaks=tuple(_leaks(questions, index.found)),
    )


def _leaks(questions: Sequence[Example], found: dict[str, dict[int, str]]) -> Iterator[Leak]:
    for i, example in enumerate(questions):
        kind = next((kind for kind in KINDS if i in found[kind]), None)
        if kind is not None:
            yield Leak(example.id, asked(example), kind, found[kind][i])


def _blocks(rows: Iterable[Example]) -> Iterator[list[Example]]:
    source = iter(rows)
    while block := list(islice(source, _BLOCK)):
        yield block


def asked(example: Example) -> str:
    """What an example asks, without the passages that it may come with; running text is taken whole."""
    return example.text or str(example.metadata.get("question", example.question))


def answer_of(example: Example) -> str:
    """What counts as its answer: the class of a labelled example, nothing for running text."""
    return example.label or ("" if example.text else example.answer)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _plain(text: str) -> str:
    return " ".join(_words(text))


def _grams(text: str) -> set[str]:
    found = _words(text)
    return {" ".join(found[i : i + GRAM]) for i in range(len(found) - GRAM + 1)}


def _signature(text: str) -> Any:
    from rensa import RMinHash

    plain = _plain(text)
    signature = RMinHash(num_perm=_PERMUTATIONS, seed=0)
    signature.update([plain[i : i + SHINGLE] for i in range(max(1, len(plain) - SHINGLE + 1))])
    return signature


class _Index:
    """The questions, ready to be met by rows of training; ``found[kind][question]`` is the first twin's text."""

    def __init__(self, questions: Sequence[Example], embedder: Embedder) -> None:
        from rensa import RMinHashLSH

        self.found: dict[str, dict[int, str]] = {kind: {} for kind in KINDS}
        self._questions, self._embedder = questions, embedder
        self._exact: dict[str, list[int]] = defaultdict(list)
        self._grams: dict[str, list[int]] = defaultdict(list)
        self._near = RMinHashLSH(threshold=NEAR, num_perm=_PERMUTATIONS, num_bands=_BANDS)
        self._signatures = [_signature(asked(example)) for example in questions]
        for i, example in enumerate(questions):
            self._exact[_plain(asked(example))].append(i)
            for gram in _grams(asked(example)):
                self._grams[gram].append(i)
            self._near.insert(i, self._signatures[i])
        self._answers = _Agreeing([answer_of(example) for example in questions])
        self._vectors: dict[str, Vectors] = {}

    def meet(self, rows: Sequence[Example]) -> None:
        for row in rows:
            self._meet_words(row)
        self._meet_meaning([row for row in rows if not row.text])

    def _meet_words(self, row: Example) -> None:
        whole = row.text or " ".join(message.content for message in row.messages)
        for gram in _grams(whole) & self._grams.keys():
            self._note("ngrams", [i for i in self._grams[gram] if not self._same_fact(i, row)], row)
        for i in self._exact.get(_plain(asked(row)), ()):
            self.found["exact"].setdefault(i, asked(row)[:_SHOWN])
        signature = _signature(asked(row))
        close = [i for i in self._near.query(signature) if signature.jaccard(self._signatures[i]) >= NEAR]
        self._note("near", close, row)

    def _meet_meaning(self, rows: Sequence[Example]) -> None:
        """Only what could be a twin is embedded: a question and a row whose answers agree, of different facts."""
        pairs = [
            (i, asked(row))
            for row in rows
            for i in self._answers.to(answer_of(row))
            if i not in self.found["similar"] and not self._same_fact(i, row)
        ]
        self._embed(self._vectors, [asked(self._questions[i]) for i, _ in pairs])
        near: dict[str, Vectors] = {}
        self._embed(near, [text for _, text in pairs])
        for i, text in pairs:
            if float(self._vectors[asked(self._questions[i])] @ near[text]) >= SIMILAR:
                self.found["similar"].setdefault(i, text[:_SHOWN])

    def _embed(self, known: dict[str, Vectors], texts: Sequence[str]) -> None:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        known.update(zip(new, self._embedder.embed(new), strict=True))

    def _same_fact(self, place: int, row: Example) -> bool:
        return bool(row.fact) and row.fact == self._questions[place].fact

    def _note(self, kind: str, places: Iterable[int], row: Example) -> None:
        """Those of the questions whose answer agrees with the row's."""
        for i in places:
            if i not in self.found[kind] and self._agrees(self._questions[i], row):
                self.found[kind][i] = asked(row)[:_SHOWN]

    @staticmethod
    def _agrees(question: Example, row: Example) -> bool:
        return bool(row.text) or word_f1(answer_of(question), answer_of(row)) >= AGREE


class _Agreeing:
    """Finds which of the answers agree with another, by prefix filtering (Chaudhuri et al. 2006).

    A token F1 of 0.8 needs two thirds of an answer's words, so the other shares one of its rarest third and one more.
    """

    def __init__(self, answers: Sequence[str]) -> None:
        self._places: dict[str, list[int]] = defaultdict(list)
        for i, answer in enumerate(answers):
            self._places[normalise(answer)].append(i)
        frequency = Counter(word for answer in self._places for word in set(answer.split()))
        self._by_word: dict[str, set[str]] = defaultdict(set)
        for answer in self._places:
            rarest = sorted(answer.split(), key=lambda word: (frequency[word], word)) or [""]
            for word in rarest[: len(rarest) // 3 + 1]:
                self._by_word[word].add(answer)

    def to(self, answer: str) -> list[int]:
        """Places of the answers that agree with this one, ascending."""
        close = {other for word in normalise(answer).split() or [""] for other in self._by_word.get(word, ())}
        return sorted(i for other in close if word_f1(other, answer) >= AGREE for i in self._places[other])
