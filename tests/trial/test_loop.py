"""The loop of a patient that has none of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from throughtime.trial.loop import mean_loss
from trial.toys import Toy


class Positions(Toy):
    """Losses of positions, some of which have no target."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets, reduction="none")


def test_the_mean_of_losses_is_over_the_targets_that_count() -> None:
    torch.manual_seed(0)
    outputs, targets = torch.randn(6, 2), torch.tensor([0, -100, 1, -100, -100, 1])
    for given in (targets, targets.clamp(min=0)):
        torch.testing.assert_close(mean_loss(Positions(), outputs, given), Toy().loss(outputs, given))
