"""`treat`: from a patient to a treatment that is proven on fresh seeds, or to the words that it is not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from throughtime.check import at_least
from throughtime.diagnosis import Diagnosis
from throughtime.errors import InputError
from throughtime.measurement import WatchRecord
from throughtime.remedy import TreatmentPlan, last_resorts
from throughtime.storage import RunLock, write_text
from throughtime.storage.atomic import make_folder
from throughtime.trial.budget import Budget, settled
from throughtime.trial.conduct import FRESH, Confirmation, Trial
from throughtime.trial.engine import Engine
from throughtime.trial.examination import examined
from throughtime.trial.halving import BRACKET, Arm, Standing
from throughtime.trial.ledger import Ledger
from throughtime.trial.outcome import Findings, outcome
from throughtime.trial.patient import Batches, Patient, admit, tensors_in
from throughtime.trial.prescribing import Choices, Remedies, check_remedies, choices_for, facts_about
from throughtime.trial.search import random_arms
from throughtime.trial.stages import staged
from throughtime.trial.surroundings import quietly, seeded
from throughtime.trial.timing import StepTimes
from throughtime.trial.treatment import Treatment

__all__ = ["CODE_FILE", "LEDGER_FILE", "TREATMENT_FILE", "WEIGHTS_FILE", "treat"]

LEDGER_FILE, TREATMENT_FILE, WEIGHTS_FILE = "ledger.jsonl", "treatment.json", "treated.safetensors"
CODE_FILE = "treatment.py"
_DIAGNOSIS_FILE, _WATCH_FILE = "diagnosis.json", "watch.json"
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
    seeds. *Cured* means that at least 8 of these reach the target, and that an exact one-sided test gives p < 0.05.

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
    at_least("seeds", len(set(chosen)), _FEWEST_SEEDS)
    wanted = [remedies] if isinstance(remedies, str) else remedies
    check_remedies(wanted)
    admitted = admit(patient, chosen)
    chosen = (admitted.seed, *(seed for seed in chosen if seed != admitted.seed))  # arms are first told apart by it
    asked = _Asked(patient, chosen, budget_seconds, wanted, diagnosis, jobs, progress or _silent, admitted.notes)
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
        notes: tuple[str, ...],
    ) -> None:
        self.patient, self.seeds, self.budget_seconds = patient, seeds, budget_seconds
        self.remedies, self.diagnosis, self.jobs = remedies, diagnosis, jobs
        self.tell, self.notes, self.looked = tell, list(notes), list[Choices]()

    def answer(self, folder: Path | None) -> Treatment:
        """The whole trial."""
        trial, budget = self._begun(folder)
        baseline = trial.baseline()
        if all("Error: " in result.failed for result in baseline.results):
            raise InputError(f"the patient fails with every seed, untreated: {baseline.results[0].failed}")
        if trial.has_target and baseline.num_learned == len(self.seeds):
            return outcome(trial, baseline, [], None, None, Findings(), self.notes)
        standings = self._tried(trial, budget, folder)
        best, confirmed = self._confirmed(trial, standings, folder)
        findings = Findings.together([looked.findings for looked in self.looked])
        return outcome(trial, baseline, standings, best, confirmed, findings, self.notes)

    def _begun(self, folder: Path | None) -> tuple[Trial, Budget]:
        path = None if folder is None else folder / LEDGER_FILE
        ledger = Ledger(path, _fingerprint(self.patient, self.seeds[0]))
        if ledger.num_found:
            self.tell(f"{ledger.num_found} trainings are done already")
        times = StepTimes(self.patient, ledger, self.seeds[0])
        engine = Engine(self.patient, ledger, jobs=self.jobs, progress=self.tell)
        budget = settled(self.patient, ledger, times, len(self.seeds), engine.jobs, self.budget_seconds)
        self.tell(f"{budget.num_steps} updates a training, {times.seconds(TreatmentPlan()):.2g} s each")
        trial = Trial(
            engine,
            times,
            seeds=self.seeds,
            fresh_seeds=range(max(self.seeds) + 1, max(self.seeds) + 1 + FRESH),
            num_steps=budget.num_steps,
            target=self.patient.target,
        )
        return trial, budget

    def _looks(self, num_steps: int, folder: Path | None) -> Iterator[Sequence[Arm]]:
        """What the first findings ask for; what shows in training only; whatever else was prescribed; last resorts."""
        found, watched = self.diagnosis, None
        examines = found is None and self.remedies is None
        if examines:
            found, watched = self._examined(num_steps, folder, in_training=False)
        first = self._chosen(found, watched, self.remedies)
        if not examines or watched is not None:
            yield first.arms
        else:
            yield first.arms[:BRACKET]
            found, watched = self._examined(num_steps, folder, in_training=True)
            second = self._chosen(found, watched, self.remedies)
            yield second.arms[:BRACKET]
            yield [*first.arms, *second.arms]
        by_hand = any(looked.findings.by_hand for looked in self.looked)
        if found is not None and self.remedies is None and self.patient.target is not None and not by_hand:
            self.tell("not every seed learns by that: what helps most often is tried")
            resorts = last_resorts(found, facts_about(self.patient, self.seeds[0], watched))
            yield self._chosen(found, watched, resorts).arms

    def _chosen(self, found: Diagnosis | None, watched: WatchRecord | None, remedies: Remedies | None) -> Choices:
        chosen = choices_for(self.patient, self.seeds[0], found, watched, remedies)
        self.looked.append(chosen)
        self.notes += [note for note in chosen.notes if note not in self.notes]
        self.tell(f"to be tried: {', '.join(arm.name for arm in chosen.arms) or 'nothing that a plan can change'}")
        return chosen

    def _examined(
        self, num_steps: int, folder: Path | None, *, in_training: bool
    ) -> tuple[Diagnosis, WatchRecord | None]:
        """A diagnosis that was made before the trial was killed is read again."""
        before = "second-" if in_training else ""
        if folder is not None and (folder / f"{before}{_DIAGNOSIS_FILE}").exists():
            seen = folder / f"{before}{_WATCH_FILE}"
            again = Diagnosis.load(folder / f"{before}{_DIAGNOSIS_FILE}")
            return again, WatchRecord.load(seen) if seen.exists() else None
        self.tell("diagnosing a training ..." if in_training else "diagnosing ...")
        found, watched = examined(self.patient, self.seeds[0], num_steps, in_training=in_training)
        if folder is not None:
            if watched is not None:
                watched.save(folder / f"{before}{_WATCH_FILE}")
            found.save(folder / f"{before}{_DIAGNOSIS_FILE}")
        return found, watched

    def _tried(self, trial: Trial, budget: Budget, folder: Path | None) -> list[Standing]:
        """What was prescribed, and random search with as many trainings."""
        rate = facts_about(self.patient, self.seeds[0]).learning_rate
        prescribed = staged(trial, self._looks(budget.num_steps, folder), rate, budget.most_trainings)
        known = {arm.plan: arm for looked in self.looked for arm in looked.arms}
        self.notes += [
            f"'{arm.name}' would take longer before its first step than there is for a training"
            for arm in known.values()
            if not trial.affordable(arm)
        ]
        learned = any(each.num_learned == len(self.seeds) for each in prescribed)
        affordable = sum(trial.affordable(arm) for arm in known.values())
        num_tried = len({each.arm.plan for each in prescribed} & set(known))
        if num_tried < affordable:
            why = "one learned with every seed" if learned else "the budget was not enough for more"
            self.notes.append(f"{num_tried} of {affordable} treatments were tried: {why}")
        spent = sum(len(each.results) for each in prescribed)
        drawn = trial.search(random_arms(self.patient, self.seeds[0]), max(spent, len(self.seeds)))
        return [*prescribed, *drawn]

    def _confirmed(
        self, trial: Trial, standings: Sequence[Standing], folder: Path | None
    ) -> tuple[Standing | None, Confirmation | None]:
        best = trial.best(standings)
        if best is None or (trial.has_target and best.num_learned == 0):
            return None, None
        self.tell(f"on fresh seeds: {best.arm.name}")
        confirmed = trial.confirm(best.arm, None if folder is None else folder / WEIGHTS_FILE)
        if confirmed.kept_seed is not None:
            which = "the first that learned" if trial.has_target else "the first that has a score"
            self.notes.append(f"{WEIGHTS_FILE} holds the weights of the fresh seed {confirmed.kept_seed}, {which}")
        return best, confirmed


def _silent(_: str) -> None:
    pass


def _fingerprint(patient: Patient, seed: int) -> str:
    """By which a ledger knows its patient again: weights, first batch, target and length of training."""
    with seeded(seed), quietly():
        model, _ = patient.build(seed)
        batch = next(Batches(patient, seed))
    content = hashlib.sha256(repr((patient.target, getattr(patient, "steps", None))).encode())
    for tensor in (*model.parameters(), *tensors_in(batch)):
        content.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()[:20]
