"""What a remedy has to know of a patient: a small frozen description, so that no remedy touches a live model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.optim import Optimizer

from throughtime.cell import Cell
from throughtime.measurement import WatchRecord
from throughtime.measurement.arguments import forward, named_arguments, tensors_within
from throughtime.measurement.probe import first_tensor
from throughtime.measurement.spectrum_calls import left_as_found
from throughtime.remedy.hooking import outer_recurrences
from throughtime.remedy.plan import InputScale
from throughtime.remedy.tracing import hand_written_parts

__all__ = ["PatientFacts", "RecurrenceFacts", "facts_of"]

_SCALES_APART = 10.0
"""Features whose largest values lie within this factor are of one scale."""


@dataclass(frozen=True, kw_only=True)
class RecurrenceFacts:
    """One recurrent module.

    Attributes:
        name: in the model.
        kind: "rnn", "gru", "lstm", or the class of a cell of `throughtime.Recurrent` in small letters.
        nonlinearity: "tanh" or "relu" of a plain one.
        input_size: I.
        hidden_size: H.
        num_layers: L.
        bidirectional: whether it reads both ways.
        one_step: whether it is a cell that the model calls step by step.
        biased: whether its gates have biases.
        frozen: whether its recurrent weights are.
        input_square: mean of |x_t|^2 of what it is given; None where no batch was seen.
    """

    name: str
    kind: str
    nonlinearity: str = "tanh"
    input_size: int
    hidden_size: int
    num_layers: int = 1
    bidirectional: bool = False
    one_step: bool = False
    biased: bool = True
    frozen: bool = False
    input_square: float | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it has no gates, and a matrix that can be redrawn."""
        return self.kind in ("rnn", "elman")

    @property
    def is_gated(self) -> bool:
        """Whether it is a GRU or an LSTM, whose gates can be redrawn."""
        return self.kind in ("gru", "lstm")

    @property
    def glorot_variance(self) -> float:
        """R: what inputs (of variance 1 unless known) add to the variance of a unit's sum through Glorot's weights."""
        square = self.input_size if self.input_square is None else self.input_square
        return 2 / (self.input_size + self.hidden_size) * square


@dataclass(frozen=True, kw_only=True)
class PatientFacts:
    """What is known of a patient besides its diagnosis; None where it is not known.

    Attributes:
        recurrences: the outermost recurrent modules.
        hand_written: parts of a recurrence written by hand (`throughtime.remedy.hand_written`).
        optimizer: its class.
        learning_rate: of its first group.
        weight_decay: likewise.
        num_steps: T of a batch.
        window: steps of truncated backpropagation in its loop.
        input_mean: of the features of the model's first argument, if it holds real numbers.
        input_deviation: likewise; 1 where a feature never changes. Of a feature that is mostly zero the mean is taken
            as zero, and the deviation as its largest absolute value: its zeros mean something. Features of such a
            scale beside it are divided by the same number, so that they keep their size against it.
        other_inputs: of other arguments of real numbers: name, mean and deviation, as of the first.
        gradient_norms: median and 90 % quantile of the norms that a watch saw.
        num_watched: steps that a watch saw.
    """

    recurrences: tuple[RecurrenceFacts, ...] = ()
    hand_written: tuple[str, ...] = ()
    optimizer: str | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    num_steps: int | None = None
    window: int | None = None
    input_mean: tuple[float, ...] | None = None
    input_deviation: tuple[float, ...] | None = None
    other_inputs: tuple[InputScale, ...] = ()
    gradient_norms: tuple[float, float] | None = None
    num_watched: int | None = None


def facts_of(
    model: nn.Module,
    inputs: Any = None,
    *,
    optimizer: Optimizer | None = None,
    window: int | None = None,
    time_dim: int | None = None,
    watch: WatchRecord | Any | None = None,
) -> PatientFacts:
    """Look at a patient; the model is called on the inputs, and left as it was.

    Args:
        model: any module.
        inputs: of a batch: a tensor, a tuple of arguments, or a dict of named ones. Without them, a recurrence written
            by hand and the size of inputs stay unknown.
        optimizer: of the model.
        window: steps of truncated backpropagation in its loop.
        time_dim: axis of time in the inputs; that of the recurrent modules unless given.
        watch: what `throughtime.watch` saw of the training, or its record.

    Example:
        >>> facts = facts_of(nn.LSTM(3, 8), torch.ones(20, 4, 3))
        >>> facts.recurrences[0].kind, facts.recurrences[0].input_square, facts.num_steps
        ('lstm', 3.0, 20)
    """
    modules = {name: module for name, module in model.named_modules() if module in set(outer_recurrences(model))}
    seen, states = _seen(model, modules, inputs)
    record = getattr(watch, "record", watch)
    recurrences = tuple(_recurrence(name, module, seen.get(name)) for name, module in modules.items())
    mean, deviation = (None, None) if inputs is None else _statistics(first_tensor(inputs)) or (None, None)
    group = optimizer.param_groups[0] if optimizer is not None else {}
    return PatientFacts(
        recurrences=recurrences,
        hand_written=() if modules or inputs is None else hand_written_parts(model, inputs, time_dim=time_dim),
        optimizer=None if optimizer is None else type(optimizer).__name__,
        learning_rate=float(group["lr"]) if group else None,
        weight_decay=float(group.get("weight_decay", 0.0)) if group else None,
        num_steps=_num_steps(inputs, modules, time_dim),
        window=window,
        input_mean=mean,
        input_deviation=deviation,
        other_inputs=() if inputs is None else _others(model, inputs, states),
        gradient_norms=None if record is None else _norms(record),
        num_watched=None if record is None else record.num_steps,
    )


def _recurrence(name: str, module: Any, square: float | None) -> RecurrenceFacts:
    cell = next((each for each in module.modules() if isinstance(each, Cell)), None)
    known = {nn.RNN: "rnn", nn.RNNCell: "rnn", nn.GRU: "gru", nn.GRUCell: "gru", nn.LSTM: "lstm", nn.LSTMCell: "lstm"}
    kind = next((word for kind, word in known.items() if isinstance(module, kind)), None)
    weights = [p for path, p in module.named_parameters() if "weight_hh" in path]
    return RecurrenceFacts(
        name=name,
        kind=kind or type(cell).__name__.lower(),
        nonlinearity=getattr(cell or module, "nonlinearity", "tanh"),
        input_size=module.input_size,
        hidden_size=module.hidden_size,
        num_layers=getattr(module, "num_layers", 1),
        bidirectional=getattr(module, "bidirectional", False),
        one_step=isinstance(module, nn.RNNCellBase),
        biased=any("bias" in path for path, _ in module.named_parameters()),
        frozen=bool(weights) and not any(p.requires_grad for p in weights),
        input_square=square,
    )


def _seen(
    model: nn.Module, modules: dict[str, nn.Module], inputs: Any
) -> tuple[dict[str, float], Callable[[Tensor], bool]]:
    """Of one call of the model, mean of |x_t|^2 of what each module was given, and which of its arguments are states.

    A state is what a recurrence is given as one, or what the model returns, beside its outputs, in the same shape.
    Nothing and none where the model cannot be called.
    """
    found: dict[str, list[float]] = {}
    handed: set[int] = set()
    returned: list[torch.Size] = []

    def is_state(value: Tensor) -> bool:
        return value.data_ptr() in handed or value.shape in returned

    if inputs is None:
        return {}, is_state

    def noting(name: str) -> Callable[..., None]:
        def note(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = args[0] if args else next(iter(kwargs.values()))
            x = x.data if isinstance(x, PackedSequence) else x
            found.setdefault(name, []).append(float(x.detach().double().square().sum(-1).mean()))
            beside = (args[1:], {key: value for key, value in kwargs.items() if value is not x})
            handed.update(tensor.data_ptr() for tensor in tensors_within(beside))

        return note

    handles = [module.register_forward_pre_hook(noting(name), with_kwargs=True) for name, module in modules.items()]
    try:
        with left_as_found(model), torch.no_grad():
            returned += [part.shape for part in tensors_within(forward(model, inputs))][1:]
    except Exception:
        return {}, is_state  # whoever diagnoses the model says what is wrong with it
    finally:
        for handle in handles:
            handle.remove()
    return {name: sum(values) / len(values) for name, values in found.items()}, is_state


def _others(model: nn.Module, inputs: Any, is_state: Callable[[Tensor], bool]) -> tuple[InputScale, ...]:
    """Of the arguments but the first tensor and states, those of a feature axis that hold real numbers."""
    if model in set(outer_recurrences(model)):
        return ()  # the other argument is a state
    first = first_tensor(inputs)
    steps = set(first.shape[:2]) if isinstance(first, Tensor) and first.dim() > 2 else set()
    found = []
    for name, value in named_arguments(model, inputs).items():
        if value is first or not isinstance(value, (Tensor, PackedSequence)) or is_state(value.data):
            continue
        if value.data.dim() == 2 and set(value.data.shape) == steps:
            value = value.data.unsqueeze(-1)  # a number a step
        statistics = _statistics(value)
        if statistics is not None:
            found.append((name, *statistics))
    return tuple(found)


def _statistics(x: Any) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and deviation of each feature of an argument; None where it holds no real numbers."""
    if not isinstance(x, (Tensor, PackedSequence)) or not x.data.is_floating_point() or x.data.dim() < 2:
        return None
    rows = x.data.detach().double().flatten(0, -2)
    rows = rows[rows.isfinite().all(-1)]
    if len(rows) < 2:
        return None
    mean, deviation = rows.mean(0), rows.std(0)
    sparse = ((rows == 0).double().mean(0) > 0.5) & (deviation > 0)
    largest = rows.abs().amax(0)
    common = largest[sparse].amax() if bool(sparse.any()) else largest.amax()
    beside = sparse | (bool(sparse.any()) & (largest > common / _SCALES_APART) & (largest < common * _SCALES_APART))
    mean = torch.where(beside, 0.0, mean)
    deviation = torch.where(beside, common, torch.where(deviation > 0, deviation, 1.0))
    return tuple(mean.tolist()), tuple(deviation.tolist())


def _num_steps(inputs: Any, modules: dict[str, nn.Module], time_dim: int | None) -> int | None:
    if inputs is None:
        return None
    x = first_tensor(inputs)
    if isinstance(x, PackedSequence):
        return len(x.batch_sizes)
    if not isinstance(x, Tensor) or x.dim() < 2:
        return None
    if time_dim is None:
        time_dim = 1 if any(getattr(module, "batch_first", False) for module in modules.values()) else 0
    return int(x.size(time_dim))


def _norms(record: WatchRecord) -> tuple[float, float] | None:
    norms = [sample["gradient_norm"] for sample in record.samples]
    known = torch.tensor([norm for norm in norms if norm is not None], dtype=torch.float64)
    known = known[known.isfinite()]
    if not known.numel():
        return None
    return float(known.quantile(0.5)), float(known.quantile(0.9))
