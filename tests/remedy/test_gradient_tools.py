"""Each tool is the equation of its paper."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from throughtime.remedy import Clipper, Omega, TreatmentPlan, all_finite, floss
from throughtime.remedy.flossing import exponents
from throughtime.remedy.omega import omega


def parameters(scale: float = 1.0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    made = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((4, 3), (4,), (2, 2, 2))]
    for p in made:
        p.grad = scale * torch.randn(p.shape, generator=generator)
    return made


def together(values: list[nn.Parameter]) -> Tensor:
    return torch.cat([p.grad.flatten() for p in values if p.grad is not None])


def test_clip_by_norm_scales_all_alike() -> None:
    clipped, plain = parameters(), together(parameters())
    assert Clipper("norm", 0.5)(clipped) == pytest.approx(float(plain.norm()), rel=1e-6)
    torch.testing.assert_close(together(clipped), plain * 0.5 / plain.norm())
    small = parameters(1e-3)
    Clipper("norm", 0.5)(small)
    torch.testing.assert_close(together(small), together(parameters(1e-3)), rtol=0, atol=0)


def test_clip_by_value_bounds_each_number() -> None:
    clipped = parameters()
    Clipper("value", 0.3)(clipped)
    torch.testing.assert_close(together(clipped), together(parameters()).clamp(-0.3, 0.3))


def test_adaptive_clipping_goes_unit_by_unit() -> None:
    clipped, plain = parameters(), parameters()
    Clipper("adaptive", 0.1)(clipped)
    for p, q in zip(clipped, plain, strict=True):
        rows = [(p.grad, p, q.grad)] if p.dim() == 1 else list(zip(p.grad, p, q.grad, strict=True))
        for found, weight, gradient in rows:
            bound = 0.1 * max(float(weight.detach().norm()), 1e-3)
            expected = gradient * min(1.0, bound / float(gradient.norm()))
            torch.testing.assert_close(found, expected)


def test_z_score_clipping_cuts_what_stands_out_from_the_norms_so_far() -> None:
    clipper = Clipper("z-score", 2.0, num_warmup=4)
    p = nn.Parameter(torch.zeros(1))
    for norm in (1.0, 2.0, 3.0, 2.0):
        p.grad = torch.tensor([norm])
        clipper([p])
        assert p.grad.item() == norm
    mean, deviation = 2.0, math.sqrt(0.5)
    p.grad = torch.tensor([12.0])
    assert clipper([p]) == 12.0
    z = (12 - mean) / deviation
    assert p.grad.item() == pytest.approx(mean + 4 / z * deviation)
    assert clipper.mean == pytest.approx(0.97 * mean + 0.03 * p.grad.item())


def test_a_bound_of_zero_is_no_clipping() -> None:
    free = parameters()
    Clipper("norm", 0.0)(free)
    torch.testing.assert_close(together(free), together(parameters()), rtol=0, atol=0)


def test_gradients_that_are_not_finite_are_seen() -> None:
    held = parameters()
    assert all_finite(held)
    assert held[1].grad is not None
    held[1].grad[2] = math.inf
    assert not all_finite(held)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_omega_is_the_formula_and_its_gradient(nonlinearity: str) -> None:
    """Against autograd through the unrolled layer, and against finite differences with states and v held fixed."""
    torch.manual_seed(0)
    steps, batch, hidden = 6, 3, 4
    weight = (torch.randn(hidden, hidden, dtype=torch.float64) * 0.6).requires_grad_()
    x = torch.randn(steps, batch, hidden, dtype=torch.float64)
    function = torch.tanh if nonlinearity == "tanh" else torch.relu
    h, sums, states = torch.zeros(batch, hidden, dtype=torch.float64), [], []
    for x_t in x:
        sums.append(x_t + h @ weight.t())
        h = function(sums[-1])
        states.append(h)
    read = torch.randn(steps, batch, hidden, dtype=torch.float64)
    loss = sum((r * s).sum() for r, s in zip(read, states, strict=True))
    by_sum = torch.autograd.grad(loss, sums)
    slopes = [torch.autograd.functional.jacobian(lambda a: function(a).sum(), a.detach()) for a in sums]

    def plain(w: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for t in range(1, steps):
            v = by_sum[t]
            known = v.norm(dim=-1) > 0
            ratio = ((v @ w) * slopes[t - 1])[known].norm(dim=-1) / v[known].norm(dim=-1)
            total = total + (ratio - 1).square().sum() / batch
        return total

    found = omega(weight, torch.stack(states), read, nonlinearity)
    torch.testing.assert_close(found, plain(weight))
    (slope,) = torch.autograd.grad(found, weight)
    step = torch.zeros_like(weight)
    step[1, 2] = 1e-6
    expected = (plain(weight.detach() + step) - plain(weight.detach() - step)) / 2e-6
    assert float(slope[1, 2]) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("batch_first", [False, True])
def test_the_regulariser_adds_its_gradient_to_the_recurrent_matrix_alone(batch_first: bool) -> None:
    torch.manual_seed(0)
    model = nn.RNN(3, 5, batch_first=batch_first)
    x = torch.randn(4, 4, 3)
    regulariser = Omega(model, 2.0)
    (model(x)[0][-1] ** 2).sum().backward()
    before = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert regulariser() > 0
    changed = {n for n, p in model.named_parameters() if p.grad is not None and not torch.equal(p.grad, before[n])}
    assert changed == {"weight_hh_l0"}


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_exponents_are_those_of_the_products_of_jacobians(kind: type[nn.RNNBase]) -> None:
    """The sum of all of them is the mean log of |det J|."""
    torch.manual_seed(0)
    layer = kind(2, 3).double()
    x = torch.randn(5, 1, 2, dtype=torch.float64)
    size = 6 if kind is nn.LSTM else 3
    found, outputs = exponents(list(layer.parameters()), layer.mode if kind is not nn.RNN else "RNN_TANH", x, size)
    torch.testing.assert_close(outputs, layer(x)[0])

    def step(state: Tensor, x_t: Tensor) -> Tensor:
        parts = tuple(part.view(1, 1, 3) for part in state.split(3))
        _, after = layer(x_t.view(1, 1, 2), parts if kind is nn.LSTM else parts[0])
        return torch.cat([part.flatten() for part in after]) if kind is nn.LSTM else after.flatten()

    state, logs = torch.zeros(size, dtype=torch.float64), 0.0
    for x_t in x:
        jacobian = torch.autograd.functional.jacobian(lambda s, x_t=x_t: step(s, x_t), state)
        logs += float(torch.linalg.slogdet(jacobian)[1])
        state = step(state, x_t).detach()
    assert float(found.sum().detach()) * len(x) == pytest.approx(logs, rel=1e-6)


def test_flossing_draws_the_exponents_to_zero_and_leaves_the_rest() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.RNN(3, 8))
    rnn = model[1]
    nn.init.orthogonal_(rnn.weight_hh_l0, 0.5)
    before = model[0].weight.clone()
    course = floss(model, torch.randn(10, 4, 2), num_steps=30, num_exponents=3, rate=0.02)
    assert course[-1] < 0.2 * course[0]
    assert torch.equal(model[0].weight, before)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("batch_first", [False, True])
def test_the_auxiliary_loss_adds_the_gradient_of_the_reconstruction(batch_first: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.GRU(2, 6, batch_first=batch_first))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(5, 7, 2)
    model, _ = TreatmentPlan(auxiliary=0.5, auxiliary_steps=3).apply(model, optimizer)
    decoder = model.reconstruction_0
    assert set(decoder.parameters()) <= {p for group in optimizer.param_groups for p in group["params"]}
    model[0](x)[0].sum().backward()
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    layer = model.eval()[0]
    y = layer(x)[0]
    time = 1 if batch_first else 0
    steps = x.size(time)
    told = decoder(y.narrow(time, 3, steps - 3))
    wanted = x.narrow(time, 0, steps - 3)
    (y.sum() + 0.5 * (told - wanted).square().mean() / wanted.var()).backward()
    for one, p in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(one, p.grad)


def test_the_model_with_an_auxiliary_loss_is_copied_whole() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.RNN(2, 6))
    TreatmentPlan(auxiliary=1.0, auxiliary_steps=2).apply(model, torch.optim.SGD(model.parameters(), lr=0.1))
    twin = copy.deepcopy(model)
    twin[0](torch.randn(5, 3, 2))[0].sum().backward()
    assert twin.reconstruction_0.weight.grad is not None
    assert model.reconstruction_0.weight.grad is None


@pytest.mark.parametrize("scale", [1.0, float("nan")])
def test_omega_of_units_through_which_nothing_comes_back_is_zero(scale: float) -> None:
    rnn = nn.RNN(2, 8)
    nn.init.constant_(rnn.weight_ih_l0, 100.0)  # every slope is exactly zero
    regulariser = Omega(rnn, 1.0)
    (scale * rnn(torch.ones(5, 3, 2))[0]).sum().backward()
    before = None if rnn.weight_hh_l0.grad is None else rnn.weight_hh_l0.grad.clone()
    assert regulariser() == 0.0
    assert before is not None
    assert torch.equal(rnn.weight_hh_l0.grad.nan_to_num(), before.nan_to_num())  # type: ignore[union-attr]
