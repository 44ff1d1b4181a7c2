"""A T-maze: a sign at the start tells which arm of the crossing pays. The policy learns from logged episodes.

Actions were logged at random, so the gain of a policy is the probability of what was done, weighted by its return. A
recurrent policy (nn.GRU or nn.RNN), time first; the targets hold the action and the return of the episode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from ward.case import Case, Patient

BASE = "episodes"
ADAM = partial(torch.optim.Adam, lr=5e-3)
NUM_ARMS, CORRIDOR, BATCH = 3, 20, 64


class Policy(nn.Module):
    def __init__(self, hidden=32, cell=nn.GRU):
        super().__init__()
        self.inputs = nn.Linear(NUM_ARMS + 2, 16)
        self.memory = cell(16, hidden)
        self.actor = nn.Linear(hidden, NUM_ARMS)
        if self.memory.mode in ("GRU", "LSTM"):
            # Begin by keeping: the update gate of a GRU, the forget gate of an LSTM.
            self.memory.bias_hh_l0.data[hidden : 2 * hidden] = 3.0

    def forward(self, observations):
        features, _ = self.memory(torch.tanh(self.inputs(observations)))
        return self.actor(features[-1])


def rollout(generator: torch.Generator, batch: int, noise: float, corridor: int) -> tuple[Tensor, Tensor]:
    """(observations, [action, return]); the return is 1 in the arm that the sign showed, else 0."""
    signs = torch.randint(NUM_ARMS, (batch,), generator=generator)
    observations = torch.zeros(corridor, batch, NUM_ARMS + 2)
    observations[0, torch.arange(batch), signs] = 1.0
    observations[:, :, NUM_ARMS] = noise * torch.randn(corridor, batch, generator=generator)
    observations[-1, :, NUM_ARMS + 1] = 1.0
    actions = torch.randint(NUM_ARMS, (batch,), generator=generator)
    returns = (actions == signs).float()
    return observations, torch.stack([actions.float(), returns], dim=-1)


def shuffled_returns(generator: torch.Generator, batch: int, noise: float, corridor: int) -> tuple[Tensor, Tensor]:
    """The returns of other episodes: two lists that were sorted differently."""
    observations, targets = rollout(generator, batch, noise, corridor)
    targets[:, 1] = targets[torch.randperm(batch, generator=generator), 1]
    return observations, targets


def blind(generator: torch.Generator, batch: int, noise: float, corridor: int) -> tuple[Tensor, Tensor]:
    """The sign is not part of what was logged."""
    observations, targets = rollout(generator, batch, noise, corridor)
    observations[0] = 0.0
    return observations, targets


def policy_loss(logits: Tensor, targets: Tensor) -> Tensor:
    actions, returns = targets.unbind(-1)
    chosen = Categorical(logits=logits).log_prob(actions.long())
    return -(chosen * returns).sum() / returns.sum().clamp(min=1.0)


def log_of_softmax(logits: Tensor, targets: Tensor) -> Tensor:
    """The same, and a bonus for entropy, by probabilities: one that underflows has an infinite logarithm."""
    actions, returns = targets.unbind(-1)
    probabilities = torch.softmax(logits, dim=-1)
    entropy = -(probabilities * torch.log(probabilities)).sum(-1)
    chosen = torch.log(probabilities.gather(-1, actions.long()[:, None]).squeeze(-1))
    return -(chosen * returns).sum() / returns.sum().clamp(min=1.0) - 1e-3 * entropy.mean()


def update(patient: Patient, num_steps: int, max_grad_norm: float | None) -> None:
    for _ in range(num_steps):
        observations, targets = next(patient.stream)
        loss = patient.loss(patient.model(observations), targets)
        patient.optimizer.zero_grad(set_to_none=False)
        loss.backward()
        if max_grad_norm is not None:
            nn.utils.clip_grad_norm_(patient.model.parameters(), max_grad_norm)
        patient.optimizer.step()


def patient(
    seed: int,
    *,
    model: Callable[[], nn.Module] = Policy,
    optimizer: Callable[..., torch.optim.Optimizer] = ADAM,
    loss: Callable[[Tensor, Tensor], Tensor] = policy_loss,
    data: Callable[..., tuple[Tensor, Tensor]] = rollout,
    noise: float = 0.1,
    corridor: int = CORRIDOR,
    max_grad_norm: float | None = 0.5,
    steps: int = 300,
) -> Patient:
    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        net = model()
        return net, optimizer(net.parameters())

    def batches(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield data(generator, BATCH, noise, corridor)

    observations, targets = data(torch.Generator().manual_seed(88), 600, noise, corridor)

    def mean_return(model: nn.Module) -> float:
        """The share of paid episodes among those in which the policy would have done what was done."""
        agreed = model(observations).argmax(-1) == targets[:, 0].long()
        return targets[agreed, 1].mean().nan_to_num(0.0).item()

    return Patient(
        seed,
        build=build,
        batches=batches,
        loss=loss,
        loop=partial(update, max_grad_norm=max_grad_norm),
        evaluate=mean_return,
        target=0.9,
        steps_to_learn=steps,
        validation=(observations, targets),
    )


def update_gate(value: float) -> Callable[[], nn.Module]:
    """A policy whose GRU begins by overwriting its state."""

    def make() -> nn.Module:
        policy = Policy()
        hidden = policy.memory.hidden_size
        policy.memory.bias_hh_l0.data[hidden : 2 * hidden] = value
        return policy

    return make


def relu_policy(bias: float) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        policy = Policy(cell=partial(nn.RNN, nonlinearity="relu"))
        nn.init.orthogonal_(policy.memory.weight_hh_l0)
        nn.init.constant_(policy.memory.bias_ih_l0, bias)
        return policy

    return make


def constant_policy(value: float) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        policy = Policy()
        for parameter in policy.parameters():
            nn.init.constant_(parameter, value)
        return policy

    return make


def broken(code: str, strength: int, **changes: Any) -> Case:
    return Case(f"{BASE}-{code}-{strength}", BASE, code, strength, partial(patient, **changes))


def healthy(odd: str, **changes: Any) -> Case:
    return Case(f"{BASE}-{odd}", BASE, None, 0, partial(patient, **changes))


LSTM = partial(Policy, cell=nn.LSTM)

CASES = [
    healthy("plain"),
    healthy("no-clip-lstm", model=LSTM, max_grad_norm=None, steps=400),
    healthy("log-of-softmax", loss=log_of_softmax),
    healthy("adagrad", optimizer=partial(torch.optim.Adagrad, lr=5e-2)),
    broken("closed-gates", 0, model=update_gate(-4.0)),
    broken("closed-gates", 1, model=update_gate(-7.0)),
    broken("no-signal", 0, data=shuffled_returns),
    broken("no-signal", 1, data=blind),
    broken("dead-units", 0, model=relu_policy(-3.0)),
    broken("dead-units", 1, model=relu_policy(-6.0)),
    broken("plateau", 0, model=constant_policy(0.05)),
    broken("plateau", 1, model=constant_policy(0.0)),
    broken("non-finite", 0, loss=log_of_softmax, optimizer=partial(torch.optim.Adam, lr=10.0), max_grad_norm=None),
    broken("non-finite", 1, loss=log_of_softmax, optimizer=partial(torch.optim.Adam, lr=30.0), max_grad_norm=None),
    broken("learning-rate-too-high", 0, model=LSTM, optimizer=partial(torch.optim.Adam, lr=1.0)),
    broken("learning-rate-too-high", 1, optimizer=partial(torch.optim.SGD, lr=30.0, momentum=0.9)),
]
