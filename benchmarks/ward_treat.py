"""The campaign behind `python benchmarks/ward.py --treat`: is what is prescribed a cure, and is it better than chance?

Every broken case whose code is outside *Wiring* and *Data* (and `unscaled-input`, but not `no-signal`) is diagnosed,
prescribed for and treated: the patient as it is, what is prescribed, and random search over the same space of plans,
each training with the same compute, arms selected on 5 seeds by successive halving, both winners then compared with the
patient as it is on 10 fresh seeds. Nothing is cured that `throughtime.treat` would not call so.

A case is a line in FOLDER/campaign.jsonl, and has a folder with a ledger of its trainings; the same command goes on
where one that was stopped was.
"""

from __future__ import annotations

import itertools
import json
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import throughtime
from throughtime.diagnosis import Diagnosis, data, wiring
from throughtime.remedy import Prescription, facts_of
from throughtime.storage import MetricsFile
from throughtime.trial import Standing, Trial, random_arms
from throughtime.trial.engine import Engine
from throughtime.trial.ledger import Ledger
from throughtime.trial.prescribing import choices_for
from throughtime.trial.statistics import paired_difference, wilson
from throughtime.trial.timing import StepTimes
from ward.case import Case
from ward.treatable import Treatable

__all__ = ["CODES_LEFT_OUT", "campaign", "selected", "summary"]

CODES_LEFT_OUT = {rule.code for module in (data, wiring) for rule in module.RULES} - {"unscaled-input"} | {"no-signal"}
"""What is wrong with data or code is not for a plan to heal, and of noise nothing can be learned."""
SEEDS, FRESH = range(5), range(5, 15)

Examine = Callable[[Case], tuple[Diagnosis, Any]]


def selected(cases: Sequence[Case], pattern: str) -> list[Case]:
    """The cases of the campaign whose name contains a pattern, or one of several with | between them."""
    wanted = pattern.split("|")
    return [
        case
        for case in cases
        if case.code and case.code not in CODES_LEFT_OUT and any(part in case.name for part in wanted)
    ]


def campaign(
    cases: Sequence[Case], examine: Examine, folder: Path, *, jobs: int, random_trainings: int, limit: int | None
) -> list[dict[str, Any]]:
    """Treat cases that are not in the campaign's file yet.

    Args:
        cases: in their order.
        examine: the diagnosis of a case, and what a watch saw of it, or None.
        folder: of the campaign.
        jobs: processes.
        random_trainings: that random search has at most for a case.
        limit: cases that are treated now, at most; None for all.

    Returns:
        The lines of all cases that are done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = MetricsFile(folder / "campaign.jsonl")
    file.truncate_after(0)
    done = {line["name"]: line for line in file.read()}
    waiting = [case for case in cases if case.name not in done]
    for case in waiting[:limit]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the scripts' own
            line = _treated(case, examine, folder / case.name, jobs, random_trainings)
        file.append(line)
        done[case.name] = line
        _show(line)
    return [done[case.name] for case in cases if case.name in done]


def _treated(case: Case, examine: Examine, folder: Path, jobs: int, random_trainings: int) -> dict[str, Any]:
    """One case, as a line."""
    folder.mkdir(exist_ok=True)
    begin = time.perf_counter()
    diagnosis, prescription = _prescribed(case, examine, folder)
    examined = time.perf_counter() - begin
    patient = Treatable(case)
    ledger = Ledger(folder / "ledger.jsonl", case.name)
    times = StepTimes(patient, ledger, SEEDS[0])
    engine = Engine(patient, ledger, jobs=jobs)
    trial = Trial(engine, times, seeds=SEEDS, fresh_seeds=FRESH, num_steps=patient.steps, target=patient.target)
    baseline = trial.baseline()
    choices = choices_for(patient, SEEDS[0], diagnosis, None, prescription)
    prescribed = trial.search(choices.arms)
    pair = trial.pair(prescribed)
    prescribed += [] if pair is None else [pair]
    drawn = trial.search(random_arms(patient, SEEDS[0]), random_trainings)
    return {
        "name": case.name,
        "base": case.base,
        "code": case.code,
        "found": list(choices.findings.codes),
        "baseline": baseline.num_learned,
        "step_seconds": times.seconds(baseline.arm.plan),
        "num_steps": patient.steps,
        "prescribed": _side(trial, prescribed),
        "random": _side(trial, drawn),
        "examined_seconds": examined,
        "seconds": time.perf_counter() - begin,
    }


def _prescribed(case: Case, examine: Examine, folder: Path) -> tuple[Diagnosis, Prescription]:
    """Read again where it was made before the campaign was stopped."""
    found, made = folder / "diagnosis.json", folder / "prescription.json"
    if not made.exists():
        diagnosis, watched = examine(case)
        patient = case.make(0)
        facts = facts_of(
            patient.model,
            patient.inputs,
            optimizer=patient.optimizer if not isinstance(patient.optimizer, list) else patient.optimizer[0],
            window=patient.window,
            time_dim=patient.time_dim,
            watch=watched,
        )
        diagnosis.save(found)
        throughtime.prescribe(diagnosis, facts).save(made)
    return Diagnosis.load(found), Prescription.load(made)


def _side(trial: Trial, standings: Sequence[Standing]) -> dict[str, Any]:
    """What one way of choosing treatments came to; its best one is proven or not."""
    best = trial.best(standings)
    worth = best is not None and best.num_learned > 0
    proven = trial.confirm(best.arm) if best is not None and worth else None
    return {
        "trainings": sum(len(each.results) for each in standings),
        "seconds": trial.seconds(standings),
        "arms": [[each.arm.name, each.num_learned, len(each.results)] for each in standings],
        "best": best.arm.name if best is not None and worth else None,
        "plan": best.arm.plan.to_json() if best is not None and worth else {},
        "step_ratio": trial.times.ratio(best.arm.plan) if best is not None else None,
        "learned": best.num_learned if best is not None else 0,
        "fresh": proven.num_learned if proven is not None else 0,
        "fresh_baseline": sum(result.learned for result in proven.untreated) if proven is not None else None,
        "p": proven.p if proven is not None else None,
        "cured": proven is not None and proven.cured,
        "predicted_reach": best.arm.predicted_reach if best is not None else None,
        "reach": next((r.reach for r in best.results if r.reach is not None), None) if best is not None else None,
    }


def _show(line: dict[str, Any]) -> None:
    told, drawn = line["prescribed"], line["random"]
    mark = "cured" if told["cured"] else "-----"
    print(
        f"{mark}  {line['name']:42} {told['learned']}/5, fresh {told['fresh']}/10 with {told['best'] or 'nothing'} "
        f"({told['trainings']} trainings); random {'cured' if drawn['cured'] else 'not'} "
        f"({drawn['learned']}/5, fresh {drawn['fresh']}/10, {drawn['trainings']} trainings); "
        f"found {', '.join(line['found'][:2]) or 'nothing'}; {line['seconds']:.0f} s",
        flush=True,
    )


def summary(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures, printed."""
    if not lines:
        print("nothing is done yet")
        return {}
    told, drawn = [line["prescribed"] for line in lines], [line["random"] for line in lines]
    cured = [side["cured"] for side in told]
    same = [r["cured"] and r["trainings"] <= max(p["trainings"], 5) for p, r in zip(told, drawn, strict=True)]
    ever = [side["cured"] for side in drawn]
    spent = sum(side["trainings"] for side in told)
    print(f"\n{'code':32}{'cases':>6}{'cured':>7}{'random, same compute':>22}{'random, all of its':>20}")
    for code in sorted({line["code"] for line in lines}):
        own = [index for index, line in enumerate(lines) if line["code"] == code]
        counts = [sum(side[index] for index in own) for side in (cured, same, ever)]
        print(f"{code:32}{len(own):>6}{counts[0]:>7}{counts[1]:>22}{counts[2]:>20}")
    difference = paired_difference(cured, same)
    need, reached = _needed(cured, drawn)
    for name, side in (("cured by prescription", cured), ("by random search, same compute", same)):
        low, high = wilson(sum(side), len(side))
        print(f"{name:34}{sum(side):>4} of {len(side)}{sum(side) / len(side):>8.1%}   [{low:.1%}, {high:.1%}]")
    print(f"difference at equal compute       {difference[0]:+.1%}   [{difference[1]:+.1%}, {difference[2]:+.1%}]")
    at_least = "" if reached else "more than "
    print(
        f"trainings before the proof: {spent} by prescription; random search {at_least}{need} for the same share"
        f" ({at_least}{need / max(1, spent):.1f} x)"
    )
    return {
        "cases": len(lines), "cured": sum(cured), "random_same_compute": sum(same), "random_ever": sum(ever),
        "difference": difference, "trainings": spent, "random_trainings": need, "random_reached_the_share": reached,
    }  # fmt: skip


def _needed(cured: Sequence[bool], drawn: Sequence[dict[str, Any]]) -> tuple[int, bool]:
    """Trainings that random search takes in all, with the same bound for every case, to cure as many cases.

    Returns:
        That number, and whether the share was reached; where it was not, all that were made.
    """
    for bound in itertools.count(5):
        within = [side["cured"] and side["trainings"] <= bound for side in drawn]
        total = sum(min(side["trainings"], bound) for side in drawn)
        if sum(within) >= sum(cured):
            return total, True
        if bound >= max(side["trainings"] for side in drawn):
            return total, False
    raise AssertionError("count has no end")


def write(path: Path, lines: Sequence[dict[str, Any]], found: dict[str, Any]) -> None:
    """Everything as one file."""
    path.write_text(json.dumps({"summary": found, "cases": list(lines)}, indent=1) + "\n", encoding="utf-8")
