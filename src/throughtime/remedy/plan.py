"""The treatment of a patient as one frozen value: what changes in its model, its optimizer and its training loop."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from throughtime.check import at_least, nearest, one_of
from throughtime.errors import RecipeError

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from throughtime.recipe import Plan

__all__ = ["CLIP_KINDS", "LOOP_FIELDS", "STARTS", "InputScale", "TreatmentPlan", "in_short"]

STARTS: Final = (
    "orthogonal",
    "identity",
    "critical",
    "forget-bias",
    "chrono",
    "uniform-gate",
    "ring",
)
"""Named starts of what is recurrent."""

CLIP_KINDS: Final = ("norm", "value", "adaptive", "z-score")

LOOP_FIELDS: Final = (
    "drop_non_finite",
    "clip_kind",
    "clip",
    "omega",
    "flossing",
    "warmup_share",
    "window",
    "carry",
    "batch_factor",
    "curriculum",
    "patience",
)
"""What the training loop has to honour; all other fields are what `apply` does to model and optimizer."""


_MOST_SHOWN = 8
"""Numbers of one setting, such as a mean for each feature."""

InputScale = tuple[str, tuple[float, ...], tuple[float, ...]]
"""Of an argument of a model: its name, and mean and deviation of each feature, or one for all."""


@dataclass(frozen=True, kw_only=True)
class TreatmentPlan:
    """What a treatment changes; a field left at its default leaves that as the patient has it.

    Attributes:
        fresh: whether every module of the model is drawn anew first, as it draws itself.
        start: one of `STARTS`, by which everything recurrent is drawn anew.
        start_steps: the lag that "chrono" and "ring" prepare for.
        start_gain: what the recurrent matrix of "orthogonal", "identity" and "critical" is multiplied by; the one of
            the formula unless given.
        cell: name of a cell (`throughtime.cells()`); recurrent modules are replaced by a `Recurrent` of that cell.
        layer_norm: whether the state of each step is normalised.
        skip: k, where the recurrence reads its state of k steps before beside the last one; at least 2.
        keep_graph: whether `detach` does nothing inside the model's forward pass.
        hand_written: what is what in a recurrence written by hand, as `facts_of` found it: "recurrent NAME[SLICE]",
            "input NAME[SLICE]", "bias NAME" and, of gates, "keeps-high NAME[SLICE]" or "keeps-low NAME[SLICE]".
        recurrent_input_gain: what the inputs of the recurrence are multiplied by.
        recurrent_gain: what the outputs of the recurrence are multiplied by.
        input_mean: subtracted from the inputs: one number a feature, or one for all.
        input_deviation: what they are then divided by, likewise.
        other_inputs: the same of other arguments of the model than the first of real numbers: the argument's name,
            means, deviations.
        clip_outliers: where the inputs are cut off, in deviations; it needs mean and deviation.
        input_noise: deviation of the noise that is added to the inputs in training, in their own deviations.
        drop_non_finite: whether sequences of a batch whose inputs are not finite are left out, where it is known along
            which axis they lie, and updates from a loss or a gradient that is not finite.
        clip_kind: one of `CLIP_KINDS`; "norm" unless given.
        clip: the bound on the gradient; 0 for none at all. Its unit is that of `clip_kind`: a norm over all
            parameters, an absolute value, a share of the norm of each unit's weights, or standard deviations above
            the mean of the norms so far.
        omega: weight of the regulariser that keeps the norm of the gradient through time.
        flossing: steps of gradient flossing before training.
        adam: whether Adam takes the place of the optimizer, with its groups and decay; it needs a learning rate.
        learning_rate: that of the first group of the optimizer; those of the others are scaled alike.
        warmup_share: share of all steps over which the learning rate rises from zero.
        weight_decay: of the optimizer.
        all_parameters: whether the optimizer gets the model's parameters that it lacks, frozen ones too.
        reset_gradients: whether the optimizer forgets the gradients after each of its steps.
        dropout: share of the recurrence's outputs dropped in training.
        auxiliary: weight of a loss by which the recurrence has to tell what it was given before.
        auxiliary_steps: how many steps before.
        window: steps of truncated backpropagation through time.
        carry: whether the state is carried from window to window.
        batch_factor: how many batches make one update.
        curriculum: share of all steps over which the length grows from a short one to the full one.
        patience: evaluations in a row without a better loss after which training stops, and the best weights are kept.
    """

    fresh: bool = False
    start: str | None = None
    start_steps: int | None = None
    start_gain: float | None = None
    cell: str | None = None
    layer_norm: bool = False
    skip: int | None = None
    keep_graph: bool = False
    hand_written: tuple[str, ...] = ()
    recurrent_input_gain: float | None = None
    recurrent_gain: float | None = None
    input_mean: tuple[float, ...] | None = None
    input_deviation: tuple[float, ...] | None = None
    other_inputs: tuple[InputScale, ...] = ()
    clip_outliers: float | None = None
    input_noise: float | None = None
    drop_non_finite: bool = False
    clip_kind: str | None = None
    clip: float | None = None
    omega: float | None = None
    flossing: int | None = None
    adam: bool = False
    learning_rate: float | None = None
    warmup_share: float | None = None
    weight_decay: float | None = None
    all_parameters: bool = False
    reset_gradients: bool = False
    dropout: float | None = None
    auxiliary: float | None = None
    auxiliary_steps: int | None = None
    window: int | None = None
    carry: bool | None = None
    batch_factor: int | None = None
    curriculum: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        if self.start is not None:
            one_of("start", self.start, STARTS)
        if self.clip_kind is not None:
            one_of("clip_kind", self.clip_kind, CLIP_KINDS)
        for name in ("start_steps", "skip", "auxiliary_steps", "flossing", "window", "batch_factor", "patience"):
            if getattr(self, name) is not None:
                at_least(f"plan.{name}", getattr(self, name), 1)
        for name in ("clip", "omega", "weight_decay", "auxiliary", "input_noise"):
            if getattr(self, name) is not None:
                at_least(f"plan.{name}", getattr(self, name), 0)
        for name in ("start_gain", "recurrent_input_gain", "recurrent_gain", "clip_outliers", "learning_rate"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise RecipeError(f"plan.{name} must be above 0, not {getattr(self, name):g}")
        if self.adam and self.learning_rate is None:
            raise RecipeError("plan.adam needs plan.learning_rate: that of another optimizer says nothing of Adam's")
        for name in ("warmup_share", "dropout", "curriculum"):
            if getattr(self, name) is not None and not 0 <= getattr(self, name) < 1:
                raise RecipeError(f"plan.{name} must lie in [0, 1), not {getattr(self, name):g}")

    @property
    def changes(self) -> dict[str, Any]:
        """The fields that are not at their default.

        Example:
            >>> TreatmentPlan(start="chrono", start_steps=200).changes
            {'start': 'chrono', 'start_steps': 200}
        """
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }

    @property
    def words(self) -> str:
        """The changes, for a person.

        Example:
            >>> TreatmentPlan(clip_kind="norm", clip=1.0).words
            'clip kind norm, clip 1.0'
        """
        return (
            ", ".join(f"{name.replace('_', ' ')} {in_short(value)}" for name, value in self.changes.items())
            or "no change"
        )

    def changed(self, **choices: Any) -> TreatmentPlan:
        """The plan with some fields replaced."""
        return dataclasses.replace(self, **choices)

    def combined_with(self, other: TreatmentPlan) -> TreatmentPlan:
        """Both treatments at once; where both change a field, `other` has it.

        Example:
            >>> TreatmentPlan(clip=1.0).combined_with(TreatmentPlan(cell="gru")).changes
            {'cell': 'gru', 'clip': 1.0}
        """
        return self.changed(**other.changes)

    def to_json(self) -> dict[str, Any]:
        """The changes as JSON values."""
        return {name: _listed(value) for name, value in self.changes.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TreatmentPlan:
        """The plan that `to_json` gave.

        Raises:
            RecipeError: if a plan has no field of such a name.

        Example:
            >>> TreatmentPlan.from_json(TreatmentPlan(skip=4).to_json()) == TreatmentPlan(skip=4)
            True
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in known:
                raise RecipeError(f"a treatment plan has no field '{name}': {nearest(name, known)}")
        return cls(**{name: _tupled(value) for name, value in values.items()})

    def applied_to(self, plan: Plan) -> Plan:
        """The plan of a run with this treatment in it.

        A run's cells prepare for the lag that is their own default: `start_steps` is left out beside a start.

        Raises:
            RecipeError: if it changes what a run of this package has no choice for.

        Example:
            >>> from throughtime.recipe import Plan
            >>> TreatmentPlan(cell="gru", batch_factor=2).applied_to(Plan()).num_streams
            80
        """
        from throughtime.cell import cells

        changes = dict(self.changes)
        if changes.pop("clip_kind", "norm") != "norm":
            raise RecipeError("a run clips by norm alone: leave clip_kind out, or treat a patient of your own")
        if "batch_factor" in changes:
            changes["num_streams"] = plan.num_streams * changes.pop("batch_factor")
        if changes.get("clip") == 0:
            changes["clip"] = math.inf
        if self.start is not None:
            changes.pop("start_steps", None)
            cell = self.cell or plan.cell
            starts = next((info.inits for info in cells() if info.name == cell), ())
            one_of(f"start of {cell}", self.start, starts)
        elif self.cell is not None and plan.start:
            changes["start"] = ""  # that of the old cell may be none of the new one's
        known = {field.name for field in dataclasses.fields(plan)}
        for name in changes:
            if name not in known:
                raise RecipeError(f"a run has no choice of {name}: treat a patient of your own, or leave it out")
        return dataclasses.replace(plan, **changes)

    def apply(self, model: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        """Treat a model and its optimizer; fields in `LOOP_FIELDS` are the training loop's.

        The model is changed in place (only a model that is itself a recurrent module is replaced); frozen parameters,
        ties, dtypes and devices are kept. The optimizer has the same class, options and groups, and parameters of the
        model that is returned; what it had accumulated is kept where its parameters are. (With `adam` it is a new one.)

        Args:
            model: freshly built, or trained: what is not drawn anew keeps its weights.
            optimizer: of some or all of its parameters.

        Returns:
            The treated model and its optimizer.

        Raises:
            RecipeError: if a field cannot be applied to this model, with the reason.
        """
        from throughtime.remedy.application import applied

        return applied(self, model, optimizer)

    @property
    def code(self) -> str:
        """The treatment as plain PyTorch, to be pasted where `model` and `optimizer` have been made."""
        from throughtime.remedy.code import code_of

        return code_of(self)


def in_short(value: Any) -> str:
    """A value of a plan; of one for each of many features the first two and how many there are.

    Example:
        >>> in_short((0.5,)), in_short(tuple(range(64)))
        ('(0.5,)', '(0, 1, ... 64 numbers)')
    """
    if not isinstance(value, (list, tuple)):
        return str(value)
    if len(value) > _MOST_SHOWN:
        return f"({in_short(value[0])}, {in_short(value[1])}, ... {len(value)} numbers)"
    return f"({', '.join(map(in_short, value))}{',' if len(value) == 1 else ''})"


def _listed(value: Any) -> Any:
    return [_listed(each) for each in value] if isinstance(value, tuple) else value


def _tupled(value: Any) -> Any:
    """Lists, and lists in tuples and lists, as tuples."""
    return tuple(map(_tupled, value)) if isinstance(value, (list, tuple)) else value
