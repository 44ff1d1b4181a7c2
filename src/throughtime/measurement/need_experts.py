"""What ids foretell of classes: a pool of experts that count, in which each row is foretold by rows that were held out.

Three kinds of experts read an input: by itself, what it says beyond all newer ones, and what it says beyond them in
rows of which much the same is foretold. One more reads all inputs that were told as a single context, and backs off to
fewer where that is rare (a hierarchy of Dirichlet priors, MacKay & Peto 1995). A pool adds their log ratios,

    log q(y) = log p(y) + sum over experts w_m * log(p_m(y) / p(y)) + constant,   w_m >= 0,

with the weights that foretell held-out rows best (stacking, Wolpert 1992; logistic mixing, Mattern 2013); and what it
says is set right by how often it comes true, as compressors do that mix contexts (Mahoney 2005): by the rank of a class
among what is held probable, since of one of two words, whichever, log ratios that are added are far too sure, and then
by the class. So votes that each tell a little of the same add up as they should, which no table of contexts can count,
and contexts of which the whole matters are counted as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from throughtime.measurement.counts import alike, dense, paired

__all__ = ["Experts", "Forecast"]

_FOLDS = 5
_PRIORS = (0.5, 2.0, 8.0, 32.0, 128.0, 512.0)
"""How many rows what is foretold without an expert is worth; the best on held-out rows is taken."""
_MOST_LOG_RATIO = 12.0
_UNSURE_ROWS = 0.5
"""Of all rows, so many may be anything: no class is impossible."""
_ROWS_OF_A_GROUP, _MOST_GROUPS, _MOST_SURENESSES = 50, 128, 16
_RANKINGS = 2
_FAR_DEVIATIONS = 4
_RIDGE = 1.0
"""That of weights which are about 1, plus or minus 1, before any row is seen: 1 is the weight of a vote that is
independent of the others. Experts which say the same then share what they say, and hundreds of rows outweigh it."""
_NEWTON_STEPS = 12
_CLOSE = 0.02
"""Nats, over all rows, that one more step would gain."""


@dataclass(frozen=True)
class Forecast:
    """What inputs foretell of each row's target.

    Attributes:
        shares: (N, C) by all experts.
        experts: for each input that was told, (N, C) log ratios to the shares of the classes.
        context: (N,) the inputs that were told, as one.
        by_context: (N, C) shares by the context.
        weights: of the context and of each input.
    """

    shares: Tensor
    experts: tuple[Tensor, ...]
    context: Tensor
    by_context: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Experts:
    """Those of some targets.

    Attributes:
        targets: (N,) classes from 0 on, rows in the order of sequences and time.
    """

    targets: Tensor

    def told_nothing(self) -> Forecast:
        """The shares of the classes."""
        everywhere = torch.zeros_like(self.targets)
        return Forecast(self._unsure(self._base), (), everywhere, self._base, torch.zeros(1))

    def told(self, forecast: Forecast, codes: Tensor, exact: Tensor, groups: Tensor) -> Forecast:
        """With one more input.

        Args:
            forecast: what was foretold without.
            codes: (N,) the input, as few codes from 0 on.
            exact: (N,) the context that it makes with those that were told.
            groups: (N,) rows of which much the same was foretold.
        """
        by_context = self._by_context(exact, forecast.by_context)
        new = [self._alone(codes)]
        if bool(forecast.context.any()):  # else it says beyond the others what it says alone
            new.append(self._beyond(codes, forecast.shares))
        if bool(groups.any()):
            new.append(self._beyond(dense(paired(groups, codes)), forecast.shares))
        experts = torch.stack([self._log_ratio(by_context), *forecast.experts, *new])
        weights, shares = self._pooled(experts, torch.cat([forecast.weights, torch.zeros(len(new))]))
        kept, of_new = weights[: -len(new)], weights[-len(new) :]
        shares = self._calibrated(min(forecast.shares, shares, key=lambda each: float(self.loss(each).sum())))
        if not bool(of_new.any()):
            return Forecast(shares, forecast.experts, exact, by_context, kept)
        one = torch.tensordot(of_new, experts[-len(new) :], 1)  # so that there is one expert an input
        return Forecast(shares, (*forecast.experts, one), exact, by_context, torch.cat([kept, torch.ones(1)]))

    def told_together(self, forecast: Forecast, inputs: list[Tensor], trust: list[float]) -> Tensor:
        """(N, C) shares if several other inputs are told at once, by the sum of what each says, trusted so far.

        Args:
            forecast: what was foretold without.
            inputs: (N,) codes of each.
            trust: between 0 and 1, of each.
        """
        both = torch.zeros_like(forecast.shares, dtype=torch.float32)
        for codes, share in zip(inputs, trust, strict=True):
            both += share * self._beyond(codes, forecast.shares)
        experts = torch.stack([self._log_ratio(forecast.shares), both])
        return self._pooled(experts, torch.tensor([1.0, 0.0]))[1]

    def loss(self, shares: Tensor) -> Tensor:
        """(N,) nats."""
        return -shares.gather(1, self.targets.unsqueeze(1)).squeeze(1).log()

    @cached_property
    def _folds(self) -> Tensor:
        """(N,) stretches of rows that follow one another: neighbours are no strangers."""
        folds: Tensor = torch.arange(len(self.targets)) * _FOLDS // len(self.targets)
        return folds

    @cached_property
    def _parts(self) -> list[slice]:
        """The rows of each fold."""
        ends = torch.bincount(self._folds, minlength=_FOLDS).cumsum(0).tolist()
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    @cached_property
    def _codes(self) -> Tensor:
        """(N, C) the targets."""
        return torch.nn.functional.one_hot(self.targets).double()

    @cached_property
    def _base(self) -> Tensor:
        """(N, C) shares of the classes: in all rows; those of the other folds are small where a fold's own are not."""
        counts = self._codes.sum(0) + 0.5
        return (counts / counts.sum()).expand_as(self._codes)

    def _elsewhere(self, cells: Tensor, values: Tensor) -> Tensor:
        """(N, C) for each row the sum of values (N, C) over the rows of its cell in other folds."""
        own = self._folds * (int(cells.max()) + 1) + cells
        kinds, places = torch.unique(own, return_inverse=True)
        of_folds = values.new_zeros(len(kinds), values.size(1)).index_add_(0, places, values)
        cells_of = kinds % (int(cells.max()) + 1)
        all_of = values.new_zeros(int(cells.max()) + 1, values.size(1)).index_add_(0, cells_of, of_folds)
        return (all_of[cells_of] - of_folds)[places]

    def _alone(self, codes: Tensor) -> Tensor:
        return self._log_ratio(self._by_context(codes, self._base))

    def _by_context(self, context: Tensor, wider: Tensor) -> Tensor:
        """(N, C) shares in the same context elsewhere, with those of a wider one for prior."""
        counts = self._elsewhere(dense(context), self._codes)
        sizes = counts.sum(1, keepdim=True)
        target = self.targets.unsqueeze(1)
        of_target, prior_of_target = counts.gather(1, target), wider.gather(1, target)
        gains = [((of_target + m * prior_of_target) / (sizes + m)).log().sum() for m in _PRIORS]
        prior = _PRIORS[int(torch.stack(gains).argmax())]
        return (counts + prior * wider) / (sizes + prior)

    def _beyond(self, cells: Tensor, shares: Tensor) -> Tensor:
        return self._ratio(cells, shares, self._codes, self.targets)

    def _ratio(self, cells: Tensor, shares: Tensor, codes: Tensor, targets: Tensor) -> Tensor:
        """(N, C) log ratios of how often targets (N,) of codes (N, C) are in the cell elsewhere to the shares there."""
        counts, expected = self._elsewhere(cells, codes), self._elsewhere(cells, shares)
        ratio = (counts / expected.clamp(min=1e-12)).clamp(max=1e6)
        sizes = counts.sum(1, keepdim=True)
        target = targets.unsqueeze(1)
        loss, best = torch.inf, torch.zeros_like(shares)
        for prior in _PRIORS:
            # a prior of so many rows that are as was foretold
            found = (sizes * ratio + prior) / (sizes + prior)
            gain = found.gather(1, target).log() - (shares * found).sum(1, keepdim=True).log()
            if -float(gain.sum()) < loss:
                loss, best = -float(gain.sum()), found
        return best.log().clamp(-_MOST_LOG_RATIO, _MOST_LOG_RATIO).float()

    def _calibrated(self, shares: Tensor) -> Tensor:
        """(N, C) shares as often as they come true elsewhere.

        First those of the class that is held most probable, whichever it is, of the next one, and so on, in rows that
        are as sure of it; then those of each class, in rows of which much the same is foretold.
        """
        for _ in range(_RANKINGS):
            shares = self._better(shares, self._by_rank(shares))
        groups = alike(shares, min(len(shares) // _ROWS_OF_A_GROUP + 1, _MOST_GROUPS), seed=0)
        return self._better(shares, shares * self._beyond(groups, shares).exp())

    def _by_rank(self, shares: Tensor) -> Tensor:
        """(N, C) as often as the class of each rank comes true elsewhere, in rows that are as sure of the first."""
        ranked, classes = shares.sort(1, descending=True)
        num_groups = min(len(shares) // _ROWS_OF_A_GROUP + 1, _MOST_SURENESSES)
        groups = ranked[:, 0].argsort().argsort() * num_groups // len(shares)
        codes = self._codes.gather(1, classes)
        true = ranked * self._ratio(groups, ranked, codes, codes.argmax(1)).exp()
        return torch.empty_like(shares).scatter_(1, classes, true)

    def _better(self, shares: Tensor, true: Tensor) -> Tensor:
        """(N, C) others, which need not sum to 1, where these are better beyond doubt.

        Of noise, what is foretold too seldom in one fold is in all of them.
        """
        true = self._unsure(true / true.sum(1, keepdim=True))
        spared = self.loss(shares) - self.loss(true)
        return true if bool(spared.mean() > _FAR_DEVIATIONS * spared.std() / len(spared) ** 0.5) else shares

    def _log_ratio(self, shares: Tensor) -> Tensor:
        return (shares / self._base).log().clamp(-_MOST_LOG_RATIO, _MOST_LOG_RATIO).float()

    def _unsure(self, shares: Tensor) -> Tensor:
        unsure = _UNSURE_ROWS / len(self.targets)
        return (1 - unsure) * shares + unsure / shares.size(1)

    def _pooled(self, experts: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """(M,) weights of experts (M, N, C), none below 0, and (N, C) shares, with weights from the other folds.

        Args:
            experts: their log ratios.
            weights: to begin with.
        """
        allowed = torch.ones(len(experts), dtype=torch.bool)
        while bool(allowed.any()):
            found = torch.zeros(len(experts))
            found[allowed], shares = self._best_weights(experts[allowed], weights[allowed])
            if not bool((found < 0).any()):
                return found, shares
            allowed &= found > 0
            weights = found.clamp(min=0)
        return torch.zeros(len(experts)), self._unsure(self._base)

    def _best_weights(self, experts: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """By Newton's method; the shares with weights less one step of it for the rows of a fold."""
        base = self._base.log().float()
        at_target = experts.gather(2, self.targets.view(1, -1, 1).expand(len(experts), -1, 1)).squeeze(2)
        weights = weights.double()
        value, shares = self._value(base, experts, weights)
        for _ in range(_NEWTON_STEPS):
            errors, bends = self._slopes(experts, at_target, shares)
            slope = errors.sum(1).double() - _RIDGE * weights
            step = torch.linalg.solve(bends.sum(0), slope)
            gained, size = float(step @ slope), 1.0
            if gained < _CLOSE:
                break
            while size > 1e-3:
                tried, others = self._value(base, experts, weights + size * step)
                if tried > value:
                    weights, value, shares = weights + size * step, tried, others
                    break
                size /= 2
            else:
                break
        errors, bends = self._slopes(experts, at_target, shares)
        found = []
        for fold, rows in enumerate(self._parts):
            less = torch.linalg.solve(bends.sum(0) - bends[fold], errors[:, rows].sum(1).double())
            own = (weights - less).clamp(min=0)
            found.append((base[rows] + torch.tensordot(own.float(), experts[:, rows], 1)).softmax(1))
        return weights.float(), self._unsure(torch.cat(found).double())

    def _value(self, base: Tensor, experts: Tensor, weights: Tensor) -> tuple[float, Tensor]:
        """Log likelihood of the targets, and the shares."""
        logs = (base + torch.tensordot(weights.float(), experts, 1)).log_softmax(1)
        found = float(logs.gather(1, self.targets.unsqueeze(1)).double().sum())
        return found - _RIDGE / 2 * float(weights @ weights), logs.exp()

    def _slopes(self, experts: Tensor, at_target: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """(M, N) derivatives of the log likelihood, and (folds, M, M) the negative second ones of each fold."""
        mean = (experts * shares).sum(2)
        bends = []
        for rows in self._parts:
            scaled = (experts[:, rows] - mean[:, rows].unsqueeze(2)) * shares[rows].sqrt()
            exact = scaled.flatten(1).double()  # in float32, experts that say the same make an indefinite matrix
            second = exact @ exact.t()
            bends.append(second + _RIDGE / _FOLDS * torch.eye(len(experts), dtype=torch.float64))
        return at_target - mean, torch.stack(bends)
