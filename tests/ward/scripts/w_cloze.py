"""The missing word in the middle of a window, from the words on both sides: a bidirectional LSTM, a hidden centre."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ward.case import Batch, Case, Patient

VOCABULARY = 60
MASK = VOCABULARY
WIDTH = 21
CENTRE = WIDTH // 2


def windows(count: int, seed: int) -> Tensor:
    """Windows of words. The word three to the left gives the centre's group, the word two to the right its member."""
    g = torch.Generator().manual_seed(seed)
    words = torch.randint(VOCABULARY, (count, WIDTH), generator=g) // 3 * 3
    words[:, CENTRE + 2] = torch.randint(VOCABULARY, (count,), generator=g)
    words[:, CENTRE] = words[:, CENTRE - 3] % 15 + words[:, CENTRE + 2] % 3
    return words


def suffixes(words: Tensor) -> Tensor:
    """The last letters of each word, as spelling features beside the word itself."""
    return words % 30


class Filler(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY + 1, 32)
        self.suffixes = nn.Embedding(31, 16)
        self.lstm = nn.LSTM(48, 32, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(64, VOCABULARY)

    def forward(self, words: Tensor, suffixes: Tensor) -> Tensor:
        x = torch.cat([self.words(words), self.suffixes(suffixes)], dim=-1)
        h, _ = self.lstm(x)
        return self.fc(h[:, CENTRE])


def script(
    *, masked: float = 1.0, mask_suffix: bool = True, label_smoothing: float = 0.0, target: float | None = 0.8
) -> Callable[[int], Patient]:
    def features(words: Tensor, masked: float, mask_suffix: bool) -> dict[str, Tensor]:
        seen = words.clone()
        num_masked = round(masked * len(words))
        seen[:num_masked, CENTRE] = MASK
        spelling = suffixes(words)
        if mask_suffix:
            spelling[:num_masked, CENTRE] = 30
        return {"words": seen, "suffixes": spelling}

    def loss_of(logits: Tensor, centre: Tensor) -> Tensor:
        return F.cross_entropy(logits, centre, reduction="none", label_smoothing=label_smoothing)

    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = Filler()
        return model, torch.optim.Adam(model.parameters(), lr=1e-2)

    def batches(seed: int) -> Iterator[Batch]:
        words = windows(8000, seed)
        shuffle = torch.Generator().manual_seed(seed)
        while True:
            chosen = words[torch.randint(len(words), (64,), generator=shuffle)]
            yield features(chosen, masked, mask_suffix), chosen[:, CENTRE]

    def loop(patient: Patient, num_steps: int) -> None:
        patient.model.train()
        for _ in range(num_steps):
            inputs, centre = next(patient.stream)
            loss = loss_of(patient.model(**inputs), centre).mean()
            patient.optimizer.zero_grad()
            loss.backward()
            patient.optimizer.step()

    def evaluate(model: nn.Module) -> float:
        """In use the word is missing, with all that is known about it."""
        words = windows(512, 90_009)
        return float((model(**features(words, 1.0, True)).argmax(-1) == words[:, CENTRE]).float().mean())

    def make(seed: int) -> Patient:
        held_out = windows(64, 90_010)
        return Patient(
            seed,
            build=build,
            batches=batches,
            loss=loss_of,
            loop=loop,
            evaluate=evaluate,
            target=target,
            steps_to_learn=300,
            validation=(features(held_out, masked, mask_suffix), held_out[:, CENTRE]),
            time_dim=1,
        )

    return make


def case(name: str, code: str | None = None, strength: int = 0, **options: object) -> Case:
    return Case(f"w_cloze-{name}", "w_cloze", code, strength, script(**options))


CASES = [
    case("centre-hidden"),
    case("label-smoothing", label_smoothing=0.2),
    case("target-leak-0", "target-leak", 0, mask_suffix=False),  # the word is hidden, its spelling is not
    case("target-leak-1", "target-leak", 1, masked=0.25),
    case("target-leak-2", "target-leak", 2, masked=0.0),
]
