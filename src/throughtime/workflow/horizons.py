"""The measurements of a trained run on its own validation text."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from throughtime.check import at_least
from throughtime.errors import InputError, RecipeError
from throughtime.measurement import GradientRecord, HorizonsRecord, NeedRecord, horizons, measure, need
from throughtime.model import BLANK, NEXT, ClozePredictor, OutputLayer, WordPredictor
from throughtime.model.recurrent import RecurrentPredictor
from throughtime.storage import RunFolder
from throughtime.text import open_corpus
from throughtime.workflow.predictor import Predictor, load

__all__ = [
    "horizons_of_run",
    "measure_run",
    "nats",
    "next_words",
    "reach_of",
    "recurrence_and_words",
    "spread_words",
]

STEPS, SEQUENCES = 200, 8
HORIZON_SEQUENCES = 64
NEED_SEQUENCES = 512


def measure_run(
    run: str | Path,
    *,
    steps: int | None = None,
    sequences: int = SEQUENCES,
    seed: int = 0,
    device: str = "auto",
    threads: int = 0,
) -> GradientRecord:
    """The gradient through time of a run's network, by how it foretells words of its validation text.

    Args:
        run: the folder of the run.
        steps: words in a stretch of text, each of which starts from an empty memory; 200, or as many as the text has,
            unless given.
        sequences: stretches, spread evenly over the text.
        seed: of the positions.
        device: "cpu", "cuda" or "auto".
        threads: threads that torch uses; 0 leaves them.

    Raises:
        RecipeError: if the network is not recurrent, or a number is out of range.
        InputError: if the validation text is shorter than one stretch.
        RunError: if the run cannot be used.
    """
    model, ids, targets = _stretches(run, steps, sequences, device, threads)
    return measure(model, ids, targets, model.loss, time_dim=0, num_sequences=sequences, seed=seed)


def horizons_of_run(
    run: str | Path,
    *,
    steps: int | None = None,
    sequences: int = HORIZON_SEQUENCES,
    seed: int = 0,
    device: str = "auto",
    threads: int = 0,
) -> HorizonsRecord:
    """What the text needs, how far the gradient reaches and how much the network uses; as `measure_run` otherwise.

    The need is that of the training text, of which more words are counted than a network is asked.
    """
    model, ids, targets = _stretches(run, steps, sequences, device, threads)
    needed = _need_of_text(open_corpus(RunFolder.open(Path(run)).corpus_path).train, model.model, len(ids), seed)
    return horizons(model, ids, targets, model.loss, time_dim=0, need=needed, seed=seed)


def _need_of_text(text: np.ndarray, model: WordPredictor, steps: int, seed: int) -> NeedRecord | None:
    """Of stretches that do not overlap, since a word that is counted twice tells nothing twice; None of too few."""
    steps = min(steps, len(text) - 1)
    words = _spread(text, model, steps, min(NEED_SEQUENCES, len(text) // (steps + 1)))
    with suppress(InputError):
        return need(words[:-1], words[1:], time_dim=0, seed=seed)
    return None


def reach_of(model: RecurrentPredictor, text: np.ndarray) -> int | None:
    """How far the gradient of a network at hand reaches, on a text of three words at least."""
    words = _spread(text, model, min(STEPS, len(text) - 1), SEQUENCES)
    network = _NextWord(model)
    return measure(network, words[:-1], words[1:], network.loss, time_dim=0, num_sequences=SEQUENCES).reach


class _NextWord(nn.Module):
    """Ids (T, B) to what the softmax sees of each next word, (T, B, E)."""

    def __init__(self, model: WordPredictor) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        beyond = torch.cat([ids, ids[-1:]])  # the last target's own row, which is never read
        state = tuple(part.to(torch.get_default_dtype()) for part in self.model.initial_state(ids.size(1)))
        features, _ = self.model.features(beyond, 1, len(beyond), state)
        return features[NEXT]

    def loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """(T, B), nats."""
        return nats(self.model.output, features, targets)


def nats(output: OutputLayer, features: Tensor, targets: Tensor) -> Tensor:
    """(T, B) losses of the whole softmax, in the precision of the features (T, B, E)."""
    weight, bias = output.weight.to(features.dtype), output.bias.to(features.dtype)
    same = features.stride()[:2] == (0, 0)
    if same:  # for every word, as where chance is found: one softmax
        return -(features[0, 0] @ weight.t() + bias).log_softmax(0)[targets]
    logits = nn.functional.linear(features.flatten(0, 1), weight, bias)
    return nn.functional.cross_entropy(logits, targets.flatten(), reduction="none").view(targets.shape)


class _Blanks(nn.Module):
    """Ids (T, B) to what the softmax sees of each word that has others on both sides, (T - 2, B, E)."""

    def __init__(self, model: ClozePredictor) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        features, _ = self.model.features(ids, 1, len(ids) - 1, self.model.initial_state(ids.size(1)))
        return features[BLANK]


def _stretches(
    run: str | Path, steps: int | None, sequences: int, device: str, threads: int
) -> tuple[_NextWord, Tensor, Tensor]:
    """The network of a run, stretches of its validation text (T, B), and the words after each."""
    at_least("steps", STEPS if steps is None else steps, 2)
    at_least("sequences", sequences, 1)
    return next_words(run, load(run, device=device, threads=threads), steps, sequences)


def next_words(
    run: str | Path, predictor: Predictor, steps: int | None, sequences: int
) -> tuple[_NextWord, Tensor, Tensor]:
    """The network of a run, stretches of its validation text (T, B), and the words after each.

    Raises:
        RecipeError: if it is not recurrent from left to right.
        InputError: if the validation text is shorter than one stretch.
    """
    if not isinstance(predictor.model, RecurrentPredictor):
        raise RecipeError(
            f"{run} holds a network that is not recurrent from left to right, so there is no state to follow: take one "
            "that was trained with --model recurrent"
        )
    words = spread_words(run, predictor, steps, sequences)
    return _NextWord(predictor.model), words[:-1], words[1:]


def recurrence_and_words(
    run: str | Path, steps: int, sequences: int, device: str = "auto", threads: int = 0
) -> tuple[nn.Module, Tensor]:
    """The network of a run as what takes ids (T, B), and stretches of its validation text; a two-sided one too.

    Raises:
        RecipeError: if it has no recurrence.
        InputError: if the validation text is shorter than one stretch.
        RunError: if the run cannot be used.
    """
    predictor = load(run, device=device, threads=threads)
    if isinstance(predictor.model, ClozePredictor):
        return _Blanks(predictor.model), spread_words(run, predictor, steps, sequences)
    model, words, _ = next_words(run, predictor, steps, sequences)
    return model, words


def spread_words(run: str | Path, predictor: Predictor, steps: int | None, sequences: int) -> Tensor:
    """(T + 1, B), spread evenly over the validation text."""
    valid = open_corpus(RunFolder.open(Path(run)).corpus_path).valid
    steps = max(2, min(STEPS, len(valid) - 1)) if steps is None else steps
    if len(valid) < steps + 1:
        raise InputError(
            f"the validation text of {run} has {len(valid)} words: a stretch of {steps} steps needs {steps + 1}"
        )
    return _spread(valid, predictor.model, steps, sequences)


def _spread(text: np.ndarray, model: WordPredictor, steps: int, sequences: int) -> Tensor:
    begins = torch.linspace(0, len(text) - steps - 1, sequences).long()
    rows = begins + torch.arange(steps + 1).unsqueeze(1)
    return torch.from_numpy(text[rows.numpy()].astype("int64")).to(model.embedding.weight.device)
