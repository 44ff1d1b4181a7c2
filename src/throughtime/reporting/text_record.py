"""The record of what a trained network makes of words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from throughtime.storage import Record

__all__ = ["TextRecord"]


@dataclass(frozen=True)
class TextRecord(Record):
    """A network beside the counting model of its training text, on its own test text.

    Attributes:
        rows: one for each predictor: "name", "context", "perplexity", "next_top1", "next_top5", "blank_top1",
            "blank_top5", shares of "next_words" and "blank_words" random words, numbers that older records lack; None
            where it has none.
        blanks: real sentences with a blank: "words", of the sentence, the blank's own among them; "blank", its place;
            "guesses", the likeliest words with their probabilities; "influence", of each word by gradient times input;
            "left_out", by leaving it out, in nats; None where it was not measured.
        by_place: perplexity by the place in the sentence: "bin", "num_words", and for each predictor its perplexity.
        by_frequency: the same by how often the word stands in the training text.
        unknown_rate: share of the test words that the vocabulary does not hold.
        num_words: words of the test text that were scored.
    """

    record_kind: ClassVar[str] = "text"
    schema_version: ClassVar[int] = 1

    rows: tuple[dict[str, Any], ...]
    blanks: tuple[dict[str, Any], ...]
    by_place: tuple[dict[str, Any], ...]
    by_frequency: tuple[dict[str, Any], ...]
    unknown_rate: float
    num_words: int
