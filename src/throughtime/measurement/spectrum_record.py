"""The record of a spectrum."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from throughtime.storage import Record

__all__ = ["LayerSpectrum", "SpectrumRecord"]


@dataclass(frozen=True)
class LayerSpectrum:
    """What one layer in one direction does to small changes of its state.

    Attributes:
        module: name of the module in the model.
        cell: name of the cell's class.
        layer: from 0.
        backward: whether it reads from the end to the beginning.
        state_size: D, numbers in a state, all parts together.
        num_sequences: that were measured.
        num_steps: of the longest of them.
        num_calls: how often the model called the module anew; the first call was measured.
        warm_up: share of each sequence, from its beginning, that does not count for the exponents.
        exponents: the k leading Lyapunov exponents in nats per step, the largest first: above 0 a small change
            grows from step to step, below 0 it fades. None is minus infinity, as far as float64 can tell.
        exponent_errors: half-widths of their 95 % intervals, drift within the sequences included.
        log10_singular_values: for each sequence those of the product of all its step Jacobians, the k largest: by how
            much a gradient through the whole sequence can grow. None is zero, as far as float64 can tell.
        log10_singular_value_change: by how much the last iteration still changed the worst of them; 0 where all D were
            asked for, which needs no iteration.
        step_singular_values: quartiles (25, 50, 75 %) over steps and sequences of the k largest of a single step's
            Jacobian; empty where D is too large for an SVD.
        step_mean_square: mean square of all D, which is 1 where a change neither grows nor fades on average; None
            where the above is empty.
        num_jacobians: how many step Jacobians went into these.
        spectral_radius: largest |eigenvalue| of the recurrent matrix, for each gate where there are gates; empty for
            cells without one of that form.
        saturation: for each unit or gate the shares, over units, steps and sequences, at its lower end (tanh at -1, a
            gate closed, a ReLU off) and at its upper end, where its slope is below a tenth of the largest.
        saturation_by_step: the same two shares at each step, over units and sequences; None in a record that
            was made before these were kept.
        functions: for each unit or gate "tanh", "sigmoid" or "relu".
        means: for each unit or gate its mean absolute value, over units, steps and sequences.
        stuck: for each unit or gate the share of those units that were saturated at every step of every sequence.
        cannot_tell: why there is nothing above but names and sizes; None where there is.
    """

    module: str
    cell: str
    layer: int
    backward: bool
    state_size: int
    num_sequences: int
    num_steps: int
    num_calls: int
    warm_up: float = 0.0
    exponents: tuple[float | None, ...] = ()
    exponent_errors: tuple[float | None, ...] = ()
    log10_singular_values: tuple[tuple[float | None, ...], ...] = ()
    log10_singular_value_change: float = 0.0
    step_singular_values: tuple[tuple[float, ...], ...] = ()
    step_mean_square: float | None = None
    num_jacobians: int = 0
    spectral_radius: dict[str, float] | None = None
    saturation: dict[str, tuple[float, float]] | None = None
    saturation_by_step: dict[str, tuple[tuple[float, float], ...]] | None = None
    functions: dict[str, str] | None = None
    means: dict[str, float] | None = None
    stuck: dict[str, float] | None = None
    cannot_tell: str | None = None

    @property
    def growth_per_step(self) -> float | None:
        """The factor by which a small change grows at each step in the long run, exp of the leading exponent."""
        if self.cannot_tell is not None:
            return None
        return 0.0 if self.exponents[0] is None else math.exp(self.exponents[0])

    def __str__(self) -> str:
        where = f"{self.module} layer {self.layer}{' backward' if self.backward else ''} ({self.cell})"
        if self.cannot_tell is not None:
            return f"{where}: cannot tell, since {self.cannot_tell}"
        leading, error = self.exponents[0], self.exponent_errors[0]
        if leading is None or error is None:
            return f"{where}: every change of the state is wiped out within the sequence"
        trend = "cannot be told from 0" if abs(leading) <= error else "grows" if leading > 0 else "fades"
        ends = ", ".join(f"{name} {low:.0%}/{high:.0%}" for name, (low, high) in (self.saturation or {}).items())
        return (
            f"{where}: leading exponent {leading:.4f} ± {error:.4f} nats per step "
            f"({trend}, factor {math.exp(leading):.4f})" + (f"; saturated low/high: {ends}" if ends else "")
        )


@dataclass(frozen=True)
class SpectrumRecord(Record):
    """What every recurrent layer of a model does to small changes of its state, along the user's own inputs.

    Attributes:
        k: how many exponents and singular values were asked for.
        seed: of the sequences that were drawn from the batch, and of the first frame.
        values: for each layer and direction, by its name, the fields of its `LayerSpectrum`.
        notes: what a reader should know of all of it.
    """

    record_kind: ClassVar[str] = "spectrum"
    schema_version: ClassVar[int] = 1

    k: int
    seed: int
    values: dict[str, dict[str, Any]]
    notes: tuple[str, ...] = ()

    @property
    def layers(self) -> dict[str, LayerSpectrum]:
        """Each layer and direction by its name, such as "encoder.rnn.l0" or "encoder.rnn.l0.backward"."""
        return {name: LayerSpectrum(**values) for name, values in self.values.items()}

    def __str__(self) -> str:
        return "\n".join([*(str(layer) for layer in self.layers.values()), *(f"note: {note}" for note in self.notes)])
