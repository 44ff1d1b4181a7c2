"""Answers to a question about a note: a GRU encoder, attention over all its states, and what is known of the author."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ward.case import Batch, Case, Patient

VOCABULARY = 40
NUM_ANSWERS = 4
T = 36


def notes(count: int, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """A key word (1 to 4) stands somewhere among the others; the author's language turns its meaning round."""
    g = torch.Generator().manual_seed(seed)
    words = torch.randint(5, VOCABULARY, (count, T), generator=g)
    key = torch.randint(NUM_ANSWERS, (count,), generator=g)
    words[torch.arange(count), torch.randint(T, (count,), generator=g)] = key + 1
    author = torch.randn(count, 4, generator=g)
    answer = torch.where(author[:, 0] > 0, key, NUM_ANSWERS - 1 - key)
    return {"words": words, "author": author}, answer


class NoteModel(nn.Module):
    """Additive attention by hand ("own"), or `nn.MultiheadAttention` ("heads"); returns logits and weights."""

    def __init__(
        self,
        *,
        attention: str = "own",
        batch_first: bool = True,
        softmax_dim: int = 1,
        author: str = "used",
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.kind, self.softmax_dim, self.use_of_author, self.residual = attention, softmax_dim, author, residual
        self.embed = nn.Embedding(VOCABULARY, 32)
        self.encoder = nn.GRU(32, 32, batch_first=True)
        if attention == "heads":
            self.attention = nn.MultiheadAttention(32, 2, batch_first=batch_first)
        else:
            self.score = nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
        self.author = nn.Linear(4, 16)
        self.classify = nn.Sequential(nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, NUM_ANSWERS))

    def forward(self, words: Tensor, author: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embed(words)
        h, _ = self.encoder(x)
        h = x + h if self.residual else h
        if self.kind == "heads":
            mixed, weights = self.attention(h, h, h)
            summary = mixed.mean(dim=1)
        else:
            scores = self.score(h) / math.sqrt(h.shape[-1])
            weights = torch.softmax(scores, dim=self.softmax_dim)
            summary = (weights * h).sum(dim=1)
        if self.use_of_author == "first column dropped":
            author = author[:, 1:].repeat(1, 2)[:, :4]
        known = torch.relu(self.author(author))
        if self.use_of_author == "overwritten":
            known = torch.relu(self.author(torch.zeros_like(author)))
        if self.use_of_author == "words overwritten":
            summary = torch.zeros_like(summary)
        return self.classify(torch.cat([summary, known], dim=-1)), weights


def script(*, target: float = 0.9, **options: object) -> Callable[[int], Patient]:
    criterion = nn.CrossEntropyLoss(reduction="none")

    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = NoteModel(**options)
        return model, torch.optim.Adam(model.parameters(), lr=5e-3)

    def batches(seed: int) -> Iterator[Batch]:
        inputs, answer = notes(4000, seed)
        shuffle = torch.Generator().manual_seed(seed)
        while True:
            rows = torch.randint(len(answer), (48,), generator=shuffle)
            yield {name: values[rows] for name, values in inputs.items()}, answer[rows]

    def loop(patient: Patient, num_steps: int) -> None:
        patient.model.train()
        for _ in range(num_steps):
            inputs, answer = next(patient.stream)
            logits, _ = patient.model(**inputs)
            loss = criterion(logits, answer).mean()
            patient.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(patient.model.parameters(), 1.0)
            patient.optimizer.step()

    def evaluate(model: nn.Module) -> float:
        """In batches of the size used in training, and of 4 as they come in later."""
        inputs, answer = notes(480, 90_009)
        right = []
        for size in (48, 4):
            for start in range(0, 480, size):
                rows = slice(start, start + size)
                logits, _ = model(**{name: values[rows] for name, values in inputs.items()})
                right.append(logits.argmax(-1) == answer[rows])
        return float(torch.cat(right).float().mean())

    def make(seed: int) -> Patient:
        return Patient(
            seed,
            build=build,
            batches=batches,
            loss=criterion,
            loop=loop,
            evaluate=evaluate,
            target=target,
            steps_to_learn=400,
            validation=notes(48, 90_010),
        )

    return make


def case(name: str, code: str | None = None, strength: int = 0, **options: object) -> Case:
    return Case(f"w_attention-{name}", "w_attention", code, strength, script(**options))


CASES = [
    case("over-all-states-weights-returned"),
    case("heads-and-residual", attention="heads", residual=True),
    case("unused-input-0", "unused-input", 0, author="first column dropped"),
    case("unused-input-1", "unused-input", 1, author="overwritten"),
    case("unused-input-2", "unused-input", 2, author="words overwritten"),
    case("batch-mixing-0", "batch-mixing", 0, softmax_dim=0),
    case("batch-mixing-1", "batch-mixing", 1, attention="heads", batch_first=False),
]
