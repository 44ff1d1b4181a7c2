import numpy as np
import pytest
import torch

from throughtime.cell.layer_norm_lstm import LayerNormLSTM
from throughtime.errors import RecipeError
from throughtime.kernels.spec import KernelSpec


def made(**options):
    cell = LayerNormLSTM(3, 4, **options).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return cell


def norm(a, gain, shift, eps):
    return gain * (a - a.mean()) / np.sqrt(((a - a.mean()) ** 2).mean() + eps) + shift


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_one_step_is_that_of_the_paper(eps):
    cell = made(eps=eps)
    value = {name: parameter.detach().numpy() for name, parameter in cell.named_parameters()}
    x, h, c = np.random.default_rng(0).standard_normal((3, 4))
    x = x[:3]
    sums = norm(value["weight_hh"] @ h, value["gain_hh"], 0, eps)
    sums = sums + norm(value["weight_ih"] @ x, value["gain_ih"], 0, eps) + value["bias"]
    i, f, g, o = np.split(sums, 4)
    new_c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    new_h = sigmoid(o) * np.tanh(norm(new_c, value["gain_c"], value["bias_c"], eps))

    state = (torch.from_numpy(h)[None], torch.from_numpy(c)[None])
    after, output = cell.step(cell.project(torch.from_numpy(x).view(1, 1, 3))[0], state)
    np.testing.assert_allclose(after[0].detach().numpy()[0], new_h, rtol=0, atol=1e-13)
    np.testing.assert_allclose(after[1].detach().numpy()[0], new_c, rtol=0, atol=1e-13)
    assert output is after[0]


def test_it_does_not_feel_the_scale_of_input_state_and_weights():
    cell = made(eps=1e-12)
    x = torch.randn(1, 2, 3, dtype=torch.float64)
    h, c = torch.randn(2, 2, 4, dtype=torch.float64)
    after, _ = cell.step(cell.project(x)[0], (h, c))
    with torch.no_grad():
        cell.weight_hh *= 0.5
    scaled, _ = cell.step(cell.project(100 * x)[0], (7 * h, c))
    torch.testing.assert_close(after, scaled, rtol=1e-8, atol=1e-8)


def test_gains_start_at_one_and_shifts_at_zero():
    cell = LayerNormLSTM(3, 4)
    assert all((gain == 1).all() for gain in (cell.gain_ih, cell.gain_hh, cell.gain_c))
    assert not cell.bias_c.any()


def test_kernel():
    cell = LayerNormLSTM(3, 4, eps=0.01)
    assert cell.kernel == KernelSpec("layer_norm_lstm", (0.01,))
    names = ("weight_hh", "gain_hh", "gain_c", "bias_c")
    assert all(weight is getattr(cell, name) for weight, name in zip(cell.kernel_weights(), names, strict=True))
    assert [tuple(weight.shape) for weight in cell.kernel_weights()] == [(16, 4), (16,), (4,), (4,)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 1}, "hidden_size must be at least 2, not 1"),
        ({"eps": 0.0}, "eps must be above 0, not 0"),
        ({"eps": float("nan")}, "eps must be above 0, not nan"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(RecipeError) as caught:
        LayerNormLSTM(**{"input_size": 3, "hidden_size": 4, **options})
    assert str(caught.value) == message
