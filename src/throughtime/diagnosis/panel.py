"""`diagnose`: every rule is asked, and the findings are put in order, causes before what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.diagnosis import data, dynamics, optimisation, reach, wiring
from throughtime.diagnosis.case import BrokenOff, Case, Missing
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.far_update import LONG_UPDATE
from throughtime.diagnosis.finding import SEVERITIES, Diagnosis, Finding, codes_of, ordered
from throughtime.diagnosis.hard_positions import hard_positions
from throughtime.diagnosis.rule import Rule
from throughtime.diagnosis.usable import refuse_unusable
from throughtime.errors import InputError
from throughtime.measurement import WatchRecord

__all__ = ["RULES", "diagnose"]

RULES: tuple[Rule, ...] = (*data.RULES, *wiring.RULES, *optimisation.RULES, *dynamics.RULES, *reach.RULES)

_POISON = "non-finite-data"
"""With this nothing else can be measured."""

_CAUSES = {
    "saturated-units": (
        "unscaled-input",
        "exploding-gradient",
        "clipping-missing",
        "weak-recurrence",
        "gradient-not-reset",
        "closed-gates",
    ),
    "closed-gates": ("weak-recurrence", "gradient-not-reset"),
    "dead-units": ("gradient-not-reset",),
    "chaotic-dynamics": ("gradient-not-reset",),
    "vanishing-gradient": (
        "padding-read",
        "weak-recurrence",
        "saturated-units",
        "closed-gates",
        "truncated-window",
        "dead-units",
        "clipping-missing",
        "gradient-not-reset",
    ),
    "exploding-gradient": ("gradient-not-reset", "unscaled-input", "learning-rate-too-high"),
    "learning-rate-too-high": ("gradient-not-reset", "exploding-gradient"),
    "learning-rate-too-low": ("over-clipping", "learning-rate-too-high"),
    "non-finite": (
        _POISON,
        "gradient-not-reset",
        "learning-rate-too-high",
        "exploding-gradient",
        "clipping-missing",
    ),
    "overfitting": ("no-signal",),
    "no-signal": ("unused-input", "batch-mixing", "learning-rate-too-high"),
    "unused-input": ("unscaled-input", "dead-units"),
    "clipping-missing": ("gradient-not-reset", "exploding-gradient", "learning-rate-too-high"),
    "plateau": (
        "gradient-not-reset",
        "no-signal",
        "optimizer-misses-parameters",
        "probabilities-into-cross-entropy",
        "unscaled-input",
        "truncated-window",
        "saturated-units",
        "closed-gates",
        "dead-units",
        "vanishing-gradient",
        "weak-recurrence",
        "chaotic-dynamics",
        "exploding-gradient",
        "learning-rate-too-high",
        "learning-rate-too-low",
        "over-clipping",
        "clipping-missing",
    ),
}
"""What each may be a mere consequence of; where one of these is an error too, the finding names it and stands below."""

_OF_THE_WEIGHTS = ("saturated-units", "closed-gates", "dead-units", "chaotic-dynamics", "vanishing-gradient")
"""What updates that overwrite the weights may leave behind; so may a gradient that is exactly zero."""

_OF_COPIES = ("vanishing-gradient", "closed-gates", "saturated-units", "dead-units", "weak-recurrence")
"""What a state of which all units are one and the same may look like."""


def diagnose(
    model: nn.Module,
    inputs: Any,
    targets: Any,
    loss: Callable[..., Any],
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer] | None = None,
    watch: WatchRecord | Any | None = None,
    window: int | None = None,
    lengths: Tensor | Sequence[int] | None = None,
    time_dim: int | None = None,
    validation: tuple[Any, Any] | None = None,
    need: int | None = None,
    ignore: Collection[str] = (),
    seed: int = 0,
    more: Iterable[tuple[Any, Any]] = (),
) -> Diagnosis:
    """What is wrong with a model that does not learn, before, during or after its training; the cause, not the symptom.

    Nothing of the model, the optimizer or the random state is changed. Without a `watch`, a copy of the model is
    trained for at most 50 steps on the batch at hand, to see what the optimizer does.

    Args:
        model: any `torch.nn.Module`; it may return (output, state).
        inputs: what it is called with: a tensor, a tuple of arguments, or a dict of named ones; a dict that is one
            argument alone in a tuple.
        targets: second argument of `loss`; where they are classes, -100 is ignored, as in torch.
        loss: (outputs, targets) -> losses of positions or sequences, or a scalar.
        optimizer: one or several; without any, nothing can be said of the training.
        watch: what `throughtime.watch` saw of the training, or its record.
        window: steps of truncated backpropagation through time in the training loop.
        lengths: of the sequences, (B,).
        time_dim: axis of time in the inputs, 0 or 1; found out unless given.
        validation: (inputs, targets) that the model is not trained on.
        need: steps of memory that the task needs, if you know; measured from the data unless given.
        ignore: a code that is not wanted, or several.
        seed: of all that is drawn.
        more: further batches (inputs, targets), for the need alone: few sequences cannot tell it. So many are taken
            that there are 512 sequences, and none of these counts twice.

    Returns:
        The diagnosis; `print` it.

    Raises:
        InputError: if the model or the loss fail on this batch, or an argument is not what it has to be.
        RecipeError: if a code in `ignore` is unknown.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = nn.RNN(2, 8)
        >>> x = torch.randn(20, 64, 2)
        >>> x[3, 5] = torch.nan
        >>> def loss(outputs, targets):
        ...     return nn.functional.mse_loss(outputs[-1, :, :1], targets)
        >>> print(diagnose(model, x, torch.randn(64, 1), loss).findings[0])  # doctest: +ELLIPSIS
        error: non-finite-data
          The inputs hold 2 values that are NaN or infinite...
    """
    ignored = codes_of(ignore)
    if optimizer is None:
        optimizers: tuple[torch.optim.Optimizer, ...] = ()
    else:
        optimizers = tuple(optimizer) if isinstance(optimizer, Sequence) else (optimizer,)
    case = Case(
        model=model,
        inputs=inputs,
        targets=targets,
        loss=loss,
        optimizers=optimizers,
        history=_history(watch),
        batches=tuple(getattr(watch, "batches", ())),
        window=window,
        lengths=lengths,
        time_dim=time_dim,
        validation=validation,
        need=need,
        more=more,
        seed=seed,
    )
    refuse_unusable(case)
    return _diagnosis(Evidence(case), ignored)


def _history(watch: Any) -> WatchRecord | None:
    """The record of a watch, or the record that was given.

    Raises:
        InputError: if it is neither.
    """
    record = getattr(watch, "record", watch)
    if record is not None and not isinstance(record, WatchRecord):
        raise InputError(f"watch must be what throughtime.watch returned, or its record, not {type(watch).__name__}")
    return record


def _diagnosis(evidence: Evidence, ignored: tuple[str, ...]) -> Diagnosis:
    found: list[Finding] = []
    not_checked: dict[str, str] = {}
    poisoned = False
    for rule in RULES:
        if rule.code in ignored:
            continue
        if poisoned:
            not_checked[rule.code] = "data without NaN and infinity"
            continue
        if rule.code != _POISON:
            _refuse_failing(evidence)  # it says so, once, and not rule by rule
        finding = _asked(rule, evidence)
        if isinstance(finding, str):
            not_checked[rule.code] = finding
            continue
        if finding is not None:
            found.append(finding)
            poisoned = finding.code == _POISON and finding.severity == "error"
    if not poisoned and not any(finding.severity == "error" for finding in found):
        hard = _at_hard_positions(evidence, ignored)
        found = [each for each in found if each.code not in {more.code for more in hard}] + hard
    return Diagnosis.of(
        ordered(_linked(found)),
        not_checked=not_checked,
        ignored=ignored,
        horizons={} if poisoned else _horizons(evidence),
        notes=evidence.broken_off(),
        censored=() if poisoned or not evidence.need_may_be_longer else ("need",),
    )


def _asked(rule: Rule, evidence: Evidence) -> Finding | str | None:
    """What a rule finds, or why it cannot tell."""
    try:
        return rule.find(evidence)
    except (Missing, InputError) as reason:
        return str(reason)
    except Exception as error:  # a user's model may do anything; the other rules have answers all the same
        return str(BrokenOff.by(error))


def _at_hard_positions(evidence: Evidence, ignored: tuple[str, ...]) -> list[Finding]:
    """Of a batch in which nothing is wrong: what keeps the gradient from what is left to learn."""
    try:
        hard = hard_positions(evidence)
    except (Missing, InputError):
        return []
    if hard is None:
        return []
    asked = (_asked(rule, hard.evidence) for rule in reach.RULES if rule.code not in (*ignored, "no-signal"))
    return [hard.told(found) for found in asked if isinstance(found, Finding) and found.severity == "error"]


def _refuse_failing(evidence: Evidence) -> None:
    """Nothing can be told of a model that fails on its batch, or of a loss that does.

    Raises:
        InputError: if they do.
    """
    try:
        _ = evidence.batch_loss
    except Missing as reason:
        raise InputError(f"the loss of this batch cannot be had: {reason}") from reason


def _linked(found: list[Finding]) -> list[Finding]:
    """Each with the cause that it follows from, where that was found to be as serious."""
    severity = {finding.code: SEVERITIES.index(finding.severity) for finding in found}
    linked = []
    for finding in found:
        known = (*_CAUSES.get(finding.code, ()), *_rate_that_made(finding, found), *_copies_that_made(finding, found))
        causes = (code for code in known if severity.get(code, 9) <= severity[finding.code])
        possible = (code for code in causes if (finding.code, code) not in _against(found))
        linked.append(replace(finding, follows=finding.follows or next(possible, None)))
    return linked


def _rate_that_made(finding: Finding, found: list[Finding]) -> tuple[str, ...]:
    """The rate, where a watched loop has overwritten the weights whose state the finding tells."""
    rate = "learning-rate-too-high"
    watched = [each.evidence for each in found if each.code == rate and "watched_steps" in each.evidence]
    ratios = [evidence["update_ratio"] for evidence in watched]
    overwrote = any(ratio is not None and ratio >= LONG_UPDATE for ratio in ratios)
    return (rate,) if overwrote and (finding.code in _OF_THE_WEIGHTS or "cut_at_lag" in finding.evidence) else ()


def _copies_that_made(finding: Finding, found: list[Finding]) -> tuple[str, ...]:
    """The plateau of units that are copies of one another: no weights that are all alike make any of them useful."""
    return ("plateau",) if finding.code in _OF_COPIES and any(map(_is_of_copies, found)) else ()


def _is_of_copies(finding: Finding) -> bool:
    return finding.code == "plateau" and "symmetric" in finding.evidence


def _against(found: list[Finding]) -> set[tuple[str, str]]:
    """Of two findings each may be the other's cause: (consequence, cause) that these are not.

    An explosion follows from a rate where an update had overwritten the weights before anything grew. Units that are
    copies are so from the start on.
    """
    rate, explosion = "learning-rate-too-high", "exploding-gradient"
    overwritten = any(each.code == explosion and "overwritten_at" in each.evidence for each in found)
    copies = {("plateau", cause) for cause in _CAUSES["plateau"]} if any(map(_is_of_copies, found)) else set()
    return {(rate, explosion) if overwritten else (explosion, rate)} | copies


def _horizons(evidence: Evidence) -> dict[str, int | None]:
    """Need, reach and use, as far as they can be had in steps of the inputs."""
    in_steps = evidence.has("gradient") and not evidence.gradient.profile.own_steps
    return {
        "need": evidence.need if evidence.has("need") else None,
        "reach": evidence.gradient.reach if in_steps else None,
        "use": evidence.use.use if evidence.has("use") else None,
    }
