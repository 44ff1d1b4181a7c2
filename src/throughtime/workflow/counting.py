"""The 5-gram model of a run's training text, counted once and kept beside it."""

from __future__ import annotations

from throughtime.ngram import KneserNey
from throughtime.storage import RunFolder
from throughtime.text import Corpus, open_corpus

__all__ = ["count_ngram", "ngram_of"]

ORDER = 5
FILE = "ngram.safetensors"


def count_ngram(corpus: Corpus) -> KneserNey:
    """Interpolated modified Kneser-Ney of order 5 over the training part of a corpus."""
    vocabulary = corpus.vocabulary
    return KneserNey.fit(corpus.train, num_words=len(vocabulary), end_ids=vocabulary.end_ids, order=ORDER)


def ngram_of(run: RunFolder) -> KneserNey:
    """The model of a run: read where it was kept, else counted and kept (where the run can be written)."""
    path = run.path / FILE
    if path.exists():
        return KneserNey.load(path)
    model = count_ngram(open_corpus(run.corpus_path))
    model.save(path)
    return model
