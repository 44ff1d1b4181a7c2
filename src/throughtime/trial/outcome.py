"""From the standings of a trial to its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from throughtime.remedy import TreatmentPlan
from throughtime.trial.conduct import Trial
from throughtime.trial.halving import Standing
from throughtime.trial.proof import Proof
from throughtime.trial.rounds import Rounds
from throughtime.trial.statistics import holm, paired_p, sign_p, wilson
from throughtime.trial.treatment import ArmRecord, ProofRecord, Treatment, best_at_random

__all__ = ["Findings", "named_apart", "outcome"]


@dataclass(frozen=True)
class Findings:
    """What was known before the trial.

    Attributes:
        codes: errors of the diagnosis.
        horizons: need, reach and use.
        by_hand: changes of code that no plan can make.
        censored: horizons that may be larger than what was seen.
    """

    codes: tuple[str, ...] = ()
    horizons: dict[str, int | None] = field(default_factory=dict)
    by_hand: tuple[str, ...] = ()
    censored: tuple[str, ...] = ()

    @classmethod
    def together(cls, looks: Sequence[Findings]) -> Findings:
        """Of several looks, each thing once."""
        first = next((each for each in looks if each.horizons), cls())
        return cls(
            tuple(dict.fromkeys(code for each in looks for code in each.codes)),
            {name: value for each in reversed(looks) for name, value in each.horizons.items()},
            tuple(dict.fromkeys(line for each in looks for line in each.by_hand)),
            first.censored,
        )


def outcome(trial: Trial, baseline: Standing, found: Rounds, findings: Findings, notes: Sequence[str]) -> Treatment:
    """The record of a trial.

    Args:
        trial: that was conducted, its first round.
        baseline: the patient as it is.
        found: what came of it.
        findings: what was known before.
        notes: what was noticed on the way.
    """
    known = baseline
    for proof in found.proofs:
        known = known.joined(proof.seeds, proof.untreated)
    arms = named_apart([_record(trial, each, known) for each in (baseline, *found.standings)])
    names = {arm.plan: arm.name for arm in arms}
    tested = [index for index, arm in enumerate(arms) if arm.p is not None]
    for index, p in zip(tested, holm([arms[index].p or 0.0 for index in tested]), strict=True):
        arms[index] = replace(arms[index], p_corrected=p)
    for proof in found.proofs:
        arms = [_with_fresh(arm, proof) for arm in arms]
    shown = found.proof
    best_name = None if shown is None else names[shown.arm.plan]
    return Treatment.of(
        _without_what_nobody_draws(arms, best_name),
        [_proof(proof, names[proof.arm.plan]) for proof in found.proofs],
        best_name=best_name,
        target=trial.target,
        cured=shown is not None and shown.cured,
        better=shown is not None and shown.better,
        p=None if shown is None else shown.p,
        seeds=trial.seeds,
        fresh_seeds=tuple(seed for proof in found.proofs for seed in proof.seeds),
        codes=findings.codes,
        horizons=findings.horizons,
        step_seconds=trial.times.seconds(TreatmentPlan()),
        prescribed_seconds=trial.seconds([each for each in found.standings if each.arm.source != "random"]),
        random_seconds=trial.seconds([each for each in found.standings if each.arm.source == "random"]),
        by_hand=findings.by_hand,
        censored=findings.censored,
        notes=(*notes, *_noticed([baseline, *found.standings], found.proofs)),
    )


def _record(trial: Trial, standing: Standing, baseline: Standing) -> ArmRecord:
    arm, results = standing.arm, standing.results
    reach = next((result.reach for result in results if result.reach is not None), None)
    return ArmRecord(
        name=arm.name,
        source=arm.source,
        reason=arm.reason,
        plan=arm.plan,
        num_learned=standing.num_learned,
        num_seeds=len(results),
        interval=wilson(standing.num_learned, len(results)),
        scores=tuple(result.score for result in results),
        failures=tuple(dict.fromkeys(result.failed for result in results if result.failed)),
        reach=reach,
        predicted_reach=arm.predicted_reach,
        num_steps=trial.steps(arm),
        step_ratio=trial.times.ratio(arm.plan),
        p=None if arm.source == "baseline" else _p(trial, standing, baseline),
        p_corrected=None,
        looks=next((result.looks for result in results if result.looks is not None), None),
        seeds=standing.seeds,
    )


def named_apart(arms: Sequence[ArmRecord]) -> list[ArmRecord]:
    """With a number behind a name that another plan has already; one plan has one name."""
    names: dict[TreatmentPlan, str] = {}
    for arm in arms:
        taken, number, name = set(names.values()), 1, arm.name
        while arm.plan not in names and name in taken:
            number += 1
            name = f"{arm.name} ({number})"
        names.setdefault(arm.plan, name)
    return [replace(arm, name=names[arm.plan]) for arm in arms]


def _p(trial: Trial, standing: Standing, baseline: Standing) -> float:
    """Of the selection, on the same seeds: by seeds that learn, or by scores where there is no target."""
    untreated = dict(zip(baseline.seeds, baseline.results, strict=True))
    pairs = [(own, untreated[seed]) for seed, own in zip(standing.seeds, standing.results, strict=True)]
    if trial.has_target:
        return paired_p([a.learned for a, _ in pairs], [b.learned for _, b in pairs])
    known = [(a.score, b.score) for a, b in pairs if a.score is not None and b.score is not None]
    return sign_p(sum(a > b for a, b in known), sum(a < b for a, b in known))


def _with_fresh(arm: ArmRecord, proof: Proof) -> ArmRecord:
    results = {proof.arm.plan: proof.treated, TreatmentPlan(): proof.untreated}.get(arm.plan)
    if results is None:
        return arm
    return replace(
        arm,
        fresh_seeds=(*arm.fresh_seeds, *proof.seeds),
        fresh_scores=(*arm.fresh_scores, *(result.score for result in results)),
        num_fresh_learned=arm.num_fresh_learned + sum(result.learned for result in results),
    )


def _without_what_nobody_draws(arms: Sequence[ArmRecord], best_name: str | None) -> list[ArmRecord]:
    """Of the plans that were drawn at random, the best alone keeps its gradient: there may be a hundred of them."""
    drawn = best_at_random(arms, best_name)
    return [
        replace(arm, looks=arm.looks.without_gradient)
        if arm.looks is not None and arm.source == "random" and arm is not drawn
        else arm
        for arm in arms
    ]


def _proof(proof: Proof, name: str) -> ProofRecord:
    return ProofRecord(
        name=name,
        seeds=proof.seeds,
        level=proof.level,
        num_learned=proof.num_learned,
        num_untreated=proof.num_untreated,
        p=proof.p,
        passed=proof.passed,
    )


def _noticed(standings: Sequence[Standing], proofs: Sequence[Proof]) -> list[str]:
    """What the trainings said, each thing once."""
    results = [result for each in standings for result in each.results]
    results += [result for proof in proofs for result in (*proof.treated, *proof.untreated)]
    notes = list(dict.fromkeys(note for each in standings[:1] for result in each.results for note in result.notes))
    printed = sum(result.num_printed for result in results)
    if printed:
        notes.append(f"the patient printed {printed} lines in {len(results)} trainings, which are not shown")
    failed = sum(bool(result.failed) for result in standings[0].results)
    if failed:
        reason = next(result.failed for result in standings[0].results if result.failed)
        notes.append(f"as it is the patient failed with {failed} of {len(standings[0].results)} seeds: {reason}")
    scores = {result.score for result in results}
    if len(scores) == 1 and len(results) > 1 and None not in scores:
        notes.append(f"the score was {results[0].score:g} in all of {len(results)} trainings: it may not be one")
    return notes
