"""A made text, and choices with which a network trains in a second."""

from __future__ import annotations

import random
from typing import Any

__all__ = ["OPTIONS", "TINY", "made_text"]

TINY: dict[str, Any] = {
    "hidden_size": 8,
    "embedding_size": 8,
    "window": 6,
    "num_streams": 4,
    "min_count": 1,
    "threads": 1,
    "device": "cpu",
    "precision": "float32",
}
"""Choices with which a network trains in a second."""

OPTIONS = [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", str(value))]
"""The same for the command line."""


def made_text(num_sentences: int = 400, seed: int = 0) -> str:
    """Sentences of a small grammar, in paragraphs: something to learn, and nothing borrowed."""
    draw = random.Random(seed)
    subjects = ("The old man", "A young woman", "My sister", "The captain", "Nobody")
    verbs = ("lit", "dropped", "found", "mended", "forgot")
    objects = ("his pipe", "the lamp", "a letter", "the boat", "her keys")
    places = ("in the garden", "at night", "by the river", "after dinner", "on Monday")
    lines: list[str] = []
    for number in range(num_sentences):
        sentence = f"{draw.choice(subjects)} {draw.choice(verbs)} {draw.choice(objects)} {draw.choice(places)}."
        lines.append(sentence + ("\n\n" if number % 7 == 6 else "\n"))
    return "".join(lines)
