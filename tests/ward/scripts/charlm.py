"""A character language model on made sentences: the name at the beginning comes back at the end. nn.GRU, time first."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from ward.case import Case, Patient

BASE = "charlm"
NAMES = ("anna", "boris", "clara", "david")
VERBS = ("reads", "paints", "sells", "finds")
THINGS = ("maps", "old books", "red stones", "songs")
ALPHABET = sorted(set(" .,abcdefghijklmnopqrstuvwxyz"))
INDEX = {character: number for number, character in enumerate(ALPHABET)}
SEQ_LEN = 50


def write(rng: random.Random, num_sentences: int) -> str:
    sentences = []
    for _ in range(num_sentences):
        name = rng.choice(NAMES)
        sentences.append(f"{name} {rng.choice(VERBS)} {rng.choice(THINGS)}, says {name}.")
    return " ".join(sentences)


def encode(text: str) -> Tensor:
    return torch.tensor([INDEX[character] for character in text])


class CharRNN(nn.Module):
    def __init__(self, hidden=64, dropout=0.0, layers=1, skip=None):
        super().__init__()
        self.encoder = nn.Embedding(len(ALPHABET), 32)
        self.rnn = nn.GRU(32, hidden, layers, dropout=dropout)
        self.drop = nn.Dropout(dropout)
        self.decoder = nn.Linear(hidden, len(ALPHABET))
        self.skip = skip
        self.bigram = nn.Embedding(len(ALPHABET), len(ALPHABET)) if skip is not None else None

    def forward(self, tokens, hidden=None):
        output, hidden = self.rnn(self.encoder(tokens), hidden)
        logits = self.decoder(self.drop(output))
        if self.bigram is not None:
            logits = self.bigram(tokens) + self.skip * logits
        return logits, hidden


class CharModules(nn.Module):
    """One GRU a layer, kept in a plain list."""

    def __init__(self, hidden=64):
        super().__init__()
        self.encoder = nn.Embedding(len(ALPHABET), 32)
        self.cells = [nn.GRU(32, hidden), nn.GRU(hidden, hidden)]
        self.decoder = nn.Linear(hidden, len(ALPHABET))

    def forward(self, tokens):
        output = self.encoder(tokens)
        for cell in self.cells:
            output, hidden = cell(output)
        return self.decoder(output), hidden


def loss_function(outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
    logits, _ = outputs
    return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))


def log_of_probability(outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
    """The textbook's formula: the probability underflows, then its logarithm is infinite."""
    logits, _ = outputs
    exponentials = torch.exp(logits)
    probabilities = exponentials / exponentials.sum(-1, keepdim=True)
    return -probabilities.gather(-1, targets.unsqueeze(-1)).log().mean()


def train(patient: Patient, num_steps: int, *, clip: float | None, zero: bool, decay: float = 1.0) -> None:
    model, optimizer = patient.model, patient.optimizer
    model.train()
    for _ in range(num_steps):
        data, targets = next(patient.stream)
        if zero:
            model.zero_grad()
        loss = patient.loss(model(data), targets)
        loss.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()


def patient(
    seed: int,
    *,
    model: Callable[[], nn.Module] = CharRNN,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] | None = None,
    loss: Callable[[Any, Tensor], Tensor] = loss_function,
    num_sentences: int = 3000,
    batch: int = 32,
    clip: float | None = 1.0,
    zero: bool = True,
    steps: int = 250,
) -> Patient:
    text = encode(write(random.Random(seed), num_sentences))
    test = encode(write(random.Random(5), 300))
    choose = optimizer or adam

    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        net = model()
        return net, choose(net)

    def batches(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            starts = torch.randint(len(text) - SEQ_LEN - 1, (batch,), generator=generator)
            rows = torch.stack([text[start : start + SEQ_LEN + 1] for start in starts.tolist()], dim=1)
            yield rows[:-1], rows[1:]

    columns = torch.stack([test[start : start + SEQ_LEN + 1] for start in range(0, len(test) - SEQ_LEN - 1, 97)], dim=1)
    held_out = (columns[:-1], columns[1:])

    def minus_nats(model: nn.Module) -> float:
        nats = loss_function(model(held_out[0]), held_out[1]).item()
        return -nats if math.isfinite(nats) else -math.inf

    return Patient(
        seed,
        build=build,
        batches=batches,
        loss=loss,
        loop=partial(train, clip=clip, zero=zero),
        evaluate=minus_nats,
        target=-0.26,
        steps_to_learn=steps,
        validation=held_out,
    )


def adam(model: nn.Module, lr: float = 5e-3, **options: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=lr, **options)


def sgd(model: nn.Module, lr: float = 2.0, momentum: float = 0.9) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)


def only_decoder(model: CharRNN) -> torch.optim.Optimizer:
    return torch.optim.Adam([*model.encoder.parameters(), *model.decoder.parameters()], lr=5e-3)


def before_the_new_layer(model: CharRNN) -> torch.optim.Optimizer:
    """The hidden size was changed after the optimizer had been made."""
    optimizer = adam(model)
    model.rnn = nn.GRU(32, 64)
    return optimizer


def broken(code: str, strength: int, *, needs_loop: bool = False, **changes: Any) -> Case:
    return Case(f"{BASE}-{code}-{strength}", BASE, code, strength, partial(patient, **changes), needs_loop)


def healthy(odd: str, **changes: Any) -> Case:
    return Case(f"{BASE}-{odd}", BASE, None, 0, partial(patient, **changes))


CASES = [
    healthy("plain"),
    healthy("weight-decay", optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.1)),
    healthy("sgd-rate-2", optimizer=sgd, clip=0.25, steps=400),
    broken("weak-recurrence", 0, model=partial(CharRNN, skip=1e-3)),
    broken("weak-recurrence", 1, model=partial(CharRNN, skip=1e-5)),
    broken("learning-rate-too-high", 0, optimizer=partial(adam, lr=0.3)),
    broken("learning-rate-too-high", 1, optimizer=partial(adam, lr=1.0)),
    broken("learning-rate-too-low", 0, optimizer=partial(adam, lr=2e-5)),
    broken("learning-rate-too-low", 1, optimizer=partial(sgd, lr=1e-5)),
    broken("over-clipping", 0, optimizer=partial(sgd, momentum=0.0), clip=1e-3, needs_loop=True),
    broken("over-clipping", 1, optimizer=partial(sgd, momentum=0.0), clip=1e-4, needs_loop=True),
    broken("optimizer-misses-parameters", 0, model=CharModules),
    broken("optimizer-misses-parameters", 1, optimizer=only_decoder),
    broken("optimizer-misses-parameters", 2, optimizer=before_the_new_layer),
    broken("gradient-not-reset", 0, optimizer=partial(sgd, lr=0.5), zero=False, needs_loop=True),
    broken("gradient-not-reset", 1, optimizer=partial(adam, lr=5e-3), zero=False, clip=None, needs_loop=True),
    broken("overfitting", 0, model=partial(CharRNN, 128), num_sentences=6, batch=16, needs_loop=True),
    broken("overfitting", 1, model=partial(CharRNN, 128), num_sentences=3, batch=16, needs_loop=True),
    broken("non-finite", 0, loss=log_of_probability, optimizer=partial(adam, lr=1.0), clip=None),
    broken("non-finite", 1, loss=log_of_probability, optimizer=partial(sgd, lr=100.0), clip=None),
]
