"""The states that inputs drive a cell through, and the linear maps between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from throughtime.cell import Cell
from throughtime.errors import InputError
from throughtime.measurement.jacobian import Linearised, State, linearise

__all__ = ["Trajectory", "trajectory"]


@dataclass(frozen=True)
class Trajectory:
    """A cell along its inputs.

    Attributes:
        cell: whose steps.
        projected: (T, B, G).
        before: the state before each step, each part (T, B, ...).
        outputs: (T, B, output_size), zero beyond a length.
        counted: (B,) steps from the first that are one unbroken recurrence: up to the length or the first reset.
    """

    cell: Cell
    projected: Tensor
    before: State
    outputs: Tensor
    counted: Tensor

    @property
    def num_steps(self) -> int:
        """Steps of the longest unbroken recurrence."""
        return int(self.counted.max())

    @property
    def state_size(self) -> int:
        """D, the numbers in a state, all parts together."""
        return sum(part[0, 0].numel() for part in self.before)

    def linearised(self, step: int) -> Linearised:
        """The step at its state."""
        return linearise(self.cell, self.projected[step], tuple(part[step] for part in self.before))

    def products(self) -> Iterator[Callable[[Tensor], Tensor]]:
        """J_t times columns, for each step in order; the identity for a sequence that has ended."""
        return (self._where_counted(step, self.linearised(step).product) for step in range(self.num_steps))

    def transposed(self) -> Iterator[Callable[[Tensor], Tensor]]:
        """J_t^T times columns, from the last step to the first."""
        return (self._where_counted(step, self.linearised(step).transposed) for step in reversed(range(self.num_steps)))

    def rows(self, chosen: Tensor) -> Trajectory:
        """The same for the sequences for which `chosen` (B,) is True."""
        before = tuple(part[:, chosen] for part in self.before)
        return Trajectory(self.cell, self.projected[:, chosen], before, self.outputs[:, chosen], self.counted[chosen])

    def _where_counted(self, step: int, product: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        counts = (step < self.counted).view(-1, 1, 1)
        return lambda columns: torch.where(counts, product(columns), columns)


def trajectory(
    cell: Cell, x: Tensor, state: State, reset: Tensor | None = None, lengths: Tensor | None = None
) -> Trajectory:
    """Run `cell` as the plain loop does, and keep every state.

    Args:
        cell: whose steps to run.
        x: (T, B, I).
        state: before the first step.
        reset: (T, B) bool, as `throughtime.Recurrent` takes it.
        lengths: (B,), likewise.

    Returns:
        All of it, without gradients.

    Raises:
        InputError: if the cell does not run on these tensors.
    """
    try:
        return _run(cell, x, state, reset, lengths)
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"the step of {type(cell).__name__} does not run in {x.dtype}, which a spectrum needs: {error}"
        ) from error


def _run(cell: Cell, x: Tensor, state: State, reset: Tensor | None, lengths: Tensor | None) -> Trajectory:
    num_steps, batch = x.shape[:2]
    counted = torch.full((batch,), num_steps) if lengths is None else lengths.clone()
    with torch.no_grad():
        projected = cell.project(x)
        initial = cell.initial_state(batch, device=x.device, dtype=x.dtype)
        before, outputs = [], []
        for t in range(num_steps):
            if reset is not None:
                state = _chosen(reset[t], initial, state)
                if t:
                    counted = torch.where(reset[t], counted.clamp(max=t), counted)
            before.append(state)
            after, output = cell.step(projected[t], state)
            if lengths is not None:
                after, output = _chosen(t < lengths, after, state), output.masked_fill((t >= lengths).unsqueeze(1), 0)
            state = after
            outputs.append(output)
    parts = tuple(torch.stack(part) for part in zip(*before, strict=True))
    return Trajectory(cell, projected, parts, torch.stack(outputs), counted)


def _chosen(rows: Tensor, new: State, old: State) -> State:
    """`old` with the rows for which `rows` (B,) is True taken from `new`."""
    return tuple(torch.where(rows.view(-1, *[1] * (o.dim() - 1)), n, o) for n, o in zip(new, old, strict=True))
