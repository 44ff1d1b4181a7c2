"""The 5-gram baseline on a tokenised corpus: `python benchmarks/ngram.py FOLDER [--json FILE]`.

FOLDER holds `train.tok.xz`, `valid.tok.xz` and `test.tok.xz`: one sentence a line, words apart by spaces. Context is
reset at each line, `</s>` is scored, `<unk>` is an ordinary word. The weight of the cache is fitted on valid.
"""

from __future__ import annotations

import argparse
import json
import lzma
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from throughtime.ngram import KneserNey, UnigramCache, mix, mixture_weights

END = "</s>"
UNKNOWN = "<unk>"


def main() -> None:
    """Fit, score and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where train.tok.xz, valid.tok.xz and test.tok.xz are")
    parser.add_argument("--order", type=int, default=5)
    parser.add_argument("--half-life", type=float, default=200, help="of the cache, in words")
    parser.add_argument("--json", type=Path, help="a file for the same figures")
    choices = parser.parse_args()
    figures = measure(choices.folder, order=choices.order, half_life_words=choices.half_life)
    for name, value in figures.items():
        print(f"{name:32}{value:>14,.2f}" if isinstance(value, float) else f"{name:32}{value:>14,}")
    if choices.json:
        choices.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def measure(folder: Path, *, order: int, half_life_words: float) -> dict[str, float | int]:
    """Every figure of the table; perplexities are without context carried across sentences, but for the cache's."""
    vocabulary: dict[str, int] = {}
    for word in words(folder, "train"):
        vocabulary.setdefault(word, len(vocabulary))
    ids = {part: encode(words(folder, part), vocabulary) for part in ("train", "valid", "test")}

    start = time.perf_counter()
    model = KneserNey.fit(ids["train"], num_words=len(vocabulary), end_ids=[vocabulary[END]], order=order)
    fit_seconds = time.perf_counter() - start

    cache = UnigramCache(len(vocabulary), half_life_words)
    models = {
        part: [np.exp(model.log_probabilities(ids[part])), cache.target_probabilities(ids[part])]
        for part in ("valid", "test")
    }
    weights = mixture_weights(models["valid"])
    return {
        "words in the vocabulary": len(vocabulary),
        "words of training": len(ids["train"]),
        f"n-grams up to order {order}": sum(model.num_ngrams),
        "fit seconds": fit_seconds,
        "valid perplexity": perplexity(models["valid"][0]),
        "test perplexity": perplexity(models["test"][0]),
        "weight of the cache": float(weights[1]),
        "valid perplexity with cache": perplexity(mix(models["valid"], weights)),
        "test perplexity with cache": perplexity(mix(models["test"], weights)),
    }


def words(folder: Path, part: str) -> Iterator[str]:
    """The words of a part, with the end of each sentence."""
    with lzma.open(folder / f"{part}.tok.xz", "rt", encoding="utf-8") as lines:
        for line in lines:
            yield from line.split()
            yield END


def encode(text: Iterator[str], vocabulary: dict[str, int]) -> npt.NDArray[np.uint32]:
    """The id of each word, that of `<unk>` for one that is not in the vocabulary."""
    return np.fromiter((vocabulary.get(word, vocabulary[UNKNOWN]) for word in text), dtype=np.uint32)


def perplexity(probabilities: npt.NDArray[np.float64]) -> float:
    """Exp of the mean negative log probability."""
    return float(np.exp(-np.log(probabilities).mean()))


if __name__ == "__main__":
    main()
