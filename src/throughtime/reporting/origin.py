"""How a run was made: recipe, versions, machine, corpus, and the command that makes it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import PurePath
from typing import Any

from throughtime.reporting.picture import counted
from throughtime.reporting.run_files import RunFiles
from throughtime.reporting.verdict import folded, missing

__all__ = ["command_line", "facts_html", "origin_html", "versions"]

_VERSIONS = ("throughtime", "torch", "python")


def origin_html(files: RunFiles) -> str:
    """A list of facts, the command, and the recipe on demand."""
    origin, schedule, outcome = files.origin, files.schedule, files.outcome
    facts: list[tuple[str, Any]] = [
        ("run", files.path),
        ("versions", versions(origin)),
        ("machine", origin.get("machine")),
        ("corpus", f"SHA-256 {origin['corpus_hash']}" if "corpus_hash" in origin else None),
        ("budget", _budget(schedule)),
        ("ended", _ended(files)),
        ("memory", f"{outcome['peak_memory_bytes'] / (1 << 20):,.0f} MiB" if "peak_memory_bytes" in outcome else None),
    ]
    return f'<div class="card">{facts_html(facts)}{command_line(origin)}{_recipe(files)}</div>'


def _recipe(files: RunFiles) -> str:
    if files.recipe is None:
        return missing(files.missing.get("recipe", ""))
    text = escape(files.recipe.to_toml())
    return folded("Recipe: all choices, as TOML", f"<pre class='recipe'><code>{text}</code></pre>")


def versions(origin: Mapping[str, Any]) -> str:
    """Of what it was made with."""
    return ", ".join(f"{name} {origin[name]}" for name in _VERSIONS if name in origin)


def facts_html(facts: Sequence[tuple[str, Any]]) -> str:
    """A list of facts, those left out that are not known."""
    shown = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts if value)
    return f'<dl class="facts">{shown}</dl>'


def command_line(origin: Mapping[str, Any]) -> str:
    """What makes it again, where that is known."""
    words = _command(origin.get("command"))
    shown = " ".join(f"<span>{escape(word)}</span>" for word in words)  # no line breaks at the hyphens of an option
    return f"<h3>To make it again</h3><pre class='command'><code>{shown}</code></pre>" if words else ""


def _budget(schedule: dict[str, Any]) -> str:
    if not schedule:
        return ""
    processes = schedule.get("num_processes", 1)
    shared = f", {processes} processes" if processes > 1 else ""
    return (
        f"{counted(schedule.get('steps', 0), 'update')} on {schedule.get('device')}, "
        f"{counted(schedule.get('threads', 0), 'thread')}, softmax in {schedule.get('precision')}{shared}"
    )


def _ended(files: RunFiles) -> str:
    outcome = files.outcome
    if not outcome:
        done = files.steps[-1]["step"] if files.steps else 0
        return f"it has not: its metrics end after {counted(done, 'update')}, and there is no outcome.json"
    reasons = {"budget": "its budget was spent", "early": "the validation loss got no better"}
    return (
        f"after {counted(outcome.get('steps', 0), 'update')} and {outcome.get('seconds', 0.0):,.0f} s, since "
        f"{reasons.get(str(outcome.get('reason')), str(outcome.get('reason')))}; "
        f"{outcome.get('words_per_second', 0.0):,.0f} words/s; best after update {outcome.get('best_step', 0):,}"
    )


def _command(words: Any) -> list[str]:
    """As it can be typed: a program that lies in a folder of installed commands is called by its name."""
    if not isinstance(words, list) or not words:
        return []
    program = PurePath(str(words[0])).name
    called = ["throughtime"] if program in ("throughtime", "__main__.py") else ["python", shlex.quote(str(words[0]))]
    return [*called, *(shlex.quote(str(word)) for word in words[1:])]
