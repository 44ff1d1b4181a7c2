"""The next word of made sentences: an embedding, two GRU layers, and the logits of every step with the last state."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ward.case import Batch, Case, Patient

WORDS = [
    ".", "the", "a", "old", "young", "red", "small", "man", "woman", "cat", "dog", "bird", "child", "sees", "likes",
    "hears", "follows", "finds", "house", "garden", "river", "tree", "in", "near", "behind", "sleeps", "runs", "sings",
]  # fmt: skip
IDS = {word: number for number, word in enumerate(WORDS)}
T = 30


def text(num_words: int, seed: int) -> Tensor:
    """Sentences whose verb depends on their subject, and whose place depends on the verb."""
    draw = random.Random(seed)
    nouns = ["man", "woman", "cat", "dog", "bird", "child"]
    verbs = {"man": "sees", "woman": "hears", "cat": "follows", "dog": "finds", "bird": "likes", "child": "sees"}
    alone = {"cat": "sleeps", "dog": "runs", "bird": "sings", "man": "sleeps", "woman": "sings", "child": "runs"}
    places = {"sees": "garden", "hears": "river", "follows": "house", "finds": "tree", "likes": "tree"}
    words: list[str] = []
    while len(words) < num_words:
        noun = draw.choice(nouns)
        words += [draw.choice(["the", "a"]), draw.choice(["old", "young", "red", "small"]), noun]
        if draw.random() < 0.3:
            words += [alone[noun], "."]
        else:
            verb = verbs[noun]
            words += [verb, "the", draw.choice(nouns), draw.choice(["in", "near", "behind"]), "the", places[verb], "."]
    return torch.tensor([IDS[word] for word in words[:num_words]])


class LanguageModel(nn.Module):
    def __init__(
        self,
        *,
        size: int = 48,
        bidirectional: tuple[bool, bool] = (False, False),
        tied: bool = False,
        num_layers: int = 1,
        ignore_embedding: str = "no",
    ) -> None:
        super().__init__()
        self.ignore_embedding = ignore_embedding
        self.embed = nn.Embedding(len(WORDS), size)
        self.case = nn.Embedding(2, size)
        halves = [size // 2 if both else size for both in bidirectional]
        self.gru1 = nn.GRU(size, halves[0], num_layers=num_layers, batch_first=True, bidirectional=bidirectional[0])
        self.gru2 = nn.GRU(size, halves[1], batch_first=True, bidirectional=bidirectional[1])
        self.out = nn.Linear(size, len(WORDS))
        if tied:
            self.out.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embed(tokens)
        starts = self.case((tokens == 0).long())  # a sentence ends here
        if self.ignore_embedding == "all":
            x = starts  # meant to be x + starts
        elif self.ignore_embedding == "all but the first":
            x = x[:, :1] + starts  # meant to be x[:, :]: broadcasting hides it
        else:
            x = x + starts
        h, _ = self.gru1(x)
        h, state = self.gru2(h)
        return self.out(h), state


def script(*, unshifted: float = 0.0, target: float | None = 0.9, **options: object) -> Callable[[int], Patient]:
    def token_loss(logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")

    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = LanguageModel(**options)
        return model, torch.optim.Adam(model.parameters(), lr=5e-3)

    def batches(seed: int) -> Iterator[Batch]:
        ids = text(20_000, seed)
        g = torch.Generator().manual_seed(seed)
        while True:
            starts = torch.randint(len(ids) - T - 1, (32,), generator=g)
            inputs = torch.stack([ids[start : start + T] for start in starts])
            targets = torch.stack([ids[start + 1 : start + 1 + T] for start in starts])
            num_unshifted = round(unshifted * len(inputs))
            targets[:num_unshifted] = inputs[:num_unshifted]  # files of the older format hold the pair unshifted
            yield inputs, targets

    def loop(patient: Patient, num_steps: int) -> None:
        patient.model.train()
        for _ in range(num_steps):
            inputs, targets = next(patient.stream)
            patient.optimizer.zero_grad(set_to_none=True)
            logits, _ = patient.model(inputs)
            loss = token_loss(logits, targets).mean()
            loss.backward()
            nn.utils.clip_grad_norm_(patient.model.parameters(), 1.0)
            patient.optimizer.step()

    def evaluate(model: nn.Module) -> float:
        """As in use: the words so far are all there is, and the place that ends the sentence is asked for."""
        ids = text(6000, 90_009)
        ends = [end for end in range(21, len(ids)) if ids[end] == IDS["."] and ids[end - 2] == IDS["the"]]
        prefixes = torch.stack([ids[end - 21 : end - 1] for end in ends])
        places = torch.stack([ids[end - 1] for end in ends])
        return float((model(prefixes)[0][:, -1].argmax(-1) == places).float().mean())

    def make(seed: int) -> Patient:
        return Patient(
            seed,
            build=build,
            batches=batches,
            loss=token_loss,
            loop=loop,
            evaluate=evaluate,
            target=target,
            steps_to_learn=350,
        )

    return make


def case(name: str, code: str | None = None, strength: int = 0, **options: object) -> Case:
    return Case(f"w_next_word-{name}", "w_next_word", code, strength, script(**options))


CASES = [
    case("returns-its-state"),
    case("tied-weights", tied=True),
    case("stack-of-four", num_layers=3),
    case("future-leak-0", "future-leak", 0, bidirectional=(False, True)),
    case("future-leak-1", "future-leak", 1, bidirectional=(True, True)),
    case("targets-shifted-0", "targets-shifted", 0, unshifted=0.75),
    case("targets-shifted-1", "targets-shifted", 1, unshifted=1.0),
    case("unused-input-0", "unused-input", 0, ignore_embedding="all but the first"),
    case("unused-input-1", "unused-input", 1, ignore_embedding="all"),
]
