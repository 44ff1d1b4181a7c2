"""Digits pixel by pixel, with and without scikit-learn."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from throughtime.errors import InputError
from throughtime.tasks import Digits, make

absent = pytest.mark.skipif(find_spec("sklearn") is not None, reason="scikit-learn is installed")
present = pytest.mark.skipif(find_spec("sklearn") is None, reason="scikit-learn is not installed")


@absent
def test_what_to_install_is_said() -> None:
    with pytest.raises(InputError, match=r"pip install 'throughtime\[digits\]'") as caught:
        make("sequential-digits").batch(2, seed=0)
    assert "\n" not in str(caught.value)


def test_the_need_is_not_known_by_construction() -> None:
    assert make("sequential-digits").need is None


@present
@pytest.mark.parametrize("name", ["sequential-digits", "permuted-digits"])
def test_batches(name: str) -> None:
    task = make(name)
    batch, again = task.batch(30, seed=0, step=1), task.batch(30, seed=0, step=1)
    assert batch.inputs.shape == (64, 30, 1)
    assert batch.inputs.dtype == torch.float32
    assert (float(batch.inputs.min()), float(batch.inputs.max())) == (0, 1)
    assert batch.targets.shape == (30,)
    assert torch.equal(batch.inputs, again.inputs)
    assert torch.equal(batch.targets, again.targets)
    assert not torch.equal(batch.inputs, task.batch(30, seed=1, step=1).inputs)


@present
def test_one_order_for_every_batch() -> None:
    plain, permuted = (make(name).batch(200, seed=0).inputs for name in ("sequential-digits", "permuted-digits"))
    assert not torch.equal(plain, permuted)
    assert torch.equal(plain.sort(dim=0).values, permuted.sort(dim=0).values)
    later = [make(name).batch(200, seed=5, step=9).inputs for name in ("sequential-digits", "permuted-digits")]
    for step in range(64):
        places = (plain == permuted[step]).all(2).all(1)
        assert bool((later[0][places] == later[1][step]).all())


@present
@pytest.mark.parametrize("part", ["train", "test"])
def test_chance_is_counted(part: str) -> None:
    task = Digits(part=part)
    targets = task.batch(20000, seed=0).targets
    shares = torch.bincount(targets, minlength=10) / targets.numel()
    constant = shares.log().expand(targets.numel(), -1)
    assert abs(float(task.loss(constant, targets)) - task.chance.loss) < 0.002
    assert abs(task.score(constant, targets) - task.chance.score) < 0.01


@present
def test_the_parts_are_apart() -> None:
    train, test = (Digits(part=part)._part()[0] for part in ("train", "test"))
    assert (train.size(0), test.size(0)) == (1437, 360)
