"""Linear interpolation of models: weights from held-out text, by expectation maximisation.

*References*: F. Jelinek and R. L. Mercer, Interpolated estimation of Markov source parameters from sparse data, 1980;
A. P. Dempster, N. M. Laird and D. B. Rubin, Maximum likelihood from incomplete data via the EM algorithm, Journal of
the Royal Statistical Society B 39(1), 1977.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from throughtime.errors import InputError

__all__ = ["mix", "mixture_weights"]

_TOLERANCE_NATS = 1e-6
_MAX_ROUNDS = 1000


def mixture_weights(probabilities: Sequence[npt.NDArray[np.floating]]) -> npt.NDArray[np.float64]:
    """The weights under which a mixture makes a held-out text most likely.

    With p_k(i) the probability that model k gives word i, and w equal at first, each round multiplies w_k by

        g_k  =  mean over i of p_k(i) / sum_j w_j p_j(i)

    The mean log-likelihood has one maximum, and log max_k g_k bounds how far away it is (Jensen's inequality). The
    rounds end when that is below 1e-6 nats, or after 1000: then the maximum is (log K) / 1000 away at most.

    Args:
        probabilities: K arrays (N,), each the probabilities (not their logarithms) one model gives the words of the
            same text, which neither the models nor their final score have seen.

    Returns:
        (K,) weights that sum to one.

    Raises:
        InputError: if there is no model or no word, if the arrays differ in length, or if all models give a word zero.

    Example:
        >>> mixture_weights([np.array([0.5, 0.5, 0.1]), np.array([0.1, 0.1, 0.5])]).round(4)
        array([0.75, 0.25])
    """
    table = _table(probabilities)
    weights = np.full(len(table), 1 / len(table))
    for _ in range(_MAX_ROUNDS):
        gains = (table / (weights @ table)).mean(axis=1)
        if np.log(gains.max()) < _TOLERANCE_NATS:
            break
        weights = weights * gains
    return np.asarray(weights / weights.sum())  # one already, but for rounding


def mix(
    probabilities: Sequence[npt.NDArray[np.floating]], weights: Sequence[float] | npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The weighted sum of K arrays of probabilities of one shape: distributions (V,), or those of words (N,).

    Raises:
        InputError: if there is no array, or not one weight for each.

    Example:
        >>> mix([np.array([1.0, 0.0]), np.array([0.5, 0.5])], [0.5, 0.5])
        array([0.75, 0.25])
    """
    if not len(weights) or len(probabilities) != len(weights):
        raise InputError(f"a mixture needs one weight a model: {len(probabilities)} models came with {len(weights)}")
    mixed: npt.NDArray[np.float64] = np.tensordot(np.asarray(weights), np.stack(probabilities), axes=1)
    return mixed


def _table(probabilities: Sequence[npt.NDArray[np.floating]]) -> npt.NDArray[np.float64]:
    """(K, N) what was given to `mixture_weights`, checked."""
    lengths = [len(model) for model in probabilities]
    if not lengths or not lengths[0] or len(set(lengths)) > 1:
        raise InputError(
            f"mixture weights need the probabilities of the same words under each model, not {lengths} words"
        )
    table = np.stack(probabilities).astype(np.float64)
    impossible = np.flatnonzero(~(table.max(axis=0) > 0))  # NaN too
    if len(impossible):
        raise InputError(
            f"no model gives word {impossible[0]} a probability above zero: pass probabilities, not their logarithms, "
            "and one model at least that rules out no word, as Kneser-Ney does"
        )
    return table
