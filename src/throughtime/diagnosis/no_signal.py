"""no-signal: nothing in the data tells the target, and no model learns it."""

from __future__ import annotations

import math
from dataclasses import replace

from throughtime.diagnosis import plateau
from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.finding import Finding
from throughtime.diagnosis.other_inputs import other_inputs_tell
from throughtime.diagnosis.rates import settled
from throughtime.measurement import NeedRecord

__all__ = ["find"]

_NO_PROGRESS = 0.02
_SURELY_SEEN = 0.1
"""Where nobody handed over validation data, a lag that explains so much has to be sure to have been seen."""
_ENOUGH_ROWS = 100
"""So many rows, and dependences that explain some 10 % of the target's variance are seen, if a single lag has them."""
_FAR_ABOVE = 0.5
"""Of the chance loss. A model of data without any signal comes to chance on what it is trained on, or below."""


def find(evidence: Evidence) -> Finding | None:
    """Nothing in the data tells the target, no lag, block or pair of lags, and the model does not learn it either."""
    if evidence.case.need is not None:
        return None
    record = evidence.need_record
    if record.need is not None or record.lags or evidence.block_need is not None:
        return None
    if evidence.x.dim() > 2 and not evidence.x.is_floating_point() and int(evidence.x.max()) > 1:
        raise Missing(
            "inputs of numbers, or of one id a step: of several ids it is not seen which of them tell something"
        )
    if evidence.has("pair_need") and evidence.pair_need is not None:
        return None
    given = evidence.case.validation is not None
    shown = record if given else _at_hand(evidence)
    if shown.num_rows < _ENOUGH_ROWS:
        raise Missing(f"at least {_ENOUGH_ROWS} examples; there are {shown.num_rows} with those of validation")
    if evidence.has("holds_signal") and evidence.holds_signal:
        return None
    if _ends_far_above_chance(evidence):
        raise Missing("a training that comes down to what a constant output has: this one tells nothing of the data")
    if evidence.has("rehearsal") and plateau.output_spread(evidence) <= plateau.STUCK:
        raise Missing("a model whose outputs depend on its inputs: this one tells nothing of the data")
    if not given and shown.detectable > _SURELY_SEEN:
        raise Missing("validation=(inputs, targets) that the model is not trained on, or more examples")
    progress = evidence.progress if given else evidence.progress_by_halves
    if progress > _NO_PROGRESS or other_inputs_tell(evidence):
        return None
    held_out = "validation data" if given else "half of the batch, trained on the other half,"
    return Finding(
        "no-signal",
        "error",
        0.7,
        f"No lag and no block of lags of the inputs says anything about the target in {record.num_rows} examples (a "
        f"lag that explained {record.detectable:.0%} of its {record.unit} would have been seen), and on {held_out} the "
        f"model gets rid of {progress:.1%} of the chance loss: there is nothing that more reach could use.",
        {"num_rows": record.num_rows, "detectable": record.detectable, "progress": progress},
    )


def _at_hand(evidence: Evidence) -> NeedRecord:
    """What the batch at hand tells by itself: whether its halves are enough to learn from does not hang on others."""
    further = bool(evidence.case.more)
    return Evidence(replace(evidence.case, more=())).need_record if further else evidence.need_record


def _ends_far_above_chance(evidence: Evidence) -> bool:
    """Whether training, on its own batches, has not even found a constant: something else is wrong with it."""
    if not evidence.has("chance_loss"):
        return False
    history = evidence.case.history
    if history is not None:
        losses = [loss for loss in history.losses if loss is not None]
        losses += [math.nan] if history.non_finite is not None else []
    else:
        losses = list(evidence.rehearsal.losses) if evidence.has("rehearsal") else []
    return bool(losses) and settled(losses) > evidence.chance_loss + _FAR_ABOVE * abs(evidence.chance_loss)
