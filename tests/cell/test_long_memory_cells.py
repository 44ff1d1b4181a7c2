"""Orthogonal, antisymmetric, IndRNN, coRNN and LEM: their equations, what their starts promise, and bad choices."""

import pytest
import torch
from torch import sigmoid, tanh

from against_the_loop import TOLERANCES, assert_equal_to_the_float64_loop
from throughtime.cell import LEM, AntisymmetricRNN, CoRNN, IndRNN, OrthogonalRNN
from throughtime.errors import RecipeError
from throughtime.kernels import absence, library
from throughtime.scan import compiled, loop

MADE = {
    "orthogonal": OrthogonalRNN,
    "orthogonal, relu": lambda *sizes: OrthogonalRNN(*sizes, nonlinearity="relu"),
    "antisymmetric": AntisymmetricRNN,
    "antisymmetric, gated": lambda *sizes: AntisymmetricRNN(*sizes, gated=True, step_size=0.5),
    "indrnn": IndRNN,
    "indrnn, tanh": lambda *sizes: IndRNN(*sizes, nonlinearity="tanh", init="long"),
    "cornn": CoRNN,
    "lem": LEM,
}


@pytest.mark.skipif(library() is None, reason=f"no compiled library: {absence()}")
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("size", [(1, 2, 3), (17, 3, 17), (40, 5, 64)])
@pytest.mark.parametrize("name", MADE)
def test_the_compiled_loop_equals_the_plain_one(name, size, dtype):
    torch.manual_seed(0)
    num_steps, batch, hidden_size = size
    reset = torch.rand(num_steps, batch) < 0.1
    assert_equal_to_the_float64_loop(compiled, MADE[name](3, hidden_size), num_steps, batch, dtype, reset)


def stepped(cell, *state):
    """A projected input and the step's results; the equations below are written with the cell's own parameters."""
    x = torch.randn(2, 3, dtype=torch.float64)
    return x, *cell.step(cell.project(x.unsqueeze(0))[0], state)


def doubles(seed=0):
    torch.manual_seed(seed)
    return torch.randn(2, 4, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)


def test_the_matrix_of_the_compiled_loop_is_torchs_parametrisation():
    torch.manual_seed(0)
    cell = OrthogonalRNN(3, 6).double()
    x = cell.recurrence.parametrizations.weight.original
    with torch.no_grad():
        x.add_(torch.randn_like(x))  # off the start, where A = 0
    weight, (matrix,) = torch.randn(6, 6, dtype=torch.float64), cell.kernel_weights()
    assert torch.equal(matrix, cell.matrix())
    (by_x,) = torch.autograd.grad(matrix, x, weight)
    torch.testing.assert_close(by_x, torch.autograd.grad(cell.matrix(), x, weight)[0], rtol=1e-12, atol=1e-12)


def test_orthogonal_stays_orthogonal_in_training():
    torch.manual_seed(0)
    cell = OrthogonalRNN(3, 6).double()
    cell.reset_parameters()  # orthogonal to the last digit of float64
    optimizer = torch.optim.Adam(cell.parameters(), lr=0.1)
    start = cell.matrix().detach().clone()
    for _ in range(5):
        optimizer.zero_grad()
        y, _ = loop(cell, cell.project(torch.randn(7, 2, 3, dtype=torch.float64)), cell.initial_state(2))
        (y - 0.5).square().sum().backward()
        optimizer.step()
    matrix = cell.matrix()
    torch.testing.assert_close(matrix.t() @ matrix, torch.eye(6, dtype=torch.float64))
    assert (matrix - start).abs().max() > 0.01
    h, _ = doubles()
    h = torch.cat([h, h[:, :2]], dim=1)
    x, (after,), _ = stepped(cell, h)
    torch.testing.assert_close(after, tanh(x @ cell.weight_ih.t() + cell.bias + h @ matrix.t()))


@pytest.mark.parametrize("gated", [False, True])
def test_antisymmetric_equations(gated):
    h, _ = doubles()
    cell = AntisymmetricRNN(3, 4, gated=gated, step_size=0.3, diffusion=0.2).double()
    x, (after,), y = stepped(cell, h)
    W = cell.weight_hh
    sums = h @ (W - W.t() - 0.2 * torch.eye(4, dtype=torch.float64)).t()
    blocks = x @ cell.weight_ih.t() + cell.bias
    expected = h + 0.3 * tanh(blocks[:, :4] + sums) * (sigmoid(blocks[:, 4:] + sums) if gated else 1)
    torch.testing.assert_close(after, expected)
    assert y is after


def test_antisymmetric_eigenvalues_lie_on_the_line_of_the_diffusion():
    torch.manual_seed(0)
    cell = AntisymmetricRNN(3, 20, diffusion=0.05).double()
    real = torch.linalg.eigvals(cell.matrix()).real
    torch.testing.assert_close(real, torch.full_like(real, -0.05))


@pytest.mark.parametrize(("nonlinearity", "f"), [("tanh", tanh), ("relu", torch.relu)])
def test_indrnn_equation(nonlinearity, f):
    h, _ = doubles()
    cell = IndRNN(3, 4, nonlinearity=nonlinearity).double()
    x, (after,), _ = stepped(cell, h)
    torch.testing.assert_close(after, f(x @ cell.weight_ih.t() + cell.bias + cell.u * h))


def test_indrnn_starts():
    torch.manual_seed(0)
    u = IndRNN(1, 1000).u.detach()
    assert 0 <= u.min() < 0.02 < 0.98 < u.max() <= 1
    u = IndRNN(1, 1000, init="long", max_lag=50).u.detach()
    assert (u**50).min() == pytest.approx(0.01, rel=0.1)
    assert (u**50).max() == pytest.approx(2, rel=0.1)


def test_cornn_equations():
    y, z = doubles()
    cell = CoRNN(3, 4, step_size=0.1, frequency=1.5, damping=0.7).double()
    x, (y_after, z_after), output = stepped(cell, y, z)
    W, W_z = cell.weight_hh.chunk(2, dim=1)
    force = tanh(y @ W.t() + z @ W_z.t() + x @ cell.weight_ih.t() + cell.bias)
    torch.testing.assert_close(z_after, z + 0.1 * (force - 1.5 * y - 0.7 * z))
    torch.testing.assert_close(y_after, y + 0.1 * z_after)
    assert output is y_after


def test_lem_equations():
    y, z = doubles()
    cell = LEM(3, 4, step_size=0.6).double()
    x, (y_after, z_after), output = stepped(cell, y, z)
    x_d, x_e, x_z, x_y = (x @ cell.weight_ih.t() + cell.bias).chunk(4, dim=1)
    W_d, W_e, W_z = cell.weight_yh.chunk(3)
    d, e = 0.6 * sigmoid(x_d + y @ W_d.t()), 0.6 * sigmoid(x_e + y @ W_e.t())
    torch.testing.assert_close(z_after, (1 - d) * z + d * tanh(x_z + y @ W_z.t()))
    torch.testing.assert_close(y_after, (1 - e) * y + e * tanh(x_y + z_after @ cell.weight_zh.t()))
    assert output is y_after


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OrthogonalRNN(2, 3, nonlinearity="modrelu"), "unknown nonlinearity of orthogonal"),
        (lambda: AntisymmetricRNN(2, 3, step_size=0), "step_size must be above 0, not 0"),
        (lambda: AntisymmetricRNN(2, 3, diffusion=-0.1), "diffusion must be at least 0, not -0.1"),
        (lambda: AntisymmetricRNN(2, 3, step_size=float("nan")), "step_size must be above 0, not nan"),
        (lambda: IndRNN(2, 3, max_lag=10), "max_lag is used by init='long' alone"),
        (lambda: IndRNN(2, 3, init="long", max_lag=0), "max_lag must be at least 1"),
        (lambda: CoRNN(2, 3, damping=0), "damping must be above 0, not 0"),
        (lambda: LEM(2, 3, step_size=1.5), "step_size must lie above 0 and be at most 1, not 1.5"),
        (lambda: LEM(2, 0), "hidden_size must be at least 1"),
    ],
)
def test_choices_out_of_range_are_refused(make, message):
    with pytest.raises(RecipeError, match=message):
        make()
