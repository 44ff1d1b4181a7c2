"""Text as tokens: words and punctuation, and the way back to readable text.

A token is, at the first position where one of these matches:

1. a word or number: letters and digits with their combining marks; apostrophes and hyphens inside (*don't*,
   *twenty-one*, *UTF-8*), points and commas between digits (*3.14*, *1,000*);
2. an emoji with all that belongs to it (skin tone, joined figures, the two halves of a flag);
3. a run of dots or of hyphens (*...*, *--*);
4. any other character that is not white space, by itself.

Chinese characters and Japanese kana, written without spaces, are tokens by themselves. No token holds white space and
none looks beyond its own end, which gives two guarantees: a text may be cut at any white space without changing its
tokens, and every token, standing alone, is that token again.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence

__all__ = ["BLANK", "MAX_TOKEN", "PARAGRAPH_END", "SENTENCE_END", "UNKNOWN", "detokenise", "token_pattern", "tokenise"]

SENTENCE_END = "</s>"
PARAGRAPH_END = "</p>"
UNKNOWN = "<unk>"
BLANK = "___"

MAX_TOKEN = 200
"""No token is longer than this, in characters: whatever would be is cut, so that memory stays bounded."""

_CLOSING = frozenset(".,;:!?…%°)]}”»›’、。，；：！？）」』】》")
_OPENING = frozenset("([{“«‹‘„¿¡$£€#（「『【《")
_JOINING = frozenset("/\\_@—")
_RANGE = frozenset("-–:")
_POINT = frozenset(".")
_SCRIPTS_WITHOUT_SPACES = "\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_MAX_RUN = 400


@functools.cache
def token_pattern() -> str:
    """The regular expression of one token, without groups (built at first use: it lists all combining marks)."""
    marks = "".join(re.escape(chr(code)) for code in range(0x300, 0x1F000) if unicodedata.category(chr(code))[0] == "M")
    marks += "\U000e0100-\U000e01ef"
    letter = rf"[^\W_{_SCRIPTS_WITHOUT_SPACES}]"
    inside = rf"[{marks}\u200c\u200d]"
    # A hyphen between digits is a range or a date: its numbers are words of their own.
    link = r"(?:['’]|(?<!\d)[-‐‑]|[-‐‑](?!\d))"
    word = rf"{letter}(?:{letter}|{inside}|{link}{letter}|(?<=\d)[.,]\d){{0,99}}"
    belongs = rf"[{marks}\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]{{0,16}}"
    flag = r"[\U0001f1e6-\U0001f1ff]{2}"
    symbol = rf"(?:{flag}|\.{{2,8}}|-{{2,8}}|\S){belongs}(?:\u200d[^\w\s]{belongs}){{0,7}}"
    return rf"(?:{word}|{symbol})"


@functools.cache
def _compiled() -> re.Pattern[str]:
    return re.compile(token_pattern())


def tokenise(text: str) -> list[str]:
    """The words and punctuation of `text`, letter case kept; white space only separates.

    Example:
        >>> tokenise("Don't panic: 3.14 isn't 1,000...")
        ["Don't", 'panic', ':', '3.14', "isn't", '1,000', '...']
        >>> tokenise("</s> is three tokens and ___ too")
        ['<', '/', 's', '>', 'is', 'three', 'tokens', 'and', '_', '_', '_', 'too']
    """
    return _compiled().findall(text)


def detokenise(tokens: Sequence[str]) -> str:
    """Readable text of `tokens`: punctuation set as people set it, `</s>` a space, `</p>` an empty line.

    Two tokens are set without a space only where `tokenise` parts them again, so `tokenise(detokenise(tokens)) ==
    tokens` for all tokens that `tokenise` gave.

    Example:
        >>> detokenise(["He", "said", ",", '"', "No", "!", '"', "(", "twice", ")", "."])
        'He said, "No!" (twice).'
    """
    paragraphs: list[list[str]] = [[]]
    open_quotes: set[str] = set()
    glue = False
    for index, token in enumerate(tokens):
        runs = paragraphs[-1]
        if token in (SENTENCE_END, PARAGRAPH_END):
            if token == PARAGRAPH_END and runs:
                paragraphs.append([])
                open_quotes.clear()
            glue = False
            continue
        before, after = _sides(tokens, index, open_quotes)
        if runs and (glue or before) and _parts_again(runs[-1], token):
            runs[-1] += token
        else:
            runs.append(token)
        glue = after
    return "\n\n".join(" ".join(runs) for runs in paragraphs if runs)


def _parts_again(run: str, token: str) -> bool:
    """Whether `run + token` has the tokens of both, no more and no fewer."""
    return len(run) < _MAX_RUN and tokenise(run + token) == tokenise(run) + tokenise(token)


def _sides(tokens: Sequence[str], index: int, open_quotes: set[str]) -> tuple[bool, bool]:
    """Whether a token wants to touch the one before it, and the one after it."""
    token = tokens[index]
    previous = tokens[index - 1] if index else ""
    following = tokens[index + 1] if index + 1 < len(tokens) else ""
    if token in ('"', "'"):
        return _quote_sides(token, previous, following, open_quotes)
    if token in _RANGE and previous[-1:].isdigit() and following[:1].isdigit():
        return True, True
    if token in _JOINING:
        return True, True
    if token in _OPENING:
        return False, True
    if token in _POINT:  # the initials of U.S.A. stay together
        return True, len(previous) == 1 and len(following) == 1 and previous.isalpha() and following.isalpha()
    before = token in _CLOSING or token.startswith("..")
    without_spaces = _without_spaces(token)
    return before or (without_spaces and _without_spaces(previous)), False


def _quote_sides(quote: str, previous: str, following: str, open_quotes: set[str]) -> tuple[bool, bool]:
    """A straight quote opens or closes by turns; an apostrophe may also end a word (*the dogs' tails*)."""
    if quote in open_quotes:
        open_quotes.discard(quote)
        return True, False
    is_last = following in ("", SENTENCE_END, PARAGRAPH_END)
    if is_last or (quote == "'" and previous[-1:] in ("s", "S", "n")):
        return True, False
    open_quotes.add(quote)
    return False, True


def _without_spaces(token: str) -> bool:
    return bool(token) and (token[0] >= "\u3041") and (token[0] <= "\u9fff" or token[0] >= "\U00020000")
