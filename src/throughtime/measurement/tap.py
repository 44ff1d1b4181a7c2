"""A tap: what one layer in one direction hands on at each step, and which calls of it go on from one another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["Run", "Tap", "num_rows", "same_memory"]

_OUTPUT = "output"
_FARTHEST = 5000
"""Nodes of the graph that are looked at between two calls of one module: much more than what changes a state there."""

State = tuple[Tensor, ...]


@dataclass
class Run:
    """One unbroken recurrence: what each step handed on.

    Attributes:
        steps: in the order in which they ran, for each the parts (B, ...).
        last: the state after the last step, as the next call would get it.
    """

    steps: list[State] = field(default_factory=list)
    last: State = ()


@dataclass(eq=False)
class Tap:
    """What one layer in one direction of a module handed on.

    Attributes:
        name: of the module in the model, with the layer and direction where there are several.
        parts: names of what a step hands on: those of the state, and "output" where the output is none of them.
        backward: whether the first step to run is the last one in time.
        runs: one for each time that the recurrence began anew.
        one_way: whether it stands alone, so that a model that turns its inputs round may run it backwards.
        lengths: (B,) of the sequences, where the module was told these; it ran backwards from there.
        made_by: the nodes of the graph that made states, with the run and the step; of all taps of a model together.
        recording: whether what passes is noted; not while a checkpoint runs a module once more on the way back.
    """

    name: str
    parts: tuple[str, ...]
    backward: bool = False
    one_way: bool = True
    runs: list[Run] = field(default_factory=list)
    lengths: Tensor | None = None
    made_by: dict[Any, tuple[Run, int]] = field(default_factory=dict, repr=False)
    recording: bool = True
    _current: Run = field(default_factory=Run, repr=False)
    _mixed: bool = False
    _without_gradient: bool = False

    def begin(self, state: State) -> None:
        """A call of the module: it goes on with the run from whose last state its own was made, or begins one."""
        if self.recording:
            self.go_on(self._same(state) or self._made_from(state))

    def go_on(self, run: Run | None) -> None:
        """With a run; None is a new one."""
        if not self.recording:
            return
        if run is None:
            self.runs.append(run := Run())
        self._current = run

    def add(self, state: State, outputs: State = ()) -> tuple[State, State]:
        """Tap a step's state, and its outputs where they are none of the state; all as whoever comes next reads them."""
        tapped = tuple(map(_identity, state))
        read = tuple(
            next((new for old, new in zip(state, tapped, strict=True) if old is output), None) for output in outputs
        )
        read = tuple(_identity(old) if new is None else new for old, new in zip(outputs, read, strict=True))
        others = tuple(part for part in read if not any(part is each for each in tapped))
        if self.recording:
            self._note(tapped, others)
        return tapped, read

    @property
    def longest(self) -> Run:
        """Of the runs; the first of several."""
        return max(self.runs, key=lambda run: len(run.steps))

    def refusal(self, num_sequences: int) -> str | None:
        """Why the gradient by its states would not be what it is called; None where it is."""
        steps = self.longest.steps
        rows = num_rows(steps[0][0])
        if self._without_gradient:
            return "it runs without gradients (torch.no_grad, or a checkpoint that is not use_reentrant=False)"
        if rows != num_sequences:
            return f"its states have {rows} rows, and there are {num_sequences} sequences"
        if self._mixed:
            return (
                "between two steps its state is mixed with an older one (a mask, zoneout), and so is not all that is "
                "handed on; a module that does this inside of its forward, or a throughtime.Cell, can be measured"
            )
        if len(steps) < 2:
            return f"none of its {len(self.runs)} calls goes on from the state of another, as far as can be seen"
        return None

    def forget(self) -> None:
        """Everything that holds the graph, which is large."""
        self.runs.clear()
        self.made_by.clear()
        self._current = Run()

    def _note(self, tapped: State, others: State) -> None:
        run = self._current
        self._without_gradient |= not torch.is_grad_enabled()
        if others:
            numbered = (f"{_OUTPUT}{number}" for number in range(2, len(others) + 1))
            self.parts = (*self.parts[: len(tapped)], _OUTPUT, *numbered)
        for part in tapped:
            if part.requires_grad:
                self.made_by[_node(part)] = (run, len(run.steps))
        run.steps.append((*tapped, *others))
        run.last = tapped

    def _same(self, state: State) -> Run | None:
        """The run that ended with just this state, which may have been detached since."""
        for run in reversed(self.runs):
            if len(run.last) == len(state) and all(map(same_memory, run.last, state)):
                return run
        last = self.runs[-1] if self.runs else Run()
        return last if len(last.last) == len(state) and state and all(map(_equal, last.last, state)) else None

    def _made_from(self, state: State) -> Run | None:
        """The run from whose last state this one was made, as by dropout or normalisation, if it is a single one."""
        found: list[tuple[Run, int]] = []
        seen: set[Any] = set()
        ahead: list[Any] = [part.grad_fn for part in state]
        while ahead and len(seen) < _FARTHEST:
            node = ahead.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            if node in self.made_by:
                found.append(self.made_by[node])
            else:
                ahead += [each for each, _ in node.next_functions]
        runs = [run for run in self.runs if any(run is each for each, _ in found)]
        if len(runs) != 1:
            return None
        (run,) = runs
        back = {len(run.steps) - step for each, step in found if each is run}
        self._mixed |= 1 in back and len(back) > 1
        return run if 1 in back else None


def same_memory(one: Any, other: Tensor) -> bool:
    """Whether they are one tensor, perhaps detached between: the recurrence goes on, though its gradient does not."""
    return isinstance(one, Tensor) and one.shape == other.shape and one.data_ptr() == other.data_ptr()


def num_rows(part: Tensor) -> int:
    """Of sequences in a state; a vector is the state of one."""
    return part.size(0) if part.dim() > 1 else 1


def _node(part: Tensor) -> Any:
    return part.grad_fn if part.grad_fn is not None else torch.autograd.graph.get_gradient_edge(part).node


def _identity(part: Tensor) -> Tensor:
    """A tensor of its own in the graph, even where all weights are frozen and nothing before it has a gradient."""
    return part.clone() if part.requires_grad else part.detach().clone().requires_grad_(part.is_floating_point())


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)
