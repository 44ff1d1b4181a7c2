"""ONNX: a word predictor as one file that runs without Python, with its states as inputs and outputs.

The file carries what a reader needs beside the weights, as metadata: `vocabulary` (a JSON list, the word of each id),
`initial_state` (a JSON list of what each state input is filled with before the first word), `end_id`, `unknown_id`,
`lower` (whether words are to be written small before they are looked up), and `description`.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from throughtime.errors import InputError, RunError
from throughtime.integrations.single_step import SingleStep
from throughtime.storage import write_bytes
from throughtime.text import Vocabulary

__all__ = ["LIBRARIES", "OnnxPredictor", "need_libraries", "to_onnx"]

LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
"""To write, and to read."""

WORD, LOG_PROBABILITIES, NEXT_PREFIX = "word", "log_probabilities", "next_"


def need_libraries(*names: str) -> None:
    """Refuse to begin what could not be ended.

    Raises:
        InputError: if one is not installed.
    """
    for name in names:
        if find_spec(name) is None:
            raise InputError(f"ONNX needs the library {name}, which is absent: pip install 'throughtime[onnx]'")


def to_onnx(
    step: SingleStep, path: Path, vocabulary: Vocabulary, *, lower: bool = False, description: str = ""
) -> None:
    """Write a model's single step.

    Inputs: `word` (B,) int64 and one input for each state; outputs: `log_probabilities` (B, V) float32 and `next_` with
    the name of each state. B is free.

    Args:
        step: of the model, on the CPU, in eval mode.
        path: of the file.
        vocabulary: whose words the ids are.
        lower: whether letter case was folded in training.
        description: a sentence for whoever finds the file.

    Raises:
        InputError: if `onnx` and `onnxscript` are not installed.
        RunError: if the file cannot be written.
    """
    need_libraries("onnx", "onnxscript")
    names = [WORD, *step.state_names]
    batch = torch.export.Dim("batch")
    axes = ({0: batch}, tuple({axis: batch} for axis in step.batch_axes))
    # A batch of one would be taken for a constant.
    examples = (torch.zeros(2, dtype=torch.int64), *step.initial_state(2))
    # A matrix that is computed from weights (an orthogonal one) is computed now, and a constant of the file.
    with _quiet(), parametrize.cached(), torch.no_grad():
        step(*examples)
        program = torch.onnx.export(
            step,
            examples,
            input_names=names,
            output_names=[LOG_PROBABILITIES, *(f"{NEXT_PREFIX}{name}" for name in step.state_names)],
            dynamic_shapes=axes,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    proto.doc_string = description
    metadata = {
        "vocabulary": json.dumps(vocabulary.words, ensure_ascii=False),
        "initial_state": json.dumps([_filling(part) for part in step.initial_state(1)]),
        "end_id": str(vocabulary.end_ids[0]),
        "unknown_id": str(vocabulary.unknown_id),
        "lower": json.dumps(lower),
        "description": description,
    }
    for name, value in metadata.items():
        proto.metadata_props.add(key=name, value=value)
    write_bytes(path, proto.SerializeToString())


class OnnxPredictor:
    """A file of `to_onnx` as something to ask, with onnxruntime and without torch; a model for other languages too.

    Args:
        path: the file.

    Attributes:
        vocabulary: the word of each id.

    Raises:
        InputError: if `onnxruntime` is not installed.
        RunError: if the file cannot be read, or lacks the vocabulary.
    """

    def __init__(self, path: str | Path) -> None:
        need_libraries("onnxruntime")
        import onnxruntime

        if not Path(path).is_file():
            raise RunError(f"there is no file {path}")
        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no other base
            raise RunError(f"{path} is no ONNX file that onnxruntime can read: {error}") from error
        found: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        if "vocabulary" not in found:
            raise RunError(f"{path} has no vocabulary in its metadata: write it with `throughtime export`")
        self.vocabulary: list[str] = json.loads(found["vocabulary"])
        self._ids = {word: index for index, word in enumerate(self.vocabulary)}
        self._end, self._unknown = int(found["end_id"]), int(found["unknown_id"])
        self._lower: bool = json.loads(found["lower"])
        inputs = self._session.get_inputs()[1:]
        self._start = {
            each.name: np.full(_shape(each.shape), value, _DTYPES[each.type])
            for each, value in zip(inputs, json.loads(found["initial_state"]), strict=True)
        }

    def log_probabilities(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """(N + 1, V): the natural log of every word's probability at each place of N ids, and behind them."""
        state, rows = self._start, []
        for index in (self._end, *ids):
            row, state = self._step(index, state)
            rows.append(row)
        return np.stack(rows)

    def next(self, words: Sequence[str], top: int = 5) -> list[tuple[str, float]]:
        """The likeliest words after some, with their probabilities; `<unk>` is not offered."""
        spelled = [word.lower() for word in words] if self._lower else words
        found = np.exp(self.log_probabilities([self._ids.get(word, self._unknown) for word in spelled])[-1])
        found[self._unknown] = 0.0
        best = np.argsort(-found, kind="stable")[:top]
        return [(self.vocabulary[index], float(found[index])) for index in best]

    def _step(
        self, index: int, state: Mapping[str, npt.NDArray[Any]]
    ) -> tuple[npt.NDArray[np.float32], dict[str, npt.NDArray[Any]]]:
        first, *after = self._session.run(None, {WORD: np.array([index]), **state})
        return first[0], dict(zip(state, after, strict=True))


_DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


def _shape(shape: Sequence[int | str]) -> tuple[int, ...]:
    """For one text."""
    return tuple(size if isinstance(size, int) else 1 for size in shape)


def _filling(part: Tensor) -> float | int:
    """The one number that a state's tensor holds everywhere before the first word."""
    first: float | int = part.flatten()[0].item() if part.numel() else 0
    assert bool((part == first).all()), "an initial state that is not one number everywhere"
    return first


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of its own internals, which its caller can do nothing about."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
