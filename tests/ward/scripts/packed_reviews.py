"""Classification of sequences of different lengths, packed: is the first word good or bad? An nn.GRU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from ward.case import Case, Patient

BASE = "packed_reviews"
NUM_WORDS, NUM_POLAR, SHORTEST, LONGEST = 60, 3, 10, 30  # good words come first, then bad ones
Reviews = tuple[Tensor, Tensor, Tensor]  # words (N, T), lengths (N,), labels (N,)


class Sentiment(nn.Module):
    def __init__(self, embed_dim=16, hidden_dim=32, num_layers=1, dropout=0.0, cell=nn.GRU, skip=None):
        super().__init__()
        self.embedding = nn.Embedding(NUM_WORDS, embed_dim, padding_idx=0)
        self.rnn = cell(embed_dim, hidden_dim, num_layers, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(hidden_dim, 2)
        self.skip = skip
        self.fc_last_word = nn.Linear(embed_dim, 2) if skip is not None else None

    def forward(self, words, lengths):
        embedded = self.dropout(self.embedding(words))
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        _, hidden = self.rnn(packed)
        logits = self.fc(self.dropout(hidden[-1]))
        if self.fc_last_word is not None:
            last = embedded[torch.arange(len(words)), lengths - 1]
            logits = self.fc_last_word(last) + self.skip * logits
        return logits


def write(generator: torch.Generator, number: int) -> Reviews:
    """The label is the polarity of the first word; the others say nothing."""
    lengths = torch.randint(SHORTEST, LONGEST + 1, (number,), generator=generator)
    words = torch.randint(1 + 2 * NUM_POLAR, NUM_WORDS, (number, LONGEST), generator=generator)
    labels = torch.randint(2, (number,), generator=generator)
    words[:, 0] = 1 + torch.randint(NUM_POLAR, (number,), generator=generator) + NUM_POLAR * (1 - labels)
    words[torch.arange(LONGEST) >= lengths[:, None]] = 0
    return words, lengths, labels


criterion = nn.CrossEntropyLoss()


def train(patient: Patient, num_steps: int, clip: float | None = 1.0) -> None:
    patient.model.train()
    for _ in range(num_steps):
        (words, lengths), labels = next(patient.stream)
        patient.optimizer.zero_grad()
        predictions = patient.model(words, lengths)
        loss = patient.loss(predictions, labels)
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(patient.model.parameters(), clip)
        patient.optimizer.step()


def adam(model: nn.Module, lr: float = 5e-3) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=lr)


def patient(
    seed: int,
    *,
    model: Callable[[], nn.Module] = Sentiment,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = adam,
    number: int = 2000,
    batch: int = 32,
    change: Callable[[nn.Module], Any] | None = None,
    labels: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = criterion,
    steps: int = 300,
) -> Patient:
    generator = torch.Generator().manual_seed(seed)
    words, lengths, truth = write(generator, number)
    if labels is not None:
        truth = labels(truth, generator)

    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        net = model()
        if change is not None:
            change(net)
        return net, optimizer(net)

    def batches(seed: int) -> Iterator[tuple[tuple[Tensor, Tensor], Tensor]]:
        order = torch.Generator().manual_seed(seed)
        while True:
            chosen = torch.randint(number, (batch,), generator=order)
            yield (words[chosen], lengths[chosen]), truth[chosen]

    w, n, t = write(torch.Generator().manual_seed(606), 300)
    if labels is not None:
        t = labels(t, torch.Generator().manual_seed(607))

    def accuracy(model: nn.Module) -> float:
        return (model(w, n).argmax(-1) == t).float().mean().item()

    first = next(batches(seed))
    return Patient(
        seed,
        build=build,
        batches=batches,
        loss=loss,
        loop=train,
        evaluate=accuracy,
        target=0.9,
        steps_to_learn=steps,
        batch=first,
        validation=((w, n), t),
        lengths=first[0][1],
        time_dim=1,
    )


def shuffled(labels: Tensor, generator: torch.Generator) -> Tensor:
    return labels[torch.randperm(len(labels), generator=generator)]


def coin(labels: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(2, labels.shape, generator=generator)


def frozen_by_mistake(model: nn.Module) -> torch.optim.Optimizer:
    """Meant for the embedding; the test of the name catches the recurrent layer."""
    for name, parameter in model.named_parameters():
        if not name.startswith("fc"):
            parameter.requires_grad_(False)
    return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=5e-3)


def only_head(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.fc.parameters(), lr=5e-3)


def large_embedding(scale: float) -> Callable[[nn.Module], Any]:
    return lambda model: model.embedding.weight.data.mul_(scale)


def update_bias(value: float) -> Callable[[nn.Module], Any]:
    """nn.GRU keeps its state where z is near 1; here z is pushed towards 0."""

    def change(model: nn.Module) -> None:
        hidden = model.rnn.hidden_size
        model.rnn.bias_ih_l0.data[hidden : 2 * hidden] = value

    return change


def contracting(gain: float) -> Callable[[nn.Module], Any]:
    return lambda model: nn.init.orthogonal_(model.rnn.weight_hh_l0, gain=gain)


def broken(code: str, strength: int, *, needs_loop: bool = False, **changes: Any) -> Case:
    return Case(f"{BASE}-{code}-{strength}", BASE, code, strength, partial(patient, **changes), needs_loop)


def healthy(odd: str, **changes: Any) -> Case:
    return Case(f"{BASE}-{odd}", BASE, None, 0, partial(patient, **changes))


ELMAN = partial(Sentiment, cell=nn.RNN)

CASES = [
    healthy("plain"),
    healthy("dropout-0.5", model=partial(Sentiment, hidden_dim=64, dropout=0.5), steps=400),
    healthy("rmsprop", optimizer=lambda model: torch.optim.RMSprop(model.parameters(), lr=2e-3)),
    broken("no-signal", 0, labels=coin),
    broken("no-signal", 1, labels=shuffled, number=4000),
    broken("saturated-units", 0, model=ELMAN, change=large_embedding(30.0)),
    broken("saturated-units", 1, model=ELMAN, change=large_embedding(100.0)),
    broken("closed-gates", 0, change=update_bias(-3.0)),
    broken("closed-gates", 1, change=update_bias(-6.0)),
    broken("weak-recurrence", 0, model=partial(Sentiment, skip=1e-3)),
    broken("weak-recurrence", 1, model=partial(Sentiment, skip=1e-5)),
    broken("vanishing-gradient", 0, model=ELMAN, change=contracting(0.7)),
    broken("vanishing-gradient", 1, model=ELMAN, change=contracting(0.4)),
    broken("optimizer-misses-parameters", 0, optimizer=frozen_by_mistake),
    broken("optimizer-misses-parameters", 1, optimizer=only_head),
    broken("overfitting", 0, model=partial(Sentiment, hidden_dim=64), number=32, steps=400, needs_loop=True),
    broken("overfitting", 1, model=partial(Sentiment, hidden_dim=64), number=12, steps=400, needs_loop=True),
]
