"""How the forget gate starts: what decides how long a gated cell remembers before it has learned anything.

A unit whose forget gate stays at f forgets within about 1 / (1 - f) steps. All units at one bias therefore remember
equally long; "chrono" and "uniform-gate" draw a bias for each unit, so that their memories differ in length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torch import Tensor, nn

from throughtime.check import at_least, one_of
from throughtime.errors import RecipeError

__all__ = ["DEFAULT_MAX_LAG", "GATE_STARTS", "check_biases", "forget_gate_", "settled_max_lag", "settled_start"]

GATE_STARTS: Final = ("forget-bias", "chrono", "uniform-gate")
"""The starts that `forget_gate_` knows, the default first."""

DEFAULT_MAX_LAG: Final = 100
"""T_max of "chrono" unless given: longer than nearly every sentence has words. Give the lag that the data needs."""


def settled_start(
    cell: str, init: str | None, max_lag: int | None, starts: Sequence[str] = GATE_STARTS
) -> tuple[str, int | None]:
    """The name of a start, and T_max where that start has one.

    Args:
        cell: its name, for the error.
        init: one of `starts`; the first unless given.
        max_lag: T_max, for "chrono" alone.
        starts: those that the cell has.

    Returns:
        The start, and T_max, which is None for all starts but "chrono".

    Raises:
        RecipeError: if `init` is unknown, or `max_lag` is below 2 or goes with a start that ignores it.

    Example:
        >>> settled_start("lstm", None, None), settled_start("lstm", "chrono", None)
        (('forget-bias', None), ('chrono', 100))
    """
    settled = starts[0] if init is None else one_of(f"init of {cell}", init, starts)
    return settled, settled_max_lag(settled, max_lag)


def settled_max_lag(init: str | None, max_lag: int | None) -> int | None:
    """T_max where the start has one: `max_lag` or its default for "chrono", and else None.

    Raises:
        RecipeError: if `max_lag` is below 2 or goes with a start that ignores it.
    """
    if init != "chrono":
        if max_lag is not None:
            raise RecipeError("max_lag is used by init='chrono' alone: choose that, or leave max_lag out")
        return None
    lag = DEFAULT_MAX_LAG if max_lag is None else max_lag
    at_least("max_lag", lag, 2)
    return lag


def check_biases(init: str | None, bias: bool) -> None:
    """Refuse a start that consists of biases where there are none.

    Raises:
        RecipeError: if `init` is "chrono" or "uniform-gate" and `bias` is False.
    """
    if not bias and init in ("chrono", "uniform-gate"):
        raise RecipeError(f"init='{init}' draws biases, and bias=False leaves none: choose one or the other")


def forget_gate_(init: str, max_lag: int | None, forget_bias: Tensor, input_bias: Tensor | None = None) -> None:
    r"""Set the bias of a logistic forget gate, and that of the input gate beside it; called without gradients.

        "forget-bias"     b_f = 1,  b_i as it is
        "chrono"          b_f = log u,  u ~ U[1, T_max - 1],  b_i = -b_f
        "uniform-gate"    sigmoid(b_f) ~ U[1/H, 1 - 1/H],  b_i = -b_f

    With b_i = -b_f the gates start at i = 1 - f: what is forgotten makes room for just as much that is new.

    *References*: Jozefowicz, Zaremba & Sutskever 2015, *An empirical exploration of recurrent network architectures*,
    ICML (forget-bias); Tallec & Ollivier 2018, *Can recurrent neural networks warp time?*, arXiv:1804.11188 (chrono);
    Gu, Gulcehre, Paine, Hoffman & Pascanu 2020, *Improving the gating mechanism of recurrent neural networks*,
    arXiv:1910.09890 (uniform-gate).

    Departures of "uniform-gate": the refine gate, the other half of that paper, is absent; the paper ties the input
    gate to the forget gate, for which b_i = -b_f stands in here, at the start alone; a layer of one unit starts at 1/2.

    Args:
        init: one of `GATE_STARTS`.
        max_lag: T_max, the longest lag that "chrono" prepares for.
        forget_bias: (H,), overwritten.
        input_bias: (H,), overwritten by "chrono" and "uniform-gate"; None where there is no such gate of its own.
    """
    if init == "forget-bias":
        forget_bias.fill_(1.0)
        return
    if init == "chrono":
        assert max_lag is not None
        nn.init.uniform_(forget_bias, 1, max_lag - 1).log_()
    else:
        margin = min(1 / forget_bias.numel(), 0.5)
        nn.init.uniform_(forget_bias, margin, 1 - margin).logit_()
    if input_bias is not None:
        input_bias.copy_(-forget_bias)
