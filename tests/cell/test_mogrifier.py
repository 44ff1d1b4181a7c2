import numpy as np
import pytest
import torch

from throughtime.cell.lstm import LSTM
from throughtime.cell.mogrifier import MogrifierLSTM
from throughtime.errors import RecipeError
from throughtime.kernels.spec import KernelSpec


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def naive(cell, x, h, c):
    """Melis, Kočiský & Blunsom 2020, equations 1 and 2, with their superscripts as keys."""
    matrices = [matrix.detach().numpy() for matrix in cell.left]
    if cell.right is not None:
        matrices = [left @ right.detach().numpy() for left, right in zip(matrices, cell.right, strict=True)]
    xs, hs = {-1: x}, {0: h}
    for i in range(1, cell.rounds + 1):
        if i % 2:
            xs[i] = 2 * sigmoid(matrices[i - 1] @ hs[i - 1]) * xs[i - 2]
        else:
            hs[i] = 2 * sigmoid(matrices[i - 1] @ xs[i - 1]) * hs[i - 2]
    x, h = xs[max(xs)], hs[max(hs)]
    weight_ih, weight_hh, bias = (p.detach().numpy() for p in (cell.weight_ih, cell.weight_hh, cell.bias))
    i, f, g, o = np.split(weight_ih @ x + weight_hh @ h + bias, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


@pytest.mark.parametrize(
    ("rounds", "rank"), [(0, None), (1, None), (2, None), (5, None), (6, None), (1, 2), (2, 2), (5, 1)]
)
def test_one_step_is_that_of_the_paper(rounds, rank):
    cell = MogrifierLSTM(3, 4, rounds=rounds, rank=rank, init="uniform-gate").double()
    x, h, c = np.random.default_rng(0).standard_normal((3, 4))
    x = x[:3]
    expected = naive(cell, x, h, c)
    state = (torch.from_numpy(h)[None], torch.from_numpy(c)[None])
    after, output = cell.step(cell.project(torch.from_numpy(x).view(1, 1, 3))[0], state)
    for part, wanted in zip(after, expected, strict=True):
        np.testing.assert_allclose(part.detach().numpy()[0], wanted, rtol=0, atol=1e-13)
    assert output is after[0]


def test_without_rounds_it_is_the_lstm():
    cell, lstm = MogrifierLSTM(3, 4, rounds=0).double(), LSTM(3, 4).double()
    lstm.load_state_dict(
        {
            "weight_ih": cell.weight_ih,
            "weight_hh": cell.weight_hh,
            "bias_ih": cell.bias,
            "bias_hh": torch.zeros_like(cell.bias),
        }
    )
    x = torch.randn(1, 5, 3, dtype=torch.float64)
    state = tuple(torch.randn(2, 5, 4, dtype=torch.float64))
    after, _ = cell.step(cell.project(x)[0], state)
    expected, _ = lstm.step(lstm.project(x)[0], state)
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-14)


def test_kernel():
    cell = MogrifierLSTM(3, 4, rounds=3)
    assert cell.kernel == KernelSpec("mogrifier", (3,))
    shapes = [tuple(weight.shape) for weight in cell.kernel_weights()]
    assert shapes == [(3, 4), (4, 3), (3, 4), (16, 3), (16, 4), (16,)]
    x = torch.randn(2, 5, 3)
    assert cell.project(x) is x
    low_rank = MogrifierLSTM(3, 4, rank=2)
    assert low_rank.kernel is None
    assert low_rank.kernel_weights() == []
    assert [tuple(left.shape) for left in low_rank.left[:2]] == [(3, 2), (4, 2)]
    assert [tuple(right.shape) for right in low_rank.right[:2]] == [(2, 4), (2, 3)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": -1}, "rounds must be at least 0, not -1"),
        ({"rank": 0}, "rank must be at least 1 and below the smaller of input_size and hidden_size, 3, not 0; leave"),
        ({"rank": 3}, "rank must be at least 1 and below the smaller of input_size and hidden_size, 3, not 3; leave"),
        ({"rank": 2, "rounds": 0}, "rank is that of the rounds' matrices, and rounds=0 leaves none: leave rank out"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(RecipeError) as caught:
        MogrifierLSTM(3, 4, **options)
    assert str(caught.value).startswith(message)
