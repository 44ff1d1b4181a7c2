"""What is tried one after the other: what was prescribed, look after look, and what did best, together and in doses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from throughtime.trial.conduct import Trial
from throughtime.trial.halving import BRACKET, Arm, Standing

__all__ = ["doses", "in_turns", "staged"]

_TIMES = 3.0
"""A step of the learning rate: wide enough to tell, narrow enough not to leap over what works."""
_WARM = 0.1


def staged(
    trial: Trial, looks: Iterable[Sequence[Arm]], learning_rate: float | None, most_trainings: int | None = None
) -> list[Standing]:
    """Treatments until one learns with every seed.

    Each look gives arms; the next one is asked for only where nothing has learned with every seed. As soon as something
    learns with most seeds, and at the end in any case, the two best are tried together, and the best in other doses.

    Args:
        trial: that trains.
        looks: the arms of each, the likelier ones first.
        learning_rate: of the patient as it is; None where it is not known.
        most_trainings: None for no bound.

    Returns:
        Where everything that was tried stood at last.
    """
    standings: list[Standing] = []
    refined = False

    def left() -> int | None:
        spent = sum(len(each.results) for each in standings)
        return None if most_trainings is None else most_trainings - spent

    def tried(arms: Sequence[Arm], *, ranked: bool = True) -> bool:
        known = {each.arm.plan for each in standings}
        standings.extend(trial.search([arm for arm in arms if arm.plan not in known], left(), ranked=ranked))
        return any(each.num_learned == len(trial.seeds) for each in standings)

    def refine() -> bool:
        pair = trial.pair(standings)
        best = trial.best(standings)
        return (pair is not None and tried([pair])) or (
            best is not None and tried(doses(best.arm, learning_rate), ranked=False)
        )

    for arms in looks:
        if tried(arms):
            return standings
        best = trial.best(standings)
        if not refined and best is not None and 2 * best.num_learned > len(trial.seeds):
            refined = True
            if refine():
                return standings
    if not refined:
        refine()
    return standings


def doses(arm: Arm, learning_rate: float | None) -> list[Arm]:
    """A treatment with other learning rates, and with its first updates held back.

    Args:
        arm: that did best.
        learning_rate: of the patient as it is; None where it is not known.

    Example:
        >>> from throughtime.remedy import TreatmentPlan
        >>> clip = Arm(name="clip", plan=TreatmentPlan(clip=1.0), source="prescribed")
        >>> [each.plan.learning_rate for each in doses(clip, 0.01)]
        [0.03, 0.00333, 0.1, None]
    """
    rate = arm.plan.learning_rate or learning_rate
    warm = {"warmup_share": _WARM}
    variants = [
        (f"{_TIMES:.0f} times the rate", _TIMES, {}),
        (f"the rate divided by {_TIMES:.0f}", 1 / _TIMES, {}),
        ("10 times the rate, with a warm-up", 10.0, warm),
    ]
    plans = [
        (words, arm.plan.changed(learning_rate=float(f"{rate * times:.3g}"), **more))
        for words, times, more in variants
        if rate
    ]
    if arm.plan.weight_decay:
        plans[-1:] = [("10 times the decay", arm.plan.changed(weight_decay=float(f"{10 * arm.plan.weight_decay:.3g}")))]
    bound = {"clip_kind": "norm", "clip": 1.0} if arm.plan.clip is None else {}
    plans.append(("a warm-up and a clip", arm.plan.changed(**warm, **bound)))
    return [
        Arm(name=f"{arm.name}, {words}", plan=plan, source="prescribed", reason="what did best, in another dose")
        for words, plan in plans
        if plan != arm.plan
    ]


def in_turns(lists: Sequence[Sequence[Arm]]) -> list[Arm]:
    """A bracket of the first list, one of the second, and so on, and then the next bracket of each.

    Where the first choices for a finding all fail, those for another finding are likelier than its last ones.
    """
    longest = max(map(len, lists), default=0)
    return [arm for begin in range(0, longest, BRACKET) for each in lists for arm in each[begin : begin + BRACKET]]
