"""The exported step of every cell, in onnxruntime, beside the layer that it came from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from throughtime.cell import cells
from throughtime.errors import InputError, RunError
from throughtime.integrations.single_step import SingleStep, single_step
from throughtime.model import NEXT, ClozePredictor, RecurrentPredictor, Sizes, WindowPredictor, WordPredictor
from throughtime.text import Vocabulary

for library in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(library, reason=f"{library} is not installed: extra 'onnx'")
from throughtime.integrations.onnx import OnnxPredictor, to_onnx  # noqa: E402

VOCABULARY = Vocabulary(("<unk>", "</s>", "the", "cat", "sat", "Café", "“"))
SIZES = Sizes(embedding_size=6, hidden_size=8, dropout=0.5)
TWO_LAYERS = replace(SIZES, num_layers=2)
IDS = [2, 3, 4, 0, 1, 6, 5, 2]


def counts() -> torch.Tensor:
    return torch.arange(len(VOCABULARY), 0, -1)


def exported(model: WordPredictor, path: Path, *, lower: bool = False) -> tuple[SingleStep, OnnxPredictor]:
    step = single_step(model, end=1)
    to_onnx(step, path, VOCABULARY, lower=lower)
    return step, OnnxPredictor(path)


def expected(model: WordPredictor, ids: list[int]) -> np.ndarray:
    """(N + 1, V) by whole sequences."""
    rows = torch.tensor([1] * model.before + ids + [1])[:, None]
    with torch.no_grad():
        features, _ = model.eval().features(rows, model.before, len(rows), model.initial_state(1))
        return model.output.log_probabilities(features[NEXT][:, 0]).numpy()


@pytest.mark.parametrize("cell", [info.name for info in cells()])
def test_every_cell_gives_the_numbers_of_whole_sequences(cell: str, tmp_path: Path) -> None:
    model = RecurrentPredictor(counts(), SIZES, cell=cell)
    _, onnx = exported(model, tmp_path / "model.onnx")
    np.testing.assert_allclose(onnx.log_probabilities(IDS), expected(model, IDS), atol=1e-5)


def test_a_window_carries_its_words(tmp_path: Path) -> None:
    model = WindowPredictor(counts(), SIZES, words=3)
    _, onnx = exported(model, tmp_path / "model.onnx")
    np.testing.assert_allclose(onnx.log_probabilities(IDS), expected(model, IDS), atol=1e-5)


def test_any_batch_is_taken(tmp_path: Path) -> None:
    import onnxruntime

    step, _ = exported(RecurrentPredictor(counts(), TWO_LAYERS, cell="lstm"), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["word", "h_0", "c_0", "h_1", "c_1"]
    assert [each.name for each in session.get_outputs()][1:] == ["next_h_0", "next_c_0", "next_h_1", "next_c_1"]
    for batch in (1, 3):
        words, state = torch.arange(batch) + 2, [torch.randn(1, batch, 8) for _ in range(4)]
        names = ("word", *step.state_names)
        feed = {name: part.numpy() for name, part in zip(names, (words, *state), strict=True)}
        with torch.no_grad():
            wanted = step(words, *state)
        for ours, theirs in zip(wanted, session.run(None, feed), strict=True):
            np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-5)


def test_the_file_carries_the_vocabulary(tmp_path: Path) -> None:
    model = RecurrentPredictor(counts(), SIZES, cell="gru")
    _, onnx = exported(model, tmp_path / "model.onnx", lower=True)
    assert tuple(onnx.vocabulary) == VOCABULARY.words
    words = onnx.next(["THE", "cat"], top=3)
    probability = np.exp(expected(model, [2, 3])[-1])
    assert len(words) == 3
    assert "<unk>" not in dict(words)
    assert dict(words) == pytest.approx(
        {word: probability[VOCABULARY.encode([word])[0]] for word in dict(words)}, rel=1e-4
    )


def test_a_cloze_model_has_no_single_step() -> None:
    with pytest.raises(InputError, match="reads both sides of a blank"):
        single_step(ClozePredictor(counts(), SIZES, cell="lstm"), end=1)


def test_files_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no file"):
        OnnxPredictor(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(RunError, match="no ONNX file"):
        OnnxPredictor(tmp_path / "bad.onnx")
