"""What a plan changes in an optimizer, in plain PyTorch: `TreatmentPlan.code` prints these functions."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Adam, Optimizer

__all__ = [
    "adam_for",
    "add_missing_parameters",
    "exchange_parameters",
    "reset_after_step",
    "set_groups",
    "set_learning_rate",
    "set_weight_decay",
]


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """The learning rate of the first group; those of the others keep their ratio to it, or get it if it was zero."""
    first = float(optimizer.param_groups[0]["lr"])
    for group in optimizer.param_groups:
        changed = rate * float(group["lr"]) / first if first > 0 else rate
        group["lr"] = changed
        if "initial_lr" in group:  # of a schedule, which multiplies it
            group["initial_lr"] = group["initial_lr"] * rate / first if first > 0 else rate


def adam_for(optimizer: Optimizer) -> Optimizer:
    """Adam for the same groups, with their ratios of learning rates and their decay.

    *Reference*: Kingma & Ba 2015, arXiv:1412.6980.
    """
    shared = ("params", "lr", "weight_decay")
    return Adam([{name: group[name] for name in shared if name in group} for group in optimizer.param_groups])


def set_weight_decay(optimizer: Optimizer, decay: float) -> None:
    """On all groups whose parameters are matrices at least in part; biases alone do not decay."""
    for group in optimizer.param_groups:
        if "weight_decay" in group and any(p.dim() > 1 for p in group["params"]):
            group["weight_decay"] = decay


def reset_after_step(optimizer: Optimizer) -> None:
    """The optimizer forgets the gradients after each of its steps, whatever the loop does."""
    optimizer.register_step_post_hook(lambda optimizer, *_: optimizer.zero_grad())


def set_groups(optimizer: Optimizer, groups: list[dict[str, Any]]) -> None:
    """Other groups of parameters for an optimizer, which keeps what it has accumulated for those that stay.

    One of the same class and options is made, since some (Adagrad) prepare for their parameters when they are made; the
    optimizer then takes over its groups, so that schedules and hooks that hold the optimizer go on.
    """
    known = inspect.signature(type(optimizer)).parameters
    fresh = type(optimizer)(groups, **{name: value for name, value in optimizer.defaults.items() if name in known})
    staying = {p for group in groups for p in group["params"]}
    for parameter, state in optimizer.state.items():
        if parameter in staying:
            fresh.state[parameter] = state
    optimizer.param_groups, optimizer.state = fresh.param_groups, fresh.state
    if "_params" in vars(fresh):  # of LBFGS
        optimizer._params = fresh._params  # type: ignore[attr-defined]


def add_missing_parameters(model: nn.Module, optimizer: Optimizer) -> int:
    """Thaw what is frozen, register layers that stand in plain lists, and have the optimizer update all of it.

    Returns:
        How many parameters it had lacked.
    """
    for module in list(model.modules()):
        for name, value in list(vars(module).items()):
            if isinstance(value, list) and value and all(isinstance(layer, nn.Module) for layer in value):
                setattr(module, name, nn.ModuleList(value))
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    groups = [dict(group) for group in optimizer.param_groups]
    held = {p for group in groups for p in group["params"]}
    missing = [p for p in model.parameters() if p not in held]
    largest = max(float(group["lr"]) for group in groups)
    for group in groups:
        group["lr"] = group["lr"] if float(group["lr"]) > 0 else largest
    groups[0]["params"] = [*groups[0]["params"], *missing]
    set_groups(optimizer, groups)
    return len(missing)


def exchange_parameters(optimizer: Optimizer, old: Sequence[Tensor], new: Sequence[Tensor]) -> None:
    """Parameters of a module that took the place of another: they join the first group that held any of the old ones.

    Where no group did, the new ones are not updated, as the old ones were not.
    """
    gone, groups = set(old), []
    waiting = list(new)
    for group in optimizer.param_groups:
        own = list(group["params"])
        stays = [p for p in own if p not in gone]
        if len(stays) < len(own):
            stays, waiting = [*stays, *waiting], []
        groups.append({**group, "params": stays})
    set_groups(optimizer, groups)
