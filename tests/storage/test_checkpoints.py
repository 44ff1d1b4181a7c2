from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from throughtime.errors import NonFiniteError, RunError
from throughtime.storage.checkpoints import Checkpoint, CheckpointStore

KILL_SAVES = Path(__file__).with_name("kill_saves.py")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@pytest.fixture
def store(tmp_path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints")


def save(store: CheckpointStore, step: int, *, best: int) -> Path:
    generator = torch.Generator().manual_seed(step)
    tensors = {
        "model": {"weight": torch.randn(30, 4, generator=generator)},
        "optimizer": {"moment": torch.randn(50, generator=generator)},
    }
    return store.save(step, tensors, {"step_taken": step}, best_step=best)


def found(checkpoint: Checkpoint | None) -> Checkpoint:
    assert checkpoint is not None
    assert checkpoint.values == {"step_taken": checkpoint.step}
    expected = torch.randn(30, 4, generator=torch.Generator().manual_seed(checkpoint.step))
    assert torch.equal(checkpoint.tensors["model"]["weight"], expected)
    return checkpoint


def names(store: CheckpointStore) -> list[str]:
    return sorted(path.name for path in store.folder.iterdir())


def same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Equal bit for bit: NaN equals itself, 0.0 is not -0.0."""
    one, other = (tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in (first, second))
    return torch.equal(one, other)


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_a_folder_without_checkpoints_has_none(store):
    assert store.newest() is None
    assert store.best() is None


def test_every_tensor_and_value_comes_back_bit_for_bit(store):
    base = torch.arange(24, dtype=torch.float32)
    odd = torch.tensor([float("nan"), float("inf"), -0.0, 1e-45])
    tensors = {
        "model": {
            "weight": base.view(4, 6),
            "tied": base.view(4, 6),
            "transposed": base.view(4, 6).t(),
            "overlapping": base[3:9],
            "parameter": torch.nn.Parameter(torch.ones(2, 3)),
            "scalar": torch.tensor(0.1, dtype=torch.float64),
            "empty": torch.empty(0, 3),
            "empty too": torch.empty(2, 0, dtype=torch.int64),
            "né.0/weight": torch.tensor([True, False]),
            "half": torch.tensor([0.1, 65504.0], dtype=torch.bfloat16),
        },
        "random": {"cpu": torch.get_rng_state(), "count": torch.tensor(2**62)},
        "optimizer": {"odd": odd},
        "rank-0.state": {},
    }
    values = {"lr": 0.1 + 0.2, "seed": 2**200, "text": "né \udc80", "nested": {"list": [1, [None, True]]}, "": -0.0}
    path = store.save(7, tensors, values, best_step=3)
    loaded = store.newest()
    assert loaded is not None
    assert (loaded.step, loaded.best_step, loaded.path, loaded.skipped) == (7, 3, path, ())
    assert loaded.values == values
    assert loaded.tensors.keys() == tensors.keys()
    for group, named in tensors.items():
        assert loaded.tensors[group].keys() == named.keys()
        for name, tensor in named.items():
            copy = loaded.tensors[group][name]
            assert (copy.dtype, copy.shape) == (tensor.dtype, tensor.shape), name
            assert same_bits(copy, tensor), name
            assert copy.is_contiguous()
            assert not copy.requires_grad


def test_loaded_tensors_own_memory_aligned_as_torch_aligns_it(store):
    """Matrix products may round differently on other alignments, and a resume has to be exact."""
    store.save(1, {"model": {"a": torch.ones(1), "b": torch.ones(33), "c": torch.ones(7)}}, {}, best_step=1)
    loaded = store.newest()
    assert loaded is not None
    for tensor in loaded.tensors["model"].values():
        assert tensor.data_ptr() % 64 == 0
        assert tensor.untyped_storage().nbytes() == tensor.nbytes


def test_saving_does_not_change_what_is_saved(store):
    weight = torch.nn.Parameter(torch.randn(3, 3))
    before = weight.detach().clone()
    store.save(1, {"model": {"weight": weight, "tied": weight}}, {}, best_step=1)
    assert torch.equal(weight, before)
    assert weight.requires_grad


def test_nothing_is_pickled(store):
    path = save(store, 1, best=1)
    assert sorted(file.name for file in path.iterdir()) == [
        "manifest.json",
        "model.safetensors",
        "optimizer.safetensors",
        "values.json",
    ]
    for file in path.glob("*.safetensors"):
        header = file.read_bytes()
        json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])


def test_the_two_newest_and_their_best_are_kept(store):
    save(store, 10, best=10)
    save(store, 20, best=10)
    save(store, 30, best=10)
    assert names(store) == ["step-000000010", "step-000000020", "step-000000030"]
    save(store, 40, best=40)
    assert names(store) == ["step-000000010", "step-000000030", "step-000000040"]  # 30 names 10 as its best
    save(store, 50, best=40)
    assert names(store) == ["step-000000040", "step-000000050"]
    assert found(store.newest()).step == 50
    assert found(store.best()).step == 40


def test_steps_beyond_nine_digits_are_in_order(store):
    save(store, 999_999_999, best=999_999_999)
    save(store, 1_000_000_000, best=999_999_999)
    assert found(store.newest()).step == 1_000_000_000


def test_other_things_in_the_folder_are_left_alone(store):
    store.folder.mkdir()
    (store.folder / "notes.txt").write_text("mine")
    (store.folder / "step-12").mkdir()
    (store.folder / ".tmp-left").mkdir()
    save(store, 1, best=1)
    assert names(store) == ["notes.txt", "step-000000001", "step-12"]


def test_a_step_that_is_saved_again_replaces_the_old_one(store):
    store.save(1, {"model": {"weight": torch.zeros(2)}}, {"first": True}, best_step=1)
    save(store, 1, best=1)
    assert found(store.newest()).step == 1
    assert names(store) == ["step-000000001"]


def test_a_replaced_checkpoint_stands_in_when_its_successor_cannot_be_written(store, largest_file):
    save(store, 1, best=1)
    with largest_file(5000), pytest.raises(RunError, match="free some and resume"):
        store.save(1, {"model": {"weight": torch.zeros(5000)}}, {}, best_step=1)
    assert found(store.newest()).path.name == "step-000000001.replaced"
    assert found(store.best()).step == 1
    save(store, 2, best=1)
    assert found(store.best()).step == 1
    save(store, 3, best=3)
    save(store, 4, best=3)
    assert names(store) == ["step-000000003", "step-000000004"]


def test_500_flipped_bits_are_all_refused(store):
    save(store, 1, best=1)
    path = save(store, 2, best=1)
    files = sorted(path.iterdir())
    draw = random.Random(0)
    struck = set()
    for _ in range(500):
        file = draw.choice(files)
        bit = draw.randrange(8 * file.stat().st_size)
        struck.add((file.name, bit))
        flip(file, bit)
        older = found(store.newest())
        assert older.step == 1
        ((name, reason),) = older.skipped
        assert name == "step-000000002"
        assert str(file) in reason
        assert "damaged" in reason
        flip(file, bit)
    assert len(struck) > 450
    assert found(store.newest()).step == 2


def test_a_damaged_best_gives_way_to_the_newest_and_is_named(store):
    best = save(store, 1, best=1)
    save(store, 2, best=1)
    flip(best / "model.safetensors", 1000)
    chosen = found(store.best())
    assert chosen.step == 2
    assert [name for name, _ in chosen.skipped] == ["step-000000001"]
    assert found(store.newest()).skipped == ()
    shutil.rmtree(best)
    assert found(store.best()).skipped == (("step-000000001", "it is absent"),)


def test_a_damaged_newest_is_named_by_best_too(store):
    save(store, 1, best=1)
    (save(store, 2, best=1) / "values.json").unlink()
    chosen = found(store.best())
    assert chosen.step == 1
    assert [name for name, _ in chosen.skipped] == ["step-000000002"]
    assert "values.json is missing" in chosen.skipped[0][1]


def test_when_all_are_damaged_each_is_named(store):
    for step in (1, 2):
        flip(save(store, step, best=1) / "manifest.json", 100)
    for choose in (store.newest, store.best):
        with pytest.raises(
            RunError, match=r"no checkpoint in .* is whole: .*step-000000002.*step-000000001.*start over"
        ):
            choose()


def test_damaged_checkpoints_do_not_push_out_good_ones(store):
    save(store, 1, best=1)
    save(store, 2, best=2)
    flip(save(store, 3, best=2) / "values.json", 5)
    save(store, 4, best=4)
    assert names(store) == ["step-000000002", "step-000000004"]


def test_a_future_that_a_resume_gave_up_is_removed(store):
    save(store, 1, best=1)
    flip(save(store, 9, best=1) / "values.json", 5)
    save(store, 5, best=1)
    assert names(store) == ["step-000000001", "step-000000005"]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_model_that_is_not_finite_is_never_saved(store, number, dtype):
    save(store, 1, best=1)
    weight = torch.ones(3, 5, dtype=dtype)
    weight[1, 2] = number
    model = {"fine": torch.ones(2), "cell.weight": weight, "ids": torch.tensor([1])}
    with pytest.raises(NonFiniteError, match=r"step 2 was not saved: 1 of the 15 numbers in cell\.weight are NaN"):
        store.save(2, {"model": model}, {}, best_step=2)
    assert names(store) == ["step-000000001"]


def test_a_value_that_is_not_finite_is_refused_before_anything_is_written(store):
    with pytest.raises(NonFiniteError, match=r"values\.json was not written"):
        store.save(2, {}, {"loss": float("nan")}, best_step=2)
    assert not store.folder.exists()


def test_a_best_step_in_the_future_is_refused(store):
    with pytest.raises(ValueError, match="the best step must be one of 0 to 2, the step saved, not 3"):
        store.save(2, {}, {}, best_step=3)


def test_a_write_cut_short_leaves_the_old_checkpoint_and_nothing_else(store, largest_file):
    save(store, 1, best=1)
    big = {"model": {"weight": torch.zeros(5000)}}
    with (
        largest_file(5000),
        pytest.raises(RunError, match=r"too large while writing .*step-000000002: free some") as caught,
    ):
        store.save(2, big, {}, best_step=1)
    assert "\n" not in str(caught.value)
    assert names(store) == ["step-000000001"]
    assert found(store.newest()).step == 1
    save(store, 2, best=1)
    assert found(store.newest()).step == 2


FULL_DISK = """
import sys, torch
from pathlib import Path
from throughtime.errors import RunError
from throughtime.storage import CheckpointStore, MetricsFile
store = CheckpointStore(Path(sys.argv[1]))
weight = torch.randn(1000)
store.save(1, {"model": {"weight": weight}}, {}, best_step=1)
try:
    store.save(2, {"model": {"weight": torch.zeros(100_000)}}, {}, best_step=1)
except RunError as error:
    print(error)
print([path.name for path in store.folder.iterdir()], torch.equal(store.newest().tensors["model"]["weight"], weight))
store.save(2, {"model": {"weight": weight}}, {}, best_step=1)
print(store.newest().step)
"""


def test_a_full_disk_leaves_the_old_checkpoint_and_nothing_else(tmp_path):
    """On a real file system of 256 KiB, where this machine allows a test to mount one."""
    mount = f"mount -t tmpfs -o size=256k none '{tmp_path}'"
    if (
        shutil.which("unshare") is None
        or subprocess.run(["unshare", "-Urm", "sh", "-c", mount], check=False).returncode
    ):
        pytest.skip("no right to mount a file system in a namespace of its own")
    run = f"{mount} && exec '{sys.executable}' -c '{FULL_DISK}' '{tmp_path}/checkpoints'".replace("'model'", '"model"')
    done = subprocess.run(["unshare", "-Urm", "sh", "-c", run], capture_output=True, text=True, check=True)
    error, left, after = done.stdout.splitlines()
    assert error.startswith(f"no space left on device while writing {tmp_path}/checkpoints/step-000000002: free some")
    assert left == "['step-000000001'] True"
    assert after == "2"


def test_a_read_only_folder_can_be_read_and_refuses_a_save_in_one_line(read_only_folder):
    assert CheckpointStore(read_only_folder).newest() is None
    with pytest.raises(RunError, match=r"cannot write .*: permission denied; choose a folder"):
        save(CheckpointStore(read_only_folder), 1, best=1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the kills need fork")
@pytest.mark.parametrize(
    ("scenario", "failures"),
    [
        ("next", ["killed", "power_lost", "cut"]),
        ("pruning", ["killed", "power_lost"]),
        ("again", ["killed", "power_lost"]),
        ("after_damage", ["killed", "power_lost"]),
    ],
)
def test_a_save_killed_at_any_moment_loses_nothing(tmp_path, scenario, failures):
    command = [sys.executable, str(KILL_SAVES), str(tmp_path), scenario, *failures]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **ONE_THREAD})
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert list(results) == failures
    for result in results.values():
        assert result["complaints"] == []
        assert result["kills"] > 30
