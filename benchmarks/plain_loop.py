"""The language model that people write first, as a yardstick for `language.py`: nothing in it is throughtime's.

LSTM of 2 x 200 units, no tying, plain SGD at learning rate 20 (divided by 4 when the validation loss gets no better),
gradient norm clipped at 0.25, windows of 35 words, batch of 20, exact softmax.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

WINDOW, BATCH, SIZE = 35, 20, 200


class PlainModel(nn.Module):
    """Embedding, dropout, LSTM, dropout, linear."""

    def __init__(self, num_words: int) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.2)
        self.encoder = nn.Embedding(num_words, SIZE)
        self.rnn = nn.LSTM(SIZE, SIZE, 2, dropout=0.2)
        self.decoder = nn.Linear(SIZE, num_words)
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, words: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        hidden, state = self.rnn(self.drop(self.encoder(words)), state)
        return self.decoder(self.drop(hidden)), state


def columns(ids: np.ndarray, batch: int) -> Tensor:
    length = len(ids) // batch
    return torch.from_numpy(np.asarray(ids[: length * batch]).astype(np.int64)).view(batch, length).t().contiguous()


def zeros(batch: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(2, batch, SIZE), torch.zeros(2, batch, SIZE)


def perplexity(model: PlainModel, ids: np.ndarray) -> float:
    model.eval()
    text, state, nats, count = columns(ids, 10), zeros(10), 0.0, 0
    with torch.no_grad():
        for at in range(0, len(text) - 1, WINDOW):
            target = text[at + 1 : at + 1 + WINDOW]
            logits, state = model(text[at : at + len(target)], state)
            nats += nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="sum").item()
            count += target.numel()
    model.train()
    return math.exp(nats / count)


def run(train: np.ndarray, valid: np.ndarray, test: np.ndarray, num_words: int, minutes: float) -> dict[str, Any]:
    """Train for as many steps as `minutes` hold, by the time of the first 40; evaluations are not counted."""
    torch.manual_seed(0)
    model, text, rate = PlainModel(num_words), columns(train, BATCH), 20.0
    steps, step, best, begin, state = 10**9, 0, float("inf"), time.perf_counter(), zeros(BATCH)
    per_epoch = (len(text) - 1) // WINDOW
    while step < steps:
        at = (step % per_epoch) * WINDOW
        if at == 0:
            state = zeros(BATCH)
        state = (state[0].detach(), state[1].detach())
        target = text[at + 1 : at + 1 + WINDOW]
        model.zero_grad()
        logits, state = model(text[at : at + WINDOW], state)
        nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.add_(parameter.grad, alpha=-rate)
        step += 1
        if step == 10:
            begin = time.perf_counter()
        if step == 50:
            steps = int(minutes * 60 * 40 / (time.perf_counter() - begin))
            print(f"plain loop: {steps} steps of {WINDOW * BATCH} words, {steps / per_epoch:.1f} epochs", flush=True)
        if step % per_epoch == 0 or step == steps:
            found = perplexity(model, valid[:50_000])
            rate = rate if found < best else rate / 4
            best = min(best, found)
            print(f"plain loop: step {step} of {steps}, valid perplexity {found:.1f}", flush=True)
    return {"steps": steps, "valid": perplexity(model, valid), "test": perplexity(model, test)}
