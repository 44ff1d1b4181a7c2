"""How long each training is and how many there may be: settled before the first one, and written into the ledger."""

from __future__ import annotations

from dataclasses import dataclass

from throughtime.check import at_least
from throughtime.errors import InputError
from throughtime.trial.halving import BRACKET, bracket_cost
from throughtime.trial.ledger import Ledger
from throughtime.trial.patient import Patient, option
from throughtime.trial.proof import FRESH
from throughtime.trial.timing import StepTimes

__all__ = ["Budget", "settled"]

_USUAL_BRACKETS = 2
"""For which there is to be time where a patient does not say how long it trains."""
_FEWEST_STEPS = 10


@dataclass(frozen=True)
class Budget:
    """What is settled.

    Attributes:
        num_steps: whole steps (see `StepTimes`) that the compute of a training is worth.
        most_trainings: of the prescribed arms, and of random search again; None for no bound.
    """

    num_steps: int
    most_trainings: int | None


def settled(
    patient: Patient, ledger: Ledger, times: StepTimes, num_seeds: int, jobs: int, budget_seconds: float | None
) -> Budget:
    """The budget of a trial; that of a trial that goes on is the one it began with.

    Raises:
        InputError: if neither steps nor a budget are given, or the budget is too small for one arm.
    """
    asked = f"{option(patient, 'steps')} steps, {budget_seconds} s, {num_seeds} seeds, {jobs} jobs"
    if times.whole.changes:
        asked += ", whole steps"
    stored = ledger.settled.get(asked)
    if stored is None:
        found = _settled(option(patient, "steps"), times, num_seeds, jobs, budget_seconds)
        stored = (found.num_steps, found.most_trainings)
        ledger.settle(asked, *stored)
    return Budget(*stored)


def _settled(steps: int | None, times: StepTimes, num_seeds: int, jobs: int, budget_seconds: float | None) -> Budget:
    if steps is not None:
        at_least("steps of the patient", steps, 1)
    if budget_seconds is None:
        if steps is None:
            raise InputError("how long is a training? give the patient `steps`, or treat it with budget_seconds")
        return Budget(steps, None)
    second = times.unit
    around = num_seeds + 2 * FRESH  # the baseline, and the proof
    if steps is None:
        usual = around + 2 * (_USUAL_BRACKETS * bracket_cost(BRACKET, num_seeds) + num_seeds)
        steps = int(budget_seconds * jobs / (second * usual))
        if steps < _FEWEST_STEPS:
            raise InputError(
                f"budget_seconds={budget_seconds:g} is too small: {usual} trainings of {_FEWEST_STEPS} steps of "
                f"{second:.3g} s on {jobs} processes take {usual * _FEWEST_STEPS * second / jobs:.3g} s"
            )
    most = int((budget_seconds * jobs / (steps * second) - around) / 2)
    if most < num_seeds:
        needed = (around + 2 * num_seeds) * steps * second / jobs
        raise InputError(
            f"budget_seconds={budget_seconds:g} is too small for one arm: {num_seeds} seeds of the patient as it is, "
            f"of one treatment and of random search, and {FRESH} fresh pairs, {steps} steps of {second:.3g} s each on "
            f"{jobs} processes, take {needed:.3g} s"
        )
    return Budget(steps, most)
