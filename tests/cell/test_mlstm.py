import numpy as np
import pytest
import torch

from throughtime.cell.mlstm import MLSTM
from throughtime.errors import RecipeError

OPTIONS = [{}, {"forget_gate": "exponential"}, {"num_heads": 2}, {"num_heads": 4, "forget_gate": "exponential"}]


def made(**options):
    cell = MLSTM(3, 4, **options).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return cell


def plain(cell, x, memory, n):
    """Beck et al. 2024, section 2.3, for one sequence x (T, I) and without m: outputs (T, H), C and n, in numpy."""
    heads, size = cell.num_heads, cell.hidden_size // cell.num_heads
    weights, biases = cell.weight_ih.detach().numpy(), cell.bias.detach().numpy()
    outputs = []
    for x_t in x.numpy():
        sums = weights @ x_t
        q, k, v, o = (part.reshape(heads, size) for part in np.split(sums[: 4 * heads * size], 4))
        b_q, b_k, b_v, b_o = (part.reshape(heads, size) for part in np.split(biases[: 4 * heads * size], 4))
        i, f = np.split(sums[4 * heads * size :] + biases[4 * heads * size :], 2)
        i = np.exp(i)
        f = np.exp(f) if cell.forget_gate == "exponential" else 1 / (1 + np.exp(-f))
        q, k, v, o = q + b_q, k / np.sqrt(size) + b_k, v + b_v, 1 / (1 + np.exp(-(o + b_o)))
        h = np.empty((heads, size))
        for head in range(heads):
            memory[head] = f[head] * memory[head] + i[head] * np.outer(v[head], k[head])
            n[head] = f[head] * n[head] + i[head] * k[head]
            h[head] = o[head] * (memory[head] @ q[head]) / max(abs(n[head] @ q[head]), 1)
        outputs.append(h.flatten())
    return np.stack(outputs), memory, n


def run(cell, x, state):
    outputs = []
    for projected in cell.project(x):
        state, output = cell.step(projected, state)
        outputs.append(output)
    return torch.stack(outputs), state


def assert_close(found, expected):
    difference = np.abs(found.detach().numpy() - expected).max()
    assert difference <= 1e-10 * np.abs(expected).max()


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_from_the_start_it_equals_the_unstabilised_equations(options, scale):
    cell = made(**options)
    x = scale * torch.randn(12, 2, 3, dtype=torch.float64)
    found, state = run(cell, x, cell.initial_state(2))
    heads, size = cell.num_heads, 4 // cell.num_heads
    for row in range(2):
        expected, memory, n = plain(cell, x[:, row], np.zeros((heads, size, size)), np.zeros((heads, size)))
        assert_close(found[:, row], expected)
        assert_close(state[0][row] * state[2][row].exp()[:, None, None], memory)
        assert_close(state[1][row] * state[2][row].exp()[:, None], n)


@pytest.mark.parametrize("options", OPTIONS)
def test_from_any_state_it_equals_the_unstabilised_equations(options):
    cell = made(**options)
    x = torch.randn(6, 1, 3, dtype=torch.float64)
    memory, n, m = (torch.randn_like(part) for part in cell.initial_state(1))
    found, _ = run(cell, x, (memory, n, m))
    start = ((memory * m.exp()[..., None, None])[0].numpy(), (n * m.exp()[..., None])[0].numpy())
    assert_close(found[:, 0], plain(cell, x[:, 0], *start)[0])


@pytest.mark.parametrize("m", [-1e4, -3.0, 0.0, 2.0])
def test_the_unit_of_an_empty_memory_does_not_matter(m):
    cell = made(num_heads=2)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    memory, n, start = cell.initial_state(2)
    expected, _ = run(cell, x, (memory, n, start))
    torch.testing.assert_close(run(cell, x, (memory, n, torch.full_like(start, m)))[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("m", [-9000.0, -200.0, -1.0, 0.0, 1.0, 60.0])
def test_the_readout_has_the_gradients_of_its_formula_in_every_unit(m):
    cell = made()
    form = cell.matrix_form(cell.project(torch.randn(1, 2, 3, dtype=torch.float64))[0])
    read = torch.randn(2, 1, 4, dtype=torch.float64, requires_grad=True)
    normaliser = torch.tensor([[0.3], [-1.7]], dtype=torch.float64, requires_grad=True)
    scale = torch.full((2, 1), m, dtype=torch.float64, requires_grad=True)
    found = cell.matrix_readout(form, read, normaliser, scale)
    expected = form.output_gate * (read / torch.maximum(normaliser.abs(), torch.exp(-scale)).unsqueeze(-1)).flatten(1)
    torch.testing.assert_close(found, expected)
    got = torch.autograd.grad(found.square().sum(), (read, normaliser, scale), retain_graph=True)
    assert all(gradient.isfinite().all() for gradient in got)
    if m > -700:  # below that the formula itself is 1 / inf
        wanted = torch.autograd.grad(expected.square().sum(), (read, normaliser, scale))
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("shift", [-5000.0, -200.0, 200.0, 5000.0])
def test_extreme_input_gates_leave_numbers_and_gradients_finite(shift):
    cell = MLSTM(3, 4)
    with torch.no_grad():
        cell.bias[-2] += shift
    outputs, _ = run(cell, torch.randn(10, 5, 3), cell.initial_state(5))
    gradients = torch.autograd.grad(outputs.square().sum(), list(cell.parameters()))
    assert outputs.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert (outputs == 0).all() == (shift < 0)


@pytest.mark.parametrize("options", OPTIONS)
def test_it_starts_with_a_long_memory_and_constant_gates(options):
    cell = MLSTM(3, 4, **options)
    form = cell.matrix_form(cell.project(torch.randn(1, 2, 3)))
    assert (form.log_input == 0).all()
    assert ((form.log_decay.exp() > 0.95) & (form.log_decay.exp() < 1)).all()
    assert form.queries.shape == (1, 2, cell.num_heads, 4 // cell.num_heads)


def test_gradcheck_with_heads():
    cell = made(num_heads=2)
    state = [torch.randn_like(part).requires_grad_() for part in cell.initial_state(2)]
    x = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)

    def two_steps(x, *state):
        outputs, after = run(cell, x, state)
        return (outputs, *after)

    assert torch.autograd.gradcheck(two_steps, (x, *state))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 3}, "num_heads must divide hidden_size 4, and 3 does not"),
        ({"forget_gate": "exp"}, "unknown forget_gate of mlstm 'exp': choose one of sigmoid, exponential"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(RecipeError) as caught:
        MLSTM(3, 4, **options)
    assert str(caught.value) == message
