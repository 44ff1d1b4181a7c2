import math

import torch

from throughtime.cell.coupled_lstm import CoupledLSTM
from throughtime.cell.lstm import LSTM
from throughtime.kernels.spec import KernelSpec


def sigmoid(a):
    return 1 / (1 + math.exp(-a))


def naive(x, h, c, weight_ih, weight_hh, bias):
    """Greff et al. 2015, number by number: x (I,), h and c (H,), all lists."""
    size = len(h)

    def total(row):
        return (
            sum(w * value for w, value in zip(weight_ih[row], x, strict=True))
            + sum(w * value for w, value in zip(weight_hh[row], h, strict=True))
            + bias[row]
        )

    new_h, new_c = [], []
    for unit in range(size):
        f = sigmoid(total(unit))
        i = 1 - f
        g = math.tanh(total(size + unit))
        o = sigmoid(total(2 * size + unit))
        new_c.append(f * c[unit] + i * g)
        new_h.append(o * math.tanh(new_c[-1]))
    return new_h, new_c


def test_one_step_is_that_of_the_paper():
    cell = CoupledLSTM(3, 4, init="uniform-gate").double()
    x = torch.randn(3, dtype=torch.float64)
    h, c = torch.randn(2, 4, dtype=torch.float64)
    (new_h, new_c), output = cell.step(cell.project(x.view(1, 1, 3))[0], (h[None], c[None]))
    parameters = (parameter.tolist() for parameter in (cell.weight_ih, cell.weight_hh, cell.bias))
    expected_h, expected_c = naive(x.tolist(), h.tolist(), c.tolist(), *parameters)
    torch.testing.assert_close(new_h[0], torch.tensor(expected_h, dtype=torch.float64), rtol=0, atol=1e-14)
    torch.testing.assert_close(new_c[0], torch.tensor(expected_c, dtype=torch.float64), rtol=0, atol=1e-14)
    assert output is new_h


def test_it_is_the_lstm_whose_input_gate_reads_the_forget_gates_sum_negated():
    cell, lstm = CoupledLSTM(3, 4).double(), LSTM(3, 4).double()
    with torch.no_grad():
        for name, other in (("weight_ih", "weight_ih"), ("weight_hh", "weight_hh"), ("bias", "bias_ih")):
            blocks = getattr(cell, name)
            getattr(lstm, other).copy_(torch.cat([-blocks[:4], blocks]))  # 1 - sigmoid(a) = sigmoid(-a)
        lstm.bias_hh.zero_()
    x = torch.randn(1, 5, 3, dtype=torch.float64)
    state = tuple(torch.randn(2, 5, 4, dtype=torch.float64))
    after, _ = cell.step(cell.project(x)[0], state)
    expected, _ = lstm.step(lstm.project(x)[0], state)
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-14)


def test_its_memory_stays_within_one():
    cell = CoupledLSTM(3, 4)
    state = cell.initial_state(2)
    for projected in cell.project(10 * torch.randn(30, 2, 3)):
        state, _ = cell.step(projected, state)
        assert state[1].abs().max() <= 1
    assert state[1].abs().max() > 0.5


def test_kernel():
    cell = CoupledLSTM(3, 4)
    assert cell.kernel == KernelSpec("coupled_lstm")
    (weight,) = cell.kernel_weights()
    assert weight is cell.weight_hh
    assert weight.shape == (12, 4)
    assert cell.torch_kernel is None
    assert cell.torch_weights() == []
