from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from against_the_loop import assert_equal_to_the_float64_loop, difference, everything, projecting
from throughtime.cell import Cell, make_cell
from throughtime.cell.delta_net import GatedDeltaNet
from throughtime.cell.mlstm import MLSTM
from throughtime.errors import InputError
from throughtime.scan.chunkwise import chunkwise, chunkwise_obstacle
from throughtime.scan.loop import loop

KINDS = {
    "mlstm": MLSTM,
    "mlstm-exponential": lambda *sizes, **options: MLSTM(*sizes, forget_gate="exponential", **options),
    "delta": GatedDeltaNet,
    "delta-positive": lambda *sizes, **options: GatedDeltaNet(*sizes, negative_eigenvalues=False, **options),
}
SIZES = [
    (1, 1, 4, 1),
    (1, 3, 2, 1),
    (2, 17, 2, 2),
    (3, 2, 8, 2),
    (3, 130, 4, 2),
    (17, 1, 8, 1),
    (17, 3, 2, 2),
    (64, 2, 4, 2),
    (64, 1, 8, 2),
    (130, 1, 2, 1),
    (130, 3, 8, 2),
    (130, 2, 4, 1),
]
CHUNKWISE = projecting(chunkwise)


class NormalisedForm(NamedTuple):
    queries: Tensor
    keys: Tensor
    values: Tensor
    log_decay: Tensor
    log_input: Tensor


class DeltaForm(NamedTuple):
    queries: Tensor
    keys: Tensor
    values: Tensor
    log_decay: Tensor
    beta: Tensor


class OwnNormalised(Cell):
    """A user's cell of one head: the input is query and key at once, and the memory starts from a learned state."""

    state_names = ("C", "n", "m")
    matrix_rule = "normalised"

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size, output_size=input_size)
        self.memory = nn.Parameter(torch.randn(1, input_size, input_size))
        self.normaliser = nn.Parameter(torch.randn(1, input_size))
        self.scale = nn.Parameter(torch.randn(1))

    def reset_parameters(self):
        pass

    def initial_state(self, batch, *, device=None, dtype=None):
        return tuple(part.expand(batch, *part.shape) for part in (self.memory, self.normaliser, self.scale))

    def project(self, x):
        return x

    def matrix_form(self, projected):
        part, gate = projected.unsqueeze(-2), projected[..., :1]
        return NormalisedForm(part, 0.5 * part, part.cos(), -gate.exp(), gate.sin())

    def matrix_readout(self, form, read, normaliser, log_scale):
        unit = log_scale.exp()
        return (unit / (1 + (unit * normaliser).square())) * read.squeeze(-2)

    def step(self, projected, state):
        form = self.matrix_form(projected)
        memory, n, m = state
        after = torch.maximum(form.log_decay + m, form.log_input)
        kept, new = torch.exp(form.log_decay + m - after), torch.exp(form.log_input - after)
        memory = kept.unsqueeze(-1).unsqueeze(-1) * memory + torch.einsum(
            "bh,bhv,bhk->bhvk", new, form.values, form.keys
        )
        n = kept.unsqueeze(-1) * n + new.unsqueeze(-1) * form.keys
        read = torch.einsum("bhvk,bhk->bhv", memory, form.queries)
        return (memory, n, after), self.matrix_readout(form, read, (n * form.queries).sum(-1), after)


class OwnDelta(Cell):
    """A user's cell of one head, with a learned start and a readout of its own."""

    state_names = ("S",)
    matrix_rule = "delta"

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size, output_size=input_size)
        self.memory = nn.Parameter(torch.randn(1, input_size, input_size))

    def reset_parameters(self):
        pass

    def initial_state(self, batch, *, device=None, dtype=None):
        return (self.memory.expand(batch, *self.memory.shape),)

    def project(self, x):
        return x

    def matrix_form(self, projected):
        part, gate = projected.unsqueeze(-2), projected[..., :1]
        return DeltaForm(part.sin(), 0.4 * part.cos(), part, -gate.exp(), 1 + gate.sin())

    def matrix_readout(self, form, read):
        return read.squeeze(-2).tanh()

    def step(self, projected, state):
        form = self.matrix_form(projected)
        memory = form.log_decay.exp()[..., None, None] * state[0]
        held = torch.einsum("bhvk,bhk->bhv", memory, form.keys)
        update = form.beta.unsqueeze(-1) * (form.values - held)
        memory = memory + update.unsqueeze(-1) * form.keys.unsqueeze(-2)
        return (memory,), self.matrix_readout(form, torch.einsum("bhvk,bhk->bhv", memory, form.queries))


def made(kind, hidden_size, num_heads):
    """A cell whose gates depend on its input, unlike at the start of some."""
    cell = KINDS[kind](3, hidden_size, num_heads=num_heads)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return cell


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_equal_the_loop(kind, size):
    num_steps, batch, hidden_size, num_heads = size
    assert_equal_to_the_float64_loop(CHUNKWISE, made(kind, hidden_size, num_heads), num_steps, batch)


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("num_steps", [3, 17, 64, 130])
@pytest.mark.parametrize("kind", KINDS)
def test_float32_equals_the_loop(kind, num_steps, cut):
    """Eight features a head: what is read from narrower heads comes near zero, and norms there amplify all errors."""
    reset = torch.rand(num_steps, 3) < 0.1 if cut else None
    lengths = torch.tensor([num_steps, 1, num_steps // 2]) if cut else None
    assert_equal_to_the_float64_loop(
        CHUNKWISE, KINDS[kind](3, 16, num_heads=2), num_steps, 3, torch.float32, reset, lengths
    )


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.6, 1.0])
@pytest.mark.parametrize("num_steps", [1, 17, 130])
@pytest.mark.parametrize("kind", KINDS)
def test_resets_equal_the_loop(kind, num_steps, share):
    reset = torch.rand(num_steps, 3) < share
    reset[0, 0] = True
    assert_equal_to_the_float64_loop(CHUNKWISE, made(kind, 4, 2), num_steps, 3, reset=reset)


@pytest.mark.parametrize("lengths", [[130, 130, 130], [130, 64, 1], [0, 65, 2], [44, 88, 43], [0, 0, 0]])
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_lengths_equal_the_loop(kind, cut, lengths):
    reset = torch.rand(130, 3) < 0.05 if cut else None
    assert_equal_to_the_float64_loop(CHUNKWISE, made(kind, 4, 2), 130, 3, reset=reset, lengths=torch.tensor(lengths))


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("kind", [OwnNormalised, OwnDelta])
def test_cells_of_a_user_that_start_from_a_learned_state(kind, cut):
    reset = torch.rand(130, 3) < 0.05 if cut else None
    lengths = torch.tensor([130, 7, 66]) if cut else None
    assert_equal_to_the_float64_loop(CHUNKWISE, kind(3, 1), 130, 3, reset=reset, lengths=lengths)


def test_a_sequence_with_resets_equals_sequences_cut_apart():
    for kind in KINDS:
        cell = made(kind, 4, 1).double()
        x = torch.randn(100, 1, 3, dtype=torch.float64)
        reset = torch.zeros(100, 1, dtype=torch.bool)
        reset[[20, 21, 70]] = True
        outputs, final = chunkwise(cell, cell.project(x), cell.initial_state(1), reset)
        apart = [chunkwise(cell, cell.project(part), cell.initial_state(1)) for part in x.split([20, 1, 49, 30])]
        torch.testing.assert_close(outputs, torch.cat([part for part, _ in apart]))
        torch.testing.assert_close(final, apart[-1][1])


@pytest.mark.parametrize("decay", [-50.0, 50.0])
@pytest.mark.parametrize("strength", [-60.0, 0.0, 60.0])
@pytest.mark.parametrize("kind", ["mlstm", "delta", "delta-positive"])
def test_extreme_gates_equal_the_loop(kind, decay, strength):
    """A forget gate at 0 or 1; an input gate far from 1 or a beta at 0, in the middle or at its greatest."""
    cell = made(kind, 4, 2)
    log_decay, other = (cell.bias[16:18], cell.bias[18:]) if "delta" in kind else (cell.bias[18:], cell.bias[16:18])
    with torch.no_grad():
        log_decay += decay
        other += strength
    assert_equal_to_the_float64_loop(CHUNKWISE, cell, 130, 2)
    cell = cell.float()
    x, state = torch.randn(130, 2, 3), cell.initial_state(2)
    found = everything(CHUNKWISE, cell, x, state, None, None, torch.ones(130, 2, 4))
    assert all(part.isfinite().all() for part in found)


@pytest.mark.parametrize("forget", [-50.0, -5.0, 0.5])
def test_exponential_forget_gates_that_erase_or_amplify(forget):
    cell = made("mlstm-exponential", 4, 2)
    with torch.no_grad():
        cell.bias[18:] = forget
    assert_equal_to_the_float64_loop(CHUNKWISE, cell, 130, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_gate_that_closes_for_one_step_in_the_middle_of_a_chunk(kind):
    cell = made(kind, 4, 1).double()
    projected = cell.project(torch.randn(64, 2, 3, dtype=torch.float64)).detach()
    at = -1 if "mlstm" in kind else -2
    projected[30:, :, at] = 0.0
    projected[30:34, :, at] = -300.0
    expected, expected_final = loop(cell, projected, cell.initial_state(2))
    outputs, final = chunkwise(cell, projected, cell.initial_state(2))
    torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(final, expected_final, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_equal_keys_at_beta_of_two_stay_exact(dtype, tolerance):
    """The hardest system: nothing fades, and each step turns the sign of what all the steps before it have left."""
    cell = GatedDeltaNet(3, 4).double()
    key = torch.tensor([0.6, 0.8, 0.0, 0.0], dtype=dtype).expand(256, 2, 4)
    values, gates = torch.randn(256, 2, 4, dtype=dtype), torch.tensor([0.0, 2.0], dtype=dtype).expand(256, 2, 2)
    projected = torch.cat([key, key, values, torch.ones_like(values), gates], dim=2)
    state = (torch.randn(2, 1, 4, 4, dtype=dtype),)
    expected, (last,) = loop(cell, projected.double(), (state[0].double(),))
    outputs, (memory,) = chunkwise(cell.to(dtype), projected, state)
    assert difference(outputs, expected, 1.0) < tolerance
    assert difference(memory, last, 1.0) < tolerance


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_beyond_a_length_reaches_nothing(kind):
    cell = made(kind, 4, 2).double()
    projected = cell.project(torch.randn(70, 2, 3, dtype=torch.float64)).detach()
    lengths = torch.tensor([66, 70])
    found = []
    for value in (0.0, torch.nan, torch.inf):
        projected[66:, 0] = value
        leaf = projected.clone().requires_grad_()
        outputs, final = chunkwise(cell, leaf, cell.initial_state(2), None, lengths)
        total = outputs.square().sum() + sum(part.square().sum() for part in final)
        gradient = torch.autograd.grad(total, leaf)[0]
        assert (gradient[66:, 0] == 0).all()
        assert (outputs[66:, 0] == 0).all()
        found.append((outputs, *final, gradient))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)
    torch.testing.assert_close(found[2], found[0], rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_nan_stays_in_its_own_row_and_after_its_chunk_began(kind):
    cell = made(kind, 4, 2)
    x = torch.randn(128, 2, 3)
    x[100, 0, 0] = torch.nan
    outputs, _ = chunkwise(cell, cell.project(x), cell.initial_state(2))
    assert outputs[100:, 0].isnan().all()
    assert outputs[:64, 0].isfinite().all()
    assert outputs[:, 1].isfinite().all()


@pytest.mark.parametrize("kind", ["mlstm", "delta"])
def test_gradients_of_gradients_equal_the_loop(kind):
    cell = made(kind, 4, 2).double()
    x = torch.randn(70, 1, 3, dtype=torch.float64, requires_grad=True)
    reset = torch.rand(70, 1) < 0.05

    def twice(scan):
        outputs, final = scan(cell, cell.project(x), cell.initial_state(1), reset)
        total = outputs.square().sum() + final[0].square().sum()
        first = torch.autograd.grad(total, tuple(cell.parameters()), create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), (x, *cell.parameters()))

    for ours, truth in zip(twice(chunkwise), twice(loop), strict=True):
        assert difference(ours, truth, 1.0) < 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_on_from_where_it_stopped(kind):
    cell = made(kind, 4, 2).double()
    projected = cell.project(torch.randn(90, 2, 3, dtype=torch.float64))
    whole, expected = chunkwise(cell, projected, cell.initial_state(2))
    first, state = chunkwise(cell, projected[:30], cell.initial_state(2))
    second, final = chunkwise(cell, projected[30:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(final, expected)


def test_obstacles():
    cell, x = MLSTM(3, 4), torch.zeros(5, 2, 3)
    assert chunkwise_obstacle(cell, x) is None
    assert chunkwise_obstacle(GatedDeltaNet(3, 4), x.double()) is None
    assert "GRU has no matrix state" in chunkwise_obstacle(make_cell("gru", 3, 4), x)
    assert "bfloat16" in chunkwise_obstacle(cell, x.bfloat16())
    assert "no step" in chunkwise_obstacle(cell, x[:0])
    with torch.autocast("cpu", torch.bfloat16):
        assert "autocast" in chunkwise_obstacle(cell, x)
    own = OwnDelta(3, 1)
    own.matrix_rule = "hebb"
    assert chunkwise_obstacle(own, x) == "matrix_rule 'hebb' of OwnDelta is none of delta, normalised"


def test_a_cell_without_a_matrix_state_is_refused():
    cell = make_cell("gru", 3, 4)
    with pytest.raises(InputError, match=r"scan='chunkwise' cannot run: GRU has no matrix state .*; use scan='auto'"):
        chunkwise(cell, cell.project(torch.zeros(5, 2, 3)), cell.initial_state(2))
