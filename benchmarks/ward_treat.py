"""The campaign behind `python benchmarks/ward.py --treat`: is what is prescribed a cure, and is it better than chance?

Every broken case whose code is outside *Wiring* and *Data* (and `unscaled-input`, but not `no-signal`) is diagnosed,
prescribed for and treated: the patient as it is, what is prescribed, and random search over the same space of plans,
with as many trainings, and with twice as many. Each training has the same compute, arms are selected on 5 seeds by
successive halving, and the best one is compared with the patient as it is on 10 fresh seeds; where that fails another
one is selected with these seeds too, and proven on 10 others. Nothing is cured that `throughtime.treat` would not call
so; fresh seeds are only left out where they can no longer change the outcome.

Cases come in an order that is drawn once, every fault of every script before any second strength of it: whatever has
been done of a campaign is a sample that nobody chose. A case and a side make a line in FOLDER/campaign.jsonl, and each
case has a folder with a ledger of its trainings; the same command goes on where one that was stopped was.
"""

from __future__ import annotations

import json
import random
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from throughtime.diagnosis import Diagnosis, data, wiring
from throughtime.measurement import WatchRecord
from throughtime.remedy import TreatmentPlan
from throughtime.storage import MetricsFile
from throughtime.trial import Arm, Proof, Standing, Trial, random_arms
from throughtime.trial.attempts import Attempts, remembered
from throughtime.trial.engine import Engine
from throughtime.trial.halving import num_trainings
from throughtime.trial.ledger import Ledger
from throughtime.trial.prescribing import facts_about
from throughtime.trial.rounds import Select, in_rounds
from throughtime.trial.stages import Drawn, Prescribed
from throughtime.trial.statistics import paired_difference, wilson
from throughtime.trial.timing import StepTimes
from ward.case import Case
from ward.treatable import Treatable

__all__ = ["CODES_LEFT_OUT", "SIDES", "campaign", "drawn_order", "selected", "summary", "write"]

CODES_LEFT_OUT = {rule.code for module in (data, wiring) for rule in module.RULES} - {"unscaled-input"} | {"no-signal"}
"""What is wrong with data or code is not for a plan to heal, and of noise nothing can be learned."""
SEEDS = range(5)
SIDES = {"prescribed": 0, "random": 1, "random twice": 2}
"""Ways of choosing treatments; of random search how many trainings it has for each one of the prescribed ones."""

Line = dict[str, Any]
Examine = Callable[[Case, bool], tuple[Diagnosis, WatchRecord | None]]
"""Of a case, whether in training or at its start: its diagnosis, and what was seen of the training."""


def selected(cases: Sequence[Case], pattern: str) -> list[Case]:
    """The cases of the campaign whose name contains a pattern, or one of several with | between them."""
    wanted = pattern.split("|")
    return [
        case
        for case in cases
        if case.code and case.code not in CODES_LEFT_OUT and any(part in case.name for part in wanted)
    ]


def drawn_order(cases: Sequence[Case], seed: int) -> list[Case]:
    """In random order, but each fault of each script once before any of them comes again.

    Args:
        cases: in their order.
        seed: of the draw.
    """
    shuffled = list(cases)
    random.Random(seed).shuffle(shuffled)
    turns: dict[tuple[str, str | None], int] = {}
    ranks = []
    for case in shuffled:
        ranks.append(turns.get((case.base, case.code), 0))
        turns[case.base, case.code] = ranks[-1] + 1
    return [shuffled[index] for index in sorted(range(len(shuffled)), key=lambda index: ranks[index])]


def campaign(
    cases: Sequence[Case], examine: Examine, folder: Path, *, jobs: int, sides: Sequence[str], limit: int | None
) -> list[Line]:
    """Treat cases that are not in the campaign's file yet.

    Args:
        cases: in their order.
        examine: diagnoses a case.
        folder: of the campaign.
        jobs: processes.
        sides: some of `SIDES`; random search only where the prescribed side is done.
        limit: lines that are made now, at most; None for all.

    Returns:
        The lines of all that is done of these cases.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = MetricsFile(folder / "campaign.jsonl")
    file.truncate_after(0)
    done = {(line["name"], line["side"]): line for line in file.read()}
    waiting = [(case, side) for case in cases for side in sides if (case.name, side) not in done]
    for case, side in waiting[:limit]:
        if side != "prescribed" and (case.name, "prescribed") not in done:
            print(f"-----  {case.name:42} {side:12} has to wait for what is prescribed: add it to --sides", flush=True)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the scripts' own
            treating = _Treating(case, folder / case.name, jobs)
            if side == "prescribed":
                line = treating.prescribed(examine)
            else:
                line = treating.random(side, done[case.name, "prescribed"])
        file.append(line)
        done[case.name, side] = line
        _show(line)
    return [done[case.name, side] for case in cases for side in SIDES if (case.name, side) in done]


class _Treating:
    """One case.

    Args:
        case: which.
        folder: of its ledger, diagnosis and prescription.
        jobs: processes.
    """

    def __init__(self, case: Case, folder: Path, jobs: int) -> None:
        folder.mkdir(exist_ok=True)
        self.case, self.folder = case, folder
        self.patient = Treatable(case)
        ledger = Ledger(folder / "ledger.jsonl", case.name)
        self.engine, self.times = Engine(self.patient, ledger, jobs=jobs), StepTimes(self.patient, ledger, SEEDS[0])

    def prescribed(self, examine: Examine) -> Line:
        """What `throughtime.treat` would try."""
        begin, examined = time.perf_counter(), [0.0]

        def timed(in_training: bool) -> tuple[Diagnosis, WatchRecord | None]:
            before = time.perf_counter()
            found = examine(self.case, in_training)
            examined[0] += time.perf_counter() - before
            return found

        attempts = Attempts(self.patient, SEEDS[0], remembered(timed, self.folder))
        trial = self._trial(attempts.whole_step)
        side = Prescribed(attempts, facts_about(self.patient, SEEDS[0]).learning_rate)

        def select(trial: Trial, failed: Standing | None) -> list[Standing]:
            return side.first(trial) if failed is None else side.again(trial, failed)

        line = self._line("prescribed", trial, select)
        whole = {"whole_step": attempts.whole_step.to_json(), "num_steps": self.patient.steps}
        seconds = {"examined_seconds": examined[0], "step_seconds": trial.times.unit}
        found = list(attempts.findings.codes)
        return {**line, "found": found, **whole, **seconds, "seconds": time.perf_counter() - begin}

    def random(self, side: str, prescribed: Line) -> Line:
        """Random search with a multiple of the trainings of the prescribed side, of both its selections."""
        begin = time.perf_counter()
        most = SIDES[side] * max(prescribed["trainings"], len(SEEDS))
        drawn = Drawn(random_arms(self.patient, SEEDS[0]))

        def select(trial: Trial, failed: Standing | None) -> list[Standing]:
            if failed is None:
                return drawn.first(trial, most)
            return drawn.again(trial, failed, most - num_trainings(drawn.standings))

        whole = TreatmentPlan.from_json(prescribed.get("whole_step", {}))  # older lines have none
        line = self._line(side, self._trial(whole), select)
        return {**line, "most_trainings": most, "seconds": time.perf_counter() - begin}

    def _trial(self, whole_step: TreatmentPlan) -> Trial:
        return Trial(
            self.engine,
            self.times.in_steps_of(whole_step),
            seeds=SEEDS,
            num_steps=self.patient.steps,
            target=self.patient.target,
        )

    def _line(self, side: str, trial: Trial, select: Select) -> Line:
        """What one way of choosing treatments came to; its best one is proven or not."""

        def prove(trial: Trial, arm: Arm) -> Proof:
            return trial.proof(arm, sparing=True)

        found = in_rounds(trial, select, prove)
        best, proof = found.best, found.proof
        return {
            "name": self.case.name,
            "base": self.case.base,
            "code": self.case.code,
            "side": side,
            "cured": proof is not None and proof.cured,
            "trainings": num_trainings(found.standings),
            "arms": [[each.arm.name, each.num_learned, len(each.results), _mean(each)] for each in found.standings],
            "proofs": [_counts(each) for each in found.proofs],
            "best": None if best is None else best.arm.name,
            "plan": {} if best is None else best.arm.plan.to_json(),
            "step_ratio": None if best is None else trial.times.ratio(best.arm.plan),
            "learned": 0 if best is None else best.num_learned,
            "seeds": len(SEEDS) if best is None else len(best.results),
            "fresh": [0, 0] if proof is None else [proof.num_learned, len(proof.treated)],
            "fresh_untreated": [0, 0] if proof is None else [proof.num_untreated, len(proof.untreated)],
            "predicted_reach": None if best is None else best.arm.predicted_reach,
            "reach": None if best is None else next((r.reach for r in best.results if r.reach is not None), None),
        }


def _counts(proof: Proof) -> Line:
    return {
        "arm": proof.arm.name,
        "seeds": list(proof.seeds),
        "level": proof.level,
        "learned": [proof.num_learned, len(proof.treated)],
        "untreated": [proof.num_untreated, len(proof.untreated)],
        "passed": proof.passed,
    }


def _mean(standing: Standing) -> float | None:
    """JSON has no infinity."""
    known = [result.score for result in standing.results if result.score is not None]
    return float(f"{sum(known) / len(known):.4g}") if known else None


def _show(line: Line) -> None:
    fresh, untreated = ("{} of {}".format(*line[name]) for name in ("fresh", "fresh_untreated"))
    found = f"; found {', '.join(line['found'][:2]) or 'nothing'}" if "found" in line else ""
    mark = "cured" if line["cured"] else "-----"
    print(
        f"{mark}  {line['name']:42} {line['side']:12} {line['learned']}/{line['seeds']}, fresh {fresh} (as it is "
        f"{untreated}) with {line['best'] or 'nothing'} after {line['trainings']} trainings"
        f"{' and two proofs' if len(line['proofs']) > 1 else ''}{found}; {line['seconds']:.0f} s",
        flush=True,
    )


def summary(lines: Sequence[Line], development: Sequence[str]) -> dict[str, Any]:
    """The figures, printed.

    Args:
        lines: of the campaign.
        development: scripts that were looked at while the diagnosis and the prescription were made.
    """
    by_side = {side: {line["name"]: line for line in lines if line["side"] == side} for side in SIDES}
    told = by_side["prescribed"]
    print(f"\n{'code':32}{'cases':>6}{'cured':>7}{'random, same compute':>22}{'random, twice':>15}")
    for code in sorted({line["code"] for line in lines}):
        counts = [
            f"{sum(line['cured'] for line in own)} of {len(own)}" if (own := _of(each, "code", code)) else "-"
            for each in (by_side["random"], by_side["random twice"])
        ]
        own = _of(told, "code", code)
        print(f"{code:32}{len(own):>6}{sum(line['cured'] for line in own):>7}{counts[0]:>22}{counts[1]:>15}")
    found: dict[str, Any] = {}
    _share("cured by prescription", list(told.values()), found)
    _share("  scripts looked at", [line for line in told.values() if line["base"] in development], found)
    _share("  scripts kept for scoring", [line for line in told.values() if line["base"] not in development], found)
    for side in ("random", "random twice"):
        _beside(side, told, by_side[side], found)
    if told:
        spent = [line["trainings"] for line in told.values()]
        examined = [line["examined_seconds"] / (line["num_steps"] * line["step_seconds"]) for line in told.values()]
        found["trainings"], found["examined"] = sum(spent) / len(spent), sorted(examined)[len(examined) // 2]
        print(f"trainings before the proof: {found['trainings']:.1f} a case by prescription")
        print(f"the diagnosis takes the time of {found['examined']:.1f} trainings (median)")
        again = [line["cured"] for line in told.values() if len(line.get("proofs", ())) > 1]
        found["second proofs"] = {"cured": sum(again), "of": len(again)}
        print(f"a second proof was needed for {len(again)}, and given for {sum(again)} of them")
    return found


def _of(lines: dict[str, Line], field: str, value: str) -> list[Line]:
    return [line for line in lines.values() if line[field] == value]


def _share(what: str, lines: Sequence[Line], found: dict[str, Any]) -> None:
    hits, total = sum(line["cured"] for line in lines), len(lines)
    low, high = wilson(hits, total)
    found[what.strip()] = {"cured": hits, "of": total, "interval": (low, high)}
    if total:
        print(f"{what:50}{hits:>4} of {total}{hits / total:>8.1%}   [{low:.1%}, {high:.1%}]")


def _beside(side: str, told: dict[str, Line], drawn: dict[str, Line], found: dict[str, Any]) -> None:
    """Random search, and prescription on the same cases."""
    if not drawn:
        return
    times = "the same compute" if SIDES[side] == 1 else f"{SIDES[side]} x the compute"
    _share(f"cured by random search with {times}", list(drawn.values()), found)
    pairs = [(told[name]["cured"], line["cured"]) for name, line in drawn.items()]
    difference = paired_difference([a for a, _ in pairs], [b for _, b in pairs])
    found[f"difference to {side}"] = difference
    print(
        f"  prescription cures more of these {len(pairs)} by    {difference[0]:+.1%}   "
        f"[{difference[1]:+.1%}, {difference[2]:+.1%}]"
    )


def write(path: Path, lines: Sequence[Line], found: dict[str, Any]) -> None:
    """Everything as one file."""
    path.write_text(json.dumps({"summary": found, "cases": list(lines)}, indent=1) + "\n", encoding="utf-8")
