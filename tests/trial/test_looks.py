"""A training that is looked at gives the same numbers, and what was seen of it is what can be measured."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

import throughtime
from throughtime.measurement import GradientRecord
from throughtime.remedy import TreatmentPlan
from throughtime.trial import Course, Look, run_course
from throughtime.trial.ledger import Ledger
from throughtime.trial.looks import Looks, looked_at_steps
from trial.toys import OwnLoop, Toy

PLAN = TreatmentPlan(learning_rate=0.02, clip=0.5)


class Noisy(OwnLoop):
    """Dropout draws numbers in every update, and a loop of its own draws some too."""

    def build(self, seed: int) -> tuple[nn.Module, Optimizer]:
        torch.manual_seed(seed)
        model = Dropped()
        return model, torch.optim.Adam(model.parameters(), lr=self.rate)

    def seen(self, x: Tensor) -> Tensor:
        return x + 0.01 * torch.randn_like(x)


class Dropped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(2, 8)
        self.frozen = nn.Dropout(0.2).eval()  # stays in evaluation whatever the rest is in
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.frozen(self.rnn(x)[0][-1])))


def looked_at(patient: Any, plan: TreatmentPlan = PLAN, num_steps: int = 30, seed: int = 0) -> Looks:
    looks = run_course(patient, Course(plan=plan, seed=seed, num_steps=num_steps, looked_at=True)).looks
    assert looks is not None
    return looks


@pytest.mark.parametrize("patient", [Toy(), Noisy()], ids=["loop of the package", "loop of the user, with noise"])
def test_looking_changes_no_bit(patient: Toy, tmp_path: Path) -> None:
    patient.target = None  # so that the weights are kept whatever came out
    weights = []
    for looks in (False, True):
        path = tmp_path / f"{looks}.safetensors"
        result = run_course(patient, Course(plan=PLAN, seed=0, num_steps=30, looked_at=looks, keep=str(path)))
        assert (result.looks is not None) is looks
        weights.append(load_file(path))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())


def test_the_looks_are_what_measure_and_the_loss_say() -> None:
    patient = Toy()
    looks = looked_at(patient)
    assert looks.steps == (*looked_at_steps(30), 30)
    model, _ = PLAN.apply(*patient.build(0))
    batch = next(patient.batches(0))
    record = throughtime.measure(model, *batch, patient.loss, time_dim=0)
    assert looks.module == record.top == "rnn"
    assert looks.reach[0] == record.reach
    assert looks.log10_gradient[0] == tuple(value and round(value, 2) for value in record.log10_gradient)
    assert looks.losses[0] == pytest.approx(patient.loss(model(batch[0]), batch[1]).item(), rel=1e-5)
    assert looks.losses[-1] is not None
    assert looks.losses[-1] < 0.5 * looks.losses[0]
    history = looks.history
    assert history is not None
    assert (history.steps, history.reach["rnn"]) == (looks.steps, looks.reach)


def test_the_same_looks_each_time_and_through_a_ledger(tmp_path: Path) -> None:
    course = Course(plan=PLAN, seed=3, num_steps=30, looked_at=True)
    result = run_course(Toy(), course)
    assert run_course(Toy(), course) == result
    Ledger(tmp_path / "ledger.jsonl", "toy").add(course, result)
    assert Ledger(tmp_path / "ledger.jsonl", "toy").results == {course.key: result}


def test_a_ledger_of_an_older_version_is_read(tmp_path: Path) -> None:
    course = Course(plan=PLAN, seed=3, num_steps=30, looked_at=True)
    result = run_course(Toy(), course)
    values = {name: value for name, value in asdict(result).items() if name != "looks"}
    lines = [{"event": "patient", "patient": "toy"}, {"event": "training", "key": course.key, **values}]
    (tmp_path / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    again = Ledger(tmp_path / "ledger.jsonl", "toy").results[course.key]
    assert again.looks is None
    assert again.score == result.score


def test_looks_are_few_and_end_with_the_training() -> None:
    assert looked_at_steps(1) == (0,)
    assert len(looked_at_steps(10**6)) == 12
    assert looked_at(Toy(), num_steps=1).steps == (0, 1)


def test_a_training_that_blows_up_is_seen_to() -> None:
    class Poisoned(Toy):
        def batches(self, seed: int) -> Iterator[tuple[Any, Any]]:
            for number, (x, y) in enumerate(super().batches(seed)):
                yield (x * math.nan if number == 9 else x), y

    looks = looked_at(Poisoned())
    assert looks.losses[0] is not None
    assert looks.losses[-1] is None
    assert looks.reach[0] is not None
    assert looks.reach[-1] is None
    assert looks.log10_gradient[-1] == ()


def test_what_fails_on_the_way_has_been_seen_so_far() -> None:
    class Ends(Toy):
        def batches(self, seed: int) -> Iterator[tuple[Any, Any]]:
            for number, batch in enumerate(super().batches(seed)):
                if number == 20:
                    raise OSError("the disk is gone")
                yield batch

    result = run_course(Ends(), Course(plan=PLAN, seed=0, num_steps=30, looked_at=True))
    assert result.failed == "OSError: the disk is gone"
    assert result.looks is not None
    assert result.looks.steps == looked_at_steps(30)


def test_a_model_that_is_called_otherwise_has_no_looks_and_learns_all_the_same() -> None:
    class Called(Noisy):
        def build(self, seed: int) -> tuple[nn.Module, Optimizer]:
            model, _ = super().build(seed)
            forward = model.forward
            model.forward = lambda x, secret: forward(x)  # type: ignore[method-assign]
            return model, torch.optim.Adam(model.parameters(), lr=self.rate)

        def train(
            self, model: nn.Module, optimizer: Optimizer, batches: Iterator[Any], num_steps: int, plan: TreatmentPlan
        ) -> None:
            super().train(lambda x: model(x, None), optimizer, batches, num_steps, plan)  # type: ignore[arg-type]

        def score(self, model: nn.Module) -> float:
            return 1.0

    looks = looked_at(Called())
    assert set(looks.losses) == {None}
    assert looks.history is None
    assert "secret" in looks.cannot_tell


def test_a_patient_may_look_by_itself() -> None:
    class Own(Toy):
        def look(self, model: nn.Module) -> Look:
            torch.manual_seed(99)  # which is put back
            return Look(loss=2.5, gradient=self.gradient(model), window=7)

        def gradient(self, model: nn.Module) -> GradientRecord:
            return throughtime.measure(model, next(self.batches(5))[0], time_dim=0)

    looks = looked_at(Own())
    assert set(looks.losses) == {2.5}
    assert looks.history is not None
    assert looks.history.window == 7
    plain = run_course(Toy(), Course(plan=PLAN, seed=0, num_steps=30))
    assert run_course(Own(), Course(plan=PLAN, seed=0, num_steps=30, looked_at=True)).score == plain.score


def test_a_long_curve_is_cut_and_its_digits_are_few() -> None:
    looks = looked_at(Toy(length=700), num_steps=1)
    assert [len(curve) for curve in looks.log10_gradient] == [513, 513]
    assert len(json.dumps(asdict(looks))) < 10_000
