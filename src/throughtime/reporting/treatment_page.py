"""The page about a trial: what was found, every seed of every arm, what to paste, and how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from throughtime.reporting.arms import arm_heat_maps, arm_losses, left_out, why_no_heat_map
from throughtime.reporting.horizons import measured_horizons
from throughtime.reporting.origin import command_line, facts_html, versions
from throughtime.reporting.page import Section, page
from throughtime.reporting.picture import Picture, Table, capital, counted, table_html
from throughtime.reporting.trials import Arm, trial_picture
from throughtime.reporting.verdict import folded, missing
from throughtime.trial import Treatment

__all__ = ["treatment_page", "treatment_picture"]


def treatment_page(title: str, record: Treatment, origin: Mapping[str, Any] | None = None) -> str:
    """The text of an HTML file.

    Args:
        title: of the page.
        record: of the trial.
        origin: versions, machine and command, where they were kept.
    """
    horizons = measured_horizons(record)
    sections = [
        Section("Verdict", _verdict(record), [] if horizons is None else [horizons]),
        Section("Trial", pictures=[picture] if (picture := treatment_picture(record)) else [], after=_arms(record)),
        _gradients(record),
        *([Section("Training", pictures=[losses])] if (losses := arm_losses(record)) is not None else []),
        Section("The treatment", _code(record)),
        Section("How it was made", _made(record, origin or {})),
    ]
    against = f", against {', '.join(record.codes)}" if record.codes else ""
    return page(title, sections, subtitle=f"{counted(len(record.arms), 'arm')}{against}")


def treatment_picture(record: Treatment) -> Picture | None:
    """The seeds of every arm as dots, those on which the best was confirmed among them."""
    arms = []
    for arm in record.arms:
        scores = (*arm.scores, *arm.fresh_scores)
        selected, fresh = arm.seeds or record.seeds, arm.fresh_seeds or record.fresh_seeds  # of older records
        seeds = (*selected[: len(arm.scores)], *fresh[: len(arm.fresh_scores)])
        arms.append(Arm(arm.name, seeds, scores, tuple(_learned(score, record.target) for score in scores)))
    return trial_picture(arms, target=record.target)


def _learned(score: float | None, target: float | None) -> bool | None:
    return None if target is None else score is not None and score >= target


def _verdict(record: Treatment) -> str:
    mood = "healthy" if record.proven else "unknown"
    by_hand = "".join(f"<li>{escape(line)}</li>" for line in record.by_hand)
    hand = f"<h3>To be changed by hand</h3><ul>{by_hand}</ul>" if by_hand else ""
    notes = "".join(f"<p>{escape(capital(note))}.</p>" for note in record.notes)
    return f'<div class="card"><p class="verdict {mood}">{escape(capital(record.verdict))}.</p>{hand}{notes}</div>'


def _gradients(record: Treatment) -> Section:
    """A heat map for each of the arms that matter most."""
    pictures, reasons = arm_heat_maps(record), missing(*why_no_heat_map(record))
    return Section("Gradient through time", reasons, pictures, missing(left_out(record)))


def _arms(record: Treatment) -> str:
    """What each arm is for, how far its gradient reaches, what it costs, and how sure it is."""
    columns = ("arm", "from", "reach promised", "reach measured", "time of a step", "p", "p corrected", "why")
    rows = tuple(
        (
            arm.name,
            arm.source,
            arm.predicted_reach,
            arm.reach,
            f"{arm.step_ratio:.2f} x",
            arm.p,
            arm.p_corrected,
            "; ".join(filter(None, (arm.reason, *arm.failures))),
        )
        for arm in record.arms
    )
    return f'<div class="card"><h3>Arms</h3>{table_html(Table(columns, rows))}</div>'


def _code(record: Treatment) -> str:
    if record.best_name is None:
        return missing("Nothing was confirmed, so there is nothing to take over.")
    return (
        f'<div class="card"><h3>{escape(capital(record.best.name))}, as plain PyTorch</h3>'
        f"{folded('Code', f'<pre><code>{escape(record.code)}</code></pre>')}</div>"
    )


def _made(record: Treatment, origin: Mapping[str, Any]) -> str:
    seconds = record.prescribed_seconds + record.random_seconds
    facts = [
        ("seeds", ", ".join(map(str, record.seeds))),
        ("fresh seeds", ", ".join(map(str, record.fresh_seeds))),
        ("proofs", "; ".join(proof.told(has_target=record.target is not None) for proof in record.proofs)),
        ("a training", f"{counted(record.baseline.num_steps, 'update')} of {record.step_seconds:.3g} s"),
        ("compute", f"{seconds:,.0f} s, {record.random_seconds:,.0f} s of them for random search"),
        ("versions", versions(origin)),
        ("machine", origin.get("machine")),
    ]
    return f'<div class="card">{facts_html(facts)}{command_line(origin)}</div>'
