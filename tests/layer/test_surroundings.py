"""Layers where torch puts them: in forked and spawned workers, compiled, exported, copied, on a pool of any size."""

from __future__ import annotations

import copy
import multiprocessing
import warnings

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from throughtime.kernels import library, linear_scan
from throughtime.layer import Recurrent

CELLS = ["lstm", "elman", "slstm", "lru"]
"""Of the compiled loops, with and without a matrix of its own, and of the compiled linear recurrence."""

every_cell = pytest.mark.parametrize("name", CELLS)


def made(name, **choices):
    torch.manual_seed(0)
    return Recurrent(name, 3, 5, **choices).double(), torch.randn(6, 4, 3, dtype=torch.float64)


def both_ways(layer, x):
    x = x.clone().requires_grad_()
    y, _ = layer(x)
    return y, *torch.autograd.grad(y.square().sum(), (x, *layer.parameters()))


def same(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


class Outputs(Dataset):
    """Runs a layer in whichever process asks for an item."""

    def __init__(self, layer, x):
        self.layer, self.x = layer, x

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return both_ways(self.layer, self.x + index)[1]


@every_cell
def test_data_loader_workers_compute_after_a_fork(name):
    layer, x = made(name)
    both_ways(layer, x)  # the parent's threads are at work before it forks
    items = Outputs(layer, x)
    expected = [both_ways(layer, x + index)[1] for index in range(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of any fork of a process with threads
        found = list(DataLoader(items, batch_size=None, num_workers=2, multiprocessing_context="fork"))
    same(found, expected)
    same(both_ways(layer, x), both_ways(layer, x))


def _scan_in_a_child(queue, a, b, start):
    torch.set_num_threads(2)  # ours alone may: torch's own products hang on several threads after a fork
    queue.put(linear_scan(a, b, start).tolist())


@pytest.mark.skipif(library() is None, reason="no compiled library")
def test_a_forked_child_has_a_pool_of_its_own():
    torch.manual_seed(0)
    a, b, start = torch.rand(50, 8, 16), torch.rand(50, 8, 16), torch.rand(8, 16)
    expected = linear_scan(a, b, start)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        process = context.Process(target=_scan_in_a_child, args=(queue, a, b, start))
        process.start()
    found = queue.get(timeout=60)
    process.join()
    assert torch.equal(torch.tensor(found), expected)


def _run_in_a_child(queue, layer, x):
    queue.put(both_ways(layer, x)[0].detach().tolist())


def test_a_spawned_process_computes():
    layer, x = made("lstm")
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_run_in_a_child, args=(queue, layer, x))
    process.start()
    found = queue.get(timeout=60)
    process.join()
    same(torch.tensor(found, dtype=torch.float64), layer(x)[0])


@every_cell
def test_a_copy_shares_nothing(name):
    layer, x = made(name)
    expected = both_ways(layer, x)
    copied = copy.deepcopy(layer)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    same(both_ways(copied, x), expected)


@every_cell
def test_torch_compile_traces_it_whole(name):
    layer, x = made(name)
    expected = both_ways(layer, x)
    compiled = torch.compile(lambda x: layer(x)[0], fullgraph=True, backend="aot_eager")
    x = x.clone().requires_grad_()
    y = compiled(x)
    same((y, *torch.autograd.grad(y.square().sum(), (x, *layer.parameters()))), expected)


@every_cell
def test_torch_export_gives_a_program_of_any_length(name):
    layer, x = made(name)

    class Outputs(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x)[0]

    length = torch.export.Dim("length", min=2, max=512)
    program = torch.export.export(Outputs(), (x,), dynamic_shapes=({0: length},))
    longer = torch.randn(11, 4, 3, dtype=torch.float64)
    same(program.module()(longer), layer(longer)[0])


def test_functional_call_reaches_the_weights():
    layer, x = made("gru")
    other, _ = made("gru")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.5)
    found = torch.func.functional_call(layer, dict(other.named_parameters()), (x,))
    same(found[0], other(x)[0])


@pytest.mark.skipif(library() is None, reason="no compiled library")
@pytest.mark.parametrize("num_threads", [1, 3])
def test_the_pool_follows_torch(num_threads):
    layer, x = made("lstm")
    expected, before = both_ways(layer, x), torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        same(both_ways(layer, x), expected)
    finally:
        torch.set_num_threads(before)
