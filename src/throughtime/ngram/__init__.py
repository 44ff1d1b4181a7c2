"""The count-based baseline: interpolated modified Kneser-Ney, caches of recent words, and mixtures of models."""

from throughtime.ngram.cache import UnigramCache
from throughtime.ngram.continuous import ContinuousCache
from throughtime.ngram.kneser_ney import MINIMUM_CANDIDATES, KneserNey
from throughtime.ngram.mixture import mix, mixture_weights

__all__ = ["ContinuousCache", "KneserNey", "MINIMUM_CANDIDATES", "UnigramCache", "mix", "mixture_weights"]
