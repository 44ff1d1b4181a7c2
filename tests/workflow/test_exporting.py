"""`export`: a run written for others gives the run's numbers when it is read back."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

import throughtime
from throughtime.cli.main import run as command
from throughtime.errors import InputError, RunError

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="onnx, onnxscript or onnxruntime is not installed: extra 'onnx'",
)
WORDS = "The old man lit his"


@needs_onnx
@pytest.mark.parametrize("model", ["recurrent", "window"])
def test_onnx_predicts_what_the_run_predicts(model: str, runs: dict[str, Path], tmp_path: Path) -> None:
    from throughtime.integrations.onnx import OnnxPredictor

    found = throughtime.export(runs[model], tmp_path / "model.onnx")
    assert found.num_words == 100
    assert found.largest_difference < 1e-4
    assert found.num_bytes == found.path.stat().st_size
    predictor = throughtime.load(runs[model])
    assert OnnxPredictor(found.path).vocabulary == list(predictor.vocabulary.words)
    for stop in range(len(WORDS.split()) + 1):
        words = WORDS.split()[:stop]
        ours, theirs = predictor.next(" ".join(words)), OnnxPredictor(found.path).next(words)
        assert [word for word, _ in theirs] == [word for word, _ in ours]
        assert dict(theirs) == pytest.approx(dict(ours), rel=1e-4)


@pytest.mark.parametrize("model", ["recurrent", "window", "cloze"])
def test_a_folder_loads_back_with_the_same_numbers(model: str, runs: dict[str, Path], tmp_path: Path) -> None:
    found = throughtime.export(runs[model], tmp_path / "model")
    assert found.largest_difference == 0
    before, after = throughtime.load(runs[model]), throughtime.load(tmp_path / "model")
    assert after.score(f"{WORDS} pipe") == before.score(f"{WORDS} pipe")
    with pytest.raises(RunError, match="load the predictor from one"):
        _ = after.ngram
    with pytest.raises(RunError, match="itself exported"):
        throughtime.export(tmp_path / "model", tmp_path / "again")


def test_the_card_says_what_it_is(runs: dict[str, Path], tmp_path: Path) -> None:
    throughtime.export(runs["recurrent"], tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    outcome = json.loads((runs["recurrent"] / "outcome.json").read_text())
    assert card.startswith("---\nlibrary_name: throughtime\n")
    assert f"| next word | {outcome['test']['next']['perplexity']:.2f} |" in card
    assert "book.txt" in card
    assert str(runs["recurrent"].parent) not in card


@pytest.mark.parametrize("model", ["recurrent", "cloze"])
def test_card_and_folder_carry_the_vocabulary(model: str, runs: dict[str, Path], tmp_path: Path) -> None:
    throughtime.export(runs[model], tmp_path / "model")
    ours = throughtime.load(runs[model]).vocabulary
    told = json.loads((tmp_path / "model" / "vocabulary.json").read_text(encoding="utf-8"))
    assert told["words"] == list(ours.words)
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    about = card[card.index("## Vocabulary") : card.index("## Training")]
    assert f"each of the {len(ours):,} ids is in `vocabulary.json`" in about
    listed = json.loads(about.split("```json\n")[1].split("\n```")[0])
    assert listed == list(ours.words[len(ours.end_ids) + 1 :][:20])


def test_a_damaged_folder_is_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    throughtime.export(runs["recurrent"], tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"model\.safetensors is damaged"):
        throughtime.load(tmp_path / "model")


def test_nothing_is_overwritten(runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("mine")
    with pytest.raises(RunError, match="choose another name"):
        throughtime.export(runs["recurrent"], tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_text() == "mine"


@needs_onnx
def test_a_cloze_model_has_no_onnx_file(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="reads both sides"):
        throughtime.export(runs["cloze"], tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("library", ["onnx", "onnxscript", "onnxruntime"])
def test_a_library_that_is_absent_is_told_before_anything_is_written(
    library: str, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None if name == library else sys)
    with pytest.raises(InputError, match=rf"needs the library {library}, .*throughtime\[onnx\]"):
        throughtime.export(runs["recurrent"], tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["model.onx", "model.ONNX", "model.onnxx"])
def test_a_misspelt_ending_is_no_folder(name: str, runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"write \.onnx for an ONNX file"):
        throughtime.export(runs["recurrent"], tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_the_command(runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["export", str(runs["recurrent"]), str(tmp_path / "model")]) == 0
    assert "differ from the run's by 0 at most" in capsys.readouterr().out
    assert command(["export", str(runs["recurrent"]), str(tmp_path / "other"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_words"] == 100
