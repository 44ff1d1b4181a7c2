"""Plain English out of documentation: code, tables, signatures and markup dropped, sentences kept."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

__all__ = ["paragraphs"]

_KEPT_DIRECTIVES = frozenset(
    {
        "note",
        "warning",
        "seealso",
        "tip",
        "important",
        "caution",
        "attention",
        "hint",
        "deprecated",
        "admonition",
    }
)
_CODE_HEADINGS = frozenset(
    {
        "example",
        "examples",
        "usage",
        "shape",
        "shapes",
        "references",
        "reference",
        "citation",
    }
)
_HEADING = re.compile(
    r"(?:(?:keyword |other )?(?:args|arguments|params|parameters)|attributes|returns?|raises|yields|notes?|warnings?|"
    r"see also|keyword args|inputs?|outputs?|methods|variables|options):(?:\s+|$)",
    re.IGNORECASE,
)
_DIRECTIVE = re.compile(r"\.\.\s+(?:([\w:+-]+)::)?(.*)")
_BULLET = re.compile(r"(?:[-*+•]|\(?\d{1,2}[.)]|\(?[a-z]\)|#\.)\s+")
_FIELD = re.compile(r":(?:param|arg|type|returns?|rtype|raises?|keyword|var|ivar|cvar|yields?)\b[^:\n]*:\s*")
_ARGUMENT = re.compile(
    r"[*`]{0,4}[A-Za-z_][\w.`, /*-]{0,40}(?:\s*\([^()]*(?:\([^()]*\)[^()]*)*\))?\s*(?::|--|–)\s+(?=\S)"
)
_UNDERLINE = re.compile(r"([=\-~^*#+\"'`.])\1{2,}$")
_SIGNATURE = re.compile(r"[\w.]+\(.*\)(?:\s*->.*)?")
_FENCE = ("```", "~~~")

_MARKUP = (
    (re.compile(r"(?<=[a-z]-)\n(?=[a-z])"), ""),  # a word parted at its hyphen by the end of a line
    (re.compile(r":(?:[\w+-]+:)?[\w+-]+:`[~!]?(?:[\w.]+\.)?([^`<]+?)(?:\s*<[^`>]*>)?`"), r"\1"),  # :meth:`~a.b.c`
    (re.compile(r"`([^`<]+?)\s*<[^`>]*>`_{0,2}"), r"\1"),  # `text <target>`_
    (re.compile(r"\[([^\]]+)\]\((?:https?|#|\.)[^)]*\)"), r"\1"),  # [text](target)
    (re.compile(r"``(.+?)``"), r"\1"),
    (re.compile(r"`([^`]+)`_{0,2}"), r"\1"),
    (re.compile(r"\*\*(\S(?:[^*]*\S)?)\*\*"), r"\1"),
    (re.compile(r"(?<![\w*])\*(\w[^*\n]*?)\*(?![\w*])"), r"\1"),
    (re.compile(r"\|(\w+)\|"), r"\1"),
    (re.compile(r"\s*\[(?:#\w*|\d+|\w+)\]_"), ""),
)
_CODE_SIGNS = re.compile(r"[=<>{}\[\]|\\_@#$%^&*~+`/]")
_NOT_PROSE = re.compile(
    r">>>|->|=>|\\[a-zA-Z]+|https?:|www\.|::|[Cc]opyright|\(c\)|All rights reserved|TODO|FIXME|XXX|"
    r"\b(?:def|lambda|elif) \w|\bself\b|\w\(\w*\)\.|\w+@\w+\.|\$Id|\{\w*\}|\w=\w"
)
_COMMON = frozenset(
    {
        "the",
        "a",
        "an",
        "of",
        "to",
        "is",
        "are",
        "be",
        "in",
        "and",
        "or",
        "if",
        "for",
        "with",
        "as",
        "by",
        "that",
        "this",
        "it",
        "from",
        "on",
        "not",
        "when",
        "at",
        "which",
        "you",
        "can",
        "will",
        "has",
    }
)
_SENTENCE_BREAK = re.compile(r"(?<=[a-z)\]\"'][.!?:])\s+(?=[\"'(]*[A-Z])")
_SENTENCE_LIKE = re.compile(r"[\"'(]*[A-Za-z][\w'’`.,;:()\"\s/-].*[\w.!?:\"')]", re.DOTALL)
_MIN_WORDS = 4
_MAX_CODE_SHARE = 0.02
_MIN_LETTER_SHARE = 0.75
_MIN_COMMON_SHARE = 0.12


def paragraphs(documentation: str) -> Iterator[str]:
    r"""The paragraphs of English in a docstring or help topic, each on one line.

    Example:
        >>> list(paragraphs("Sort the list in place, and return nothing.\n\n    >>> sort([2, 1])\n    [1, 2]\n"))
        ['Sort the list in place, and return nothing.']
    """
    for block in _blocks(inspect.cleandoc(documentation).splitlines()):
        kept = [text for text in _SENTENCE_BREAK.split(_plain("\n".join(block))) if _is_prose(text)]
        if kept:
            yield " ".join(kept)


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    """Runs of lines that belong together, without code and with bullets and argument names taken off."""
    block: list[str] = []
    dropped_below: int | None = None  # lines indented deeper than this belong to dropped code
    fenced = False
    for line in lines:
        text = line.strip()
        if text.startswith(_FENCE):
            fenced = not fenced
            continue
        indent = len(line) - len(line.lstrip())
        if fenced or (dropped_below is not None and text and indent > dropped_below):
            continue
        if text:
            dropped_below = None
        starts_block, text, drops = _taken_apart(text)
        if starts_block and block:
            yield block
            block = []
        if drops:
            dropped_below = indent - (1 if drops == "here" else 0)
        if text:
            block.append(text)
    if block:
        yield block


def _taken_apart(text: str) -> tuple[bool, str, str]:
    """What a line means: whether it starts a new block, what of it is text, and whether code follows below it.

    Returns:
        (starts a block, text, `""` or `below` if deeper lines are code, or `here` if equally deep ones are too).
    """
    if not text or _UNDERLINE.fullmatch(text) or _SIGNATURE.fullmatch(text):
        return True, "", ""
    if text.startswith((">>>", "... ", "$ ", "+-", "|", "%")):
        return True, "", "here"
    directive = _DIRECTIVE.match(text)
    if directive and text.startswith(".."):
        name = (directive.group(1) or "").lower()
        return True, directive.group(2).strip() if name in ("note", "warning") else "", _drops(name)
    if text.rstrip(":").lower() in _CODE_HEADINGS:
        return True, "", "below"
    starts = False
    for pattern in (_BULLET, _HEADING, _FIELD, _ARGUMENT):
        label = pattern.match(text)
        if label and (pattern is not _ARGUMENT or _looks_like_argument(label.group())):
            starts, text = True, text[label.end() :]
    if text.endswith("::"):
        return starts, text[:-1], "below"
    return starts, text, ""


def _drops(directive: str) -> str:
    return "" if directive in _KEPT_DIRECTIVES else "below"


def _looks_like_argument(text: str) -> bool:
    """`dim (int): ` is the name of an argument; `Note: ` and `the following: ` are English."""
    name = text.split("(")[0].strip(" :-–")
    return "(" in text or "_" in name or (name.islower() and " " not in name) or name.startswith(("*", "`"))


def _plain(text: str) -> str:
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())


def _is_prose(text: str) -> bool:
    """Whether `text` reads as an English sentence: its shape, common words, few signs."""
    words = text.split()
    if len(words) < _MIN_WORDS or not _SENTENCE_LIKE.fullmatch(text) or _NOT_PROSE.search(text):
        return False
    num_letters = sum(map(str.isalpha, text)) + len(words)
    num_common = sum(word.lower().strip("(,.") in _COMMON for word in words)
    return (
        text.isascii()
        and num_letters >= _MIN_LETTER_SHARE * len(text)
        and len(_CODE_SIGNS.findall(text)) <= max(2, _MAX_CODE_SHARE * len(text))
        and num_common >= _MIN_COMMON_SHARE * len(words)
    )
