"""Train a small word predictor on a text of your own, and ask it."""

import tempfile
from pathlib import Path

import throughtime

sentences = [
    f"{who} {did} {what} {when}.\n"
    for who in ("The old man", "My sister", "A sailor")
    for did in ("lit", "found", "mended")
    for what in ("the lamp", "his pipe", "a letter")
    for when in ("at night", "after dinner")
] * 12

with tempfile.TemporaryDirectory() as folder:
    text = Path(folder) / "book.txt"
    text.write_text("".join(sentences), encoding="utf-8")

    run = throughtime.train(text, out=Path(folder) / "run", epochs=6, hidden_size=32, embedding_size=16, num_streams=8)
    print(f"perplexity of the test part: {run.test['next'].perplexity:.1f}")

    predictor = throughtime.load(run.path)
    print(predictor.next("The old man lit his"))
    print(predictor.fill("My sister ___ the lamp at night.", top=3))
    print(predictor.score("A sailor mended a letter after dinner.").log_probability)
