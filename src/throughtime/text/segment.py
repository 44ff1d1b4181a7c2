"""Text as sentences: where one ends, in a text that arrives in chunks of any size."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator

from throughtime.text.tokens import MAX_TOKEN, PARAGRAPH_END, SENTENCE_END, token_pattern

__all__ = ["MAX_SENTENCE", "sentences", "split_lines"]

MAX_SENTENCE = 1000
"""A sentence is cut after this many tokens, so that a text without any sentence end needs bounded memory."""

_BLOCK = 1 << 16
_TERMINALS = frozenset(".!?…؟۔।") | {"." * length for length in range(2, 9)}
_TERMINALS_WITHOUT_SPACE = frozenset("。！？")
_CLOSERS = frozenset("\"')]}”’»›」』）")
_OPENERS = frozenset("\"'“‘«‹„([{¿¡「『（—-–*•") | {"--", "---"}
_MAX_CLOSERS = 4
# A point after these is not the end of a sentence ...
_TITLES = frozenset(
    {
        "Mr",
        "Mrs",
        "Ms",
        "Mme",
        "Mlle",
        "Messrs",
        "Dr",
        "Prof",
        "Rev",
        "Hon",
        "Capt",
        "Col",
        "Gen",
        "Lt",
        "Sgt",
        "Maj",
        "Gov",
        "Sen",
        "Rep",
        "St",
        "Mt",
        "Sr",
        "Jr",
        "vs",
        "cf",
        "viz",
        "al",
        "approx",
    }
)
# ... nor after these where a number follows.
_BEFORE_NUMBERS = frozenset(
    {
        "No",
        "Nos",
        "no",
        "nos",
        "Fig",
        "Figs",
        "fig",
        "figs",
        "Eq",
        "Eqs",
        "eq",
        "Vol",
        "vol",
        "Ch",
        "ch",
        "Sec",
        "sec",
        "Art",
        "p",
        "pp",
    }
)
_LAST_SPACE = re.compile(r".*\s", re.DOTALL)


def sentences(text: str | Iterable[str]) -> Iterator[list[str]]:
    r"""The sentences of `text`, each a list of tokens that ends in `</s>`, or in `</p>` where a paragraph ends.

    A sentence ends at a full stop, question or exclamation mark or ellipsis, with the quotes and brackets that close
    after it, if white space follows and then something that can start a sentence; initials and a short list of
    abbreviations do not end one. A paragraph ends at an empty line. A text that arrives in chunks has the same
    sentences however it is cut, and needs memory for one chunk and one sentence (at most `MAX_SENTENCE` tokens).

    Args:
        text: a text, its lines ended by `\n`, whole or as the chunks of it.

    Returns:
        An iterator over sentences.

    Example:
        >>> list(sentences("Mr. X left. He ran!\n\nSo"))
        [['Mr', '.', 'X', 'left', '.', '</s>'], ['He', 'ran', '!', '</p>'], ['So', '</p>']]
    """
    sentence: list[str] = []
    num_newlines = 0
    spaced = False
    for piece, after in _pieces([text] if isinstance(text, str) else text):
        if piece == "\n":
            num_newlines += 1 + (after == "\n")
            spaced = True
            continue
        if sentence:
            if num_newlines >= 2:
                yield [*sentence, PARAGRAPH_END]
                sentence = []
            elif _is_end(sentence, piece, spaced) or len(sentence) >= MAX_SENTENCE:
                yield [*sentence, SENTENCE_END]
                sentence = []
        sentence.append(piece)
        num_newlines = 1 if after == "\n" else 0
        spaced = after != ""
    if sentence:
        yield [*sentence, PARAGRAPH_END]


def split_lines(text: str | Iterable[str]) -> Iterator[list[str]]:
    r"""The words of a text that is already tokenised: one sentence a line, its words separated by single spaces.

    Each line gives its words and then `</s>`; empty lines give nothing. A very long line comes in several lists, of
    which only the last ends in `</s>`; a word of more than `MAX_TOKEN` characters is cut.

    Example:
        >>> list(split_lines("the <unk> sat .\n\nit was so"))
        [['the', '<unk>', 'sat', '.', '</s>'], ['it', 'was', 'so', '</s>']]
    """
    tail = ""  # what follows the last line end or space so far: perhaps not yet a whole word
    started = False
    for chunk in _blocks([text] if isinstance(text, str) else text):
        *lines, tail = (tail + chunk).split("\n")
        for line in lines:
            words = _words(line)
            if words or started:
                yield [*words, SENTENCE_END]
            started = False
        if len(tail) > _BLOCK:
            cut = tail.rfind(" ") + 1 or len(tail) - len(tail) % MAX_TOKEN
            words = _words(tail[:cut])
            tail = tail[cut:]
            if words:
                yield words
                started = True
    words = _words(tail)
    if words or started:
        yield [*words, SENTENCE_END]


def _words(line: str) -> list[str]:
    words = [word for word in line.split(" ") if word]
    if len(line) > MAX_TOKEN and any(len(word) > MAX_TOKEN for word in words):
        return [word[start : start + MAX_TOKEN] for word in words for start in range(0, len(word), MAX_TOKEN)]
    return words


def _is_end(sentence: list[str], following: str, spaced: bool) -> bool:
    """Whether `sentence` is over, given the token that follows and whether white space lies between."""
    last = len(sentence) - 1
    stop = max(0, last - _MAX_CLOSERS)
    while last > stop and sentence[last] in _CLOSERS:
        last -= 1
    mark = sentence[last]
    if mark in _TERMINALS_WITHOUT_SPACE:
        return following not in _CLOSERS
    if not spaced or mark not in _TERMINALS or not _can_start(following):
        return False
    if mark != "." or last == 0:
        return True
    before = sentence[last - 1]
    follows_point = last > 1 and sentence[last - 2] == "."  # the g of "e.g."
    is_initial = len(before) == 1 and before.isalpha() and ((before.isupper() and before != "I") or follows_point)
    return not (is_initial or before in _TITLES or (before in _BEFORE_NUMBERS and following[0].isdigit()))


def _can_start(token: str) -> bool:
    """Whether a sentence can start with `token`: not a small letter, nor a mark that stands inside sentences."""
    first = token[0]
    return token in _OPENERS or (first.isalnum() and not first.islower()) or first >= "\U0001f000"


@functools.cache
def _piece_pattern() -> re.Pattern[str]:
    """One token or line end, and the character of white space after it."""
    return re.compile(rf"({token_pattern()}|\n)(\s?)")


def _pieces(chunks: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Tokens and line ends, each with the one character of white space that follows it, whatever the chunks.

    The text is cut only where no token can change: after white space or, where there is none, at the end of a token
    so far from the end of what has arrived that nothing to come can lengthen it.
    """
    pattern = _piece_pattern()
    buffer = ""
    for block in _blocks(chunks):
        buffer += block
        if len(buffer) < _BLOCK:
            continue
        space = _LAST_SPACE.match(buffer)
        if space:
            cut = space.end()
            yield from pattern.findall(buffer, 0, cut)
        else:
            cut = 0
            for piece in pattern.finditer(buffer):
                if piece.end() > len(buffer) - 2 * MAX_TOKEN:
                    break
                yield piece.group(1), piece.group(2)
                cut = piece.end()
        buffer = buffer[cut:]
    yield from pattern.findall(buffer)


def _blocks(chunks: Iterable[str]) -> Iterator[str]:
    """The same text in pieces of at most `_BLOCK` characters."""
    for chunk in chunks:
        for start in range(0, len(chunk), _BLOCK):
            yield chunk[start : start + _BLOCK]
