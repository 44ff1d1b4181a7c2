"""All that a run is at a step, as tensors and plain values, so that a resumed run goes on bit for bit.

Random numbers need no place in it: every step seeds the generator from the run's seed and its own number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from throughtime.model import State
from throughtime.storage import Checkpoint

__all__ = ["Progress", "load_weights", "restore", "tensors_of"]


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: updates made.
        best_step: the step of the best evaluation, 0 before the first.
        best_loss_nats: its loss.
        evaluations_since_best: for early stopping.
        state: of this process's streams.
    """

    step: int = 0
    best_step: int = 0
    best_loss_nats: float = 1e308
    evaluations_since_best: int = 0
    state: State = ()

    def to_json(self) -> dict[str, Any]:
        """The plain values; the state goes with the tensors."""
        return {
            "best_loss_nats": self.best_loss_nats,
            "evaluations_since_best": self.evaluations_since_best,
        }


def tensors_of(
    model: nn.Module, optimizer: torch.optim.Optimizer, carried: list[list[Tensor]]
) -> dict[str, dict[str, Tensor]]:
    """The groups of a checkpoint: weights by name, the optimizer's state of each, and every process's carried state.

    Args:
        model: tied weights appear once.
        optimizer: of its parameters.
        carried: the state's tensors, for each process.
    """
    weights = dict(model.named_parameters())
    names = {id(weight): name for name, weight in weights.items()}
    return {
        "model": {name: weight.detach() for name, weight in weights.items()},
        "optimizer": {
            f"{names[id(weight)]}.{key}": value
            for weight, entry in optimizer.state.items()
            for key, value in entry.items()
        },
        "carried": {f"{rank}.{index}": part for rank, parts in enumerate(carried) for index, part in enumerate(parts)},
    }


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy the weights of a checkpoint into a model of the same shape."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(tensors[name])


def restore(model: nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Checkpoint, rank: int) -> Progress:
    """Set model and optimizer to a checkpoint.

    Args:
        model: its weights are overwritten.
        optimizer: its state is overwritten.
        checkpoint: verified.
        rank: whose carried state is wanted.

    Returns:
        The progress, with the carried state of process `rank`.
    """
    load_weights(model, checkpoint.tensors["model"])
    stored = checkpoint.tensors["optimizer"]
    for name, weight in model.named_parameters():
        keys = [key for key in stored if key.rpartition(".")[0] == name]
        optimizer.state[weight] = {
            key.rpartition(".")[2]: stored[key].clone().to("cpu" if key.endswith(".step") else weight.device)
            for key in keys
        }
    carried = checkpoint.tensors["carried"]
    count = sum(key.startswith(f"{rank}.") for key in carried)
    device = next(model.parameters()).device
    return Progress(
        step=checkpoint.step,
        best_step=checkpoint.best_step,
        best_loss_nats=float(checkpoint.values["best_loss_nats"]),
        evaluations_since_best=int(checkpoint.values["evaluations_since_best"]),
        state=tuple(carried[f"{rank}.{index}"].to(device) for index in range(count)),
    )
