"""The words that a model knows, and their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from throughtime.errors import InputError, RunError
from throughtime.storage.atomic import write_json
from throughtime.storage.json_text import read_json
from throughtime.text.tokens import PARAGRAPH_END, SENTENCE_END, UNKNOWN

__all__ = ["Vocabulary"]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Vocabulary:
    """Words and their ids.

    First comes `<unk>`, then the ends (`</s>`, and `</p>` where there are paragraphs), then the words from the most
    to the least frequent, equals in alphabetical order.

    Attributes:
        words: the word of each id.
        counts: how often each occurs in the training part; that of `<unk>` is the number of its unknown words.

    Raises:
        InputError: if the words are not of this form.

    Example:
        >>> vocabulary = Vocabulary(("<unk>", "</s>", "</p>", "the", "cat"))
        >>> vocabulary.encode(["the", "dog", "</s>"]).tolist()
        [3, 0, 1]
        >>> vocabulary.decode([3, 4])
        ['the', 'cat']
    """

    words: tuple[str, ...]
    counts: tuple[int, ...] = ()
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_index", {word: index for index, word in enumerate(self.words)})
        if self.words[:2] != (UNKNOWN, SENTENCE_END):
            raise InputError(f"the words of a vocabulary start with {UNKNOWN} and {SENTENCE_END}, not {self.words[:2]}")
        if len(self._index) != len(self.words):
            raise InputError("the words of a vocabulary must differ from each other, and some are there twice")
        if len(self.counts) not in (0, len(self.words)):
            raise InputError(f"{len(self.words)} words need as many counts or none, not {len(self.counts)}")

    @property
    def unknown_id(self) -> int:
        """The id of `<unk>`."""
        return 0

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The ids of the ends of sentences and paragraphs."""
        return (1, 2) if self.words[2:3] == (PARAGRAPH_END,) else (1,)

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._index

    def encode(self, tokens: Sequence[str]) -> npt.NDArray[np.int64]:
        """The ids of `tokens`, shape (len(tokens),); a word outside the vocabulary has that of `<unk>`."""
        get, unknown = self._index.get, self.unknown_id
        return np.fromiter((get(token, unknown) for token in tokens), np.int64, len(tokens))

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The words of `ids`.

        Raises:
            IndexError: if an id is not below the size of the vocabulary.
        """
        return [self.words[index] for index in ids]

    def save(self, path: Path) -> None:
        """Write it as JSON, at once or not at all."""
        write_json(path, {"schema_version": SCHEMA_VERSION, "words": self.words, "counts": self.counts})

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read what `save` wrote.

        Raises:
            RunError: if the file is missing, damaged or of another version.
        """
        content = read_json(path)
        try:
            version = content["schema_version"]
            words, counts = tuple(map(str, content["words"])), tuple(map(int, content["counts"]))
        except (ValueError, TypeError, KeyError) as error:
            raise RunError(f"{path} is damaged: it holds no words and counts ({error})") from error
        if version != SCHEMA_VERSION:
            raise RunError(f"{path} is of version {version}, this throughtime reads {SCHEMA_VERSION}: prepare it again")
        try:
            return cls(words, counts)
        except InputError as error:
            raise RunError(f"{path} is damaged: {error}") from error
