"""The compiled loops against the plain loop in float64: values, and the gradients by everything."""

import pytest
import torch

from against_the_loop import TOLERANCES, assert_equal_to_the_float64_loop
from throughtime.cell import cells, make_cell
from throughtime.errors import InputError
from throughtime.kernels import absence, library
from throughtime.scan import compiled, compiled_obstacle, loop

pytestmark = pytest.mark.skipif(library() is None, reason=f"no compiled library: {absence()}")

X = torch.zeros(1, 1, 2)
NAMES = [info.name for info in cells() if library() and compiled_obstacle(make_cell(info.name, 2, 3), X) is None]
SIZES = [(1, 1, 1), (2, 3, 1), (3, 2, 17), (17, 1, 64), (17, 17, 3), (3, 64, 2), (64, 3, 17), (2, 17, 64)]


def assert_equal(name, size, dtype, reset=None, lengths=None):
    torch.manual_seed(0)
    num_steps, batch, hidden_size = size
    cell = make_cell(name, 3, hidden_size)
    assert_equal_to_the_float64_loop(compiled, cell, num_steps, batch, dtype, reset, lengths)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients_equal_the_loop(name, size, dtype):
    assert_equal(name, size, dtype)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("lengths", [None, [7, 7, 7], [7, 3, 1], [0, 7, 2], [0, 0, 0]])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", NAMES)
def test_resets_and_lengths_equal_the_loop(name, share, lengths, dtype):
    torch.manual_seed(1)
    reset = torch.rand(7, 3) < share
    at = None if lengths is None else torch.tensor(lengths)
    assert_equal(name, (7, 3, 18), dtype, reset, at)


@pytest.mark.parametrize("name", NAMES)
def test_nan_stays_in_its_own_row(name):
    cell, x = make_cell(name, 2, 3), torch.zeros(4, 2, 2)
    x[1, 0, 0] = torch.nan
    outputs, _ = compiled(cell, x, cell.initial_state(2))
    assert outputs[1:, 0].isnan().all()
    assert outputs[0].isfinite().all()
    assert outputs[:, 1].isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_strided_arrays_and_a_second_way_back(name):
    cell = make_cell(name, 3, 5).double()
    x = torch.randn(4, 6, 7, dtype=torch.float64).permute(1, 0, 2)[::2, :, 1:4].requires_grad_()
    state = tuple(torch.randn(5, 4, dtype=torch.float64).t() for _ in cell.state_names)
    outputs, final = compiled(cell, x, state)
    torch.testing.assert_close((outputs, final), loop(cell, cell.project(x), state))
    first = torch.autograd.grad(outputs.sum(), x, retain_graph=True)
    assert torch.equal(first[0], torch.autograd.grad(outputs.sum(), x)[0])


@pytest.mark.parametrize("name", NAMES)
def test_without_gradients_the_numbers_are_the_same(name):
    cell, x = make_cell(name, 3, 5), torch.randn(6, 4, 3)
    reset, lengths = torch.rand(6, 4) < 0.3, torch.tensor([6, 2, 0, 5])
    with_gradients = compiled(cell, x, cell.initial_state(4), reset, lengths)
    with torch.no_grad():
        torch.testing.assert_close(compiled(cell, x, cell.initial_state(4), reset, lengths), with_gradients)


def test_a_gradient_of_the_gradient_is_refused():
    cell, x = make_cell("gru", 2, 3), torch.randn(4, 2, 2, requires_grad=True)
    outputs, _ = compiled(cell, x, cell.initial_state(2))
    (first,) = torch.autograd.grad(outputs.square().sum(), x, create_graph=True)
    with pytest.raises(InputError, match="use scan='loop'"):
        first.sum().backward()


@pytest.mark.parametrize("num_threads", [1, 2, 5])
def test_any_number_of_threads_gives_the_same(num_threads):
    cell, x = make_cell("lstm", 3, 17), torch.randn(9, 7, 3)
    expected, _ = loop(cell, cell.project(x), cell.initial_state(7))
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        torch.testing.assert_close(compiled(cell, x, cell.initial_state(7))[0], expected)
    finally:
        torch.set_num_threads(before)
