"""Every task keeps the contract: shapes, determinism, lengths, need, chance, and targets that its definition gives."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import throughtime
from tasks.oracles import solved
from throughtime.errors import InputError, RecipeError
from throughtime.tasks import Dyck, MackeyGlass, Permutations, Task, make, names
from throughtime.tasks.dyck import _beginnings

SMALL: dict[str, dict[str, Any]] = {
    "adding": {"length": 7},
    "copying": {"length": 11, "num_copied": 3, "num_symbols": 4},
    "selective-copying": {"length": 9, "num_copied": 2, "num_symbols": 3},
    "delayed-recall": {"length": 6, "num_classes": 3},
    "associative-recall": {"length": 12, "num_pairs": 2, "vocabulary_size": 12},
    "parity": {"length": 8},
    "permutations": {"length": 6, "num_items": 3},
    "n-back": {"length": 9, "lag": 4, "num_symbols": 3},
    "dyck": {"length": 7, "num_types": 3},
    "noisy-majority": {"length": 7, "noise": 0.3},
    "mackey-glass": {"length": 20, "horizon": 1},
    "coupled-sines": {"length": 9, "frequencies": (0.7, 1.9), "horizon": 2},
}
SHORTEST = {
    "adding": 2,
    "copying": 7,
    "selective-copying": 4,
    "delayed-recall": 2,
    "associative-recall": 8,
    "parity": 2,
    "permutations": 2,
    "n-back": 5,
    "dyck": 3,
    "noisy-majority": 2,
    "mackey-glass": 18,
    "coupled-sines": 4,
}
NEEDS = [name for name in SMALL if name not in ("parity", "permutations")]
every_task = pytest.mark.parametrize("name", SMALL)


def small(name: str, **options: Any) -> Task:
    return make(name, **{**SMALL[name], **options})


def asked(targets: Tensor, task: Task) -> list[int]:
    """The steps at which something is asked."""
    return (targets != -100).any(1).nonzero().flatten().tolist() if task.per_step else [task.length - 1]


def of_step(targets: Tensor, task: Task, step: int) -> Tensor:
    return targets[step] if task.per_step else targets


def wrong(answers: Tensor, targets: Tensor) -> Tensor:
    """(B,) which answers are not the target, among those that count."""
    if targets.is_floating_point():
        return (answers - targets).abs().amax(1) > 1e-3
    return (answers != targets) & (targets != -100)


def test_no_task_is_left_out() -> None:
    assert {*SMALL, "sequential-digits", "permuted-digits"} == set(names())
    assert set(SHORTEST) == set(SMALL)


@every_task
def test_shapes_and_types(name: str) -> None:
    task = small(name)
    batch = task.batch(5, seed=0)
    if task.num_ids is None:
        assert batch.inputs.shape == (task.length, 5, task.input_size)
        assert batch.inputs.dtype == torch.float32
        assert bool(batch.inputs.isfinite().all())
    else:
        assert task.input_size is None
        assert batch.inputs.shape == (task.length, 5)
        assert batch.inputs.dtype == torch.int64
        assert 0 <= int(batch.inputs.min()) <= int(batch.inputs.max()) < task.num_ids
    if task.numbers:
        assert batch.targets.shape == (5, task.output_size)
        assert batch.targets.dtype == torch.float32
    else:
        assert batch.targets.shape == ((task.length, 5) if task.per_step else (5,))
        assert batch.targets.dtype == torch.int64
        counted = batch.targets[batch.targets != -100]
        assert 0 <= int(counted.min()) <= int(counted.max()) < task.output_size
    assert len(task.reference) > 10


@every_task
def test_a_batch_is_a_function_of_seed_and_step(name: str) -> None:
    task = small(name)
    state = torch.get_rng_state()
    first = task.batch(6, seed=3, step=2)
    again = small(name).batch(6, seed=3, step=2)
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.targets, again.targets)
    for other in (task.batch(6, seed=4, step=2), task.batch(6, seed=3, step=3), task.batch(6, seed=2, step=3)):
        assert not torch.equal(first.inputs, other.inputs)
    assert torch.equal(torch.get_rng_state(), state)


@every_task
@pytest.mark.parametrize("longer", [0, 1, 2, 13])
def test_any_length_from_the_shortest(name: str, longer: int) -> None:
    task = small(name, length=SHORTEST[name] + longer)
    batch = task.batch(20, seed=longer)
    assert batch.inputs.size(0) == task.length
    assert task.need is None or 0 < task.need < task.length
    for step in asked(batch.targets, task):
        targets = of_step(batch.targets, task, step)
        assert not bool(wrong(solved(task, batch.inputs, step), targets).any())


@every_task
def test_a_shorter_one_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=f"length.* must be at least {SHORTEST[name]}, not {SHORTEST[name] - 1}"):
        small(name, length=SHORTEST[name] - 1)


@pytest.mark.parametrize("name", [name for name in names() if "digits" not in name])
def test_published_settings_solve_too(name: str) -> None:
    task = make(name)
    batch = task.batch(3, seed=0)
    step = asked(batch.targets, task)[-1]
    answers = solved(task, batch.inputs, step)
    assert not bool(wrong(answers, of_step(batch.targets, task, step)).any())


@pytest.mark.parametrize("name", NEEDS)
def test_nothing_older_than_need_matters(name: str) -> None:
    task = small(name)
    batch, other = task.batch(300, seed=0), task.batch(300, seed=1)
    for step in asked(batch.targets, task):
        inputs = batch.inputs.clone()
        older = max(step - task.need, 0)
        inputs[:older] = other.inputs[:older]
        assert not bool(wrong(solved(task, inputs, step), of_step(batch.targets, task, step)).any())


@pytest.mark.parametrize("name", NEEDS)
def test_what_lies_need_steps_back_matters(name: str) -> None:
    """One that sees only the newest inputs, and those of another sequence before, is wrong somewhere."""
    task = small(name)
    batch, other = task.batch(300, seed=0), task.batch(300, seed=1)
    mistakes = 0
    for step in asked(batch.targets, task):
        inputs = batch.inputs.clone()
        older = step - task.need + 1
        if older > 0:
            inputs[:older] = other.inputs[:older]
            mistakes += int(wrong(solved(task, inputs, step), of_step(batch.targets, task, step)).sum())
    assert mistakes > 0


@every_task
def test_chance_is_what_the_best_constant_output_reaches(name: str) -> None:
    task = small(name)
    seen, unseen = task.batch(3000, seed=0).targets, task.batch(3000, seed=1).targets
    if task.numbers:
        constant = seen.mean(0).expand_as(unseen)
        squares = (constant - unseen).square()
        tolerance = 4 * float(squares.std()) / squares.numel() ** 0.5 + 1e-3
    else:
        shares = torch.bincount(seen[seen != -100], minlength=task.output_size) / (seen != -100).sum()
        constant = shares.log().expand(*unseen.shape, -1)
        tolerance = 2 * task.output_size / int((seen != -100).sum()) + 0.005
        # Its score is that of the class it names; the classes are equally frequent, so that may be any of them.
        count = int((unseen != -100).sum())
        share = task.chance.score
        assert abs(task.score(constant, unseen) - share) < 4 * math.sqrt(share * (1 - share) / count) + 1e-3
    assert abs(float(task.loss(constant, unseen)) - task.chance.loss) < tolerance
    if task.numbers:
        assert abs(task.score(constant, unseen) - task.chance.score) < tolerance / task.chance.loss


@every_task
def test_the_right_answer_has_the_best_score(name: str) -> None:
    task = small(name)
    targets = task.batch(10, seed=0).targets
    if task.numbers:
        outputs = targets.clone()
    else:
        outputs = 50 * torch.nn.functional.one_hot(targets.clamp(min=0), task.output_size).float()
    outputs.requires_grad_()
    loss = task.loss(outputs, targets)
    loss.backward()
    assert float(loss.detach()) < 1e-6
    assert task.score(outputs, targets) == 1
    assert task.score(-outputs.detach() - 1, targets) < 0.6


@every_task
def test_outputs_of_another_shape_are_refused(name: str) -> None:
    task = small(name)
    targets = task.batch(4, seed=0).targets
    outputs = torch.zeros(*([] if task.per_step else [task.length]), 4, task.output_size)
    for measure in (task.loss, task.score):
        with pytest.raises(InputError, match=f"{name} takes outputs of shape .* one for each"):
            measure(outputs, targets)


@every_task
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 0, "seed": 0}, "batch must be at least 1, not 0"),
        ({"batch": 2, "seed": -1}, "seed must be at least 0, not -1"),
        ({"batch": 2, "seed": 0, "step": 1.5}, "step must be a whole number, not 1.5"),
    ],
)
def test_batches_that_cannot_be(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        small(name).batch(**options)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("ading", {}, "unknown task 'ading': did you mean 'adding'?"),
        ("adding", {"lenght": 5}, "task 'adding' has no option 'lenght': did you mean 'length'?"),
        ("adding", {"length": 5.0}, "length must be a whole number, not 5.0"),
        ("parity", {"length": True}, "length must be a whole number, not True"),
        ("copying", {"num_symbols": 1}, "num_symbols must be at least 2, not 1"),
        ("copying", {"num_copied": 0}, "num_copied must be at least 1, not 0"),
        ("selective-copying", {"num_copied": 0}, "num_copied must be at least 1"),
        ("delayed-recall", {"noise": -0.1}, "noise must be at least 0, not -0.1"),
        ("associative-recall", {"vocabulary_size": 8}, "vocabulary_size .* must be at least 10, not 8"),
        ("associative-recall", {"vocabulary_size": 101}, "vocabulary_size must be even, not 101"),
        ("permutations", {"num_items": 7}, "num_items must be at most 6"),
        ("n-back", {"lag": -1}, "lag must be at least 1"),
        ("dyck", {"num_types": 1}, "num_types must be at least 2"),
        ("noisy-majority", {"noise": 1.0}, "noise must be at least 0 and below 1, not 1"),
        ("noisy-majority", {"noise": math.nan}, "noise must be at least 0 and below 1, not nan"),
        ("mackey-glass", {"delay": 3}, "delay must be at least 17"),
        ("mackey-glass", {"horizon": 0}, "horizon must be at least 1"),
        ("coupled-sines", {"frequencies": (0.2, 0.2)}, "frequencies must be different numbers between 0 and pi"),
        ("coupled-sines", {"frequencies": ()}, "frequencies must be different numbers"),
        ("coupled-sines", {"frequencies": (4.0,)}, "frequencies must be different numbers"),
        ("coupled-sines", {"horizon": 0}, "horizon must be at least 1"),
        ("permuted-digits", {"permuted": False}, "task 'permuted-digits' has no option 'permuted'"),
        ("sequential-digits", {"length": 100}, "length of digits must be 64"),
        ("sequential-digits", {"part": "tests"}, "unknown part 'tests': did you mean 'test'?"),
    ],
)
def test_choices_that_cannot_be(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words.replace("?", r"\?")) as caught:
        make(name, **options)
    assert "\n" not in str(caught.value)


def test_the_package_is_found_by_its_name() -> None:
    assert throughtime.tasks.make("adding", length=1000).need == 999
    assert "tasks" in dir(throughtime)


def test_every_task_stands_in_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")
    for name in names():
        assert f"| `{name}` |" in page


# --- what is particular to one of them ---


@pytest.mark.parametrize("num_open", [1, 3])
def test_beginnings_of_words_are_equally_likely(num_open: int) -> None:
    """There are 14 of 7 steps with one open bracket, and 14 with three."""
    opens = _beginnings(7, torch.full((14000,), num_open), torch.Generator().manual_seed(0))
    heights = torch.where(opens, 1, -1).cumsum(0)
    assert int(heights.min()) >= 0
    assert set(heights[-1].tolist()) == {num_open}
    _, counts = torch.unique(opens, dim=1, return_counts=True)
    assert counts.numel() == 14
    assert float(((counts - 1000).double().square() / 1000).sum()) < 34.5  # chi-squared, 13 degrees, at 0.1 %


def test_brackets_match_and_counting_them_is_not_enough() -> None:
    task = Dyck(length=9)
    batch = task.batch(400, seed=0)
    surplus = torch.stack([(batch.inputs == c).sum(0) - (batch.inputs == 2 + c).sum(0) for c in range(2)])
    assert set(surplus.sum(0).tolist()) == {1, 3}
    counted = surplus.argmax(0) == batch.targets
    assert bool(counted[surplus.sum(0) == 1].all())
    assert not bool(counted[surplus.sum(0) == 3].all())


def test_the_first_bracket_is_the_one_to_close_in_an_eighth_of_long_words() -> None:
    task = Dyck(length=201, num_types=64)
    batch = task.batch(2000, seed=0)
    # The first bracket is of the right type by itself, or by chance.
    share = float((batch.inputs[0] == batch.targets).double().mean())
    assert abs(share - (1 / 8 + 7 / 8 / 64)) < 0.04


def test_two_items_are_parity() -> None:
    batch = Permutations(length=7, num_items=2).batch(50, seed=0)
    assert torch.equal(batch.targets, batch.inputs.cumsum(0) % 2)


def test_mackey_glass_has_unit_variance_and_does_not_repeat() -> None:
    inputs = MackeyGlass(length=1000).batch(20, seed=0).inputs
    assert abs(float(inputs.mean())) < 0.05
    assert abs(float(inputs.std()) - 1) < 0.05
    for period in range(20, 200):
        assert float((inputs[period:] - inputs[:-period]).square().mean()) > 0.01
