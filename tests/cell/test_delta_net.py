import numpy as np
import pytest
import torch

from throughtime.cell.delta_net import DeltaNetForm, GatedDeltaNet
from throughtime.errors import RecipeError

OPTIONS = [{}, {"negative_eigenvalues": False}, {"num_heads": 2}]


def made(**options):
    cell = GatedDeltaNet(3, 4, **options).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return cell


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def plain(cell, x, memory):
    """Yang, Kautz & Hatamizadeh 2024, equation 10, for one sequence x (T, I): outputs (T, H) and S, in numpy."""
    heads, size = cell.num_heads, cell.hidden_size // cell.num_heads
    weights, biases, gain = (part.detach().numpy() for part in (cell.weight_ih, cell.bias, cell.gain))
    outputs = []
    for x_t in x.numpy():
        sums = weights @ x_t + biases
        q, k, v, gate = (z * sigmoid(z) for z in np.split(sums[: 4 * heads * size], 4))
        alpha, beta = np.split(sigmoid(sums[4 * heads * size :]), 2)
        beta = 2 * beta if cell.negative_eigenvalues else beta
        y = np.empty((heads, size))
        for head in range(heads):
            at = slice(head * size, (head + 1) * size)
            query, key = (z[at] / np.sqrt(z[at] @ z[at] + 1e-6) for z in (q, k))
            erased = np.eye(size) - beta[head] * np.outer(key, key)
            memory[head] = alpha[head] * memory[head] @ erased + beta[head] * np.outer(v[at], key)
            read = memory[head] @ query
            y[head] = read / np.sqrt(np.mean(read**2) + 1e-5)
        outputs.append(gain * y.flatten() * gate)
    return np.stack(outputs), memory


def run(cell, x, state):
    outputs = []
    for projected in cell.project(x):
        state, output = cell.step(projected, state)
        outputs.append(output)
    return torch.stack(outputs), state


def form_of(key, value, log_decay, beta):
    """One head's form, its keys read back."""
    part = torch.tensor(key, dtype=torch.float64)[None, None]
    values = torch.tensor(value, dtype=torch.float64)[None, None]
    gates = [torch.full((1, 1), gate, dtype=torch.float64) for gate in (log_decay, beta)]
    return DeltaNetForm(part, part, values, *gates, output_gate=torch.ones(1, 2, dtype=torch.float64))


def packed(form):
    """What `project` would have given."""
    parts = (form.queries, form.keys, form.values)
    return torch.cat([*(part.flatten(1) for part in parts), form.output_gate, form.log_decay, form.beta], dim=1)


@pytest.mark.parametrize("options", OPTIONS)
def test_it_equals_the_equations_of_the_paper(options):
    cell = made(**options)
    x = torch.randn(12, 2, 3, dtype=torch.float64)
    start = torch.randn_like(cell.initial_state(2)[0])
    found, (memory,) = run(cell, x, (start,))
    for row in range(2):
        expected, last = plain(cell, x[:, row], start[row].numpy().copy())
        assert np.abs(found[:, row].detach().numpy() - expected).max() <= 1e-10 * np.abs(expected).max()
        assert np.abs(memory[row].detach().numpy() - last).max() <= 1e-10 * np.abs(last).max()


def test_beta_of_one_replaces_the_value_at_a_key_and_leaves_what_is_orthogonal():
    cell = GatedDeltaNet(3, 2).double()
    memory = torch.randn(1, 1, 2, 2, dtype=torch.float64)
    (after,), _ = cell.step(packed(form_of([0.6, 0.8], [3.0, -5.0], 0.0, 1.0)), (memory,))
    key, across = torch.tensor([[0.6, 0.8], [0.8, -0.6]], dtype=torch.float64)
    torch.testing.assert_close(after[0, 0] @ key, torch.tensor([3.0, -5.0], dtype=torch.float64))
    torch.testing.assert_close(after[0, 0] @ across, memory[0, 0] @ across)


def test_beta_of_two_follows_a_parity():
    cell = GatedDeltaNet(3, 2).double()
    state = (torch.eye(2, dtype=torch.float64)[None, None],)
    bits, signs = [1, 0, 1, 1, 0, 1, 1], []
    for bit in bits:
        state, _ = cell.step(packed(form_of([1.0, 0.0], [0.0, 0.0], 0.0, 2.0 * bit)), state)
        signs.append(state[0][0, 0, 0, 0].item())
    assert signs == [1 - 2 * (sum(bits[: t + 1]) % 2) for t in range(len(bits))]


@pytest.mark.parametrize(("negative", "highest"), [(True, 2.0), (False, 1.0)])
def test_ranges_of_what_is_projected(negative, highest):
    cell = GatedDeltaNet(3, 8, num_heads=2, negative_eigenvalues=negative)
    form = cell.matrix_form(cell.project(10 * torch.randn(40, 5, 3)))
    assert (form.log_decay <= 0).all()
    assert form.beta.min() < 0.1 * highest
    assert 0.9 * highest < form.beta.max() <= highest
    for part in (form.queries, form.keys):
        torch.testing.assert_close(part.square().sum(-1), torch.ones(40, 5, 2), rtol=0, atol=1e-2)


def test_gradients_at_keys_of_length_zero_are_finite():
    cell = GatedDeltaNet(3, 4)
    outputs, _ = run(cell, torch.zeros(5, 2, 3), cell.initial_state(2))
    assert (outputs == 0).all()
    gradients = torch.autograd.grad(outputs.sum(), list(cell.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_it_is_linear_in_its_state():
    cell = made(num_heads=2)
    projected = cell.project(torch.randn(1, 3, 3, dtype=torch.float64))[0]
    first, second = (torch.randn_like(cell.initial_state(3)[0]) for _ in range(2))

    def change(memory):
        return cell.step(projected, (memory,))[0][0] - cell.step(projected, (0 * memory,))[0][0]

    torch.testing.assert_close(change(first + 2 * second), change(first) + 2 * change(second))
    assert cell.linear


@pytest.mark.parametrize("options", OPTIONS)
def test_it_starts_with_a_long_memory(options):
    cell = GatedDeltaNet(3, 4, **options)
    decay = cell.matrix_form(cell.project(torch.zeros(1, 1, 3))).log_decay.exp()
    assert ((decay > 0.95) & (decay < 1)).all()


def test_mistakes_are_named():
    with pytest.raises(RecipeError, match="num_heads must divide hidden_size 4, and 3 does not"):
        GatedDeltaNet(3, 4, num_heads=3)
    with pytest.raises(RecipeError, match="unknown init of gated-deltanet 'torch'"):
        GatedDeltaNet(3, 4, init="torch")
