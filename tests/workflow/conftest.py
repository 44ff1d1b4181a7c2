"""One small run of each kind, trained once for all tests here."""

from __future__ import annotations

from pathlib import Path

import pytest

import throughtime
from tiny import TINY, made_text

CHOICES = TINY | {"hidden_size": 24, "embedding_size": 16, "learning_rate": 0.02, "dropout": 0.1}


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run folders by model."""
    folder = tmp_path_factory.mktemp("runs")
    text = folder / "book.txt"
    text.write_text(made_text(1200), encoding="utf-8")
    for model in ("recurrent", "window", "cloze"):
        throughtime.train(text, out=folder / model, model=model, epochs=3, **CHOICES)
    return {model: folder / model for model in ("recurrent", "window", "cloze")}
