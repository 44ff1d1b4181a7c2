"""Results as text for a person, on standard output."""

from __future__ import annotations

import json
import math
import sys
import webbrowser
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from throughtime.diagnosis import Diagnosis
from throughtime.remedy import Prescription
from throughtime.storage import Record
from throughtime.training import Evaluation
from throughtime.trial import CODE_FILE, WEIGHTS_FILE, Treatment
from throughtime.workflow import Comparison, Explanation, Export, Prediction, Run, SentenceScore, TextEvaluation
from throughtime.workflow.reports import PAGE

__all__ = [
    "as_json",
    "comparison",
    "doctor",
    "evaluation",
    "explanation",
    "exported",
    "findings",
    "no_diagnosis",
    "page",
    "prediction",
    "prescription",
    "record",
    "run",
    "score",
    "treatment",
]

_MEBIBYTE = 1 << 20
_TOWARDS, _AGAINST = (42, 91, 215), (194, 65, 12)
_FAINT, _DARK = 0.06, 0.55
_MARKS = 20
_AGREEMENT = 0.3
"""Rank correlation below which gradient times input says nothing that leaving words out confirms."""
_HEADS = {"next": "next word", "blank": "blank"}


def as_json(value: Any) -> None:
    """Any result as JSON."""
    sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, default=str) + "\n")


def run(found: Run) -> None:
    """Where a run is, and how good it is."""
    if not found.test:
        return
    _warn_replaced(found.num_replacements)
    for head, tested in found.test.items():
        _say(f"test, {_HEADS[head]}: {_figures(tested, found.unknown_rate['test'])}")
    outcome = found.outcome
    _say(f"{outcome.words_per_second:,.0f} words/s, {outcome.seconds:.0f} s, best at step {outcome.best_step}")
    sentence = "the old man ___ his pipe" if "blank" in found.test else "the old man sat down and"
    _say(f'run: {found.path}   (ask it: throughtime predict {found.path} "{sentence}")')


def findings(found: Diagnosis, path: Path) -> None:
    """What a diagnosis found, without what it could not look at."""
    horizons = ", ".join(f"{name} {steps} steps" for name, steps in found.horizons.items() if steps is not None)
    verdict = "healthy" if found.healthy else "not healthy"
    _say(f"diagnosis: {verdict}{f' ({horizons})' if horizons else ''}; all of it: throughtime diagnose {path}")
    for finding in found.findings:
        _say(f"  {finding.severity}, {finding.code}: {finding.summary}")


def no_diagnosis(reason: str) -> None:
    """Why a run has none."""
    _say(f"no diagnosis: {reason}")


def prescription(found: Prescription) -> None:
    """What to do first and why, in a few lines; nothing where there is nothing to do."""
    told = found.short()
    if told:
        _say(f"\n{told}")


def page(path: Path, *, opens: bool, json: bool) -> None:
    """Where a page is; and the page itself, in the browser, where that is wanted and can be had."""
    as_json({"report": str(path)}) if json else _say(f"report: {path}")
    if opens and not webbrowser.open(path.resolve().as_uri()):
        console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        console.print(f"no browser could be started here (BROWSER names one): open {path.resolve()} yourself")


def treatment(found: Treatment, folder: Path) -> None:
    """The table, what it proves, and where the rest is."""
    _say(str(found))
    if not found.nothing_to_treat:
        _say(f"\nreport: {folder / PAGE}")
    if found.proven:
        _say(f"the treatment as code: {folder / CODE_FILE}; the treated weights: {folder / WEIGHTS_FILE}")


def record(found: Record) -> None:
    """A measurement, as it says it itself."""
    _say(str(found))


def exported(found: Export) -> None:
    """Where an exported network is, and how it compares with the run's."""
    _say(f"{found.path}: {found.num_bytes / _MEBIBYTE:.1f} MiB")
    _say(
        f"read back, over {found.num_words} words: log probabilities differ from the run's by "
        f"{found.largest_difference:.1g} at most"
    )


def evaluation(found: TextEvaluation) -> None:
    """Each head on a line, the network that goes on learning, and the mixture."""
    _warn_replaced(found.num_replacements)
    for head, evaluated in found.heads.items():
        _say(f"{_HEADS[head]}: {_figures(evaluated, found.unknown_rate)}")
    if found.dynamic is not None:
        _say(f"next word, learning on: {_figures(found.dynamic, found.unknown_rate)}")
    if found.mixture is not None:
        parts = ", ".join(f"{name.replace('_', ' ')} {weight:.2f}" for name, weight in found.mixture.weights.items())
        context = found.heads["next"].context
        _say(f"mixture ({parts}): perplexity {found.mixture.perplexity:.2f} (context of the network: {context})")


def prediction(found: Prediction) -> None:
    """The guesses, likeliest first, with the sentence that each makes."""
    _warn_unknown(found.unknown_words)
    table = Table(box=None, show_header=False, pad_edge=False)
    for (word, probability), sentence in zip(found.guesses, found.completed, strict=True):
        table.add_row(f"{100 * probability:5.1f} %", word, sentence)
    _print(table)


def explanation(found: Explanation) -> None:
    """The sentence, its words shaded by what they do to the answer where there are colours; and the numbers."""
    values = [word.gradient_times_input or 0.0 for word in found.words]
    largest = max(map(abs, values), default=0.0) or 1.0
    sentence = Text()
    for place, (word, value) in enumerate(zip(found.words, values, strict=True)):
        if place == found.blank:
            sentence.append(f"[{found.answer}]", style="bold underline").append(" ")
        else:
            sentence.append(word.word, style=_shade(value / largest)).append(" ")
    if found.blank is None:
        sentence.append(f"[{found.answer}]", style="bold underline")
    _say("")
    Console(highlight=False).print(sentence)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("", "gradient x input", "left out", ""):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for place, (word, value) in enumerate(zip(found.words, values, strict=True)):
        if place != found.blank:
            marks = ("+" if value > 0 else "-") * round(_MARKS * abs(value) / largest)
            table.add_row(word.word, _nats(word.gradient_times_input), _nats(word.left_out), marks)
    _print(table)
    _say(
        f"nats of the log probability of '{found.answer}': to first order due to a word's vector, and lost when the "
        "word is left out" + ("" if found.agreement is None else f"; they rank words alike by {found.agreement:+.2f}")
    )
    if found.agreement is not None and found.agreement < _AGREEMENT:
        _say("they disagree: a first-order estimate does not hold here, so believe what leaving out shows")


def score(found: SentenceScore) -> None:
    """Every word with its log probability, and the sum."""
    _warn_unknown(found.unknown)
    for word, value in found.words:
        _say(f"{value:9.3f}  {word}")
    total = found.log_probability
    kind = "pseudo log likelihood (each word seen from both sides)" if found.two_sided else "log probability"
    _say(f"{total:9.3f}  {kind} in nats; perplexity {math.exp(-total / len(found.words)):.1f} (context: this text)")


def comparison(found: Comparison) -> None:
    """The table, the filled sentences and where the runs are."""
    words = found.num_words
    _say(
        f"{words['train']:,} words to train on, {words['valid']:,} to validate, {words['test']:,} to test; "
        f"vocabulary {found.vocabulary_size:,}; {100 * found.unknown_rate:.1f} % of the test words are unknown, "
        "scored as <unk>"
    )
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("", "perplexity", "context", "next 1", "next 5", "blank 1", "blank 5", "words/s", "s", "MiB"):
        table.add_column(heading, justify="left" if heading in ("", "context") else "right", no_wrap=True)
    for row in found.rows:
        following = (row.next_word.top1, row.next_word.top5) if row.next_word else (None, None)
        table.add_row(
            row.name,
            "-" if row.perplexity is None else f"{row.perplexity:.1f}",
            "carried" if row.context_carried else "sentence" if row.path is None else "window",
            *("-" if share is None else _percent(share) for share in (*following, row.blank.top1, row.blank.top5)),
            f"{row.words_per_second:,.0f}",
            f"{row.seconds:.0f}",
            f"{row.peak_memory_bytes / _MEBIBYTE:.0f}",
        )
    _print(table)
    positions = found.rows[0].blank.num_positions
    _say(
        f"""perplexity: of the next word, over the whole test text; context: what is read of earlier text
next 1, next 5: how often the next word was thought likeliest, or among the five likeliest, at {positions} random words
blank 1, blank 5: the same words as blanks; words/s and s: of training (of counting for the 5-gram)
MiB: the largest size of the process so far"""
    )
    for number, sentence in enumerate(found.filled, start=1):
        guesses = ", ".join(f"{name}: {word}" for name, word in sentence.guesses.items())
        _say(f"{number:2}. {sentence.sentence}\n    [{sentence.answer}]  {guesses}")
    path = next((row.path for row in reversed(found.rows) if row.path is not None), found.path)
    _say(f"pictures: {found.path / 'report.html'}")
    _say(f'runs: {found.path}   (play: throughtime predict {path} "the value ___ be returned")')


def doctor(found: dict[str, Any]) -> None:
    """One section after another."""
    for section, content in found.items():
        _say(section.replace("_", " "))
        for name, value in content.items():
            text = f"{value['scan']}: {value['why']}" if isinstance(value, dict) else value or "none"
            _say(f"  {name.replace('_', ' '):<14} {text}")


def _figures(found: Evaluation, unknown_rate: float) -> str:
    return (
        f"perplexity {found.perplexity:.2f} (context: {found.context}; {100 * unknown_rate:.1f} % unknown words, "
        f"scored as <unk>), top-1 {_percent(found.top1)}, top-5 {_percent(found.top5)}, {found.num_words:,} words"
    )


def _nats(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _shade(share: float) -> str:
    """Blue for what speaks for the answer, orange for what speaks against it, the stronger the fuller."""
    strength = abs(share)
    if strength < _FAINT:
        return ""
    full = _TOWARDS if share > 0 else _AGAINST
    mixed = (round(255 + strength * (channel - 255)) for channel in full)
    return f"{'white' if strength > _DARK else 'black'} on rgb({','.join(map(str, mixed))})"


def _warn_unknown(words: tuple[str, ...]) -> None:
    if words:
        console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        console.print(f"not in the vocabulary, read as <unk>: {', '.join(dict.fromkeys(words))}")


def _warn_replaced(count: int) -> None:
    if count:
        console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        console.print(f"{count} bytes of the text could not be decoded, and were replaced")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _say(line: str) -> None:
    Console(highlight=False, markup=False, soft_wrap=True).print(line)


def _print(table: Table) -> None:
    """As wide as the terminal; elsewhere as wide as it needs to be."""
    console = Console(highlight=False, markup=False)
    console.print(table, width=None if console.is_terminal else 200)
