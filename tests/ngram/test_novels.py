"""The baseline on real novels gives the figures that were published with them."""

import lzma
from pathlib import Path

import numpy as np
import pytest

from throughtime.ngram import KneserNey, UnigramCache, mix, mixture_weights

NOVELS = Path(__file__).parents[2] / "../shared/data/gutenberg-novels"
pytestmark = pytest.mark.skipif(not NOVELS.is_dir(), reason=f"the novels to measure on are not at {NOVELS}")


def words_of(part):
    with lzma.open(NOVELS / f"{part}.tok.xz", "rt", encoding="utf-8") as lines:
        return [word for line in lines for word in [*line.split(), "</s>"]]


def perplexity(probabilities):
    return np.exp(-np.log(probabilities).mean())


def test_perplexities_are_the_published_ones():
    train = words_of("train")
    numbers = {word: number for number, word in enumerate(dict.fromkeys(train))}
    ids = {
        part: np.array([numbers.get(word, numbers["<unk>"]) for word in words], dtype=np.uint16)
        for part, words in (("train", train), ("valid", words_of("valid")), ("test", words_of("test")))
    }
    model = KneserNey.fit(ids["train"], num_words=len(numbers), end_ids=[numbers["</s>"]])
    valid, test = (np.exp(model.log_probabilities(ids[part])) for part in ("valid", "test"))
    assert perplexity(valid) == pytest.approx(105.84, abs=0.5)
    assert perplexity(test) == pytest.approx(107.84, abs=0.5)

    cache = UnigramCache(len(numbers))
    weights = mixture_weights([valid, cache.target_probabilities(ids["valid"])])
    assert perplexity(mix([test, cache.target_probabilities(ids["test"])], weights)) < 98.69 + 0.5
