"""`treat`: from a patient to a treatment that is proven on fresh seeds, or to the words that it is not."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from throughtime.check import at_least
from throughtime.diagnosis import Diagnosis
from throughtime.errors import InputError, RecipeError
from throughtime.measurement import WatchRecord
from throughtime.storage import RunLock, write_text
from throughtime.storage.atomic import make_folder
from throughtime.trial.attempts import Attempts, remembered
from throughtime.trial.budget import Budget, settled
from throughtime.trial.conduct import Trial
from throughtime.trial.engine import Engine
from throughtime.trial.examination import examined
from throughtime.trial.fingerprint import fingerprint
from throughtime.trial.halving import Arm, Standing, num_trainings
from throughtime.trial.ledger import Ledger
from throughtime.trial.outcome import Findings, outcome
from throughtime.trial.patient import Admitted, Batches, Patient, admit, option
from throughtime.trial.prescribing import Remedies, check_remedies, facts_about
from throughtime.trial.proof import FRESH, Proof
from throughtime.trial.rounds import Rounds, in_rounds
from throughtime.trial.search import random_arms
from throughtime.trial.stages import Drawn, Prescribed
from throughtime.trial.surroundings import quietly, seeded
from throughtime.trial.timing import StepTimes
from throughtime.trial.treatment import Treatment

__all__ = ["CODE_FILE", "LEDGER_FILE", "TREATMENT_FILE", "WEIGHTS_FILE", "treat"]

LEDGER_FILE, TREATMENT_FILE, WEIGHTS_FILE = "ledger.jsonl", "treatment.json", "treated.safetensors"
CODE_FILE = "treatment.py"
_FEWEST_SEEDS = 5

Progress = Callable[[str], None]


def treat(
    patient: Patient,
    *,
    seeds: int | Sequence[int] = _FEWEST_SEEDS,
    budget_seconds: float | None = None,
    remedies: Remedies | str | None = None,
    diagnosis: Diagnosis | None = None,
    jobs: int = 0,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> Treatment:
    """Try what may treat a patient, and prove what cures it.

    The patient is diagnosed, the diagnosis prescribed for, and what is prescribed tried beside the patient as it is and
    random search over the same space of plans: the same seeds, and the same compute for every training. Arms are
    selected by successive halving over `seeds`; the best one is then compared with the patient as it is on ten fresh
    seeds. *Cured* means that at least 8 of these reach the target, and that an exact one-sided test gives p <= 0.0375.
    Where that fails, these seeds are known and help to select another treatment, which is proven on ten others with
    p <= 0.0125: by both together, what does nothing is called a cure with a probability of at most 0.05.

    Everything follows from the seeds, but for the number of steps of arms whose steps take longer or shorter: that
    follows from times measured beforehand, which the ledger keeps, so that a trial that goes on has them again.

    Args:
        patient: an object with `build(seed)`, `batches(seed)`, `loss(outputs, targets)`, `score(model)` and `target`;
            see `throughtime.trial.Patient` for what else it may have.
        seeds: how many, at least 5, or which.
        budget_seconds: time for all of it, by the measured times of steps; without it, as long as the prescribed arms
            take. A patient without `steps` gets as many updates a training as fit.
        remedies: what is tried: plans, remedies or their names, or one name; what the diagnosis suggests unless given.
        diagnosis: of the patient, where there is one.
        jobs: processes; 1 for none beside this one, 0 for one a core.
        out: a folder for the ledger, the outcome and the cured weights; the same call goes on where a killed one was.
        progress: is told what happens, a line each.

    Returns:
        The outcome; `print` it.

    Raises:
        InputError: if the patient cannot be treated, or the budget is too small for one arm.
        RecipeError: if a choice does not fit.
        RunError: if `out` is in use, or holds the ledger of another patient.
    """
    chosen = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if len(set(chosen)) < len(chosen):
        raise RecipeError(f"seeds must differ from one another, not {list(chosen)}")
    at_least("seeds", len(chosen), _FEWEST_SEEDS)
    if budget_seconds is not None and not 0 < budget_seconds < math.inf:
        raise RecipeError(f"budget_seconds must be a number of seconds above 0, not {budget_seconds}")
    wanted = [remedies] if isinstance(remedies, str) else remedies
    check_remedies(wanted)
    admitted = admit(patient, chosen)
    chosen = (admitted.seed, *(seed for seed in chosen if seed != admitted.seed))  # arms are first told apart by it
    asked = _Asked(patient, chosen, budget_seconds, wanted, diagnosis, jobs, progress or _silent, admitted)
    if out is None:
        return asked.answer(None)
    folder = Path(out)
    make_folder(folder)
    with RunLock(folder):
        found = asked.answer(folder)
        found.save(folder / TREATMENT_FILE)
        if found.proven:
            write_text(folder / CODE_FILE, found.code)
    return found


class _Asked:
    """What `treat` was asked."""

    def __init__(
        self,
        patient: Patient,
        seeds: tuple[int, ...],
        budget_seconds: float | None,
        remedies: Remedies | None,
        diagnosis: Diagnosis | None,
        jobs: int,
        tell: Progress,
        admitted: Admitted,
    ) -> None:
        self.patient, self.seeds, self.budget_seconds = patient, seeds, budget_seconds
        self.remedies, self.diagnosis, self.jobs = remedies, diagnosis, jobs
        self.tell, self.admitted, self.notes = tell, admitted, list(admitted.notes)

    def answer(self, folder: Path | None) -> Treatment:
        """The whole trial."""
        engine, times = self._begun(folder)
        trial, budget = self._trial(engine, times)
        baseline = trial.baseline()
        _refuse_hopeless(baseline, self.admitted.scoreless, self.patient, self.seeds[0])
        if _all_learned(baseline):
            return outcome(trial, baseline, Rounds(), Findings(), self.notes)
        attempts = self._attempts(budget.num_steps, folder)
        whole = self._in_whole_steps(times, attempts)
        if whole is not None:
            trial, budget = self._trial(engine, whole)
            baseline = trial.baseline()
            if _all_learned(baseline):
                return outcome(trial, baseline, Rounds(), attempts.findings, self.notes)
        sides = _Sides(self.patient, self.seeds, attempts, budget.most_trainings, self.tell)
        keep = None if folder is None else folder / WEIGHTS_FILE

        def prove(trial: Trial, arm: Arm) -> Proof:
            self.tell(f"on fresh seeds: {arm.name}")
            return trial.proof(arm, keep)

        found = in_rounds(trial, sides.select, prove)
        self.notes += [*attempts.notes, *sides.notes(trial, found.standings)]
        if keep is not None and found.proof is not None:
            self.notes += _kept(trial, found, keep)
        return outcome(trial, baseline, found, attempts.findings, self.notes)

    def _begun(self, folder: Path | None) -> tuple[Engine, StepTimes]:
        path = None if folder is None else folder / LEDGER_FILE
        ledger = Ledger(path, fingerprint(self.patient, self.seeds[0]))
        if ledger.num_found:
            self.tell(f"{ledger.num_found} trainings are done already")
        engine = Engine(self.patient, ledger, jobs=self.jobs, progress=self.tell)
        return engine, StepTimes(self.patient, ledger, self.seeds[0])

    def _trial(self, engine: Engine, times: StepTimes) -> tuple[Trial, Budget]:
        budget = settled(self.patient, engine.ledger, times, len(self.seeds), engine.jobs, self.budget_seconds)
        self.tell(f"{budget.num_steps} updates a training, {times.unit:.2g} s each")
        return Trial(engine, times, seeds=self.seeds, num_steps=budget.num_steps, target=self.patient.target), budget

    def _in_whole_steps(self, times: StepTimes, attempts: Attempts) -> StepTimes | None:
        """Of a patient whose steps leave most of it out by mistake, the compute of what it is meant to be."""
        if option(self.patient, "steps") is None:  # the budget's seconds are shared out, whatever a step takes
            return None
        whole = times.in_steps_of(attempts.whole_step)
        if whole.unit <= times.unit:
            return None
        self.notes.append(
            f"a step that updates every parameter takes {whole.unit / times.unit:.2g} times as long as one of the "
            "patient as it is: all trainings, its own too, have the compute of such steps"
        )
        return whole

    def _attempts(self, num_steps: int, folder: Path | None) -> Attempts:
        def examine(in_training: bool) -> tuple[Diagnosis, WatchRecord | None]:
            self.tell("diagnosing a training ..." if in_training else "diagnosing ...")
            return examined(self.patient, self.seeds[0], num_steps, in_training=in_training)

        return Attempts(
            self.patient,
            self.seeds[0],
            remembered(examine, folder),
            diagnosis=self.diagnosis,
            remedies=self.remedies,
            tell=self.tell,
        )


class _Sides:
    """What is prescribed, and random search beside it with as many trainings, in each round.

    Args:
        patient: for whose model.
        seeds: the first of which the draws follow from.
        attempts: what is prescribed.
        most_trainings: of either side; None for no bound.
        tell: is told what happens.

    Attributes:
        found: whether something prescribed has learned with enough seeds of a selection.
    """

    def __init__(
        self, patient: Patient, seeds: Sequence[int], attempts: Attempts, most_trainings: int | None, tell: Progress
    ) -> None:
        rate = facts_about(patient, seeds[0]).learning_rate
        self.prescribed = Prescribed(attempts, rate, most_trainings)
        self.drawn = Drawn(random_arms(patient, seeds[0]))
        self.attempts, self.most, self.tell = attempts, most_trainings, tell
        self.found = False

    def select(self, trial: Trial, failed: Standing | None) -> list[Standing]:
        """A round of both."""
        if failed is None:
            found = self.prescribed.first(trial)
            self.found = trial.found(found)
            return [*found, *self.drawn.first(trial, max(num_trainings(found), len(trial.seeds)))]
        left = None  # of each side, which has to leave half of the second proof
        if self.most is not None:
            left = self.most - num_trainings(self.prescribed.standings) - FRESH
        if left is not None and left < len(trial.seeds):
            return []
        self.tell(f"not proven: {failed.arm.name}; another treatment is selected with these seeds too")
        before = num_trainings(self.prescribed.standings)
        found = self.prescribed.again(trial, failed, left)
        self.found = self.found or trial.found(found)
        spent = num_trainings(self.prescribed.standings) - before
        return [*found, *self.drawn.again(trial, failed, max(spent, len(trial.seeds)))]

    def notes(self, trial: Trial, standings: Sequence[Standing]) -> list[str]:
        """What was not tried, and why."""
        arms = self.attempts.arms
        notes = [
            f"'{arm.name}' would take longer before its first step than there is for a training"
            for arm in arms
            if not trial.affordable(arm)
        ]
        affordable = sum(trial.affordable(arm) for arm in arms)
        num_tried = len({each.arm.plan for each in standings} & {arm.plan for arm in arms})
        if num_tried < affordable:
            why = "one was found that learns" if self.found else "the budget was not enough for more"
            notes.append(f"{num_tried} of {affordable} treatments were tried: {why}")
        return notes


def _kept(trial: Trial, found: Rounds, keep: Path) -> list[str]:
    assert found.proof is not None
    seed = trial.kept(found.proof, keep, found.proofs)
    which = "the first that learned" if trial.has_target else "the first that has a score"
    return [] if seed is None else [f"{keep.name} holds the weights of the fresh seed {seed}, {which}"]


def _refuse_hopeless(baseline: Standing, scoreless: bool, patient: Patient, seed: int) -> None:
    """A patient of which no treatment could show.

    Raises:
        InputError: if it fails with every seed, or never has a score.
    """
    results = baseline.results
    if all("Error: " in result.failed for result in results):
        with seeded(seed), quietly():
            inputs, _ = next(Batches(patient, seed))
        handed = "named arguments" if isinstance(inputs, dict) else "several arguments"
        several = isinstance(inputs, dict | tuple | list) and "TypeError" in results[0].failed
        hint = f" (the model gets these inputs as {handed}: a tuple of one hands them over as one)" if several else ""
        raise InputError(f"the patient fails with every seed, untreated: {results[0].failed}{hint}")
    if scoreless and all(result.score is None for result in results):
        raise InputError("score gives no finite number, before training and after it, whatever the weights are")


def _all_learned(baseline: Standing) -> bool:
    return baseline.num_learned == len(baseline.results)


def _silent(_: str) -> None:
    pass
