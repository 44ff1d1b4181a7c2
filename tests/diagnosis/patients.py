"""Small patients for the rules: models wired rightly and wrongly."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from throughtime.diagnosis.case import Case
from throughtime.diagnosis.evidence import Evidence

__all__ = ["LastStep", "Reader", "Tagger", "cross_entropy", "evidence", "first_input", "mse", "orthogonal", "text"]


def evidence(model: nn.Module, inputs: Any, targets: Any, loss: Any, **options: Any) -> Evidence:
    """Of a case."""
    return Evidence(Case(model=model, inputs=inputs, targets=targets, loss=loss, **options))


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.squeeze(-1) - targets).square()


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Of each position, whatever axes there are before the classes."""
    flat = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=-100, reduction="none")
    return flat.view(targets.shape)


def text(batch: int = 12, num_steps: int = 20, kinds: int = 10, seed: int = 0) -> Tensor:
    """(B, T + 1) ids, each of which says much of the next."""
    g = torch.Generator().manual_seed(seed)
    following = torch.randperm(kinds, generator=g)
    ids = [torch.randint(kinds, (batch,), generator=g)]
    for _ in range(num_steps):
        surprise = torch.rand(batch, generator=g) < 0.3
        ids.append(torch.where(surprise, torch.randint(kinds, (batch,), generator=g), following[ids[-1]]))
    return torch.stack(ids, dim=1)


def first_input(batch: int = 64, num_steps: int = 40, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Small numbers (T, B, 3), and the first of each sequence (B,), which needs T - 1 steps."""
    x = 0.3 * torch.randn(num_steps, batch, 3, generator=torch.Generator().manual_seed(seed))
    return x, x[0, :, 0] / 0.3


def orthogonal(gain: float, nonlinearity: str = "tanh") -> nn.RNN:
    """Without biases, so that its gradient shrinks or grows by about `gain` a step."""
    rnn = nn.RNN(3, 16, nonlinearity=nonlinearity)
    with torch.no_grad():
        nn.init.orthogonal_(rnn.weight_hh_l0, gain=gain)
        rnn.bias_ih_l0.zero_()
        rnn.bias_hh_l0.zero_()
    return rnn


class LastStep(nn.Module):
    """Numbers (T, B, 3) -> (B, C), from the last step of any recurrent module."""

    def __init__(self, rnn: nn.RNNBase, classes: int = 1) -> None:
        super().__init__()
        self.rnn = rnn
        self.out = nn.Linear(rnn.hidden_size, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0][-1])


class Tagger(nn.Module):
    """Ids (B, T) -> logits (B, T, C)."""

    def __init__(self, kinds: int = 10, *, bidirectional: bool = False, classes: int | None = None) -> None:
        super().__init__()
        self.embed = nn.Embedding(kinds, 8)
        self.rnn = nn.GRU(8, 12, batch_first=True, bidirectional=bidirectional)
        self.out = nn.Linear(24 if bidirectional else 12, classes or kinds)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.rnn(self.embed(ids))[0])


class Reader(nn.Module):
    """Numbers (B, T, F) -> (B, C), from the last step."""

    def __init__(self, num_features: int = 3, classes: int = 1, *, batch_first: bool = True) -> None:
        super().__init__()
        self.rnn = nn.LSTM(num_features, 12, batch_first=batch_first)
        self.out = nn.Linear(12, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0][:, -1])
