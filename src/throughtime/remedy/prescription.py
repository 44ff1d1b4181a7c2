"""`prescribe`: from what was found to what to do first, and why. The only map from findings to remedies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Final

from throughtime.diagnosis import Diagnosis, Finding
from throughtime.remedy.base import PatientEvidence, Remedy
from throughtime.remedy.facts import PatientFacts
from throughtime.remedy.of_code import CODE_CHANGES
from throughtime.remedy.plan import TreatmentPlan, in_short
from throughtime.remedy.registry import REMEDIES
from throughtime.storage import Record

__all__ = ["LAST_RESORTS", "REASONS", "Prescribed", "Prescription", "last_resorts", "prescribe"]

REASONS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "vanishing-gradient": (
        ("critical-start", "the recurrent weights contract: an orthogonal matrix at the right gain does not"),
        ("chrono-start", "gates that begin open over as many steps as the data needs let the gradient pass"),
        ("lstm-chrono", "the memory of an LSTM adds up instead of being multiplied by a matrix at every step"),
        ("orthogonal-start", "an orthogonal matrix neither shrinks nor stretches what comes back through it"),
        ("ring-start", "a linear unit's gradient fades by its own eigenvalue alone, which is set by the need"),
        ("gru-chrono", "an update gate that begins nearly closed hands the state on as it is"),
        ("identity-start", "a matrix of one hands the state on as it is"),
        ("uniform-gate-start", "gates spread over all memories hold some that are long"),
        ("forget-bias", "a forget gate at 0.73 in place of 0.5 keeps the state some steps longer"),
        ("orthogonal-cell", "a matrix that stays orthogonal while it trains does not contract later either"),
        ("skip-in-time", "a connection over many steps has the gradient pass fewer of them"),
        ("omega", "the regulariser holds the norm of what comes back at each step"),
        ("gradient-flossing", "exponents drawn to zero beforehand let the gradient pass"),
        ("curriculum", "short sequences are within reach"),
        ("auxiliary-loss", "telling earlier inputs needs a memory, and its gradient has a shorter way"),
    ),
    "saturated-units": (
        ("standardise", "inputs of mean 0 and deviation 1 leave the units on the steep part of their curve"),
        ("orthogonal-start", "input weights of an ordinary size leave the units on the steep part of their curve"),
        ("fresh-start", "weights of an ordinary size leave the units on the steep part of their curve"),
        ("scale-recurrent-inputs", "what the recurrence is given is far larger than 1"),
        ("layer-norm", "a state that is normalised at each step cannot stay in the flat part"),
        ("critical-start", "the gain makes up for the slope that is lost"),
        ("lstm-chrono", "the memory of an LSTM has no flat part of its own"),
        ("gru-chrono", "an update gate that begins nearly closed hands the state on past the flat part"),
        ("ring-start", "a linear state has no flat part"),
    ),
    "closed-gates": (
        ("chrono-start", "gates that begin open over as many steps as the data needs keep the state"),
        ("forget-bias", "a bias of 1 opens the gates"),
        ("uniform-gate-start", "gates spread over all memories hold some that are open"),
        ("orthogonal-start", "gates without a bias begin half open"),
    ),
    "dead-units": (
        ("orthogonal-start", "biases of zero let half of the units be active"),
        ("fresh-start", "weights and biases of an ordinary size let half of the units be active"),
        ("lstm-chrono", "units without a flat zero cannot die"),
        ("gru-chrono", "units without a flat zero cannot die"),
        ("layer-norm", "sums around zero let half of the units be active"),
        ("identity-start", "units that hold their value stay active"),
        ("ring-start", "linear units cannot die"),
    ),
    "chaotic-dynamics": (
        ("critical-start", "an orthogonal matrix at the right gain is at the edge of chaos, and not beyond"),
        ("lstm-chrono-adam", "gates that begin open make a state that moves slowly, and no gradient is too large"),
        ("orthogonal-start", "an orthogonal matrix under tanh has no growing direction"),
        ("lstm-chrono", "gates that begin open make a state that moves slowly"),
        ("ring-start", "a linear state with eigenvalues below 1 forgets its start"),
        ("orthogonal-cell", "a matrix that stays orthogonal under tanh has no growing direction"),
        ("gru-chrono", "gates that begin nearly closed make a state that moves slowly"),
        ("identity-start", "a matrix of one has no growing direction"),
        ("gradient-flossing", "exponents drawn to zero end the chaos"),
        ("clip-norm", "it keeps the updates finite, though their direction is that of chance"),
    ),
    "exploding-gradient": (
        (
            "critical-start-and-clip",
            "an orthogonal matrix at the right gain does not stretch what comes back, and no update is too long",
        ),
        ("adam", "from such a start, it divides the gradient by its own size, be that as large as it will"),
        ("lstm-chrono-adam", "gates below 1 bound what comes back, and Adam divides it by its own size"),
        (
            "critical-start",
            "the recurrent weights stretch what comes back: an orthogonal matrix at the right gain does not",
        ),
        ("orthogonal-start", "the recurrent weights stretch what comes back: an orthogonal matrix does not"),
        ("clip-norm", "no update is longer than a usual one"),
        ("lstm-chrono", "gates below 1 bound what comes back"),
        ("ring-start", "eigenvalues below 1 bound what comes back"),
        ("learning-rate", "smaller updates do not overwrite the weights"),
        ("standardise", "smaller inputs make smaller gradients"),
        ("orthogonal-cell", "a matrix that stays orthogonal does not stretch what comes back"),
        ("clip-adaptive", "no unit's update is large against its weights"),
        ("clip-value", "no single number of the gradient is large"),
        ("clip-z-score", "norms that stand out are cut to the usual"),
        ("omega", "the regulariser holds the norm of what comes back at each step"),
        ("gru-chrono", "gates below 1 bound what comes back"),
        ("layer-norm", "a normalised state cannot grow"),
        ("identity-start", "a matrix of one does not stretch what comes back"),
        ("gradient-flossing", "exponents drawn to zero let nothing grow"),
        ("warm-up", "the first updates are the largest against the weights"),
    ),
    "truncated-window": (
        ("longer-window", "no gradient reaches back beyond the window, and it is shorter than the need"),
        ("keep-graph", "a detach inside the model cuts the gradient"),
        ("carry-state", "the state can hold what the gradient does not reach"),
    ),
    "weak-recurrence": (
        ("amplify-recurrence", "the outputs hardly listen to the state: it is handed on louder"),
        ("fresh-start", "weights near zero between state and outputs are drawn anew"),
        ("lstm-chrono", "a state that holds more is worth more to the outputs"),
        ("auxiliary-loss", "telling earlier inputs needs the state"),
        ("curriculum", "on short sequences the state is learned to be of use sooner"),
    ),
    "plateau": (
        ("fresh-start", "units that start as copies of one another stay so: random weights tell them apart"),
        ("larger-batch", "less noise in the gradient shows which way is down"),
        ("curriculum", "short sequences give the first hold"),
    ),
    "learning-rate-too-high": (
        ("learning-rate", "at this rate the loss falls where it climbs at the present one"),
        ("gentler-rate", "a rate at which the loss falls, approached from below"),
        ("adam", "it takes steps of the rate's size, however large the gradient is"),
        ("warm-up", "the first updates are the largest against the weights"),
        ("clip-norm", "no update is longer than a usual one"),
    ),
    "learning-rate-too-low": (
        ("learning-rate", "at this rate the loss falls where it stands still at the present one"),
        ("adam", "it takes steps of the rate's size, however small the gradient is"),
        ("bolder-rate", "a rate that is a hundred times too low may be a thousand times too low"),
    ),
    "over-clipping": (
        ("looser-clip", "hardly anything is left of the gradient at the median step"),
        ("adam", "it takes steps of the rate's size, however small the gradient is"),
    ),
    "clipping-missing": (
        ("clip-norm", "rare large gradients damage what was learned: at this bound they are ordinary steps"),
        ("adam", "it divides the gradient by its own size, and what is rare and large is cut before"),
        ("clip-z-score", "only what stands out is cut"),
        ("clip-adaptive", "no unit's update is large against its weights"),
        ("clip-value", "no single number of the gradient is large"),
        ("clip-outliers", "large inputs make large gradients"),
        ("larger-batch", "in a larger batch one odd example weighs less"),
    ),
    "non-finite": (
        ("gentler-rate", "smaller updates keep the numbers finite"),
        ("skip-non-finite", "a step whose gradient is not finite is left out, and the weights stay as they were"),
        ("clip-norm", "no update is longer than a usual one"),
        ("learning-rate", "smaller updates keep the numbers finite"),
        ("clip-adaptive", "no unit's update is large against its weights"),
        ("clip-value", "no single number of the gradient is large"),
    ),
    "non-finite-data": (("skip-non-finite", "sequences with NaN in them leave no trace in the weights"),),
    "overfitting": (
        ("noisy-inputs", "numbers that differ each time they are seen cannot be learned by heart"),
        (
            "input-gates",
            "what a step does to the state cannot depend on the steps before it, so fewer examples fit by chance",
        ),
        ("chrono-decay", "gates that begin open keep what is worth keeping, and decay makes it few things"),
        ("dropout-decay-stop", "three things that each keep a model from learning examples by heart"),
        ("weight-decay", "smaller weights make smoother functions"),
        ("early-stopping", "the best weights are those before it began"),
        ("dropout", "units that come and go cannot learn examples by heart"),
    ),
    "unscaled-input": (
        ("standardise", "units and gates saturate because of the inputs' scale"),
        ("clip-outliers", "some inputs are far larger than the others"),
        ("scale-recurrent-inputs", "what the recurrence is given is far larger than 1"),
    ),
    "optimizer-misses-parameters": (("all-parameters", "parameters that the loss depends on never change"),),
    "gradient-not-reset": (("reset-gradients", "every update adds up all gradients since the start"),),
}
"""By code: names of remedies, the first to be tried first, and why."""

LAST_RESORTS: Final[tuple[tuple[str, str], ...]] = (
    ("adam", "it takes steps of the rate's size, whatever the size of the gradient"),
    ("critical-start", "a recurrent matrix that neither shrinks nor stretches lets the gradient pass"),
    ("chrono-start", "gates that begin open over many steps let the gradient pass"),
    ("lstm-chrono", "the memory of an LSTM adds up instead of being multiplied by a matrix at every step"),
    ("gentler-rate", "a rate at which the loss falls, approached from below"),
    ("bolder-rate", "a rate may be too low in ways that a few steps do not show"),
    ("ring-start", "a linear unit's gradient fades by its own eigenvalue alone"),
    ("clip-norm", "no update is longer than a usual one"),
)
"""What helps most often where no finding says what would: names of remedies, and why."""

_OF_A_RATE = ("gentler-rate", "bolder-rate")

NOT_LEARNING: Final = "not-learning"
"""The code of what is prescribed for no finding."""


@dataclass(frozen=True, kw_only=True)
class Prescribed:
    """One thing to do.

    Attributes:
        code: of the finding that it treats; "not-learning" where it is a last resort.
        remedy: its name; "code" where a line of the user's own code has to be changed.
        title: a few words.
        why: a sentence.
        plan: the changes of a `TreatmentPlan`; empty for "code".
        reach_before: steps that the gradient reaches now, where that is known.
        reach_after: steps that the formula of the remedy promises, before anything is measured; None where none does.
        cost: in words.
        paper: authors, year, where.
        does_not_help: in words.
        line_before: of "code": the line as it usually stands.
        line_after: what to write instead.
    """

    code: str
    remedy: str
    title: str
    why: str
    plan: dict[str, Any]
    reach_before: int | None = None
    reach_after: int | None = None
    cost: str = ""
    paper: str = ""
    does_not_help: str = ""
    line_before: str = ""
    line_after: str = ""

    @property
    def is_automatic(self) -> bool:
        """Whether a plan does it."""
        return self.remedy != "code"

    @property
    def treatment(self) -> TreatmentPlan:
        """The plan."""
        return TreatmentPlan.from_json(self.plan)

    def __str__(self) -> str:
        if not self.is_automatic:
            return f"{self.code}: {self.why}\n    in place of  {self.line_before}\n    write        {self.line_after}"
        reach = ""
        if self.reach_after is not None:
            now = f" from {self.reach_before}" if self.reach_before is not None else ""
            reach = f" (the gradient should reach{now} {'to ' if now else ''}{self.reach_after} steps)"
        changes = ", ".join(f"{name}={in_short(value)}" for name, value in self.plan.items() if name != "hand_written")
        return f"{self.code}: {self.title}, as {self.why}{reach}\n    {self.remedy}: {changes}"


@dataclass(frozen=True)
class Prescription(Record):
    """What to do, the first thing first.

    Attributes:
        values: the fields of each `Prescribed`.
    """

    record_kind: ClassVar[str] = "prescription"
    schema_version: ClassVar[int] = 1

    values: tuple[dict[str, Any], ...]

    @property
    def steps(self) -> tuple[Prescribed, ...]:
        """In their order."""
        return tuple(Prescribed(**{**values, "plan": dict(values["plan"])}) for values in self.values)

    @property
    def automatic(self) -> tuple[Prescribed, ...]:
        """Those that a plan does."""
        return tuple(step for step in self.steps if step.is_automatic)

    @property
    def plan(self) -> TreatmentPlan:
        """The first of the automatic ones; a plan that changes nothing where there is none."""
        return self.automatic[0].treatment if self.automatic else TreatmentPlan()

    def short(self, most: int = 3) -> str:
        """The first few as lines; empty where there is nothing to do."""
        lines = [f"{number}. {step}" for number, step in enumerate(self.steps[:most], start=1)]
        return "\n".join(["what to do first:", *lines]) if lines else ""

    def __str__(self) -> str:
        return self.short(len(self.values)) or "nothing to do"


def prescribe(diagnosis: Diagnosis, facts: PatientFacts | None = None) -> Prescription:
    """What to do about what was found, the likeliest cure first, each with its reason; nothing is trained.

    A cause stands before what follows from it, and an error before a warning; what by its own formula does not reach
    the need stands last. Of a finding that only its writer can heal, the line of code to change is shown.

    Args:
        diagnosis: what `throughtime.diagnose` returned.
        facts: of the patient (`throughtime.remedy.facts_of`): with them only what fits it is prescribed, and the reach
            after a start is predicted from its sizes and its inputs.

    Returns:
        Steps in the order in which they are worth taking; its `plan` is that of the first that needs no hand.

    Example:
        >>> from throughtime.diagnosis import Finding
        >>> finding = Finding("gradient-not-reset", "error", 1.0, "Gradients add up.")
        >>> found = Diagnosis.of([finding], not_checked={}, ignored=(), horizons={}, notes=())
        >>> [step.remedy for step in prescribe(found).steps]
        ['code', 'reset-gradients']
    """
    evidence = PatientEvidence(diagnosis, facts or PatientFacts())
    found: list[Prescribed] = []
    serious = [finding for finding in diagnosis.findings if finding.severity != "info"]
    for finding in serious:
        change = _code_change(finding)
        if change is not None:
            found.append(change)
        found += _new_steps(finding.code, REASONS.get(finding.code, ()), evidence, facts, found)
    return _together(found)


def last_resorts(diagnosis: Diagnosis, facts: PatientFacts) -> Prescription:
    """What helps most often, for a patient that does not learn, and that nothing prescribed for its findings helps.

    Args:
        diagnosis: of the patient, with or without findings.
        facts: of the patient: only what fits it is prescribed.
    """
    evidence = PatientEvidence(diagnosis, facts)
    steps = _new_steps(NOT_LEARNING, LAST_RESORTS, evidence, facts, [])
    return _together([_by_its_rate(step) if step.remedy in _OF_A_RATE else step for step in steps])


def _by_its_rate(step: Prescribed) -> Prescribed:
    """Named by the rate, since no finding says what the remedy's title refers to."""
    return replace(step, title=f"a learning rate of {step.plan['learning_rate']:g}, with a warm-up")


def _new_steps(
    code: str,
    reasons: Sequence[tuple[str, str]],
    evidence: PatientEvidence,
    facts: PatientFacts | None,
    before: Sequence[Prescribed],
) -> list[Prescribed]:
    """What fits of the remedies for a code, without what stands before already."""
    steps = [
        _prescribed(code, REMEDIES[name], why, evidence) for name, why in reasons if REMEDIES[name].applies_to(facts)
    ]
    found: list[Prescribed] = []
    for step in sorted(steps, key=lambda step: _falls_short(step, evidence)):
        known = [other for other in (*before, *found) if other.is_automatic]
        if step.plan and not any(step.remedy == other.remedy or step.plan == other.plan for other in known):
            found.append(step)
    return found


def _together(found: Sequence[Prescribed]) -> Prescription:
    return Prescription(values=tuple(asdict(step) for step in found))


def _falls_short(step: Prescribed, evidence: PatientEvidence) -> bool:
    """Whether the formula itself says that the gradient will not reach what the data need; such steps come last."""
    return step.reach_after is not None and evidence.need is not None and step.reach_after < evidence.need


def _prescribed(code: str, remedy: Remedy, why: str, evidence: PatientEvidence) -> Prescribed:
    """With an empty plan where the remedy finds nothing to change."""
    plan = remedy.apply(TreatmentPlan(), evidence)
    return Prescribed(
        code=code,
        remedy=remedy.name,
        title=remedy.title,
        why=why,
        plan=plan.changes,
        reach_before=evidence.reach,
        reach_after=remedy.predict(evidence),
        cost=remedy.cost,
        paper=remedy.paper,
        does_not_help=remedy.does_not_help,
    )


def _code_change(finding: Finding) -> Prescribed | None:
    made = CODE_CHANGES.get(finding.code)
    if made is None:
        return None
    change = made(finding.evidence)
    return Prescribed(
        code=finding.code,
        remedy="code",
        title="a line of code to change",
        why=change.why,
        plan={},
        line_before=change.before,
        line_after=change.after,
    )
