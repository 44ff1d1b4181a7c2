"""A text prepared for training: three parts as memory-mapped ids, and the vocabulary of the first."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from throughtime.errors import InputError, RunError
from throughtime.storage.atomic import new_folder, write_json
from throughtime.storage.disk_errors import reading, writing
from throughtime.storage.json_text import Json, read_json
from throughtime.text.choices import TextChoices
from throughtime.text.numbering import (
    Ids,
    Numbers,
    Text,
    blocks_of,
    choose_words,
    count_words,
    number_texts,
    open_texts,
    stored_blocks,
    token_lists,
    word_rates,
)
from throughtime.text.sources import PARTS
from throughtime.text.tokens import PARAGRAPH_END, SENTENCE_END
from throughtime.text.vocabulary import Vocabulary

__all__ = ["Corpus", "EncodedText", "encode_text", "open_corpus", "prepare"]

SCHEMA_VERSION = 1
HELD_OUT = 0.05
"""The share of the text that is kept for validation, and as much again for the test."""
MIN_PART_WORDS = 2
"""A part needs a word to predict and one to predict it from."""

_CORPUS = "corpus.json"
_VOCABULARY = "vocabulary.json"
_CUT_TOLERANCE = 0.02
_MOST_LOOKED_AT = 1 << 20
_HASHED_BYTES = 1 << 20
_TYPES = {"uint16": "<u2", "uint32": "<u4"}


@dataclass(frozen=True, eq=False)
class Corpus:
    """A prepared text. Two with equal `hash` hold the same ids and the same vocabulary.

    Attributes:
        folder: where it lies.
        train: ids, shape (N,), read-only memory map of uint16 or uint32.
        valid: the same for the validation part.
        test: the same for the test part.
        vocabulary: the words of the ids.
        hash: SHA-256 over ids and vocabulary.
        unknown_rate: the share of unknown words among the words of each part, ends not counted.
        description: what `corpus.json` says: sources, split, counts.
    """

    folder: Path
    train: Ids
    valid: Ids
    test: Ids
    vocabulary: Vocabulary
    hash: str
    unknown_rate: dict[str, float]
    description: dict[str, Any]

    @property
    def tokenised(self) -> bool:
        """Whether the text came as one tokenised sentence a line."""
        return bool(self.description["tokenised"])

    @property
    def lower(self) -> bool:
        """Whether letter case was folded."""
        return bool(self.description["lower"])


@dataclass(frozen=True, eq=False)
class EncodedText:
    """A text in the ids of a vocabulary made before.

    Attributes:
        ids: shape (N,), uint32; a memory map of a temporary file.
        unknown_rate: the share of unknown words among the words, ends not counted.
        num_words: number of words and punctuation marks, ends not counted.
        num_replacements: bytes that could not be decoded.
    """

    ids: Ids
    unknown_rate: float
    num_words: int
    num_replacements: int


def prepare(
    choices: TextChoices,
    folder: Path,
    *,
    min_train_words: int = MIN_PART_WORDS,
    standard_input: IO[bytes] | None = None,
) -> Corpus:
    """Read a text and make the folder of a corpus of it, all of it or nothing.

    The text is read once and in bounded memory: its words go to the disk as numbers, then the split is made, the words
    of the training part are counted, and the numbers become ids. A split that the user has made is kept; the built-in
    corpus is split by module; else the first 90 % are for training, the next 5 % for validation, the last 5 % for the
    test, cut at the end of a sentence and never shuffled.

    Args:
        choices: what to read and how.
        folder: where to put it; its parent must exist, and it must not.
        min_train_words: what the caller needs in the training part, ends counted (the length of one window).
        standard_input: what the path `-` reads.

    Raises:
        InputError: if the text cannot be read or is too short.
        RunError: if the folder cannot be written.
    """
    with new_folder(folder) as temporary:
        path = temporary / "numbers"
        texts = open_texts(choices, standard_input)
        numbers = number_texts(texts, choices, path)
        _write_corpus(temporary, path, numbers, texts, choices, min_train_words)
        path.unlink()
    return open_corpus(folder)


def open_corpus(folder: Path) -> Corpus:
    """Open what `prepare` made, and verify its hash.

    Raises:
        RunError: if the folder is no corpus, of another version, or damaged.
    """
    description = read_json(folder / _CORPUS)
    try:
        version, id_type, expected = (description[key] for key in ("schema_version", "id_type", "hash"))
        unknown_rate = {part: float(description["parts"][part]["unknown_rate"]) for part in PARTS}
        dtype = np.dtype(_TYPES[id_type])
        num_tokens = {part: int(description["parts"][part]["num_tokens"]) for part in PARTS}
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{folder / _CORPUS} is damaged: {error} is missing; prepare the text again") from error
    if version != SCHEMA_VERSION:
        raise RunError(f"{folder} is of version {version}, this throughtime reads {SCHEMA_VERSION}: prepare it again")
    if _hash(folder, id_type) != expected:
        raise RunError(f"the corpus {folder} is damaged: its hash is not that in {_CORPUS}; prepare the text again")
    vocabulary = Vocabulary.load(folder / _VOCABULARY)
    with reading(folder):
        parts = {part: np.memmap(folder / f"{part}.ids", dtype, "r", shape=(num_tokens[part],)) for part in PARTS}
    return Corpus(
        folder=folder,
        **parts,
        vocabulary=vocabulary,
        hash=expected,
        unknown_rate=unknown_rate,
        description=description,
    )


def encode_text(
    choices: TextChoices, vocabulary: Vocabulary, *, standard_input: IO[bytes] | None = None
) -> EncodedText:
    """All the texts of `choices`, one after the other, in the ids of `vocabulary`, in bounded memory.

    Raises:
        InputError: if a text cannot be read, or there is no word in them.
        RunError: if the temporary file cannot be written.
    """
    texts = open_texts(choices, standard_input)
    num_ids = 0
    with writing(Path(tempfile.gettempdir())), tempfile.TemporaryFile() as file:
        for text in texts:
            for tokens in token_lists(text, choices):
                ids = vocabulary.encode(_with_known_ends(tokens, vocabulary)).astype(np.uint32)
                file.write(ids.data)
                num_ids += len(ids)
        if not num_ids:
            raise InputError(f"the text is empty: {texts[0].name} holds no word; give one that does")
        file.flush()
        array = np.memmap(file, np.uint32, "r", shape=(num_ids,))
    num_words, unknown_rate = word_rates(blocks_of(array), vocabulary)
    return EncodedText(array, unknown_rate, num_words, sum(text.tally.num_replacements for text in texts))


def _with_known_ends(tokens: list[str], vocabulary: Vocabulary) -> list[str]:
    """A vocabulary of a tokenised text knows ends of sentences but not of paragraphs."""
    if PARAGRAPH_END in vocabulary:
        return tokens
    return [SENTENCE_END if token == PARAGRAPH_END else token for token in tokens]


def _write_corpus(
    folder: Path, stored: Path, numbers: Numbers, texts: list[Text], choices: TextChoices, min_train_words: int
) -> None:
    """Split, count, choose, renumber and describe."""
    stops = {part: stop for part, stop in numbers.stops if part is not None}
    bounds = [0, *(stops[part] for part in PARTS)] if stops else _contiguous_bounds(np.memmap(stored, np.uint32, "r"))
    spans = dict(zip(PARTS, pairwise(bounds), strict=True))
    sizes = {part: stop - start for part, (start, stop) in spans.items()}
    _check_sizes(sizes, min_train_words)
    counts = count_words(stored_blocks(stored, "uint32", *spans["train"]), len(numbers.words))
    vocabulary, ids = choose_words(numbers.words, counts, choices)
    vocabulary.save(folder / _VOCABULARY)
    id_type = "uint16" if len(vocabulary) <= 1 << 16 else "uint32"
    parts: dict[str, Json] = {}
    for part, span in spans.items():
        path = folder / f"{part}.ids"
        with path.open("wb") as file:
            for block in stored_blocks(stored, "uint32", *span):
                file.write(ids[block].astype(_TYPES[id_type]).data)
        num_words, unknown_rate = word_rates(stored_blocks(path, _TYPES[id_type], 0, sizes[part]), vocabulary)
        parts[part] = {"num_tokens": sizes[part], "num_words": num_words, "unknown_rate": unknown_rate}
    write_json(
        folder / _CORPUS,
        {
            "schema_version": SCHEMA_VERSION,
            "tokenised": choices.tokenised,
            "lower": choices.lower,
            "split": _split_rule(choices, given=bool(stops)),
            "parts": parts,
            "distinct_words": _num_distinct(counts, choices),
            "vocabulary_size": len(vocabulary),
            "id_type": id_type,
            "sources": [{"name": text.name, "part": text.part, "num_bytes": text.tally.num_bytes} for text in texts],
            "num_replacements": sum(text.tally.num_replacements for text in texts),
            "hash": _hash(folder, id_type),
        },
    )


def _split_rule(choices: TextChoices, *, given: bool) -> str:
    if not choices.paths:
        return "by module"
    return "by file" if given else "contiguous blocks of 90, 5 and 5 %"


def _num_distinct(counts: npt.NDArray[np.int64], choices: TextChoices) -> int:
    """How many different words the training part holds; an `<unk>` in the text is one, ends are none."""
    num_ends = 1 if choices.tokenised else 2
    return int(np.count_nonzero(counts) - np.count_nonzero(counts[1 : 1 + num_ends]))


def _contiguous_bounds(array: Ids) -> list[int]:
    """Where the three blocks begin and end: at the sentence end nearest to 90 % and to 95 %, if there is one near."""
    total = len(array)
    reach = max(1, min(_MOST_LOOKED_AT, int(total * _CUT_TOLERANCE)))
    cuts = []
    for share in (1 - 2 * HELD_OUT, 1 - HELD_OUT):
        target = round(total * share)
        start = max(0, target - reach)
        near = np.asarray(array[start : target + reach])
        cut_after = np.flatnonzero(np.isin(near, (1, 2))) + start + 1
        cuts.append(int(cut_after[np.argmin(np.abs(cut_after - target))]) if len(cut_after) else target)
    return [0, *cuts, total]


def _check_sizes(sizes: dict[str, int], min_train_words: int) -> None:
    total = sum(sizes.values())
    for part, size in sizes.items():
        needed = max(MIN_PART_WORDS, min_train_words if part == "train" else 0)
        if size < needed:
            raise InputError(
                f"the text is too short: of its {total:,} words and punctuation marks {size:,} are in the {part} part, "
                f"and at least {needed:,} are needed there; give more text"
            )


def _hash(folder: Path, id_type: str) -> str:
    """SHA-256 over the type of the ids and the content of each file."""
    digest = hashlib.sha256(id_type.encode())
    with reading(folder):
        for name in (*(f"{part}.ids" for part in PARTS), _VOCABULARY):
            path = folder / name
            digest.update(f"\n{name} {path.stat().st_size}\n".encode())
            with path.open("rb") as file:
                while block := file.read(_HASHED_BYTES):
                    digest.update(block)
    return digest.hexdigest()
