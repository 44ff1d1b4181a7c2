"""What is wrong with a patient is said before anything is trained."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from throughtime.errors import InputError
from throughtime.trial.patient import Admitted, Batches, admit
from trial.toys import Reader, Toy

SEEDS = (0, 1, 2, 3, 4)


class OneStart(Toy):
    """Ignores the seed."""

    def build(self, seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        return super().build(7)


class OneStartOneText(OneStart):
    def batches(self, seed: int) -> Iterator[tuple[Any, Any]]:
        return super().batches(7)


class Exhausted(Toy):
    def batches(self, seed: int) -> Iterator[tuple[Any, Any]]:
        stream = super().batches(seed)
        return (next(stream) for _ in range(3))


class Blind(Toy):
    """Its score does not look at the model."""

    def score(self, model: nn.Module) -> float:
        return 0.5


def test_a_sound_patient_has_nothing_said_of_it() -> None:
    assert admit(Toy(), SEEDS) == Admitted(0, ())


def test_a_build_that_ignores_the_seed_is_said() -> None:
    (note,) = admit(OneStart(), SEEDS).notes
    assert "ignores the seed" in note


def test_a_build_that_leaves_the_seed_to_torch_is_fine() -> None:
    class Unseeded(Toy):
        def build(self, seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
            model = Reader()
            return model, torch.optim.Adam(model.parameters())

    assert admit(Unseeded(), SEEDS).notes == ()


def test_seeds_that_change_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="one training would be counted several times"):
        admit(OneStartOneText(), SEEDS)


def test_a_score_that_does_not_look_at_the_model_is_said() -> None:
    (note,) = admit(Blind(), SEEDS).notes
    assert "whatever the weights are" in note


def test_a_score_that_is_never_finite_is_said() -> None:
    class Undefined(Toy):
        def score(self, model: nn.Module) -> float:
            return float("nan")

    (note,) = admit(Undefined(), SEEDS).notes
    assert note == "score gives no finite number before any training, whatever the weights are"


def test_a_seed_that_fails_is_said_and_another_one_is_looked_at() -> None:
    class Fragile(Toy):
        def build(self, seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
            if seed == 0:
                sys.exit("no")
            if seed == 2:
                raise MemoryError("too much")
            return super().build(seed)

    found = admit(Fragile(), SEEDS)
    assert found.seed == 1
    assert [note.split(":")[0] for note in found.notes] == [
        "the patient's build(0) fails before any training (SystemExit",
        "the patient's build(2) fails before any training (MemoryError",
    ]
    assert all(note.endswith("with such a seed it has not learned") for note in found.notes)


def test_files_that_it_writes_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Writer(Toy):
        def score(self, model: nn.Module) -> float:
            torch.save(model.state_dict(), "best.pt")
            with Path("log.txt").open("a") as log:
                log.write("scored\n")
            return super().score(model)

    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.txt").write_text("begun\n")
    (tmp_path / "data.csv").write_text("1,2\n")
    (note,) = admit(Writer(), SEEDS).notes
    assert "files of the present folder changed as the patient was looked over (best.pt, log.txt)" in note


def test_batches_that_run_out_begin_again() -> None:
    batches = Batches(Exhausted(), 0)
    drawn = [next(batches) for _ in range(5)]
    assert batches.ran_out_after == 3
    assert torch.equal(drawn[0][0], drawn[3][0])
    assert not torch.equal(drawn[0][0], drawn[1][0])


def test_no_batches_at_all_are_refused() -> None:
    class Empty(Toy):
        def batches(self, seed: int) -> Iterator[tuple[Any, Any]]:
            return iter(())

    with pytest.raises(InputError, match=r"batches\(0\) is empty"):
        admit(Empty(), SEEDS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": None}, "has no 'score'"),
        ({"target": "high"}, "the target of a patient is a number"),
        ({"build": lambda seed: Reader()}, "expected \\(model, optimizer\\)"),
        ({"build": lambda seed: 1 / 0}, "build\\(0\\) fails before any training \\(ZeroDivisionError"),
        ({"batches": lambda seed: iter([1])}, "gives int: expected \\(inputs, targets\\)"),
    ],
)
def test_what_is_no_patient_is_refused(change: dict[str, Any], message: str) -> None:
    patient = Toy()
    vars(patient).update(change)
    with pytest.raises(InputError, match=message):
        admit(patient, SEEDS)


def test_looking_leaves_the_random_state() -> None:
    before = torch.get_rng_state()
    admit(Toy(), SEEDS)
    assert torch.equal(before, torch.get_rng_state())
