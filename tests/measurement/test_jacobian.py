import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian

from throughtime.cell import GRU, LSTM, Cell, Elman, Zoneout, cells, make_cell
from throughtime.errors import InputError
from throughtime.measurement.jacobian import flat, linearise, parts_like
from throughtime.measurement.jacobian_trajectory import trajectory
from throughtime.scan import loop

FORMS = {
    "elman": lambda: Elman(3, 5),
    "elman without bias": lambda: Elman(3, 5, bias=False),
    "elman relu": lambda: Elman(3, 5, nonlinearity="relu"),
    "gru": lambda: GRU(3, 5, init="torch"),
    "gru without bias": lambda: GRU(3, 5, bias=False),
    "lstm": lambda: LSTM(3, 5, init="torch"),
    "lstm without bias": lambda: LSTM(3, 5, bias=False, init="torch"),
    "lstm projected": lambda: LSTM(3, 5, proj_size=2),
    "lstm zoneout": lambda: Zoneout(LSTM(3, 5), 0.25),
    **{f"named {info.name}": (lambda name=info.name: make_cell(name, 3, 4)) for info in cells()},
}


class Straight(torch.autograd.Function):
    """tanh by hand: differentiable twice, and without a forward-mode rule."""

    @staticmethod
    def forward(ctx, x):
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        return gradient * (1 - y * y)


class HandMade(Cell):
    """h = f(x + U h)."""

    state_names = ("h",)

    def __init__(self, function):
        super().__init__(3, 3)
        self.recurrent = nn.Linear(3, 3)
        self.function = function

    def reset_parameters(self):
        self.recurrent.reset_parameters()

    def project(self, x):
        return x

    def step(self, projected, state):
        h = self.function(projected + self.recurrent(state[0]))
        return (h,), h


FORMS["no forward rule"] = lambda: HandMade(Straight.apply)
FORMS["input alone"] = lambda: HandMade(lambda sums: sums.detach() * 0)


def reached(cell, batch=2):
    """A state that inputs lead to, and what is projected for the step from there."""
    x = torch.randn(4, batch, cell.input_size, dtype=torch.float64)
    with torch.no_grad():
        projected = cell.project(x)
        _, state = loop(cell, projected[:3], cell.initial_state(batch))
    return projected[3], state


def by_torch(cell, projected, state, row):
    """The Jacobian of one row by torch, the plain way."""

    def step(flattened):
        after, _ = cell.step(projected[[row]], parts_like(flattened.unsqueeze(0), state))
        return flat(after).squeeze(0)

    return jacobian(step, flat(state)[row].clone())


@pytest.mark.parametrize("form", FORMS)
def test_products_equal_those_of_the_jacobian_by_torch(form):
    cell = FORMS[form]().double()
    projected, state = reached(cell)
    step = linearise(cell, projected, state)
    after, output = cell.step(projected, state)
    torch.testing.assert_close(flat(step.state), flat(after), rtol=0, atol=0)
    torch.testing.assert_close(step.output, output, rtol=0, atol=0)
    columns = torch.randn(2, flat(state).size(1), 3, dtype=torch.float64)
    for row in range(2):
        matrix = by_torch(cell, projected, state, row)
        close = {"rtol": 1e-12, "atol": 1e-12}
        torch.testing.assert_close(step.jacobian()[row], matrix, **close)
        torch.testing.assert_close(step.product(columns)[row], matrix @ columns[row], **close)
        torch.testing.assert_close(step.transposed(columns)[row], matrix.t() @ columns[row], **close)


def test_a_product_leaves_no_gradient_behind():
    cell = LSTM(3, 5).double()
    projected, state = reached(cell)
    assert not linearise(cell, projected, state).product(torch.randn(2, 10, 1, dtype=torch.float64)).requires_grad


def test_a_step_that_leaves_torch_is_refused():
    cell = HandMade(lambda sums: torch.from_numpy(sums.numpy()))
    state = (torch.zeros(2, 3),)
    with torch.no_grad():
        step = linearise(cell, torch.zeros(2, 3), state)
    with pytest.raises(InputError, match="cannot be differentiated by its state"):
        step.product(torch.ones(2, 3, 1))


@pytest.mark.parametrize("with_lengths", [False, True])
def test_a_trajectory_is_that_of_the_loop(with_lengths):
    cell = make_cell("lstm", 3, 4).double()
    x = torch.randn(6, 3, 3, dtype=torch.float64)
    start = tuple(torch.randn(3, 4, dtype=torch.float64) for _ in range(2))
    lengths = torch.tensor([6, 2, 4]) if with_lengths else None
    reset = torch.zeros(6, 3, dtype=torch.bool)
    reset[0, 0] = reset[3, 2] = reset[5, 1] = True
    run = trajectory(cell, x, start, reset, lengths)
    outputs, final = loop(cell, cell.project(x), start, reset, lengths)
    torch.testing.assert_close(run.outputs, outputs.detach(), rtol=0, atol=0)
    assert run.counted.tolist() == ([6, 2, 3] if with_lengths else [6, 5, 3])
    torch.testing.assert_close(flat(run.linearised(5).state)[[0]], flat(final).detach()[[0]], rtol=0, atol=0)


def test_what_has_ended_stays_as_it_is():
    cell = make_cell("gru", 3, 4).double()
    run = trajectory(cell, torch.randn(5, 2, 3, dtype=torch.float64), cell.initial_state(2), None, torch.tensor([5, 2]))
    columns = torch.randn(2, 4, 2, dtype=torch.float64)
    for products, ended in ((list(run.products()), slice(2, 5)), (list(run.transposed()), slice(0, 3))):
        assert len(products) == 5
        for product in products[ended]:
            assert torch.equal(product(columns)[1], columns[1])
            assert not torch.equal(product(columns)[0], columns[0])
