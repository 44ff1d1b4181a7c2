"""One question to a predictor and its answer: the blanks of a sentence, or its next word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from throughtime.errors import InputError
from throughtime.text import BLANK
from throughtime.workflow.predictor import Guesses, Predictor

__all__ = ["Prediction", "predict_sentence"]


@dataclass(frozen=True)
class Prediction:
    """What a predictor says of a sentence.

    Attributes:
        sentence: as it was asked.
        asks_for: "blank" or "next".
        guesses: (word, probability), likeliest first; with several blanks, their words separated by spaces.
        completed: the sentence with each guess in place.
        unknown_words: words of the sentence that the vocabulary does not hold; they were read as `<unk>`.
    """

    sentence: str
    asks_for: str
    guesses: Guesses
    completed: tuple[str, ...]
    unknown_words: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        guesses = [
            {"word": word, "probability": probability, "sentence": sentence}
            for (word, probability), sentence in zip(self.guesses, self.completed, strict=True)
        ]
        return {
            "sentence": self.sentence,
            "asks_for": self.asks_for,
            "guesses": guesses,
            "unknown_words": list(self.unknown_words),
        }


def predict_sentence(predictor: Predictor, sentence: str, *, top: int = 5, **mixed: float) -> Prediction:
    """Fill the blanks of a sentence, or without one guess its next word.

    Args:
        predictor: the trained network.
        sentence: the words, with ___ for each blank.
        top: how many guesses.
        mixed: the weights that `Predictor.next` takes.

    Raises:
        InputError: if the model cannot answer that, or a mixture is asked for a blank.
    """
    unknown = predictor.unknown_words(sentence)
    if BLANK not in sentence:
        guesses = predictor.next(sentence, top, **mixed)
        completed = tuple(predictor.filled(f"{sentence} {BLANK}", [word]) for word, _ in guesses)
        return Prediction(sentence, "next", guesses, completed, unknown)
    if any(mixed.values()):
        raise InputError("n-gram and caches are mixed into the next word only: leave them out for a blank ___")
    guesses = predictor.fill(sentence, top)
    completed = tuple(predictor.filled(sentence, words.split(" ")) for words, _ in guesses)
    return Prediction(sentence, "blank", guesses, completed, unknown)
