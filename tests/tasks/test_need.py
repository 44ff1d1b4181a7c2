"""The measurements of need find what the tasks need by construction, or say that they cannot tell."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

from throughtime import need
from throughtime.measurement.blocks import need_by_blocks
from throughtime.tasks import Task, make


def last_question(task: Task, batch: int, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs up to the last step at which anything is asked, and the targets of that step."""
    drawn = task.batch(batch, seed=seed)
    if not task.per_step:
        return drawn.inputs, drawn.targets
    step = int((drawn.targets != -100).any(1).nonzero()[-1])
    return drawn.inputs[: step + 1], drawn.targets[step]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("name", "options", "batch"),
    [
        ("copying", {"length": 30, "num_copied": 3}, 300),
        ("delayed-recall", {"length": 60}, 300),
        ("associative-recall", {"length": 16, "num_pairs": 2, "vocabulary_size": 12}, 3000),
        ("n-back", {"length": 40, "lag": 7}, 300),
        ("dyck", {"length": 15}, 1000),
        ("dyck", {"length": 20}, 1000),
        ("noisy-majority", {"length": 11}, 2000),
    ],
)
def test_need_is_found(name: str, options: dict[str, Any], batch: int, seed: int) -> None:
    task = make(name, **options)
    found = need(*last_question(task, batch, seed), time_dim=0, seed=seed)
    assert found.verdict == "found", found.reason
    assert task.need is not None
    assert found.lower <= task.need <= found.upper


@pytest.mark.parametrize("seed", [0, 1])
def test_need_of_scattered_symbols_is_that_of_the_first_answer(seed: int) -> None:
    """The last symbol hardly ever stands where the oldest one may."""
    task = make("selective-copying", length=14, num_copied=2, num_symbols=4)
    drawn = task.batch(1500, seed=seed)
    found = need(drawn.inputs[:13], drawn.targets[12], time_dim=0, seed=seed)
    assert found.lower <= task.need <= found.upper


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("name", "options", "batch"),
    [("adding", {"length": 60}, 1000), ("noisy-majority", {"length": 60}, 1500)],
)
def test_need_is_found_by_blocks(name: str, options: dict[str, Any], batch: int, seed: int) -> None:
    task = make(name, **options)
    found = need_by_blocks(*last_question(task, batch, seed), time_dim=0, seed=seed)
    assert found is not None
    assert task.need is not None
    assert found.lower <= task.need <= found.upper
    assert found.lower > 1


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("name", "options"), [("parity", {"length": 12}), ("permutations", {"num_items": 3})])
def test_state_tracking_cannot_be_told(name: str, options: dict[str, Any], seed: int) -> None:
    inputs, targets = last_question(make(name, **options), 1000, seed)
    assert need(inputs, targets, time_dim=0, seed=seed).verdict == "cannot tell"
    assert need_by_blocks(inputs, targets, time_dim=0, seed=seed) is None


def test_sines_are_told_by_need_and_no_less() -> None:
    """Without noise many sets of lags tell; those up to need suffice, and those up to one less do not."""
    task = make("coupled-sines", length=12, frequencies=(1.0, 2.2))
    assert task.need == 3
    inputs, targets = last_question(task, 1000, 0)
    enough = need(inputs, targets, time_dim=0, max_lag=task.need)
    assert enough.need == 3
    assert enough.explained[-1] > 0.999
    assert need(inputs, targets, time_dim=0, max_lag=task.need - 1).explained[-1] < 0.99
