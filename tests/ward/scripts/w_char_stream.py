"""A character model that reads one long text in chunks and carries its state from chunk to chunk."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ward.case import Batch, Case, Patient

ALPHABET = "abcd:?. "
IDS = {letter: number for number, letter in enumerate(ALPHABET)}
STREAMS = 16
WINDOW = 16


def story(num_letters: int, seed: int) -> Tensor:
    """Paragraphs that name a hero (":c") and come back to him now and then ("?c"), with other letters between."""
    draw = random.Random(seed)
    letters: list[str] = []
    while len(letters) < num_letters:
        hero = draw.choice("abcd")
        letters += [":", hero]
        for _ in range(draw.randint(5, 8)):
            letters += [draw.choice(". ") for _ in range(draw.randint(1, 9))] + ["?", hero]
    return torch.tensor([IDS[letter] for letter in letters[:num_letters]])


class CharModel(nn.Module):
    def __init__(self, hidden: int = 48) -> None:
        super().__init__()
        self.embed = nn.Embedding(len(ALPHABET), 16)
        self.lstm = nn.LSTM(16, hidden, batch_first=True)
        self.out = nn.Linear(hidden, len(ALPHABET))

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, state = self.lstm(self.embed(x), state)
        return self.out(h), state


def char_loss(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.reshape(-1, len(ALPHABET)), targets.reshape(-1))


def script(*, reset_every: int = 0, cold: float = 0.0) -> Callable[[int], Patient]:
    """`cold`: the share of the streams whose state is lost at every chunk."""

    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = CharModel()
        return model, torch.optim.Adam(model.parameters(), lr=1e-2)

    def batches(seed: int) -> Iterator[Batch]:
        chunks = 500
        text = story(STREAMS * (chunks * WINDOW + 1), seed).view(STREAMS, -1)
        while True:
            for number in range(chunks):
                start = number * WINDOW
                yield text[:, start : start + WINDOW], text[:, start + 1 : start + WINDOW + 1]

    def carried(state: tuple[Tensor, Tensor], chunk: int) -> tuple[Tensor, Tensor] | None:
        if reset_every and (chunk + 1) % reset_every == 0:
            return None
        h, c = (part.detach() for part in state)
        if cold:
            kept = (torch.arange(STREAMS) >= cold * STREAMS).float()[:, None]
            h, c = h * kept, c * kept
        return h, c

    def loop(patient: Patient, num_steps: int) -> None:
        patient.model.train()
        state = patient.carried
        for step in range(num_steps):
            x, y = next(patient.stream)
            logits, state = patient.model(x, state)
            loss = char_loss(logits, y)
            patient.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(patient.model.parameters(), 1.0)
            patient.optimizer.step()
            state = carried(state, patient.num_steps_done + step)
        patient.carried = state

    def evaluate(model: nn.Module) -> float:
        """Reads a new text to its end, in order, with the script's own way of carrying: which hero comes back?"""
        chunks = 60
        text = story(STREAMS * (chunks * WINDOW + 1), 90_009).view(STREAMS, -1)
        state = None
        right = []
        for number in range(chunks):
            start = number * WINDOW
            x, y = text[:, start : start + WINDOW], text[:, start + 1 : start + WINDOW + 1]
            logits, state = model(x, state)
            if number > 8:
                asked = x == IDS["?"]
                right.append(logits[asked].argmax(-1) == y[asked])
            state = carried(state, number)
        return float(torch.cat(right).float().mean())

    def make(seed: int) -> Patient:
        return Patient(
            seed,
            build=build,
            batches=batches,
            loss=char_loss,
            loop=loop,
            evaluate=evaluate,
            target=0.85,
            steps_to_learn=900,
            window=WINDOW,
        )

    return make


def case(name: str, code: str | None = None, strength: int = 0, **options: object) -> Case:
    return Case(f"w_char_stream-{name}", "w_char_stream", code, strength, script(**options), code is not None)


CASES = [
    case("carried-and-detached"),
    case("state-carried-wrongly-0", "state-carried-wrongly", 0, cold=0.75),
    case("state-carried-wrongly-1", "state-carried-wrongly", 1, reset_every=1),
]
