import pytest
import torch

from throughtime.cell.slstm import SLSTM
from throughtime.errors import RecipeError
from throughtime.kernels.spec import KernelSpec


def made(**options):
    return SLSTM(3, 4, init="uniform-gate", **options).double()


def unstabilised(cell, x, h, c, n):
    """Beck et al. 2024, section 2.2, without m: outputs (T, B, H), and the last h, c and n."""
    H, heads = cell.hidden_size, cell.num_heads
    recurrent = [torch.block_diag(*block.chunk(heads)) for block in cell.weight_hh.chunk(4)]
    inputs, biases = cell.weight_ih.chunk(4), cell.bias.chunk(4)
    outputs = []
    for x_t in x:
        i, f, z, o = (x_t @ w.t() + h @ r.t() + b for w, r, b in zip(inputs, recurrent, biases, strict=True))
        assert i.shape == (x.size(1), H)
        i = torch.exp(i)
        f = torch.exp(f) if cell.forget_gate == "exponential" else torch.sigmoid(f)
        c = f * c + i * torch.tanh(z)
        n = f * n + i
        h = torch.sigmoid(o) * (c / n)
        outputs.append(h)
    return torch.stack(outputs), (h, c, n)


def run(cell, x, state):
    outputs = []
    for projected in cell.project(x):
        state, output = cell.step(projected, state)
        outputs.append(output)
    return torch.stack(outputs), state


def assert_close(found, expected):
    assert (found - expected).abs().max() <= 1e-10 * expected.abs().max()


OPTIONS = [{}, {"forget_gate": "exponential"}, {"num_heads": 2}, {"num_heads": 4, "forget_gate": "exponential"}]


@pytest.mark.parametrize("options", OPTIONS)
def test_from_the_start_it_equals_the_unstabilised_cell_with_gradients(options):
    cell = made(**options)
    x = torch.randn(12, 5, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(12, 5, 4, dtype=torch.float64)
    zeros = torch.zeros(5, 4, dtype=torch.float64)
    expected, _ = unstabilised(cell, x, zeros, zeros, zeros)
    found, _ = run(cell, x, cell.initial_state(5))
    assert_close(found, expected)
    leaves = (x, *cell.parameters())
    wanted = torch.autograd.grad((expected * weights).sum(), leaves)
    for gradient, reference in zip(torch.autograd.grad((found * weights).sum(), leaves), wanted, strict=True):
        assert_close(gradient, reference)


@pytest.mark.parametrize("options", OPTIONS)
def test_from_any_state_it_equals_the_unstabilised_cell_with_gradients(options):
    cell = made(**options)
    x = torch.randn(6, 5, 3, dtype=torch.float64)
    h, c, m = torch.randn(3, 5, 4, dtype=torch.float64).unbind()
    state = [part.requires_grad_() for part in (h, c, torch.rand(5, 4, dtype=torch.float64) + 0.5, m)]
    h, c, n, m = state
    expected, (_, true_c, true_n) = unstabilised(cell, x, h, c * m.exp(), n * m.exp())
    found, (_, scaled_c, scaled_n, scale) = run(cell, x, tuple(state))
    assert_close(found, expected)
    assert_close(scaled_c * scale.exp(), true_c)
    assert_close(scaled_n * scale.exp(), true_n)
    weights = torch.randn(6, 5, 4, dtype=torch.float64)
    wanted = torch.autograd.grad((expected * weights).sum(), state)
    for gradient, reference in zip(torch.autograd.grad((found * weights).sum(), state), wanted, strict=True):
        assert_close(gradient, reference)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shift", [-5000.0, -200.0, 200.0, 5000.0])
def test_a_shift_of_all_input_gates_changes_nothing_even_where_exp_overflows(options, shift):
    cell = SLSTM(3, 4, **options)
    x = torch.randn(10, 5, 3)
    plain, _ = run(cell, x, cell.initial_state(5))
    with torch.no_grad():
        cell.bias[:4] += shift
    shifted, (_, _, n, _) = run(cell, x, cell.initial_state(5))
    torch.testing.assert_close(shifted, plain, rtol=0, atol=2e-3)  # float32 holds 5000 to 0.0005
    gradients = torch.autograd.grad(shifted.square().sum(), list(cell.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert (n >= 1).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_the_normaliser_never_falls_below_one(dtype, scale):
    cell = SLSTM(3, 4).to(dtype)
    state = cell.initial_state(2)
    for projected in cell.project(scale * torch.randn(40, 2, 3, dtype=dtype)):
        state, h = cell.step(projected, state)
        assert (state[2] >= 1).all()
        assert (h.abs() <= 1).all()


def test_a_head_sees_its_own_units_alone():
    cell = made(num_heads=2)
    x = torch.zeros(1, 1, 3, dtype=torch.float64)
    state = tuple(part + 1.0 for part in cell.initial_state(1))
    by_h = torch.autograd.functional.jacobian(lambda h: cell.step(cell.project(x)[0], (h, *state[1:]))[1][0], state[0])
    by_h = by_h.squeeze(1)
    assert (by_h[:2, :2] != 0).all()
    assert (by_h[2:, 2:] != 0).all()
    assert not by_h[:2, 2:].any()
    assert not by_h[2:, :2].any()


def test_heads_start_orthogonal():
    cell = SLSTM(3, 6, num_heads=2).double()
    cell.reset_parameters()
    assert cell.weight_hh.shape == (24, 3)
    for block in cell.weight_hh.chunk(8):
        torch.testing.assert_close(block @ block.t(), torch.eye(3, dtype=torch.float64))


def test_kernel():
    cell = SLSTM(3, 4)
    assert cell.kernel == KernelSpec("slstm", (0.0,))
    (weight,) = cell.kernel_weights()
    assert weight is cell.weight_hh
    assert weight.shape == (16, 4)
    assert SLSTM(3, 4, forget_gate="exponential").kernel == KernelSpec("slstm", (1.0,))
    many = SLSTM(3, 4, num_heads=2)
    assert many.kernel is None
    assert many.kernel_weights() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 0}, "num_heads must be at least 1, not 0"),
        ({"num_heads": 3}, "num_heads must divide hidden_size 4, and 3 does not"),
        ({"forget_gate": "exp"}, "unknown forget_gate of slstm 'exp': choose one of sigmoid, exponential"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(RecipeError) as caught:
        SLSTM(3, 4, **options)
    assert str(caught.value) == message
