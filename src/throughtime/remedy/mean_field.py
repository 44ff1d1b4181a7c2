"""How far the gradient reaches after a start, from the formula of the start and the size of the inputs alone.

The theory of wide random networks: the state of a unit is Gaussian, its gradient is carried back by random matrices,
and both are known by their second moments. Of gated cells every unit has a forget gate of its own.

*References*: Chen, Pennington & Schoenholz 2018, *Dynamical isometry and a mean field theory of RNNs*,
arXiv:1806.05394; Gilboa, Chang, Chen, Yang, Schoenholz, Chi & Pennington 2019, *Dynamical isometry and a mean field
theory of LSTMs and GRUs*, arXiv:1901.08987; for the ring Orvieto et al. 2023, arXiv:2303.06349.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from throughtime.cell.mean_field import gaussian_mean, gaussian_means

__all__ = [
    "elman_reach",
    "forget_biases",
    "gain_for",
    "gru_reach",
    "identity_reach",
    "lstm_reach",
    "ring_reach",
    "skip_reach",
]

Array = npt.NDArray[np.float64]

_LOG_SHARE: Final = 2 * math.log(0.01)
"""Of the squared gradient at the reach."""
_LONGEST: Final = 20_000
_PROBES: Final = 8
"""Gradients that are sent back."""
_SETTLING: Final = 1000
"""Steps after which a chain has forgotten its beginning."""


def elman_reach(
    gain: float,
    input_variance: float,
    hidden_size: int,
    *,
    nonlinearity: str = "tanh",
    gaussian: bool = False,
    longest: int = _LONGEST,
) -> int:
    r"""Of a plain layer whose matrix is `gain` times an orthogonal one, or Gaussian with deviation gain / sqrt(H).

        q = gain^2 E[f(sqrt(q) z)^2] + R,    log |g_k|^2 = k (log(gain^2 E[f'(sqrt(q) z)^2]) - spread / H)

    The spread is what the mean of the logarithm loses, since a gradient lies on H units by chance, and not evenly:
    Var(f'^2) / E[f'^2]^2, and 1 more where the matrix is Gaussian.

    Args:
        gain: of the recurrent matrix.
        input_variance: R, of what the input adds to a unit's sum.
        hidden_size: H.
        nonlinearity: "tanh" or "relu".
        gaussian: whether the matrix is Gaussian.
        longest: the reach that stands for all longer ones.
    """
    if nonlinearity == "relu":
        slope, slope4 = 0.5, 0.5
    else:
        q = input_variance + gain**2
        for _ in range(500):
            q = gain**2 * gaussian_mean(lambda x: np.tanh(x) ** 2, q) + input_variance
        slope = gaussian_mean(lambda x: (1 - np.tanh(x) ** 2) ** 2, q)
        slope4 = gaussian_mean(lambda x: (1 - np.tanh(x) ** 2) ** 4, q)
    spread = (slope4 / slope**2 - 1) + (1.0 if gaussian else 0.0)
    step = math.log(gain**2 * slope) - spread / hidden_size
    return longest if step >= _LOG_SHARE / longest else int(_LOG_SHARE / step)


def identity_reach(
    gain: float, input_variance: float, input_size: int, hidden_size: int, longest: int = _LONGEST
) -> int:
    r"""Of a plain layer under tanh whose matrix is `gain` times the identity: each unit is a chain of its own.

        h_t = tanh(a_t),    a_t = gain h_{t-1} + sqrt(R_i) z,    |g_k|^2 = mean over units of product (gain tanh'(a))^2

    The chains are drawn. Units that stay small keep their gradient and come to dominate; so do those that hear little
    of the input: with Gaussian weights, R_i / R is chi-squared over I degrees of freedom, divided by I.
    """
    rng = np.random.default_rng(0)
    h, left = np.zeros((4 * _PROBES, hidden_size)), np.ones((4 * _PROBES, hidden_size))
    weight = rng.standard_normal(h.shape) ** 2  # of a unit in the gradient that is sent back
    deviation = np.sqrt(input_variance * rng.chisquare(input_size, h.shape) / input_size)

    def sums() -> Array:
        found: Array = gain * h + deviation * rng.standard_normal(h.shape)
        return found

    for _ in range(_SETTLING):
        h = np.tanh(sums())

    def back() -> Array:
        nonlocal h, left
        h = np.tanh(sums())
        left = left * (gain * (1 - h**2)) ** 2
        size: Array = (weight * left).sum(1) / weight.sum(1)
        return size

    return _reach(back, longest)


def skip_reach(steps: int, decay: float, longest: int = _LONGEST) -> int:
    r"""Of a cell that lets through `decay` a step and reads its state of k steps before too, each with half the square.

    v_t = decay^2 (v_{t-1} + v_{t-k}) / 2
    """
    past = [0.0] * (steps - 1) + [1.0]

    def back() -> Array:
        past.append(decay**2 * (past[-1] + past[-steps]) / 2)
        past.pop(0)
        return np.array([max(past)])

    return _reach(back, longest)


def gain_for(reach: int, input_variance: float, hidden_size: int) -> float:
    """The gain of an orthogonal matrix under tanh at which the gradient reaches so far, by bisection; at least 1."""
    low, high = 1.0, 8.0
    for _ in range(40):
        middle = (low + high) / 2
        if elman_reach(middle, input_variance, hidden_size, longest=2 * reach) < reach:
            low = middle
        else:
            high = middle
    return 1.0 if elman_reach(1.0, input_variance, hidden_size, longest=2 * reach) >= reach else high


def ring_reach(r_min: float, r_max: float, hidden_size: int, longest: int = _LONGEST) -> int:
    r"""Of linear units with |lambda|^2 evenly spaced from r_min^2 to r_max^2: |g_k|^2 = mean |lambda|^(2k)."""
    squares = r_min**2 + (r_max**2 - r_min**2) * (np.arange(hidden_size) + 0.5) / hidden_size
    left = np.ones_like(squares)

    def back() -> Array:
        nonlocal left
        left = left * squares
        return np.array([left.mean()])

    return _reach(back, longest)


def forget_biases(start: str, max_lag: int, hidden_size: int) -> Array:
    """The biases of the forget gates that a start draws, at evenly spaced shares of the units."""
    share = (np.arange(hidden_size) + 0.5) / hidden_size
    if start == "chrono":
        return np.log(1 + share * (max(max_lag, 3) - 2))
    return np.full(hidden_size, 1.0 if start == "forget-bias" else 0.0)


def lstm_reach(start: str, max_lag: int, input_variance: float, hidden_size: int, longest: int = _LONGEST) -> int:
    r"""Of an LSTM with orthogonal and Glorot weights, by its start: "forget-bias", "chrono", "orthogonal".

        G = g_c + E[o] E[tanh'(c)] g_h,    g_c <- f G,    g_h <- W_g^T (E[i] E[g'] G) + noise

    with one forget gate f = exp(E[log sigmoid]) for each unit, one orthogonal matrix W_g, the same at every step, and
    what the other paths and fluctuations add as noise of the same mean square.
    """
    rng = np.random.default_rng(0)
    bias = rng.permutation(forget_biases(start, max_lag, hidden_size))
    gate_bias = -bias if start == "chrono" else np.zeros_like(bias)
    none = np.zeros(1)
    state_square = 0.1
    for _ in range(100):
        q = input_variance + state_square
        write2 = _gate(gate_bias, q, 2) * gaussian_mean(_tanh_squared, q)
        memory = write2 / np.maximum(1 - _gate(bias, q, 2), 1e-9)
        squash = np.array([gaussian_mean(_tanh_squared, v) for v in memory])
        state_square = float((_gate(none, q, 2) * squash).mean())
    slope = np.array([gaussian_mean(_slope_of_tanh, v) for v in memory])
    opened, write = slope * float(_gate(none, q, 1)[0]), _gate(gate_bias, q, 1) * gaussian_mean(_slope_of_tanh, q)
    other = (
        _slope(bias, q) * memory
        + _slope(gate_bias, q) * gaussian_mean(_tanh_squared, q)
        + _gate(gate_bias, q, 2) * gaussian_mean(lambda x: _slope_of_tanh(x) ** 2, q)
        - write**2
    )
    by_output = float((_slope(none, q) * squash).mean())
    matrix, keeps = _orthogonal(rng, hidden_size), np.sqrt(_typical(bias, q))
    h, c = rng.standard_normal((hidden_size, _PROBES)), np.zeros((hidden_size, _PROBES))
    h /= np.linalg.norm(h, axis=0)

    def back() -> Array:
        nonlocal h, c
        through = c + opened[:, None] * h
        noise = (other[:, None] * through**2).sum(0) + by_output * (h**2).sum(0)
        spread = rng.standard_normal(h.shape) * np.sqrt(noise / hidden_size)
        h, c = matrix.T @ (write[:, None] * through) + spread, keeps[:, None] * through
        size: Array = (h**2 + c**2).sum(0)
        return size

    return _reach(back, longest)


def gru_reach(start: str, max_lag: int, input_variance: float, hidden_size: int, longest: int = _LONGEST) -> int:
    r"""Of a GRU with orthogonal and Glorot weights, by its start: "chrono", "forget-bias", "orthogonal".

        g <- z g + W_n^T (E[r] E[n'] (1 - z) g) + noise

    with one update gate z = exp(E[log sigmoid]) for each unit, and W_n and noise as in `lstm_reach`.
    """
    rng = np.random.default_rng(0)
    bias = rng.permutation(forget_biases(start, max_lag, hidden_size))
    none = np.zeros(1)
    square = np.full_like(bias, 0.1)
    for _ in range(100):
        q = input_variance + square.mean()
        reset2 = float(_gate(none, q, 2)[0])
        q_new = input_variance + reset2 * square.mean()
        square = _gate(-bias, q, 2) * gaussian_mean(_tanh_squared, q_new) / np.maximum(1 - _gate(bias, q, 2), 1e-9)
    slope2 = gaussian_mean(lambda x: _slope_of_tanh(x) ** 2, q_new)
    write = _gate(-bias, q, 1) * gaussian_mean(_slope_of_tanh, q_new) / 2
    other = (
        _gate(-bias, q, 2) * slope2 * (reset2 + float(_slope(none, q)[0]) * square.mean())
        + _slope(bias, q) * (square + gaussian_mean(_tanh_squared, q_new))
        - write**2
    )
    matrix, keeps = _orthogonal(rng, hidden_size), np.sqrt(_typical(bias, q))
    g = rng.standard_normal((hidden_size, _PROBES))
    g /= np.linalg.norm(g, axis=0)

    def back() -> Array:
        nonlocal g
        spread = rng.standard_normal(g.shape) * np.sqrt((other[:, None] * g**2).sum(0) / hidden_size)
        g = keeps[:, None] * g + matrix.T @ (write[:, None] * g) + spread
        size: Array = (g**2).sum(0)
        return size

    return _reach(back, longest)


def _reach(back: Callable[[], Array], longest: int) -> int:
    """The last step back at which the mean of log |g|^2 over the probes is at least that of 1 %."""
    reach = 0
    for lag in range(1, longest + 1):
        if np.log(back() + 1e-300).mean() >= _LOG_SHARE:
            reach = lag
        elif lag > 2 * reach + 20:
            break
    return reach


def _orthogonal(rng: np.random.Generator, size: int) -> Array:
    basis, triangle = np.linalg.qr(rng.standard_normal((size, size)))
    matrix: Array = basis * np.sign(np.diag(triangle))
    return matrix


def _tanh_squared(x: Array) -> Array:
    return np.tanh(x) ** 2


def _slope_of_tanh(x: Array) -> Array:
    return 1 - np.tanh(x) ** 2


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _gate(bias: Array, variance: float, power: int) -> Array:
    """E[sigmoid(bias + sqrt(variance) z)^power], unit by unit."""
    return gaussian_means(lambda x: _sigmoid(x) ** power, bias, variance)


def _slope(bias: Array, variance: float) -> Array:
    """E[sigmoid'^2], unit by unit."""
    return gaussian_means(lambda x: (_sigmoid(x) * _sigmoid(-x)) ** 2, bias, variance)


def _typical(bias: Array, variance: float) -> Array:
    """The square of what a gate keeps in a step of a long product: exp(2 E[log sigmoid])."""
    kept: Array = np.exp(-2 * gaussian_means(lambda x: np.logaddexp(0.0, -x), bias, variance))
    return kept
