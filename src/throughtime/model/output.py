"""The softmax over the vocabulary: exact for every answer, sampled for the training gradient of a large one.

At 20,000 words an exact softmax costs five times what the recurrence does. In training the sum over all words is
therefore estimated without bias from the words of the batch, taken exactly, and a weighted sample of the others:

    Z(h) ~ sum_{w in batch} exp(s_w) + sum_{w in sample} exp(s_w) / pi_w,      s_w = h . e_w + b_w

The sample holds the `k` smallest of independent exponential variables `x_w ~ Exp(rate q_w)`, which is a draw of `k`
words without replacement in proportion to `q`; given the (k+1)-st smallest value `tau`, word `w` was in it with
probability `pi_w = 1 - exp(-q_w tau)` (bottom-k sampling), so frequent words are nearly always in and cost no variance.

*Reference*: Bengio & Senecal 2008 (importance-sampled training of language models); Cohen & Kaplan 2007 (bottom-k
sketches); Press & Wolf 2017, Inan et al. 2017 (the output matrix is the input embedding).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from throughtime.kernels import cross_entropy_, library

__all__ = ["OutputLayer", "Scores"]

CHUNK = 1024
FLATTENING = 0.75
"""The sample is drawn in proportion to count ** 0.75 (Mikolov et al. 2013)."""


class Scores:
    """What evaluation needs to know of each position, gathered without keeping (N, V) numbers.

    Attributes:
        log_probability: (N,) natural log of the probability of the target.
        rank: (N,) how many words were thought likelier than the target; 0 is a top-1 hit.
    """

    def __init__(self, log_probability: Tensor, rank: Tensor) -> None:
        self.log_probability = log_probability
        self.rank = rank


class OutputLayer(nn.Module):
    """`softmax(h E^T + b)` over V words; `E` is the embedding matrix when weights are tied.

    Args:
        weight: (V, E) the word vectors, shared with the embedding or not.
        counts: (V,) how often each word stands in the training text; the bias starts at their log frequency.
        sample_size: words sampled beside those of the batch; 0 for an exact softmax in training too.
        matmul_dtype: what the large training products are computed in (float32 or bfloat16).
    """

    rate: Tensor

    def __init__(
        self, weight: Tensor, counts: Tensor, *, sample_size: int, matmul_dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        frequency = (counts.float() + 1.0) / (counts.float() + 1.0).sum()
        self.weight = weight
        self.bias = nn.Parameter(frequency.log())
        self.sample_size = sample_size
        self.matmul_dtype = matmul_dtype
        self.register_buffer("rate", frequency.pow(FLATTENING) / frequency.pow(FLATTENING).sum(), persistent=False)

    @property
    def samples(self) -> bool:
        """Whether training estimates the softmax, because the vocabulary is well above the sample."""
        return 0 < self.sample_size * 2 < len(self.bias)

    @property
    def frequency_nats(self) -> float:
        """The loss of a network that knows no more than how often each word stands in the training text."""
        frequency = self.rate.double().pow(1 / FLATTENING)
        frequency = frequency / frequency.sum()
        return float(-(frequency * frequency.log()).sum())

    def loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy for training, in nats; an estimate where the layer `samples`.

        Args:
            features: (N, E).
            targets: (N,) int64.
        """
        if not self.samples:
            return self._cross_entropy(features, self.weight, self.bias, targets)
        present, targets_among_present = torch.unique(targets, return_inverse=True)
        sampled, log_inclusion = self._sample(present)
        words = torch.cat([present, sampled])
        correction = torch.cat([torch.zeros_like(self.bias[: len(present)]), log_inclusion])
        offset = self.bias.index_select(0, words) - correction
        return self._cross_entropy(features, self.weight.index_select(0, words), offset, targets_among_present)

    def log_probabilities(self, features: Tensor) -> Tensor:
        """(N, E) to the exact (N, V) natural log of every word's probability."""
        return F.log_softmax(F.linear(features, self.weight, self.bias), dim=-1)

    def score(self, features: Tensor, targets: Tensor) -> Scores:
        """The exact log probability and rank of each target, a chunk of positions at a time.

        Args:
            features: (N, E).
            targets: (N,) int64.
        """
        log_probability, rank = [], []
        for logits, wanted in self._exact_logits(features, targets):
            log_probability.append(-F.cross_entropy(logits, wanted, reduction="none"))
            likelier = logits > logits.gather(1, wanted[:, None])
            rank.append(likelier.view(torch.uint8).sum(1, dtype=torch.int32))
        return Scores(torch.cat(log_probability), torch.cat(rank))

    def target_log_probabilities(self, features: Tensor, targets: Tensor) -> Tensor:
        """(N,) the exact natural log of the probability of each target; `score` without the rank."""
        chunks = self._exact_logits(features, targets)
        return torch.cat([-F.cross_entropy(logits, wanted, reduction="none") for logits, wanted in chunks])

    def _exact_logits(self, features: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The (n, V) logits and (n,) targets of one chunk of positions after another."""
        for some, wanted in zip(torch.split(features, CHUNK), torch.split(targets, CHUNK), strict=True):
            yield F.linear(some, self.weight, self.bias), wanted

    def _cross_entropy(self, features: Tensor, weight: Tensor, offset: Tensor, targets: Tensor) -> Tensor:
        """The mean cross-entropy of `features weight^T + offset`, its product in `matmul_dtype`."""
        dtype, found = self.matmul_dtype, library()
        if dtype == torch.bfloat16 and features.device.type == "cpu" and found is not None and found.mixed:
            run: Callable[..., Tensor] = _MixedCrossEntropy.apply
            return run(features, weight, offset, targets)
        logits = F.linear(features.to(dtype), weight.to(dtype)).to(features.dtype)
        return F.cross_entropy(logits + offset, targets)

    @torch.no_grad()
    def _sample(self, present: Tensor) -> tuple[Tensor, Tensor]:
        """Words outside `present`, and the log of the probability with which each was drawn."""
        arrival = torch.empty_like(self.rate).exponential_() / self.rate
        arrival[present] = torch.inf
        size = min(self.sample_size, len(self.rate) - len(present) - 1)
        earliest, words = arrival.topk(size + 1, largest=False)
        sampled = words[:-1]
        return sampled, torch.log(-torch.expm1(-self.rate[sampled] * earliest[-1]))


class _MixedCrossEntropy(torch.autograd.Function):
    """`OutputLayer._cross_entropy` in bfloat16, where the gradient by the logits is computed with the loss."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, offset: Tensor, targets: Tensor) -> Tensor:
        features16, weight16 = features.bfloat16(), weight.bfloat16()
        logits16 = features16 @ weight16.t()
        losses, d_offset = cross_entropy_(logits16, offset, targets)
        ctx.save_for_backward(features16, weight16, logits16, d_offset)
        return losses.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_loss: Tensor) -> tuple[Tensor | None, ...]:
        features16, weight16, d_logits16, d_offset = ctx.saved_tensors
        d_features = (d_logits16 @ weight16).float().mul_(d_loss)
        d_weight = (d_logits16.t() @ features16).float().mul_(d_loss)
        return d_features, d_weight, d_offset * d_loss, None
