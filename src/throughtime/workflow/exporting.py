"""`throughtime export`: a run's network as a file for others, an ONNX file or a folder of safetensors and a card."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from throughtime.errors import InputError, RunError
from throughtime.integrations.onnx import LIBRARIES, OnnxPredictor, need_libraries, to_onnx
from throughtime.integrations.single_step import single_step
from throughtime.model import NEXT
from throughtime.storage import new_folder, seal, write_text
from throughtime.storage.atomic import make_folder
from throughtime.text import open_corpus
from throughtime.workflow.card import model_card
from throughtime.workflow.predictor import CONFIG_FILE, VOCABULARY_FILE, WEIGHTS_FILE, Predictor, load

__all__ = ["Export", "export"]

CHECKED_WORDS = 100
"""Words of the validation text on which the exported network is compared with the run's."""
LARGEST_DIFFERENCE = 1e-3
"""In log probability, between two libraries that both compute in float32."""


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        path: the file, or the folder.
        num_bytes: its size.
        num_words: of the validation text, on which it was compared with the run's network, word by word.
        largest_difference: in the natural log of any word's probability there.
    """

    path: Path
    num_bytes: int
    num_words: int
    largest_difference: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "path": str(self.path),
            "num_bytes": self.num_bytes,
            "num_words": self.num_words,
            "largest_difference_nats": self.largest_difference,
        }


def export(run: str | Path, target: str | Path, *, threads: int = 0) -> Export:
    """Write a run's best network for others, read it back, and compare it with the run's on the validation text.

    A target that ends in `.onnx` becomes one file that holds a single step, its states as inputs and outputs; it runs
    wherever ONNX does. Any other target becomes a folder of safetensors, the recipe, the vocabulary and a model card,
    which `throughtime.load` reads as it reads a run. Both carry the vocabulary.

    Args:
        run: the folder of a run.
        target: the file or the folder; it must not exist yet.
        threads: threads that torch uses; 0 leaves them.

    Returns:
        What was written, its size in bytes, and the largest difference in log probability (nats) from the run.

    Raises:
        InputError: if the model has no single step (cloze), a library is missing, or `.onnx` is misspelt.
        RunError: if there is no such run, the target exists, or what was written does not give the run's numbers.
    """
    path = Path(target)
    if path.suffix != ".onnx" and get_close_matches(path.suffix.lower(), [".onnx"]):
        raise InputError(f"{path} ends in {path.suffix}: write .onnx for an ONNX file, or another name for a folder")
    if path.suffix == ".onnx":
        need_libraries(*LIBRARIES)
    predictor = load(run, device="cpu", threads=threads)
    if predictor.run is None:
        raise RunError(f"{run} is itself exported: give the folder of the run")
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise RunError(f"{path} exists: choose another name, or remove it first")
    make_folder(path.parent)
    ids = np.asarray(open_corpus(predictor.run.corpus_path).valid[:CHECKED_WORDS]).astype(np.int64)
    if path.suffix == ".onnx":
        _write_onnx(predictor, path)
        found = _onnx_log_probabilities(path, ids)
    else:
        _write_folder(predictor, path)
        found = _log_probabilities(load(path, device="cpu"), ids)
    difference = float(np.abs(found - _log_probabilities(predictor, ids)).max())
    if not difference <= LARGEST_DIFFERENCE:
        raise RunError(
            f"{path} was written but does not give the run's numbers: log probabilities differ by up to "
            f"{difference:.2g}, {LARGEST_DIFFERENCE:g} at most is rounding; do not use it"
        )
    num_bytes = path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in path.iterdir())
    return Export(path, num_bytes, len(ids), difference)


def _write_onnx(predictor: Predictor, path: Path) -> None:
    if predictor.tokenised:
        description = "A word predictor trained by throughtime on words separated by spaces"
    else:
        description = "A word predictor trained by throughtime; words and punctuation are its tokens"
    step = single_step(predictor.model, end=predictor.vocabulary.end_ids[0])
    to_onnx(step, path, predictor.vocabulary, lower=predictor.lower, description=description)


def _write_folder(predictor: Predictor, path: Path) -> None:
    run = predictor.run
    assert run is not None
    if path.exists():
        path.rmdir()  # empty; the new folder takes its place
    with new_folder(path) as folder:
        # By parameter: the softmax shares the matrix of the embedding, and safetensors holds nothing twice.
        weights = {name: weight.detach().contiguous() for name, weight in predictor.model.named_parameters()}
        save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})
        predictor.vocabulary.save(folder / VOCABULARY_FILE)
        write_text(folder / CONFIG_FILE, run.recipe_path.read_text(encoding="utf-8"))
        write_text(folder / "README.md", model_card(run, predictor))
        seal(folder)


def _log_probabilities(predictor: Predictor, ids: np.ndarray) -> np.ndarray:
    """(N + 1, V) of every word at each place, one head after another; what `predict` answers from."""
    model, end = predictor.model, predictor.vocabulary.end_ids[0]
    around = [np.full(model.before, end), ids, np.full(model.after + 1, end)]
    rows = torch.from_numpy(np.concatenate(around).astype(np.int64))[:, None]
    first = model.before
    with torch.no_grad():
        features, _ = model.features(rows, first, first + len(ids) + 1, model.initial_state(1))
        head = NEXT if NEXT in features else next(iter(features))
        return model.output.log_probabilities(features[head][:, 0]).numpy()


def _onnx_log_probabilities(path: Path, ids: np.ndarray) -> np.ndarray:
    return OnnxPredictor(path).log_probabilities(ids.tolist())
