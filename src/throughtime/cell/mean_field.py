"""Mean-field theory of wide random networks: the scale of the weights at which gradients neither shrink nor grow."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

__all__ = ["critical_gain", "gaussian_mean", "gaussian_means"]

_Array = npt.NDArray[np.float64]
_Function = Callable[[_Array], _Array]

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(201)
_MASS: Final = _WEIGHTS / _WEIGHTS.sum()


def critical_gain(nonlinearity: str, input_variance: float) -> float:
    r"""Sigma_w of the edge of chaos: with W_hh ~ N(0, sigma_w^2 / H), where the mean squared factor of a step is one.

        chi = sigma_w^2 E[f'(sqrt(q) z)^2] = 1,    q = sigma_w^2 E[f(sqrt(q) z)^2] + R,    z ~ N(0, 1)

    q is the variance of a unit's sum once it has settled, of which R comes from the input. For ReLU, E[f'^2] = 1/2 at
    any q, so sigma_w = sqrt(2); q then grows by R a step. For tanh and R = 0, sigma_w = 1.

    *References*: Poole, Lahiri, Raghu, Sohl-Dickstein & Ganguli 2016, *Exponential expressivity in deep neural networks
    through transient chaos*, arXiv:1606.05340; for recurrent networks Chen, Pennington & Schoenholz 2018, *Dynamical
    isometry and a mean field theory of RNNs*, arXiv:1806.05394.

    Args:
        nonlinearity: "tanh" or "relu".
        input_variance: R, of what the input adds to a unit's sum; 0 or more.

    Returns:
        sigma_w.

    Example:
        >>> critical_gain("tanh", 0.0), round(critical_gain("tanh", 1.0), 3)
        (1.0, 1.856)
    """
    assert input_variance >= 0
    if nonlinearity == "relu":
        return math.sqrt(2)
    if input_variance == 0:
        return 1.0

    # What is left over, q - E[f^2] / E[f'^2] - R, grows with q; at 4 (R + 1)^2 it is positive.
    low, high = 0.0, 4 * (input_variance + 1) ** 2
    for _ in range(200):
        q = (low + high) / 2
        if q - gaussian_mean(_tanh_squared, q) / gaussian_mean(_slope_squared, q) < input_variance:
            low = q
        else:
            high = q
    return 1 / math.sqrt(gaussian_mean(_slope_squared, (low + high) / 2))


def gaussian_mean(function: _Function, variance: float) -> float:
    """E[function(sqrt(variance) z)] for a standard Gaussian z, by Gauss-Hermite quadrature.

    Example:
        >>> round(gaussian_mean(np.square, 3.0), 12)
        3.0
    """
    return float(_MASS @ function(math.sqrt(max(variance, 0.0)) * _NODES))


def gaussian_means(function: _Function, shifts: _Array, variance: float) -> _Array:
    """E[function(shift + sqrt(variance) z)] for each shift.

    Args:
        function: of an array, number by number.
        shifts: (N,).
        variance: of what is added to each.

    Returns:
        (N,) the means.
    """
    found: _Array = function(shifts[:, None] + math.sqrt(max(variance, 0.0)) * _NODES) @ _MASS
    return found


def _tanh_squared(x: _Array) -> _Array:
    return np.tanh(x) ** 2


def _slope_squared(x: _Array) -> _Array:
    return (1 - np.tanh(x) ** 2) ** 2
