"""One training: the plan's loop part reaches any loop, and what fails has not learned."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import Optimizer

from throughtime.remedy import TreatmentPlan
from throughtime.trial.course import Course, run_course, train_under
from throughtime.trial.patient import Batches
from throughtime.trial.rows import FiniteRows
from trial.toys import OwnLoop, Reader, Toy, drawn

AS_IT_IS = TreatmentPlan()
LEARNS = TreatmentPlan(learning_rate=0.02)


def course(plan: TreatmentPlan = AS_IT_IS, seed: int = 0, num_steps: int = 60, **options: Any) -> Course:
    return Course(plan=plan, seed=seed, num_steps=num_steps, **options)


class Unclipped(OwnLoop):
    clip = None


def updates(patient: Toy, plan: TreatmentPlan, num_steps: int) -> list[float]:
    """Norms of the changes of all weights, for SGD at rate 1: those of the gradients as the optimizer sees them."""
    torch.manual_seed(0)
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    norms: list[float] = []
    before = [p.detach().clone() for p in model.parameters()]

    def measured(*_: Any) -> None:
        after = [p.detach().clone() for p in model.parameters()]
        norms.append(math.sqrt(sum(float((p - b).square().sum()) for p, b in zip(after, before, strict=True))))
        before[:] = after

    optimizer.register_step_post_hook(measured)
    train_under(patient, plan, model, optimizer, Batches(patient, 0), num_steps)
    return norms


def test_the_same_course_gives_the_same_numbers() -> None:
    first, second = run_course(Toy(), course(LEARNS)), run_course(Toy(), course(LEARNS))
    assert first == second
    assert first.learned
    assert first.score is not None
    assert first.score >= 0.9
    assert run_course(Toy(), course()).learned is False


@pytest.mark.parametrize("patient", [Toy(), Unclipped()], ids=["loop of the package", "loop of the user"])
def test_a_clip_of_the_plan_bounds_every_update(patient: Toy) -> None:
    assert max(updates(patient, TreatmentPlan(clip=0.01), 5)) <= 0.01 * (1 + 1e-5)
    assert min(updates(patient, TreatmentPlan(clip=0.0), 5)) > 0.01


@pytest.mark.parametrize("patient", [Toy(), Unclipped()], ids=["loop of the package", "loop of the user"])
def test_the_first_updates_are_warmed_up(patient: Toy) -> None:
    cold = updates(patient, TreatmentPlan(clip=0.01), 10)
    warm = updates(patient, TreatmentPlan(clip=0.01, warmup_share=0.5), 10)
    assert [round(a / b, 2) for a, b in zip(warm, cold, strict=True)] == [0.2, 0.4, 0.6, 0.8, *([1.0] * 6)]


def test_the_present_clip_holds_until_a_plan_changes_it() -> None:
    patient = Toy()
    patient.clip = 0.01
    assert max(updates(patient, AS_IT_IS, 3)) <= 0.01 * (1 + 1e-5)


def test_updates_that_are_not_finite_are_left_out() -> None:
    class Poisoned(Toy):
        def batches(self, seed: int) -> Iterator[tuple[Any, Any]]:
            for number, (x, y) in enumerate(super().batches(seed)):
                yield (x * math.nan if number == 1 else x), y

    spoiled, saved = (
        run_course(Poisoned(), course()),
        run_course(Poisoned(), course(TreatmentPlan(drop_non_finite=True))),
    )
    assert saved.score is not None
    assert saved.notes == ("1 updates were left out since they were not finite",)
    assert spoiled.score is None


class Gaps(Toy):
    """In every batch some sequences have a gap; in one there is nothing else."""

    def batches(self, seed: int) -> Iterator[tuple[Any, Any]]:
        for number, (x, y) in enumerate(super().batches(seed)):
            x[3, : 16 if number == 2 else 5, 0] = math.nan
            yield x, y


def test_sequences_that_are_not_finite_are_left_out() -> None:
    result = run_course(Gaps(), course(TreatmentPlan(learning_rate=0.02, drop_non_finite=True)))
    assert result.learned
    assert result.notes == (
        f"{59 * 5} sequences were left out since their inputs were not finite",
        "1 updates were left out since they were not finite",
    )
    spoiled = run_course(Gaps(), course(LEARNS))
    assert (spoiled.score, spoiled.learned) == (None, False)
    assert spoiled.failed.startswith("the weights are not finite after the training")


def test_rows_go_with_their_targets_and_what_is_unknown_stays() -> None:
    x, y = torch.randn(4, 3, 2), torch.arange(3)
    x[1, 0] = math.inf
    mask = torch.full((3, 4), -math.inf)
    model = Reader()
    inputs, targets = next(FiniteRows(iter([((x, mask), y)]), model, None))
    assert torch.equal(inputs[0], x[:, 1:])
    assert inputs[1].shape == (2, 4)
    assert targets.tolist() == [1, 2]
    for batch, time_dim in (((x[:, 0], y), 0), ((x, torch.zeros(5)), None), ((x, "none"), None)):
        assert next(FiniteRows(iter([batch]), model, time_dim))[0] is batch[0]


def test_sequences_lie_where_a_model_that_turns_its_inputs_round_reads_them() -> None:
    class Turning(Reader):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.transpose(0, 1))

    x, y = torch.randn(3, 4, 2), torch.arange(3)
    x[0, 1] = math.inf
    inputs, targets = next(FiniteRows(iter([(x, y)]), Turning(), None))
    assert torch.equal(inputs, x[1:])
    assert targets.tolist() == [1, 2]


def test_a_loop_that_makes_no_update_is_said() -> None:
    class Skips(OwnLoop):
        def train(
            self, model: nn.Module, optimizer: Optimizer, batches: Iterator[Any], num_steps: int, plan: TreatmentPlan
        ) -> None:
            for _ in range(num_steps):
                next(batches)

    (note,) = run_course(Skips(), course()).notes
    assert note.startswith("the loop never called step()")


def test_larger_batches_take_more_of_the_stream() -> None:
    patient = Toy()
    model, optimizer = patient.build(0)
    batches = Batches(patient, 0)
    train_under(patient, TreatmentPlan(batch_factor=3), model, optimizer, batches, 4)
    assert batches.num_given == 12


def test_an_early_stop_keeps_the_best_weights() -> None:
    class Overfits(Toy):
        """The held-out batch has its labels turned round: the more is learned, the worse it gets."""

        def __init__(self) -> None:
            super().__init__(rate=0.02)
            x, y = drawn(torch.Generator().manual_seed(5), 32, self.length)
            self.validation = x, 1 - y

    result = run_course(Overfits(), course(TreatmentPlan(patience=2)))
    assert any("stopped early" in note for note in result.notes)
    assert not result.learned
    assert run_course(Overfits(), course()).learned


class Echo(nn.Module):
    """Returns its state, to be carried."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, 4)
        self.seen: list[bool] = []

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.seen.append(h is not None)
        return self.rnn(x, h)


class InWindows(Toy):
    """A target at each of 12 steps, in windows of 4."""

    window = 4

    def batches(self, seed: int) -> Iterator[tuple[Any, Any]]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            x = torch.randn(12, 3, 2, generator=generator)
            yield x, x.roll(1, 0)[..., :1].expand(-1, -1, 4)

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        return (outputs[0] - targets).square()


@pytest.mark.parametrize(
    ("plan", "wanted"),
    [
        (AS_IT_IS, [False, True, True, False]),
        (TreatmentPlan(carry=False), [False, False, False, False]),
        (TreatmentPlan(window=12), [False, False, False, False]),
        (TreatmentPlan(window=6), [False, True, False, True]),
    ],
)
def test_windows_carry_their_state(plan: TreatmentPlan, wanted: list[bool]) -> None:
    model = Echo()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train_under(InWindows(), plan, model, optimizer, Batches(InWindows(), 0), 4)
    assert model.seen == wanted


def test_a_curriculum_begins_with_short_sequences() -> None:
    lengths = []

    class Looking(InWindows):
        window = None

        def loss(self, outputs: Any, targets: Tensor) -> Tensor:
            lengths.append(len(targets))
            return super().loss(outputs, targets)

    model = Echo()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train_under(Looking(), TreatmentPlan(curriculum=0.5), model, optimizer, Batches(Looking(), 0), 10)
    assert lengths == [2, 4, 6, 8, 10, 12, 12, 12, 12, 12]


def test_what_cannot_be_cut_fails_in_words() -> None:
    result = run_course(Toy(), course(TreatmentPlan(curriculum=0.5)))
    assert "share no axis of time" in result.failed
    assert result.score is None


def test_what_raises_has_not_learned() -> None:
    class Fails(Toy):
        def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
            raise ValueError("no loss today")

    result = run_course(Fails(), course())
    assert (result.score, result.learned, result.failed) == (None, False, "ValueError: no loss today")


def test_a_score_that_is_not_finite_is_said() -> None:
    class Lost(Toy):
        def score(self, model: nn.Module) -> float:
            return math.nan

    assert run_course(Lost(), course()).failed == "the score is nan"


def test_what_is_printed_is_caught_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    class Talks(Toy):
        def score(self, model: nn.Module) -> float:
            sys.stdout.write("hello\n")
            return super().score(model)

    assert run_course(Talks(), course()).num_printed == 1
    assert capsys.readouterr().out == ""


def test_the_trained_weights_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    run_course(Toy(), course(keep=str(path)))
    assert not path.exists()
    result = run_course(Toy(), course(LEARNS, keep=str(path)))
    model = Reader()
    model.load_state_dict(load_file(path))
    assert Toy().score(model) == result.score


def test_the_reach_is_that_of_the_treated_start() -> None:
    shrunk = run_course(
        Toy(length=30), course(TreatmentPlan(start="orthogonal", start_gain=0.3), num_steps=1, looked_at=True)
    )
    whole = run_course(Toy(length=30), course(num_steps=1, looked_at=True))
    assert shrunk.reach is not None
    assert whole.reach is not None
    assert shrunk.reach < 10 < whole.reach
