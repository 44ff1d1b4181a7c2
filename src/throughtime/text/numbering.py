"""One pass over a text larger than memory: its words as numbers in a file, and the vocabulary chosen afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from throughtime.errors import InputError
from throughtime.text.builtin import builtin_documents, builtin_name
from throughtime.text.choices import TextChoices
from throughtime.text.reading import Tally, read_text
from throughtime.text.segment import sentences, split_lines
from throughtime.text.sources import PARTS, find_sources
from throughtime.text.tokens import PARAGRAPH_END, SENTENCE_END, UNKNOWN
from throughtime.text.vocabulary import Vocabulary

__all__ = [
    "Ids",
    "MAX_DISTINCT_WORDS",
    "Numbers",
    "Text",
    "blocks_of",
    "choose_words",
    "count_words",
    "number_texts",
    "open_texts",
    "stored_blocks",
    "token_lists",
    "word_rates",
]

MAX_DISTINCT_WORDS = 4_000_000
"""Only this many distinct words are told apart while reading; whatever is first met after them is `<unk>`."""
MAX_DISTINCT_CHARACTERS = 1 << 26
"""How many characters these words have together at most: 16 each, where words of a language have 8 to 12."""

BLOCK_WORDS = 1 << 16

Ids: TypeAlias = npt.NDArray[Any]  # uint16 or uint32


@dataclass
class Text:
    """One text as it is being read.

    Attributes:
        name: what to call it in a message.
        part: `train`, `valid` or `test` if the split is given.
        chunks: its characters, to be read once.
        tally: what was met so far.
    """

    name: str
    part: str | None
    chunks: Iterator[str]
    tally: Tally


@dataclass(frozen=True)
class Numbers:
    """The words of all texts as numbers in the order in which they were first met.

    Attributes:
        words: the word of each number; 0 is `<unk>`, 1 `</s>`, 2 `</p>`.
        stops: (part, number of words up to its end) of each text, in the order of the file.
    """

    words: list[str]
    stops: list[tuple[str | None, int]]


class _FirstMet(dict[str, int]):
    """Gives each new word the next number, until there are `limit` of them, or of their characters."""

    def __init__(self, limit: int, characters: int) -> None:
        super().__init__({UNKNOWN: 0, SENTENCE_END: 1, PARAGRAPH_END: 2})
        self._limit = limit
        self._characters = characters

    def __missing__(self, word: str) -> int:
        number = len(self)
        self._characters -= len(word)
        if number >= self._limit or self._characters < 0:
            return 0
        self[word] = number
        return number


def open_texts(choices: TextChoices, standard_input: IO[bytes] | None) -> list[Text]:
    """The texts that were asked for, not yet read; those of one part together, in the order of `PARTS`.

    Raises:
        InputError: if a path is missing, cannot be read, or holds no text.
    """
    texts: list[Text] = []
    if not choices.paths:
        documents = builtin_documents()
        for part in PARTS:
            pieces = [f"{document.text}\n\n" for document in documents if document.part == part]
            num_bytes = sum(len(piece.encode()) for piece in pieces)
            texts.append(Text(builtin_name(), part, iter(pieces), Tally(num_bytes)))
        return texts
    for source in find_sources(choices.paths, tokenised=choices.tokenised):
        tally = Tally()
        chunks = read_text(source, choices, standard_input=standard_input, tally=tally)
        texts.append(Text(source.name, source.part, chunks, tally))
    return texts


def token_lists(text: Text, choices: TextChoices) -> Iterator[list[str]]:
    """The tokens of one text, in lists of about `BLOCK_WORDS`."""
    block: list[str] = []
    for tokens in split_lines(text.chunks) if choices.tokenised else sentences(text.chunks):
        block += tokens
        if len(block) >= BLOCK_WORDS:
            yield _folded(block, choices)
            block = []
    if block:
        yield _folded(block, choices)


def _folded(tokens: list[str], choices: TextChoices) -> list[str]:
    return [token.lower() for token in tokens] if choices.lower else tokens


def number_texts(
    texts: Iterable[Text],
    choices: TextChoices,
    path: Path,
    *,
    max_distinct: int = MAX_DISTINCT_WORDS,
    max_characters: int = MAX_DISTINCT_CHARACTERS,
) -> Numbers:
    """Write the numbers of all words to `path`, as uint32.

    Raises:
        InputError: if a text cannot be read, or all of them together hold no word.
        OSError: if `path` cannot be written.
    """
    numbers = _FirstMet(max_distinct, max_characters)
    stops: list[tuple[str | None, int]] = []
    num_words = 0
    names: list[str] = []
    with path.open("wb") as file:
        for text in texts:
            names.append(text.name)
            for tokens in token_lists(text, choices):
                # Not by `tofile`, whose error does not say that the disk is full.
                file.write(np.fromiter(map(numbers.__getitem__, tokens), np.uint32, len(tokens)).data)
                num_words += len(tokens)
            stops.append((text.part, num_words))
    if num_words == 0:
        named = names[0] if len(names) == 1 else f"each of the {len(names)} texts, {names[0]} first,"
        raise InputError(f"the text is empty: {named} holds no word; give one that does")
    return Numbers(list(numbers), stops)


def count_words(blocks: Iterable[Ids], num_distinct: int) -> npt.NDArray[np.int64]:
    """How often each of the numbers below `num_distinct` occurs, shape (num_distinct,)."""
    counts = np.zeros(num_distinct, np.int64)
    for block in blocks:
        present, times = np.unique(block, return_counts=True)
        counts[present] += times
    return counts


def choose_words(
    words: Sequence[str], counts: npt.NDArray[np.int64], choices: TextChoices
) -> tuple[Vocabulary, npt.NDArray[np.uint32]]:
    """The vocabulary, and the id that each number becomes.

    Args:
        words: the word of each number.
        counts: how often each occurs in the training part, shape (len(words),).
        choices: least count and most words.

    Returns:
        The vocabulary, and ids of shape (len(words),), 0 (`<unk>`) for what is not in it.
    """
    num_markers = 2 if choices.tokenised else 3
    candidates = (np.flatnonzero(counts[num_markers:] >= choices.min_count) + num_markers).tolist()
    ranked = sorted(candidates, key=lambda number: (-counts[number], words[number]))
    chosen = [*range(num_markers), *ranked[: choices.max_words]]
    ids = np.zeros(len(words), np.uint32)
    ids[chosen] = np.arange(len(chosen), dtype=np.uint32)
    chosen_counts = counts[chosen]
    chosen_counts[0] += counts.sum() - chosen_counts.sum()
    return Vocabulary(tuple(words[number] for number in chosen), tuple(chosen_counts.tolist())), ids


def blocks_of(array: Ids) -> Iterator[Ids]:
    """`array` piece by piece, each in memory."""
    for start in range(0, len(array), BLOCK_WORDS):
        yield np.asarray(array[start : start + BLOCK_WORDS])


def stored_blocks(path: Path, dtype: str, start: int, stop: int) -> Iterator[Ids]:
    """The numbers from `start` to `stop` of a file, piece by piece.

    Of a memory map, whatever has been touched counts as memory of this process, and of a long text that is all of it.
    """
    size = np.dtype(dtype).itemsize
    for begin in range(start, stop, BLOCK_WORDS):
        yield np.fromfile(path, dtype, min(BLOCK_WORDS, stop - begin), offset=begin * size)


def word_rates(blocks: Iterable[Ids], vocabulary: Vocabulary) -> tuple[int, float]:
    """The number of words (ends not counted), and the share of them that is unknown."""
    num_ids = num_unknown = num_ends = 0
    for block in blocks:
        num_ids += len(block)
        num_unknown += int(np.count_nonzero(block == vocabulary.unknown_id))
        num_ends += int(np.count_nonzero(np.isin(block, vocabulary.end_ids)))
    num_words = num_ids - num_ends
    return num_words, num_unknown / max(1, num_words)
