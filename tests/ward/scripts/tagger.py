"""Sequence labelling in both directions: which marker came last, and which comes next? Embedding and nn.GRU, padded."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ward.case import Case, Patient

BASE = "tagger"
# Three of the words are markers; the tag of a word tells the last marker up to it and the next one from it on.
NUM_WORDS, NUM_MARKERS, NUM_TAGS, PAD, IGNORED = 40, 3, 9, 0, -100


class Tagger(nn.Module):
    def __init__(self, hidden=32, embedding=16, dropout=0.0, layers=1):
        super().__init__()
        self.embedding = nn.Embedding(NUM_WORDS, embedding, padding_idx=PAD)
        self.dropout = nn.Dropout(dropout)
        self.gru = nn.GRU(embedding, hidden, num_layers=layers, bidirectional=True, batch_first=True)
        self.classifier = nn.Linear(2 * hidden, NUM_TAGS)

    def forward(self, words):
        features, _ = self.gru(self.dropout(self.embedding(words)))
        return self.classifier(self.dropout(features))


class ListTagger(nn.Module):
    """Layers in a Python list, which nn.Module does not see."""

    def __init__(self, hidden=32, embedding=16, layers=2):
        super().__init__()
        self.embedding = nn.Embedding(NUM_WORDS, embedding, padding_idx=PAD)
        sizes = [embedding] + [2 * hidden] * layers
        self.layers = [nn.GRU(size, hidden, bidirectional=True, batch_first=True) for size in sizes[:-1]]
        self.classifier = nn.Linear(2 * hidden, NUM_TAGS)

    def forward(self, words):
        features = self.embedding(words)
        for layer in self.layers:
            features, _ = layer(features)
        return self.classifier(features)


def sentence(rng: random.Random) -> tuple[list[int], list[int]]:
    length = rng.randint(8, 20)
    words = [rng.randint(1 + NUM_MARKERS, NUM_WORDS - 1) for _ in range(length)]
    for place in rng.sample(range(length), max(2, length // 8)):
        words[place] = rng.randint(1, NUM_MARKERS)
    before, after, tags = 0, 0, [0] * length
    for t, word in enumerate(words):
        before = word - 1 if word <= NUM_MARKERS else before
        tags[t] = before * NUM_MARKERS
    for t in reversed(range(length)):
        after = words[t] - 1 if words[t] <= NUM_MARKERS else after
        tags[t] += after
    return words, tags


def collate(sentences: list[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
    longest = max(len(words) for words, _ in sentences)
    words = torch.tensor([w + [PAD] * (longest - len(w)) for w, _ in sentences])
    tags = torch.tensor([t + [IGNORED] * (longest - len(t)) for _, t in sentences])
    return words, tags


def loss_fn(scores: Tensor, tags: Tensor) -> Tensor:
    return F.cross_entropy(scores.reshape(-1, NUM_TAGS), tags.reshape(-1), ignore_index=IGNORED)


def train(patient: Patient, num_steps: int, *, zero_every: int, clip: float | None) -> None:
    patient.model.train()
    for step in range(patient.num_steps_done, patient.num_steps_done + num_steps):
        words, tags = next(patient.stream)
        if zero_every and step % zero_every == 0:
            patient.optimizer.zero_grad()
        loss = patient.loss(patient.model(words), tags)
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(patient.model.parameters(), clip)
        patient.optimizer.step()


def adam(model: nn.Module, lr: float = 5e-3, **options: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=lr, **options)


def sgd(model: nn.Module, lr: float = 0.5, momentum: float = 0.9) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)


def patient(
    seed: int,
    *,
    model: Callable[[], nn.Module] = Tagger,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = adam,
    num_sentences: int = 2000,
    batch: int = 32,
    zero_every: int = 1,
    clip: float | None = 5.0,
    shuffled: bool = False,
    steps: int = 200,
) -> Patient:
    rng = random.Random(seed)
    sentences = [sentence(rng) for _ in range(num_sentences)]
    if shuffled:
        words = [w for w, _ in sentences]
        tags = [t for _, t in sentences]
        rng.shuffle(tags)
        sentences = [(w[: len(t)], t[: len(w)]) for w, t in zip(words, tags, strict=True)]
    valid_rng = random.Random(99)
    held_out = collate([sentence(valid_rng) for _ in range(200)])

    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        net = model()
        return net, optimizer(net)

    def batches(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = random.Random(seed)
        while True:
            yield collate(order.sample(sentences, min(batch, len(sentences))))

    def accuracy(model: nn.Module) -> float:
        words, tags = held_out
        real = tags != IGNORED
        return (model(words).argmax(-1)[real] == tags[real]).float().mean().item()

    return Patient(
        seed,
        build=build,
        batches=batches,
        loss=loss_fn,
        loop=partial(train, zero_every=zero_every, clip=clip),
        evaluate=accuracy,
        target=0.9,
        steps_to_learn=steps,
        validation=held_out,
    )


def without_recurrent_layer(model: nn.Module) -> torch.optim.Optimizer:
    parameters = list(model.embedding.parameters()) + list(model.classifier.parameters())
    return torch.optim.Adam(parameters, lr=5e-3)


def frozen_encoder(model: nn.Module) -> torch.optim.Optimizer:
    """Frozen for a first stage of training, and never thawed."""
    for parameter in model.gru.parameters():
        parameter.requires_grad = False
    return torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=5e-3)


def zeros() -> nn.Module:
    """Every weight starts at zero, 'so that nothing is favoured'."""
    model = Tagger()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


def equal() -> nn.Module:
    model = Tagger()
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.1)
    return model


def broken(code: str, strength: int, *, needs_loop: bool = False, **changes: Any) -> Case:
    return Case(f"{BASE}-{code}-{strength}", BASE, code, strength, partial(patient, **changes), needs_loop)


def healthy(odd: str, **changes: Any) -> Case:
    return Case(f"{BASE}-{odd}", BASE, None, 0, partial(patient, **changes))


CASES = [
    healthy("plain"),
    healthy("high-dropout", model=partial(Tagger, 64, dropout=0.5), steps=300),
    healthy("sgd", optimizer=sgd),
    healthy("tiny-batch", batch=4, optimizer=partial(adam, lr=3e-3), steps=500),
    broken("gradient-not-reset", 0, optimizer=sgd, zero_every=20, needs_loop=True),
    broken("gradient-not-reset", 1, optimizer=sgd, zero_every=0, clip=None, needs_loop=True),
    broken("learning-rate-too-high", 0, optimizer=partial(adam, lr=1.0)),
    broken("learning-rate-too-high", 1, optimizer=partial(sgd, lr=50.0)),
    broken("learning-rate-too-low", 0, optimizer=partial(adam, lr=1e-5)),
    broken("learning-rate-too-low", 1, optimizer=partial(sgd, lr=1e-5)),
    broken("over-clipping", 0, optimizer=partial(sgd, momentum=0.0), clip=1e-3, needs_loop=True),
    broken("over-clipping", 1, optimizer=partial(sgd, momentum=0.0), clip=1e-4, needs_loop=True),
    broken("optimizer-misses-parameters", 0, model=ListTagger),
    broken("optimizer-misses-parameters", 1, optimizer=without_recurrent_layer),
    broken("optimizer-misses-parameters", 2, optimizer=frozen_encoder),
    broken("overfitting", 0, model=partial(Tagger, 64, layers=2), num_sentences=24, needs_loop=True),
    broken("overfitting", 1, model=partial(Tagger, 64, layers=2), num_sentences=8, needs_loop=True),
    broken("plateau", 0, model=equal),
    broken("plateau", 1, model=zeros),
]
