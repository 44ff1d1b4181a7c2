"""LRU, minGRU, minLSTM, QRNN and SRU: their equations, what their starts promise, and bad choices."""

import math

import pytest
import torch
from torch import sigmoid, tanh

from throughtime.cell import LRU, QRNN, SRU, MinGRU, MinLSTM
from throughtime.errors import RecipeError
from throughtime.scan import loop


def run(cell, x):
    return loop(cell, cell.project(x), cell.initial_state(x.size(1)))


def some(cell, num_steps=6):
    torch.manual_seed(0)
    cell = cell.double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return cell, torch.randn(num_steps, 2, cell.input_size, dtype=torch.float64)


def test_lru_equations_in_complex_numbers():
    cell, x = some(LRU(3, 4))
    size = torch.exp(-torch.exp(cell.log_decay))
    eigenvalues = torch.polar(size, torch.exp(cell.log_phase))
    B, C = (torch.complex(*w) for w in (cell.weight_ih.chunk(2), cell.weight_ho.chunk(2, dim=1)))
    h, expected = torch.zeros(2, 4, dtype=torch.complex128), []
    for x_t in x:
        h = eigenvalues * h + torch.exp(cell.log_gain) * ((x_t + 0j) @ B.t())
        expected.append((h @ C.conj().t()).real + x_t @ cell.weight_io.t())
    y, (state,) = run(cell, x)
    torch.testing.assert_close(y, torch.stack(expected))
    torch.testing.assert_close(state, torch.cat([h.real, h.imag], dim=1))


def test_lru_starts_in_its_ring_and_keeps_the_variance_of_its_input():
    torch.manual_seed(0)
    cell = LRU(50, 2000, r_min=0.8, r_max=0.95, max_phase=math.pi / 10).double()
    real, imaginary = cell.eigenvalues().chunk(2)
    size, phase = torch.hypot(real, imaginary), torch.atan2(imaginary, real)
    assert 0.8 <= size.min() < size.max() <= 0.95
    assert 0 < phase.min() < phase.max() <= math.pi / 10
    # Uniform in the area of the ring: the squares of the sizes are uniform.
    assert size.square().mean().item() == pytest.approx((0.8**2 + 0.95**2) / 2, abs=0.005)
    _, (h,) = run(cell, torch.randn(150, 10, 50, dtype=torch.float64))
    assert h.square().sum(1).mean().item() / 2000 == pytest.approx(1, abs=0.1)


def test_mingru_equations():
    cell, x = some(MinGRU(3, 4))
    h, expected = torch.zeros(2, 4, dtype=torch.float64), []
    for x_t in x:
        z, candidate = (x_t @ cell.weight_ih.t() + cell.bias).chunk(2, dim=1)
        h = (1 - sigmoid(z)) * h + sigmoid(z) * candidate
        expected.append(h)
    torch.testing.assert_close(run(cell, x)[0], torch.stack(expected))


def test_minlstm_equations():
    cell, x = some(MinLSTM(3, 4))
    h, expected = torch.zeros(2, 4, dtype=torch.float64), []
    for x_t in x:
        f, i, candidate = (x_t @ cell.weight_ih.t() + cell.bias).chunk(3, dim=1)
        f, i = sigmoid(f), sigmoid(i)
        h = f / (f + i) * h + i / (f + i) * candidate
        expected.append(h)
    torch.testing.assert_close(run(cell, x)[0], torch.stack(expected))


def test_minlstm_with_both_gates_closed_divides_nothing_by_zero():
    cell = MinLSTM(1, 1)
    with torch.no_grad():
        cell.bias.copy_(torch.tensor([-200.0, -200.0, 1.0]))
        cell.weight_ih.zero_()
    y, _ = run(cell, torch.zeros(2, 1, 1))
    torch.testing.assert_close(y.flatten(), torch.tensor([0.5, 0.75]))


@pytest.mark.parametrize("pooling", ["fo", "ifo"])
def test_qrnn_equations(pooling):
    cell, x = some(QRNN(3, 4, pooling=pooling))
    W_0, W_1 = cell.weight_ih.chunk(2, dim=1)
    c, before, expected = torch.zeros(2, 4, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64), []
    for x_t in x:
        z, f, o, *i = (before @ W_0.t() + x_t @ W_1.t() + cell.bias).split(4, dim=1)
        c = sigmoid(f) * c + (sigmoid(i[0]) if i else 1 - sigmoid(f)) * tanh(z)
        expected.append(sigmoid(o) * c)
        before = x_t
    torch.testing.assert_close(run(cell, x)[0], torch.stack(expected))


@pytest.mark.parametrize("input_size", [4, 3])
def test_sru_equations(input_size):
    cell, x = some(SRU(input_size, 4, highway_bias=-1.0))
    alpha = math.sqrt(1 + 2 * math.exp(-1))
    W, W_f, W_r, *W_s = cell.weight_ih.split(4)
    c, expected = torch.zeros(2, 4, dtype=torch.float64), []
    for x_t in x:
        f = sigmoid(x_t @ W_f.t() + cell.v_f * c + cell.b_f)
        r = sigmoid(x_t @ W_r.t() + cell.v_r * c + cell.b_r)
        c = f * c + (1 - f) * (x_t @ W.t())
        skip = x_t @ W_s[0].t() if W_s else x_t
        expected.append(r * c + (1 - r) * alpha * skip)
    torch.testing.assert_close(run(cell, x)[0], torch.stack(expected))


@pytest.mark.parametrize("kind", [MinGRU, MinLSTM, QRNN])
def test_starts_set_what_a_unit_keeps_of_itself(kind):
    torch.manual_seed(0)
    for init, low, high in (("forget-bias", 0.7310, 0.7311), ("chrono", 0.5, 49 / 50), ("uniform-gate", 0.001, 0.999)):
        cell = kind(2, 1000, init=init, max_lag=50 if init == "chrono" else None)
        projected = cell.project(torch.zeros(1, 1, 2))
        a, _ = cell.coefficients(
            cell.look_back(projected, tuple(torch.zeros_like(p) for p in cell.handed_on(projected)))
        )
        assert low <= a.min() <= a.max() <= high
        assert init == "forget-bias" or a.max() - a.min() > 0.4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LRU(2, 3, r_min=0.9, r_max=0.8), "the ring needs 0 <= r_min < r_max < 1"),
        (lambda: LRU(2, 3, max_phase=7), "max_phase must lie above 0 and be at most 2 pi, not 7"),
        (lambda: MinGRU(2, 3, init="long"), "unknown init of mingru 'long'"),
        (lambda: MinLSTM(2, 3, max_lag=5), "max_lag is used by init='chrono' alone"),
        (lambda: QRNN(2, 3, pooling="f"), "unknown pooling of qrnn 'f'"),
        (lambda: SRU(2, 3, highway_bias=100), "highway_bias must lie between -20 and 20, not at 100"),
    ],
)
def test_choices_out_of_range_are_refused(make, message):
    with pytest.raises(RecipeError, match=message):
        make()
