"""The next note of a melody: embeddings, an LSTM, and one layer of self-attention over what has been heard."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ward.case import Batch, Case, Patient

NOTES = 24
T = 32


def melodies(count: int, seed: int) -> Tensor:
    """(count, T + 1): motifs of four notes that come three times, each time two notes higher, then a new motif."""
    g = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range((T + 1) // 12 + 1):
        motif = torch.randint(NOTES, (count, 4), generator=g)
        rows += [(motif + 2 * again) % NOTES for again in range(3)]
    return torch.cat(rows, dim=1)[:, : T + 1]


class Melody(nn.Module):
    def __init__(self, *, mask: str = "causal", size: int = 32) -> None:
        super().__init__()
        self.mask = mask
        self.embed = nn.Embedding(NOTES, size)
        self.place = nn.Embedding(T + 1, size)
        self.lstm = nn.LSTM(size, size, batch_first=True)
        self.attention = nn.MultiheadAttention(size, 2, batch_first=True)
        self.norm = nn.LayerNorm(size)
        self.out = nn.Linear(size, NOTES)

    def forward(self, notes: Tensor) -> Tensor:
        steps = notes.shape[1]
        x = self.embed(notes) + self.place(torch.arange(steps))
        h, _ = self.lstm(x)
        if self.mask == "none":
            mask = None
        else:  # True hides a place
            diagonal = 2 if self.mask == "off by one" else 1
            mask = torch.ones(steps, steps, dtype=torch.bool).triu(diagonal=diagonal)
        heard, _ = self.attention(h, x, x, attn_mask=mask, need_weights=False)
        return self.out(self.norm(h + heard))


def script(*, unshifted: float = 0.0, smoothing: float = 0.0, **options: object) -> Callable[[int], Patient]:
    def note_loss(logits: Tensor, following: Tensor) -> Tensor:
        return F.cross_entropy(logits.flatten(0, 1), following.flatten(), label_smoothing=smoothing)

    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = Melody(**options)
        return model, torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.01)

    def batches(seed: int) -> Iterator[Batch]:
        melody = melodies(3000, seed)
        shuffle = torch.Generator().manual_seed(seed)
        while True:
            rows = melody[torch.randint(3000, (32,), generator=shuffle)]
            notes, following = rows[:, :-1], rows[:, 1:].clone()
            wrong = round(unshifted * len(rows))
            following[:wrong] = notes[:wrong]  # some collections hold both columns without the shift
            yield notes, following

    def loop(patient: Patient, num_steps: int) -> None:
        patient.model.train()
        for _ in range(num_steps):
            notes, following = next(patient.stream)
            patient.optimizer.zero_grad()
            loss = note_loss(patient.model(notes), following)
            loss.backward()
            nn.utils.clip_grad_norm_(patient.model.parameters(), 1.0)
            patient.optimizer.step()

    def evaluate(model: nn.Module) -> float:
        """The repeats that follow from what has been heard, asked for one note at a time."""
        melody = melodies(300, 90_009)
        right = []
        for end in (9, 10, 11, 21, 22, 23):
            right.append(model(melody[:, :end])[:, -1].argmax(-1) == melody[:, end])
        return float(torch.cat(right).float().mean())

    def make(seed: int) -> Patient:
        return Patient(
            seed,
            build=build,
            batches=batches,
            loss=note_loss,
            loop=loop,
            evaluate=evaluate,
            target=0.7,
            steps_to_learn=500,
        )

    return make


def case(name: str, code: str | None = None, strength: int = 0, **options: object) -> Case:
    return Case(f"w_attention_lm-{name}", "w_attention_lm", code, strength, script(**options))


CASES = [
    case("causal-mask"),
    case("label-smoothing", smoothing=0.1),
    case("future-leak-0", "future-leak", 0, mask="off by one"),
    case("future-leak-1", "future-leak", 1, mask="none"),
    case("targets-shifted-0", "targets-shifted", 0, unshifted=0.75),
    case("targets-shifted-1", "targets-shifted", 1, unshifted=1.0),
]
