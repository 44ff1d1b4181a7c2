"""From the loss at some positions of the outputs back to the states of every step, or to the inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from throughtime.errors import InputError
from throughtime.measurement.norms import Norms, log2_norm, rescale, state_norms
from throughtime.measurement.probe import Axes, Probe
from throughtime.measurement.tap import Run, Tap

__all__ = ["Backward", "last_step"]


@dataclass(frozen=True)
class Backward:
    """Ways back from the outputs to the longest run of every tap."""

    outputs: Tensor
    batch_axis: int | None  # of the sequences in the outputs; None where they cannot be told apart there
    kind: str
    probe: Probe
    taps: list[Tap]

    def norms(self, cotangent: Tensor) -> list[Norms]:
        """One for each tap, as far as floating-point numbers go."""
        runs = [tap.longest for tap in self.taps]
        if self.kind == "input":
            return [self._of_inputs(run, cotangent) for run in runs]
        return state_norms(self.outputs, cotangent, runs)

    def to_the_start(self, cotangent: Tensor, *, separately: bool) -> list[Norms]:
        """One for each tap, beyond the range of numbers too; sequence by sequence where they influence one another."""
        if separately:
            each = [self.to_the_start(part, separately=False) for part in self._apart(cotangent)]
            return [_rows(of_tap) for of_tap in zip(*each, strict=True)]
        found = self.norms(cotangent)
        for backward in (False, True) if self.kind == "state" else ():
            chosen = [index for index, tap in enumerate(self.taps) if tap.backward == backward]
            if chosen:
                runs = [self.taps[index].longest for index in chosen]
                rescale([found[index] for index in chosen], self.outputs, cotangent, runs, self.batch_axis)
        return found

    def mixes(self, cotangent: Tensor) -> bool:
        """Whether the loss of a sequence, the first that has one, depends on the states of another."""
        if self.probe.num_sequences < 2 or self.batch_axis is None:
            return False
        each = enumerate(self._apart(cotangent))
        row, only = next((pair for pair in each if bool(pair[1].any())), (0, cotangent))
        others = torch.arange(self.probe.num_sequences) != row
        return any(bool((norms.log2[:, :, others] > -torch.inf).any()) for norms in self.norms(only))

    def steps_in_order(self, gradient: Tensor, of_all: list[Norms]) -> Axes | None:
        """Axes of outputs of another number of steps: those whose earlier places depend on earlier states alone.

        Raises:
            InputError: if they may be features as well.
        """
        if self.batch_axis is None:
            return None
        ends = [last_step(norms) for norms in of_all]
        for axis, size in enumerate(gradient.shape):
            places = gradient.ne(0).movedim(axis, 0).reshape(size, -1).any(1).nonzero().flatten().tolist()
            if axis == self.batch_axis or len(places) < 2:
                continue
            first = self._heard_by(gradient, axis, places[0])
            if not self._in_order([first, ends]):
                continue  # this alone is asked of every model with a loss of whole sequences
            rest = [self._heard_by(gradient, axis, places[at]) for at in (len(places) // 2, -1)]
            if not (self._in_order([first, rest[1]]) and self._in_order([rest[0], rest[1]], strictly=False)):
                continue  # the largest over time, say, which lies elsewhere for each feature
            if gradient.dim() < 3 or axis > 1:
                raise InputError(
                    f"outputs of shape {tuple(gradient.shape)} hear other steps at each place along axis {axis}: "
                    f"give output_dims=({axis}, {self.batch_axis}) if that is time, or (-1, {self.batch_axis}) if "
                    "there is none"
                )
            return Axes(axis, self.batch_axis)
        return None

    def _heard_by(self, gradient: Tensor, axis: int, place: int) -> list[Tensor]:
        """For each tap, (B,) the last step that one place of the outputs depends on."""
        only = torch.zeros_like(gradient)
        only.select(axis, place).copy_(gradient.select(axis, place))
        return [last_step(norms) for norms in self.norms(only)]

    def _in_order(self, heard: list[list[Tensor]], *, strictly: bool = True) -> bool:
        """Whether, in some forward tap, what is heard first ends earlier in every sequence."""
        pairs = [(one, two) for one, two, tap in zip(*heard, self.taps, strict=True) if not tap.backward]
        counted = [(one[one >= 0], two[one >= 0]) for one, two in pairs if bool((one >= 0).any())]
        return any(bool((one < two if strictly else one <= two).all()) for one, two in counted)

    def _apart(self, cotangent: Tensor) -> Iterator[Tensor]:
        """The cotangent of each sequence alone."""
        axis = self.batch_axis or 0
        for row in range(self.probe.num_sequences):
            only = torch.zeros_like(cotangent)
            only.select(axis, row).copy_(cotangent.select(axis, row))
            yield only

    def _of_inputs(self, run: Run, cotangent: Tensor) -> Norms:
        """By whole sequences of inputs, (B, T, ...) or (T, B, ...), cut into steps."""
        (x,) = run.steps[0]
        gradient = None
        if self.outputs.requires_grad:
            (gradient,) = torch.autograd.grad(self.outputs, x, cotangent, retain_graph=True, allow_unused=True)
        gradient = torch.zeros_like(x) if gradient is None else gradient
        gradient = gradient.unsqueeze(1) if self.probe.alone else gradient
        axes = self.probe.axes
        time_first = gradient.to("cpu", torch.float64).movedim((axes.time, axes.batch), (0, 1))
        return Norms(log2_norm(time_first.flatten(2)).unsqueeze(0))


def last_step(norms: Norms) -> Tensor:
    """(B,) the last step that the loss depends on; -1 where it depends on none."""
    joint = norms.joint
    return torch.where(joint.isfinite(), torch.arange(joint.size(0)).unsqueeze(1), -1).amax(0)


def _rows(each: tuple[Norms, ...]) -> Norms:
    """Of one pass a sequence, the row of that sequence."""
    logs = torch.stack([norms.log2[:, :, row] for row, norms in enumerate(each)], dim=2)
    return Norms(logs, max(norms.exact_from for norms in each))
