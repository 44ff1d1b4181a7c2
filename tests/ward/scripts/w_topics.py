"""The topic of a message from its words: an embedding, two LSTM layers, the state after the last word."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from ward.case import Batch, Case, Patient

PAD = 0
WORDS_OF_A_TOPIC = 10
BATCH_SIZE = 32


def messages(count: int, seed: int, *, num_topics: int, max_len: int, vocabulary: int) -> Batch:
    """Messages of 6 to 24 words, padded to max_len; two words in five belong to the topic."""
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(6, 25, (count,), generator=g)
    topics = torch.randint(num_topics, (count,), generator=g)
    ordinary = 1 + num_topics * WORDS_OF_A_TOPIC
    tokens = torch.randint(ordinary, ordinary + 150, (count, max_len), generator=g)
    of_topic = 1 + topics[:, None] * WORDS_OF_A_TOPIC + torch.randint(WORDS_OF_A_TOPIC, tokens.shape, generator=g)
    tokens = torch.where(torch.rand(tokens.shape, generator=g) < 0.4, of_topic, tokens)
    tokens[torch.arange(max_len) >= lengths[:, None]] = PAD
    assert int(tokens.max()) < vocabulary
    return (tokens, lengths), topics


class TopicModel(nn.Module):
    """Two LSTMs and a linear layer; `read` says how a message becomes one vector."""

    def __init__(
        self,
        num_topics: int,
        vocabulary: int,
        *,
        read: str = "last word",
        last: str | None = None,
        batch_first: tuple[bool, bool] = (True, True),
        vectors: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.read, self.last = read, last
        if vectors is None:
            self.embedding = nn.Embedding(vocabulary, 32, padding_idx=PAD)
        else:
            self.embedding = nn.Embedding.from_pretrained(vectors, freeze=True, padding_idx=PAD)
        self.lstm1 = nn.LSTM(32, 48, batch_first=batch_first[0])
        self.lstm2 = nn.LSTM(48, 48, batch_first=batch_first[1])
        self.fc = nn.Linear(96 if read.startswith("both states") else 48, num_topics)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        x = self.embedding(tokens)
        if self.read == "packed":
            packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
            out, _ = self.lstm1(packed)
            _, (h, _) = self.lstm2(out)
            features = h[-1]
        elif self.read in ("both states", "both states viewed"):
            packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
            out, (h1, _) = self.lstm1(packed)
            _, (h2, _) = self.lstm2(out)
            h = torch.cat([h1, h2])
            viewed = self.read == "both states viewed"
            features = h.view(len(x), -1) if viewed else h.transpose(0, 1).reshape(len(x), -1)
        else:
            out, _ = self.lstm1(x)
            out, _ = self.lstm2(out)
            features = out[:, -1] if self.read == "last step" else out[torch.arange(len(out)), lengths - 1]
        logits = self.fc(features)
        if self.last == "softmax":
            logits = F.softmax(logits, dim=-1)
        elif self.last == "log_softmax":
            logits = F.log_softmax(logits, dim=-1)
        return logits


def script(
    *,
    num_topics: int = 4,
    max_len: int = 40,
    vocabulary: int = 300,
    pretrained: bool = False,
    criterion: nn.Module | None = None,
    target: float = 0.85,
    steps_to_learn: int = 150,
    **options: object,
) -> Callable[[int], Patient]:
    criterion = criterion or nn.CrossEntropyLoss()

    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        vectors = torch.randn(vocabulary, 32) if pretrained else None
        model = TopicModel(num_topics, vocabulary, vectors=vectors, **options)
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return model, torch.optim.Adam(trainable, lr=3e-3)

    def batches(seed: int) -> Iterator[Batch]:
        (tokens, lengths), topics = messages(2000, seed, num_topics=num_topics, max_len=max_len, vocabulary=vocabulary)
        shuffle = torch.Generator().manual_seed(seed)
        while True:
            for rows in torch.randperm(2000, generator=shuffle).split(BATCH_SIZE)[:-1]:
                yield (tokens[rows], lengths[rows]), topics[rows]

    def loop(patient: Patient, num_steps: int) -> None:
        patient.model.train()
        for _ in range(num_steps):
            (tokens, lengths), topics = next(patient.stream)
            patient.optimizer.zero_grad()
            loss = criterion(patient.model(tokens, lengths), topics)
            loss.backward()
            nn.utils.clip_grad_norm_(patient.model.parameters(), 5.0)
            patient.optimizer.step()

    def evaluate(model: nn.Module) -> float:
        (tokens, lengths), topics = messages(512, 90_009, num_topics=num_topics, max_len=max_len, vocabulary=vocabulary)
        return float((model(tokens, lengths).argmax(-1) == topics).float().mean())

    def make(seed: int) -> Patient:
        batch = next(batches(seed))
        return Patient(
            seed,
            build=build,
            batches=batches,
            loss=criterion,
            loop=loop,
            evaluate=evaluate,
            target=target,
            steps_to_learn=steps_to_learn,
            batch=batch,
            validation=messages(64, 90_010, num_topics=num_topics, max_len=max_len, vocabulary=vocabulary),
            lengths=batch[0][1],
        )

    return make


def case(name: str, code: str | None = None, strength: int = 0, **options: object) -> Case:
    return Case(f"w_topics-{name}", "w_topics", code, strength, script(**options))


CASES = [
    case("gathered-last-word"),
    case("packed", read="packed"),
    case("states-of-both-layers", read="both states"),
    case("fourteen-topics", num_topics=14, steps_to_learn=200),
    case("frozen-vectors", pretrained=True),
    case("log-softmax", last="log_softmax", criterion=nn.NLLLoss()),
    case("huge-vocabulary", vocabulary=50_000),
    case("padding-read-0", "padding-read", 0, read="last step", max_len=32),
    case("padding-read-1", "padding-read", 1, read="last step", max_len=64),
    case("padding-read-2", "padding-read", 2, read="last step", max_len=150),
    case("batch-mixing-0", "batch-mixing", 0, read="both states viewed"),
    case("batch-mixing-1", "batch-mixing", 1, batch_first=(False, False)),
    case("probabilities-into-cross-entropy-0", "probabilities-into-cross-entropy", 0, last="softmax", num_topics=12),
    case("probabilities-into-cross-entropy-1", "probabilities-into-cross-entropy", 1, last="softmax", num_topics=14),
]
