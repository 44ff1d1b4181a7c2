import itertools

import pytest
import torch

from against_the_loop import TOLERANCES, assert_equal_to_the_float64_loop, difference
from throughtime.cell import GRU, LSTM, Elman, make_cell
from throughtime.scan import fused, loop

NAMES = ["elman", "gru", "lstm"]
SIZES = [
    (1, 1, 1),
    (1, 3, 17),
    (2, 17, 3),
    (3, 2, 2),
    (3, 1, 17),
    (17, 1, 1),
    (17, 3, 2),
    (17, 2, 17),
    (17, 17, 3),
]


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients_equal_the_loop(name, size, dtype):
    torch.manual_seed(0)
    num_steps, batch, hidden_size = size
    assert_equal_to_the_float64_loop(fused, make_cell(name, 3, hidden_size, init="torch"), num_steps, batch, dtype)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["none", "first step", "rare", "often", "everywhere"])
def test_resets_equal_the_loop(name, kind, dtype):
    torch.manual_seed(0)
    share = {"none": 0.0, "first step": 0.0, "rare": 0.1, "often": 0.6, "everywhere": 1.0}[kind]
    reset = torch.rand(17, 5) < share
    reset[0, :3] |= kind == "first step"
    assert_equal_to_the_float64_loop(fused, make_cell(name, 3, 4), 17, 5, dtype, reset)


@pytest.mark.parametrize("lengths", [[7, 7, 7], [7, 3, 1], [0, 7, 2], [0, 0, 0]])
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_lengths_equal_the_loop(name, cut, lengths):
    torch.manual_seed(0)
    reset = torch.rand(7, 3) < 0.3 if cut else None
    for dtype in TOLERANCES:
        assert_equal_to_the_float64_loop(fused, make_cell(name, 2, 3), 7, 3, dtype, reset, torch.tensor(lengths))


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("cell", [LSTM, GRU, Elman])
def test_without_bias_equals_the_loop(cell, dtype):
    torch.manual_seed(0)
    reset = torch.rand(5, 2) < 0.3
    for use in (None, reset):
        assert_equal_to_the_float64_loop(fused, cell(3, 4, bias=False), 5, 2, dtype, use)


@pytest.mark.parametrize(("dtype", "bias"), [*itertools.product(TOLERANCES, [True, False])])
def test_projection_equals_the_loop(dtype, bias):
    torch.manual_seed(0)
    reset = torch.rand(5, 2) < 0.3
    for use in (None, reset):
        assert_equal_to_the_float64_loop(fused, LSTM(3, 4, proj_size=2, bias=bias), 5, 2, dtype, use)


@pytest.mark.parametrize("name", NAMES)
def test_strided_input_and_state(name):
    torch.manual_seed(0)
    cell = make_cell(name, 3, 4).double()
    x = torch.randn(5, 6, 7, dtype=torch.float64).permute(1, 0, 2)[::2, :, 1:4]
    state = tuple(torch.randn(4, 5, dtype=torch.float64).t() for _ in cell.state_names)
    outputs, final = fused(cell, x, state)
    expected, expected_final = loop(cell, cell.project(x), state)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(final, expected_final)


@pytest.mark.parametrize("name", NAMES)
def test_nan_passes_through_in_its_own_row(name):
    cell = make_cell(name, 2, 3)
    x = torch.zeros(4, 2, 2)
    x[1, 0, 0] = torch.nan
    outputs, _ = fused(cell, x, cell.initial_state(2))
    assert outputs[1:, 0].isnan().all()
    assert not outputs[:, 1].isnan().any()
    assert not outputs[0].isnan().any()


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_gradients_equal_the_loop(name):
    torch.manual_seed(0)
    cell = make_cell(name, 3, 4)
    x = torch.randn(6, 2, 3, requires_grad=True)

    def twice(scan):
        outputs, _ = scan(cell, x if scan is fused else cell.project(x), cell.initial_state(2))
        first = torch.autograd.grad(outputs.square().sum(), tuple(cell.parameters()), create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), (x, *cell.parameters()))

    for ours, truth in zip(twice(fused), twice(loop), strict=True):
        assert difference(ours, truth.double(), 1.0) < 1e-5
