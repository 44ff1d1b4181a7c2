"""The plain cell: its nonlinearities and starts, and the mean field behind one of them."""

import math

import pytest
import torch

from throughtime.cell import Elman
from throughtime.cell.mean_field import critical_gain
from throughtime.errors import RecipeError


@pytest.mark.parametrize(("nonlinearity", "f"), [("tanh", torch.tanh), ("relu", torch.relu)])
def test_step_is_the_equation(nonlinearity, f):
    torch.manual_seed(0)
    cell = Elman(3, 4, nonlinearity=nonlinearity, init="torch").double()
    x, h = torch.randn(1, 2, 3, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    (after,), y = cell.step(cell.project(x)[0], (h,))
    expected = f(x[0] @ cell.weight_ih.t() + cell.bias_ih + h @ cell.weight_hh.t() + cell.bias_hh)
    torch.testing.assert_close(after, expected)
    assert y is after


def test_identity_start():
    torch.manual_seed(0)
    cell = Elman(50, 40, nonlinearity="relu", init="identity")
    assert torch.equal(cell.weight_hh, torch.eye(40))
    assert cell.weight_ih.std().item() == pytest.approx(0.001, rel=0.1)
    assert not cell.bias_ih.any()


def mean_squared_singular_value(nonlinearity, seed):
    """Of the step Jacobian diag(f'(a)) W_hh, after the network has settled under random inputs."""
    torch.manual_seed(seed)
    cell = Elman(200, 400, nonlinearity=nonlinearity, init="critical").double()
    x = cell.project(torch.randn(30, 20, 200, dtype=torch.float64))
    (h,) = cell.initial_state(20)
    for t in range(30):
        sums = (x[t] + h @ cell.weight_hh.t()).requires_grad_()
        h = torch.tanh(sums) if nonlinearity == "tanh" else torch.relu(sums)
        (slope,) = torch.autograd.grad(h.sum(), sums)
        h = h.detach()
    return (slope.square() @ cell.weight_hh.square().sum(1) / 400).mean().item()


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_at_the_critical_start_a_gradient_keeps_its_size(nonlinearity):
    found = [mean_squared_singular_value(nonlinearity, seed) for seed in range(8)]  # theory is of infinite width
    assert sum(found) / 8 == pytest.approx(1, abs=0.04)


def test_critical_gain_solves_its_own_equations():
    for input_variance in (0.01, 0.5, 1.0, 3.0):
        gain = critical_gain("tanh", input_variance)
        z = torch.linspace(-12, 12, 2001, dtype=torch.float64)
        density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
        q = 1.0
        for _ in range(2000):  # the fixed point by iterating the map itself
            h = torch.tanh(math.sqrt(q) * z)
            q = gain**2 * (density @ h.square()).item() + input_variance
        assert gain**2 * (density @ (1 - h.square()).square()).item() == pytest.approx(1, abs=1e-4)


def test_unknown_choices_are_refused():
    with pytest.raises(RecipeError, match="unknown nonlinearity of elman 'rellu': did you mean 'relu'"):
        Elman(2, 3, nonlinearity="rellu")
    with pytest.raises(RecipeError, match="unknown init of elman"):
        Elman(2, 3, init="zeros")
