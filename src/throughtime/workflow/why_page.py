"""The answers of `why` as a page in Markdown."""

from __future__ import annotations

from pathlib import Path

from throughtime.storage import write_text
from throughtime.workflow.why_record import Answer, Table, WhyRecord
from throughtime.workflow.why_words import TITLE, WORDS, origin_of, question_of, sentence_of, shown

__all__ = ["as_markdown", "write_why"]


def as_markdown(record: WhyRecord) -> str:
    """The page: a section for each answer, with its question, its sentence, the reason and its table."""
    head = f"# {TITLE}\n\n{origin_of(record)} `throughtime why --markdown FILE` writes this page.\n"
    return "\n".join([head, *(_section(answer) for answer in record.answers)])


def _section(answer: Answer) -> str:
    reason = WORDS[answer.key].reason
    return f"## {question_of(answer)}\n\n**{sentence_of(answer)}**\n\n{reason}\n\n{_table(answer.table)}\n"


def _table(table: Table) -> str:
    lines = [" | ".join(table.columns), " | ".join("---" for _ in table.columns)]
    lines += [" | ".join(shown(value) for value in row) for row in table.rows]
    return "\n".join(f"| {line} |" for line in lines)


def write_why(
    record: WhyRecord, *, json: Path | None = None, markdown: Path | None = None, html: Path | None = None
) -> None:
    """Write what was measured to files, each of them whole or not at all.

    Args:
        record: what `why` gave.
        json: for all numbers; `WhyRecord.load` reads it.
        markdown: for a page in Markdown.
        html: for a page with pictures, which asks nothing of any network.

    Raises:
        RunError: if a file cannot be written.
    """
    if json is not None:
        record.save(json)
    if markdown is not None:
        write_text(markdown, as_markdown(record))
    if html is not None:
        from throughtime.workflow.why_html import as_html  # Bokeh takes a second, and is wanted here alone

        write_text(html, as_html(record))
