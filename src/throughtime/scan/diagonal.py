r"""The diagonal scan: cells of the form h_t = a_t * h_{t-1} + b_t, run in O(log T) operations on whole tensors.

Two steps in a row are one step of the same form,

    a_2 (a_1 h + b_1) + b_2 = (a_2 a_1) h + (a_2 b_1 + b_2)

so steps are joined in pairs, the half as many steps are solved by the same rule, and the states between follow at once:
odd-even reduction, 2 T updates and T products in all. Nothing divides by a, which may be 0.

*References*: Blelloch 1990, *Prefix sums and their applications*, CMU-CS-90-190, section 1.4; for recurrent networks
Martin & Cundy 2018, *Parallelizing linear recurrent neural nets over sequence length*, arXiv:1709.04057.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor

from throughtime import kernels
from throughtime.errors import InputError
from throughtime.kernels.pairs import conjugate, product
from throughtime.scan.contract import ScanCell, State, restarted

__all__ = ["DiagonalScanCell", "LinearScan", "diagonal", "diagonal_obstacle", "linear_scan"]


class DiagonalScanCell(ScanCell, Protocol):
    """The part of a cell (`throughtime.cell.diagonal.DiagonalCell`) that this scan uses."""

    @property
    def complex_state(self) -> bool:
        """Whether a, b and the state hold S / 2 real parts and then S / 2 imaginary parts."""

    def handed_on(self, projected: Tensor) -> State:
        """What the next step sees of this one's input, (..., G) -> each (..., ·); the state after its first tensor."""

    def look_back(self, projected: Tensor, handed: State) -> Tensor:
        """The projected input joined with what the step before handed on."""

    def coefficients(self, projected: Tensor) -> tuple[Tensor, Tensor]:
        """What `look_back` gave, (..., G) -> a (..., S), or (S,) where it is the same at all steps; b (..., S)."""

    def readout(self, h: Tensor, projected: Tensor) -> Tensor:
        """States (..., S) after their steps, and what `look_back` gave -> outputs (..., output_size)."""


class LinearScan(Protocol):
    """All states of a linear recurrence: `linear_scan` here, and the compiled one in `throughtime.kernels`."""

    def __call__(self, a: Tensor, b: Tensor, start: Tensor, *, complex_pairs: bool = False) -> Tensor:
        """As `linear_scan`."""


def diagonal_obstacle(cell: ScanCell, x: Tensor) -> str | None:
    """Why `diagonal` cannot run `cell` on an input such as `x`, or None if it can."""
    if not hasattr(cell, "complex_state"):
        return f"the state of {type(cell).__name__} does not follow h_t = a_t * h_(t-1) + b_t with a, b of the input"
    return None if x.numel() else "there is no step to run"


def diagonal(
    cell: ScanCell,
    projected: Tensor,
    state: State,
    reset: Tensor | None = None,
    lengths: Tensor | None = None,
    *,
    recurrence: LinearScan | None = None,
) -> tuple[Tensor, State]:
    """Run `cell` over all steps at once; the caller has seen that `diagonal_obstacle` is None.

    It has gradients of any order. A reset is a_t = 0, and 0 * NaN = NaN: in a row that held NaN or infinity before a
    reset, the states after it are NaN too, unlike in the loop; other rows and earlier steps never are.

    Args:
        cell: whose equations to run; it follows `DiagonalScanCell`.
        projected: (T, B, G), from `cell.project`.
        state: before the first step; (B, S), and a tensor (B, ...) for each that a step hands on to the next.
        reset: (T, B) bool; where True, `cell.initial_state` takes the state's place before step t.
        lengths: (B,) integers from 0 to T; beyond them the output is zero and the state stays as it is.
        recurrence: what computes the states from a and b: the compiled loop where it serves (float32 and float64 on
            the CPU) and else `linear_scan`, unless given.

    Returns:
        The outputs (T, B, output_size) and the final state, each tensor (B, ...).

    Raises:
        InputError: if `cell` is not diagonal.
    """
    if not hasattr(cell, "complex_state"):
        raise InputError(f"scan='diagonal' cannot run: {diagonal_obstacle(cell, projected)}; use scan='auto'")
    cell = cast(DiagonalScanCell, cell)
    num_steps, batch = projected.shape[:2]
    if not num_steps:
        return projected.new_zeros(0, batch, cell.output_size), state
    beyond = None
    if lengths is not None:
        beyond = (torch.arange(num_steps, device=projected.device).unsqueeze(1) >= lengths).unsqueeze(2)
        projected = projected.masked_fill(beyond, 0)  # what lies there must not reach a gradient, not even as 0 * NaN
    start, *handed = state
    fresh, *fresh_handed = state if reset is None else cell.initial_state(batch, device=projected.device)
    handed_on = cell.handed_on(projected)
    before = (_shifted(*parts, reset) for parts in zip(handed_on, handed, fresh_handed, strict=True))
    full = cell.look_back(projected, tuple(before))

    a, b = cell.coefficients(full)
    if reset is not None:
        a, b = _cut(a, b, fresh, reset, complex_pairs=cell.complex_state)
    a, b, start = _of_one_dtype(a, b, start)
    recurrence = _fastest_recurrence(b) if recurrence is None else recurrence
    states = recurrence(a, b, start, complex_pairs=cell.complex_state)
    outputs = cell.readout(states, full)
    if beyond is not None:
        outputs = outputs.masked_fill(beyond, 0)
    return outputs, _last((states, *handed_on), (start, *handed), lengths)


def linear_scan(a: Tensor, b: Tensor, start: Tensor, *, complex_pairs: bool = False) -> Tensor:
    """All states of h_t = a_t * h_{t-1} + b_t, element by element, for any T on any device.

    About 3 log2(T) operations on whole tensors, and gradients of any order, which never divide by a. A NaN at step t
    reaches the states from t on and no others. `throughtime.kernels.linear_scan` computes the same on the CPU.

    Args:
        a: (T, ..., S), or (S,) where it is the same at all steps and rows.
        b: (T, ..., S), of the same dtype.
        start: h_0, (..., S).
        complex_pairs: whether the last axis holds S / 2 real parts and then S / 2 imaginary parts.

    Returns:
        (T, ..., S), the states h_1 to h_T.

    Raises:
        InputError: if the shapes do not go together.

    Example:
        >>> linear_scan(torch.tensor([0.5]), torch.ones(4, 1), torch.zeros(1)).flatten().tolist()
        [1.0, 1.5, 1.75, 1.875]
    """
    if b.dim() < 2 or start.shape != b.shape[1:] or a.shape not in (b.shape, b.shape[-1:]):
        raise InputError(
            "a linear scan takes b (T, ..., S), a of the same shape or (S,), and start (..., S), "
            f"not b {tuple(b.shape)}, a {tuple(a.shape)} and start {tuple(start.shape)}"
        )
    if complex_pairs and b.size(-1) % 2:
        raise InputError(f"complex_pairs=True needs an even last axis (real parts, imaginary parts), not {b.size(-1)}")
    return _apply(a, b, start, complex_pairs, backwards=False) if b.numel() else b


def _shifted(now: Tensor, before: Tensor, fresh: Tensor, reset: Tensor | None) -> Tensor:
    """What each step was handed by the one before it, (T, B, ...): `before` at the first, `fresh` after a reset."""
    shifted = torch.cat([before.unsqueeze(0).to(now.dtype), now[:-1]])
    if reset is None:
        return shifted
    return torch.where(reset.view(*reset.shape, *[1] * (now.dim() - 2)), fresh.to(now.dtype), shifted)


def _cut(a: Tensor, b: Tensor, fresh: Tensor, reset: Tensor, *, complex_pairs: bool) -> tuple[Tensor, Tensor]:
    """Coefficients that give a h + b from `fresh` where there is a reset, whatever h was before."""
    rows = reset.unsqueeze(2)
    b = torch.where(rows, b + product(a.expand_as(b), fresh.expand_as(b), complex_pairs), b)
    return torch.where(rows, torch.zeros((), dtype=a.dtype, device=a.device), a), b


def _of_one_dtype(a: Tensor, b: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """In the dtype that a step of the loop would compute in."""
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), start.dtype)
    return a.to(dtype), b.to(dtype), start.to(dtype)


def _fastest_recurrence(b: Tensor) -> LinearScan:
    served = b.device.type == "cpu" and b.dtype in (torch.float32, torch.float64) and b.numel()
    return kernels.linear_scan if served and kernels.library() is not None else linear_scan


def _last(parts: State, before: State, lengths: Tensor | None) -> State:
    """The state after the last valid step: from `parts`, each (T, B, ...), or `before` in rows of length 0."""
    if lengths is None:
        return tuple(part[-1] for part in parts)
    rows = torch.arange(lengths.numel(), device=lengths.device)
    last = tuple(part[(lengths - 1).clamp(min=0), rows] for part in parts)
    return restarted(lengths == 0, before, last)


class _LinearScan(torch.autograd.Function):
    """The recurrence as one operation, whose way back is itself over reversed time.

        s_t = g_t + conj(a_{t+1}) s_{t+1},    d b_t = s_t,    d a_t = s_t conj(h_{t-1}),    d h_0 = conj(a_1) s_1

    with g_t the gradient by h_t. `backwards` exchanges front and back throughout.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, b: Tensor, start: Tensor, complex_pairs: bool, backwards: bool) -> Tensor:
        constant = a.dim() == 1
        if backwards:
            last = b[-1:] + product(a if constant else a[-1:], start.unsqueeze(0), complex_pairs)
            states = torch.cat([b[:-1], last])
        else:
            first = b[:1] + product(a if constant else a[:1], start.unsqueeze(0), complex_pairs)
            states = torch.cat([first, b[1:]])
        _solve_(a, states, complex_pairs, backwards)
        return states

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        a, _, start, ctx.complex_pairs, ctx.backwards = inputs
        ctx.save_for_backward(a, start, output)

    @staticmethod
    def backward(ctx: Any, d_states: Tensor) -> tuple[Tensor | None, ...]:
        a, start, states = ctx.saved_tensors
        complex_pairs, backwards = ctx.complex_pairs, ctx.backwards
        constant = a.dim() == 1
        factor = conjugate(a, complex_pairs)
        shifted = factor if constant else _moved(factor, torch.zeros_like(factor[0]), backwards)
        d_b = _apply(shifted, d_states, torch.zeros_like(start), complex_pairs, backwards=not backwards)
        d_a = d_start = None
        if ctx.needs_input_grad[0]:
            d_a = product(d_b, conjugate(_moved(states, start, not backwards), complex_pairs), complex_pairs)
            d_a = d_a.flatten(0, -2).sum(0) if constant else d_a
        if ctx.needs_input_grad[2]:
            end = -1 if backwards else 0
            d_start = product(d_b[end], factor if constant else factor[end], complex_pairs)
        return d_a, d_b, d_start, None, None


def _apply(a: Tensor, b: Tensor, start: Tensor, complex_pairs: bool, *, backwards: bool) -> Tensor:
    apply: Callable[..., Tensor] = _LinearScan.apply
    return apply(a, b, start, complex_pairs, backwards)


def _solve_(a: Tensor, h: Tensor, complex_pairs: bool, backwards: bool) -> None:
    """Turn b, of which the first already counts what came before it, into the states, in place."""
    if h.size(0) < 2:
        return
    pairs = _Pairs.of(h.size(0), backwards)
    earlier, later, between = (a, a, a) if a.dim() == 1 else (a[pairs.first], a[pairs.second], a[pairs.between])
    _add_product_(h[pairs.second], later, h[pairs.first], complex_pairs)
    _solve_(product(later, earlier, complex_pairs), h[pairs.second], complex_pairs, backwards)
    _add_product_(h[pairs.between], between, h[pairs.before_between], complex_pairs)


class _Pairs(NamedTuple):
    """Which steps are joined in pairs, counted from the side where time begins; all are views.

    Attributes:
        first: the first of each pair.
        second: the second, which stands for both.
        between: the steps that are left when the second ones are solved, but for the very first, which is solved too.
        before_between: the step before each of those.
    """

    first: slice
    second: slice
    between: slice
    before_between: slice

    @classmethod
    def of(cls, num_steps: int, backwards: bool) -> _Pairs:
        if backwards:
            odd = num_steps % 2
            parts = (
                slice(odd + 1, None, 2),
                slice(odd, None, 2),
                slice(1 - odd, num_steps - 2, 2),
                slice(2 - odd, None, 2),
            )
        else:
            parts = slice(0, num_steps - 1, 2), slice(1, None, 2), slice(2, None, 2), slice(1, num_steps - 1, 2)
        return cls(*parts)


def _moved(parts: Tensor, fill: Tensor, later: bool) -> Tensor:
    """`parts` (T, ...) one step later in time, or earlier, with `fill` at the step that falls free."""
    return torch.cat([fill.unsqueeze(0), parts[:-1]] if later else [parts[1:], fill.unsqueeze(0)])


def _add_product_(total: Tensor, x: Tensor, y: Tensor, complex_pairs: bool) -> None:
    """Add x * y in place."""
    if not complex_pairs:
        total.addcmul_(x, y)
        return
    (real, imaginary), (a, b), (c, d) = total.chunk(2, dim=-1), x.chunk(2, dim=-1), y.chunk(2, dim=-1)
    real.addcmul_(a, c).addcmul_(b, d, value=-1)
    imaginary.addcmul_(a, d).addcmul_(b, c)
