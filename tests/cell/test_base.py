import copy

import pytest
import torch
from torch import nn

from throughtime.cell import Cell, cells, make_cell
from throughtime.errors import RecipeError


class Own(Cell):
    state_names = ("h", "memory")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size, output_size=2)
        self.inner = nn.Linear(input_size, hidden_size)
        self.read = nn.Linear(hidden_size, 2)

    def reset_parameters(self):
        self.inner.reset_parameters()
        self.read.reset_parameters()

    def project(self, x):
        return self.inner(x)

    def step(self, projected, state):
        h, memory = state
        memory = 0.9 * memory + h * projected
        h = torch.tanh(projected + memory)
        return (h, memory), self.read(h)


def make(name, input_size=3, hidden_size=4):
    torch.manual_seed(0)
    cell = Own(input_size, hidden_size) if name == "own" else make_cell(name, input_size, hidden_size)
    return cell.double()


NAMES = [*(info.name for info in cells()), "own"]


@pytest.mark.parametrize("name", NAMES)
def test_shapes(name):
    cell = make(name)
    state = cell.initial_state(5)
    projected = cell.project(torch.randn(7, 5, 3, dtype=torch.float64))
    after, output = cell.step(projected[0], state)
    assert projected.shape[:2] == (7, 5)
    assert output.shape == (5, cell.output_size)
    assert len(state) == len(cell.state_names)
    assert [part.shape for part in after] == [part.shape for part in state]
    assert all(part.size(0) == 5 for part in state)


@pytest.mark.parametrize("name", NAMES)
def test_initial_state_follows_the_parameters_or_the_request(name):
    cell = make(name)
    assert all(part.dtype == torch.float64 for part in cell.initial_state(2))
    assert all(part.dtype == torch.float32 for part in cell.initial_state(2, dtype=torch.float32))
    assert all(part.device.type == "meta" for part in cell.initial_state(2, device=torch.device("meta")))


@pytest.mark.parametrize("name", NAMES)
def test_gradcheck(name):
    cell = make(name)
    names = [key for key, _ in cell.named_parameters()]
    x = torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)
    state = [torch.randn_like(part).requires_grad_() for part in cell.initial_state(2)]

    def two_steps(x, *rest):
        start, parameters = rest[: len(state)], dict(zip(names, rest[len(state) :], strict=True))
        wrapped = nn.Module()
        wrapped.cell = cell
        wrapped.forward = lambda: _steps(cell, x, start)
        return torch.func.functional_call(wrapped, {f"cell.{key}": value for key, value in parameters.items()}, ())

    assert torch.autograd.gradcheck(two_steps, (x, *state, *cell.parameters()))


def _steps(cell, x, state):
    projected = cell.project(x)
    outputs = []
    for t in range(x.size(0)):
        state, output = cell.step(projected[t], state)
        outputs.append(output)
    return (*outputs, *state)


@pytest.mark.parametrize("name", NAMES)
def test_step_leaves_the_old_state_alone_and_rows_apart(name):
    cell = make(name)
    state = tuple(torch.randn_like(part) for part in cell.initial_state(4))
    before = copy.deepcopy(state)
    projected = cell.project(torch.randn(1, 4, 3, dtype=torch.float64))[0]
    after, output = cell.step(projected, state)
    assert all(torch.equal(old, kept) for old, kept in zip(before, state, strict=True))
    for row in range(4):
        alone, output_alone = cell.step(projected[row : row + 1], tuple(part[row : row + 1] for part in state))
        torch.testing.assert_close(output_alone[0], output[row])
        assert all(
            torch.allclose(one[0], many[row], atol=1e-14, rtol=0) for one, many in zip(alone, after, strict=True)
        )


@pytest.mark.parametrize("name", NAMES)
def test_reset_parameters_draws_anew_and_follows_the_seed(name):
    cell = make(name)
    first = {key: value.clone() for key, value in cell.state_dict().items()}
    torch.manual_seed(1)
    cell.reset_parameters()
    second = {key: value.clone() for key, value in cell.state_dict().items()}
    torch.manual_seed(1)
    cell.reset_parameters()
    assert any(not torch.equal(first[key], second[key]) for key in first)
    assert all(torch.equal(second[key], value) for key, value in cell.state_dict().items())


@pytest.mark.parametrize("sizes", [(0, 4), (3, 0), (3, -1)])
def test_sizes_below_one_are_refused(sizes):
    with pytest.raises(RecipeError, match="at least 1"):
        make_cell("gru", *sizes)
