"""The tag of each word from the words on both sides: a bidirectional LSTM over padded sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ward.case import Batch, Case, Patient

VOCABULARY = 81
NUM_TAGS = 12
IGNORED = -100


def sentences(count: int, seed: int, *, max_len: int, pad_tag: int) -> Batch:
    """Sentences of 5 to 20 words. Words 1 to 40 have a tag of their own; 41 to 80 take that of the word after them."""
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(5, 21, (count,), generator=g)
    tokens = torch.randint(1, VOCABULARY, (count, max_len + 1), generator=g)
    own = tokens % NUM_TAGS
    tags = own[:, :-1].clone()
    ambiguous = tokens[:, :-1] > 40
    has_next = torch.arange(max_len) < lengths[:, None] - 1
    following = (own[:, 1:] + 1) % NUM_TAGS
    tags = torch.where(ambiguous & has_next, following, tags)
    padding = torch.arange(max_len) >= lengths[:, None]
    tokens = tokens[:, :max_len].masked_fill(padding, 0)
    tags = tags.masked_fill(padding, pad_tag)
    return (tokens, lengths), tags


class Tagger(nn.Module):
    def __init__(
        self,
        *,
        packed: bool = True,
        layout: str = "batch first",
        softmax: bool = False,
        dropout: float = 0.0,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.packed, self.layout, self.softmax, self.residual = packed, layout, softmax, residual
        self.embed = nn.Embedding(VOCABULARY, 64, padding_idx=0)
        self.dropout = nn.Dropout(dropout)
        self.rnn = nn.LSTM(64, 32, bidirectional=True, batch_first=layout == "batch first")
        self.rnn2 = nn.LSTM(64, 32, bidirectional=True, batch_first=layout == "batch first")
        self.out = nn.Linear(64, NUM_TAGS)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        x = self.dropout(self.embed(tokens))
        batch, steps, size = x.shape
        if self.layout == "view":
            x = x.view(steps, batch, size)  # (B, T, E) -> (T, B, E), as the LSTM wants it
            h, _ = self.rnn(x)
        elif self.packed:
            h, _ = self.rnn(pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False))
            h, _ = pad_packed_sequence(h, batch_first=True, total_length=steps)
        else:
            h, _ = self.rnn(x)
        h = x + h if self.residual else h
        h = self.dropout(h)
        h2, _ = self.rnn2(h)
        h = h + h2 if self.residual else h2
        logits = self.out(self.dropout(h)).reshape(batch, steps, NUM_TAGS)
        return F.softmax(logits, dim=-1) if self.softmax else logits


def script(
    *, max_len: int = 24, loss_over_padding: bool = False, target: float | None = 0.85, **options: object
) -> Callable[[int], Patient]:
    pad_tag = 0 if loss_over_padding else IGNORED

    def tag_loss(logits: Tensor, tags: Tensor) -> Tensor:
        return F.cross_entropy(logits.reshape(-1, NUM_TAGS), tags.reshape(-1), ignore_index=IGNORED)

    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = Tagger(**options)
        return model, torch.optim.AdamW(model.parameters(), lr=4e-3)

    def batches(seed: int) -> Iterator[Batch]:
        (tokens, lengths), tags = sentences(3000, seed, max_len=max_len, pad_tag=pad_tag)
        shuffle = torch.Generator().manual_seed(seed)
        while True:
            rows = torch.randint(3000, (32,), generator=shuffle)
            yield (tokens[rows], lengths[rows]), tags[rows]

    def loop(patient: Patient, num_steps: int) -> None:
        patient.model.train()
        for _ in range(num_steps):
            inputs, tags = next(patient.stream)
            logits = patient.model(*inputs)
            loss = tag_loss(logits, tags)
            patient.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(patient.model.parameters(), 1.0)
            patient.optimizer.step()

    def evaluate(model: nn.Module) -> float:
        inputs, tags = sentences(400, 90_009, max_len=max_len, pad_tag=IGNORED)
        right = model(*inputs).argmax(-1) == tags
        return float(right[tags != IGNORED].float().mean())

    def make(seed: int) -> Patient:
        batch = next(batches(seed))
        return Patient(
            seed,
            build=build,
            batches=batches,
            loss=tag_loss,
            loop=loop,
            evaluate=evaluate,
            target=target,
            steps_to_learn=120,
            batch=batch,
            validation=sentences(32, 90_010, max_len=max_len, pad_tag=pad_tag),
            lengths=batch[0][1],
        )

    return make


def case(name: str, code: str | None = None, strength: int = 0, **options: object) -> Case:
    return Case(f"w_tagger-{name}", "w_tagger", code, strength, script(**options))


CASES = [
    case("bidirectional-packed"),
    case("residual", residual=True),
    case("dropout-0.3", dropout=0.3),
    case("dropout-0.7", dropout=0.7, target=0.45),
    case("padded-but-masked-loss", packed=False),
    case("padding-read-0", "padding-read", 0, packed=False, loss_over_padding=True, max_len=60),
    case("padding-read-1", "padding-read", 1, packed=False, loss_over_padding=True, max_len=120),
    case("batch-mixing-0", "batch-mixing", 0, layout="view"),
    case("batch-mixing-1", "batch-mixing", 1, packed=False, layout="time first"),
    case("probabilities-into-cross-entropy-0", "probabilities-into-cross-entropy", 0, softmax=True, dropout=0.3),
    case("probabilities-into-cross-entropy-1", "probabilities-into-cross-entropy", 1, softmax=True, dropout=0.5),
]
