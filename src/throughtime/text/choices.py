"""What a user may choose about reading a text."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

from throughtime.check import at_least, one_of
from throughtime.errors import RecipeError

__all__ = ["TextChoices"]

GIBIBYTE = 1 << 30


@dataclass(frozen=True, kw_only=True)
class TextChoices:
    """Where the text comes from, how its bytes become words, and which words get a place in the vocabulary.

    Attributes:
        paths: files, folders, patterns (`books/*.txt`) or `-` for standard input; none means the built-in corpus.
        encoding: how the bytes spell characters.
        errors: `strict` refuses bytes that the encoding does not allow, `replace` puts U+FFFD there and counts them.
        lower: whether letter case is folded.
        tokenised: the text is already one sentence a line, its words separated by single spaces; words are taken as
            they are (an `<unk>` in the text is the unknown word) and `</s>` is added at the end of each line.
        min_count: how often a word has to occur in the training part to be in the vocabulary.
        max_words: how many words the vocabulary holds at most, the markers (`<unk>`, `</s>`, `</p>`) not counted.
        max_bytes: how large a compressed file may become when it is decompressed, in bytes.

    Raises:
        RecipeError: if a choice is unknown or out of range.

    Example:
        >>> TextChoices(paths=("book.txt",), lower=True).min_count
        2
        >>> TextChoices(encoding="utf-9")
        Traceback (most recent call last):
        throughtime.errors.RecipeError: unknown encoding 'utf-9': Python knows utf-8, utf-16, latin-1, cp1252 and others
    """

    paths: tuple[str, ...] = ()
    encoding: str = "utf-8"
    errors: str = "strict"
    lower: bool = False
    tokenised: bool = False
    min_count: int = 2
    max_words: int = 50_000
    max_bytes: int = 4 * GIBIBYTE

    def __post_init__(self) -> None:
        object.__setattr__(self, "paths", _as_paths(self.paths))
        one_of("way to treat errors", self.errors, ("strict", "replace"))
        at_least("min_count", self.min_count, 1)
        at_least("max_words", self.max_words, 1)
        at_least("max_bytes", self.max_bytes, 1)
        if self.tokenised and not self.paths:
            raise RecipeError("a tokenised text must be named: the built-in corpus is plain text")
        if not _is_text_encoding(self.encoding):
            raise RecipeError(
                f"unknown encoding '{self.encoding}': Python knows utf-8, utf-16, latin-1, cp1252 and others"
            )


def _as_paths(paths: object) -> tuple[str, ...]:
    """`paths` as a tuple of strings: a single path is as good as a tuple of one."""
    if isinstance(paths, str | Path):
        return (str(paths),)
    if not isinstance(paths, tuple | list):
        raise RecipeError(f"paths must be a tuple of paths, not {type(paths).__name__}")
    return tuple(str(path) for path in paths)


def _is_text_encoding(name: str) -> bool:
    """Whether `name` turns bytes into characters, bit by bit as they are read."""
    try:
        codecs.getincrementaldecoder(name)
        b"a b".decode(name)  # "base64" and its like are codecs but give no text
    except UnicodeDecodeError:
        return True  # "utf-16": no text in an odd number of bytes, yet an encoding
    except (LookupError, ValueError):
        return False
    return True
