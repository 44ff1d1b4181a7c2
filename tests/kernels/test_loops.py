"""Every compiled loop against the plain loop in float64: values, and the gradients by everything."""

from functools import partial

import pytest
import torch
from torch import nn

from against_the_loop import TOLERANCES, assert_equal_to_the_float64_loop, everything, projecting, reached_state
from throughtime.cell import GRU, LSTM, SLSTM, CoupledLSTM, LayerNormLSTM, MogrifierLSTM
from throughtime.cell.base import Cell
from throughtime.errors import InputError
from throughtime.kernels import KernelSpec, absence, library
from throughtime.scan import compiled, loop
from throughtime.scan.auto import run

pytestmark = pytest.mark.skipif(library() is None, reason=f"no compiled library: {absence()}")


class Equations(Cell):
    """A small cell: `step` is a function of the input's blocks, the state, the weights and the constants."""

    state_names = ("h",)

    def __init__(self, kernel, step, blocks, shapes, input_size, hidden_size, *, names=("h",), constants=()):
        super().__init__(input_size, hidden_size)
        self.kernel, self.state_names = KernelSpec(kernel, constants), names
        self._step, self._blocks = step, blocks
        self.weight_ih = nn.Parameter(torch.empty(blocks * hidden_size, input_size))
        sizes = ([factor * hidden_size for factor in shape] for shape in shapes)
        self.v = nn.ParameterList(nn.Parameter(torch.empty(size)) for size in sizes)
        self.reset_parameters()

    def project(self, x):
        return x @ self.weight_ih.t()

    def step(self, projected, state):
        *after, output = self._step(*projected.chunk(self._blocks, dim=1), *state, *self.v, *self.kernel.constants)
        return tuple(after), output

    def reset_parameters(self):
        for weight in self.parameters():
            nn.init.uniform_(weight, -0.3, 0.3)

    def kernel_weights(self):
        return list(self.v)


def elman(f, x, h, v):
    h = f(x + h @ v.t())
    return h, h


def indrnn(f, x, h, v):
    h = f(x + v * h)
    return h, h


def antisymmetric(x, h, v, eps):
    h = h + eps * torch.tanh(x + h @ v.t())
    return h, h


def antisymmetric_gated(x, gate, h, v, eps):
    sums = h @ v.t()
    h = h + eps * torch.sigmoid(gate + sums) * torch.tanh(x + sums)
    return h, h


def cornn(x, y, z, v, dt, gamma, epsilon):
    z = z + dt * (torch.tanh(x + torch.cat([y, z], dim=1) @ v.t()) - gamma * y - epsilon * z)
    y = y + dt * z
    return y, z, y


def lem(step_z, step_y, x_z, x_y, y, z, by_y, by_z, dt):
    sum_step_z, sum_step_y, sum_z = (y @ by_y.t()).chunk(3, dim=1)
    z = torch.lerp(z, torch.tanh(x_z + sum_z), dt * torch.sigmoid(step_z + sum_step_z))
    y = torch.lerp(y, torch.tanh(x_y + z @ by_z.t()), dt * torch.sigmoid(step_y + sum_step_y))
    return y, z, y


def sru(u, f, r, skip, c, v_f, v_r):
    f, r = torch.sigmoid(f + v_f * c), torch.sigmoid(r + v_r * c)
    c = f * c + (1 - f) * u
    return c, r * c + (1 - r) * skip


CELLS = {
    "elman_tanh": partial(Equations, "elman_tanh", partial(elman, torch.tanh), 1, [(1, 1)]),
    "elman_relu": partial(Equations, "elman_relu", partial(elman, torch.relu), 1, [(1, 1)]),
    "gru": GRU,
    "lstm": LSTM,
    "coupled_lstm": CoupledLSTM,
    # Few units are by chance nearly alike at some step, and normalising divides rounding errors by their difference.
    "layer_norm_lstm": lambda input_size, hidden_size: LayerNormLSTM(input_size, max(hidden_size, 8)),
    "mogrifier": MogrifierLSTM,
    "mogrifier, no round": partial(MogrifierLSTM, rounds=0),
    "mogrifier, two rounds": partial(MogrifierLSTM, rounds=2),
    "slstm": SLSTM,
    "slstm, exponential": partial(SLSTM, forget_gate="exponential"),
    "antisymmetric": partial(Equations, "antisymmetric", antisymmetric, 1, [(1, 1)], constants=(0.3,)),
    "antisymmetric_gated": partial(
        Equations, "antisymmetric_gated", antisymmetric_gated, 2, [(1, 1)], constants=(0.3,)
    ),
    "cornn": partial(Equations, "cornn", cornn, 1, [(1, 2)], names=("y", "z"), constants=(0.1, 1.5, 2.5)),
    "lem": partial(Equations, "lem", lem, 4, [(3, 1), (1, 1)], names=("y", "z"), constants=(0.7,)),
    "indrnn_tanh": partial(Equations, "indrnn_tanh", partial(indrnn, torch.tanh), 1, [(1,)]),
    "indrnn_relu": partial(Equations, "indrnn_relu", partial(indrnn, torch.relu), 1, [(1,)]),
    "sru": partial(Equations, "sru", sru, 4, [(1,), (1,)]),
}
SIZES = [(1, 1, 1), (2, 3, 1), (3, 2, 17), (17, 1, 64), (17, 17, 3), (3, 64, 2), (64, 3, 17), (2, 17, 64)]
CUTS = {
    "resets": (0.3, None),
    "all resets": (1.0, None),
    "lengths": (None, [7, 3, 0]),
    "no step": (None, [0, 0, 0]),
    "resets and lengths": (0.3, [0, 7, 4]),
}

every_cell = pytest.mark.parametrize("name", CELLS)


@pytest.fixture(autouse=True)
def _unwritten_memory_is_nan():
    """Deterministic torch fills what `torch.empty` gives with NaN, so whatever reads what no loop wrote shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def calm(name, input_size, hidden_size):
    """A cell with every parameter off its start, and damped recurrence, so that rounding errors die out."""
    torch.manual_seed(1)
    cell = CELLS[name](input_size, hidden_size).double()
    with torch.no_grad():
        for weight in cell.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
        for damped in (getattr(cell, name, ()) for name in ("weight_hh", "gain_hh", "v")):
            for row in damped:
                row.mul_(0.3)
    return cell


def test_every_loop_is_tested():
    assert {CELLS[name](2, 3).kernel.name for name in CELLS} == library().loops


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("size", SIZES)
@every_cell
def test_values_and_gradients_equal_the_loop(name, size, dtype):
    num_steps, batch, hidden_size = size
    assert_equal_to_the_float64_loop(compiled, calm(name, 4, hidden_size), num_steps, batch, dtype)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("cut", CUTS)
@every_cell
def test_resets_and_lengths_equal_the_loop(name, cut, dtype):
    cell = calm(name, 21, 18)  # more than a vector's lanes, and no multiple of them
    share, lengths = CUTS[cut]
    reset = None if share is None else torch.rand(7, 3) < share
    at = None if lengths is None else torch.tensor(lengths)
    assert_equal_to_the_float64_loop(compiled, cell, 7, 3, dtype, reset, at)


@every_cell
def test_nan_stays_in_its_own_row(name):
    cell, x = calm(name, 2, 5), torch.randn(4, 3, 2, dtype=torch.float64)
    clean, _ = compiled(cell, x, cell.initial_state(3))
    x[1, 0, 0] = torch.nan
    x.requires_grad_()
    outputs, final = compiled(cell, x, cell.initial_state(3))
    (by_x,) = torch.autograd.grad(outputs.sum(), x)
    assert outputs[1:, 0].isnan().all()
    assert torch.equal(outputs[:1], clean[:1])
    assert torch.equal(outputs[:, 1:], clean[:, 1:])
    assert by_x[:, 1:].isfinite().all()
    for after in final:
        assert after[0].isnan().all()
        assert after[1:].isfinite().all()


@every_cell
def test_nan_beyond_a_length_reaches_nothing(name):
    cell, x, lengths = calm(name, 2, 5), torch.randn(6, 3, 2, dtype=torch.float64), torch.tensor([2, 6, 0])
    state, weight = reached_state(cell, 3), torch.randn(6, 3, 1)
    compiled_scan = partial(run, "compiled")
    clean = everything(compiled_scan, cell, x, state, None, lengths, weight)
    x[torch.arange(6).unsqueeze(1) >= lengths] = torch.nan
    assert all(map(torch.equal, everything(compiled_scan, cell, x, state, None, lengths, weight), clean))


@every_cell
def test_strided_arrays_and_a_second_way_back(name):
    cell = calm(name, 3, 5)
    x = torch.randn(4, 6, 7, dtype=torch.float64).permute(1, 0, 2)[::2, :, 1:4].requires_grad_()
    state = tuple(part.t().contiguous().t() for part in reached_state(cell, 4))
    outputs, final = compiled(cell, x, state)
    torch.testing.assert_close((outputs, final), loop(cell, cell.project(x), state))
    wanted = (x, *cell.parameters())
    total = (outputs * torch.linspace(0, 1, outputs.size(2))).sum()
    first = torch.autograd.grad(total, wanted, retain_graph=True)
    assert all(map(torch.equal, first, torch.autograd.grad(total, wanted)))


@every_cell
def test_without_gradients_the_numbers_are_the_same(name):
    cell, x = calm(name, 3, 5), torch.randn(6, 4, 3, dtype=torch.float64)
    reset, lengths = torch.rand(6, 4) < 0.3, torch.tensor([6, 2, 0, 5])
    outputs, final = compiled(cell, x, cell.initial_state(4), reset, lengths)
    with torch.no_grad():
        plain, last = compiled(cell, x, cell.initial_state(4), reset, lengths)
    assert outputs.requires_grad
    assert all(map(torch.equal, (plain, *last), (outputs, *final)))


@pytest.mark.parametrize("num_threads", [1, 2, 5])
@pytest.mark.parametrize("name", ["lstm", "mogrifier"])
def test_any_number_of_threads_gives_the_same(name, num_threads):
    cell, x = calm(name, 3, 17), torch.randn(9, 7, 3, dtype=torch.float64)
    expected, _ = loop(cell, cell.project(x), cell.initial_state(7))
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        torch.testing.assert_close(compiled(cell, x, cell.initial_state(7))[0], expected)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("forget_gate", ["sigmoid", "exponential"])
def test_slstm_gates_far_out_are_stable(forget_gate):
    cell = SLSTM(1, 4, forget_gate=forget_gate).double()
    with torch.no_grad():
        cell.weight_ih.copy_(torch.tensor([[1.0], [-1.0], [0.3], [0.1]]).repeat_interleave(4, dim=0))
    x = torch.tensor([0.0, 600.0, -600.0, 600.0, 30.0, -30.0, 0.0], dtype=torch.float64).view(7, 1, 1)
    arguments = (cell, x, cell.initial_state(1), None, None, torch.ones(7, 1, 4, dtype=torch.float64))
    scans = everything(compiled, *arguments), everything(projecting(loop), *arguments)
    for ours, truth in zip(*scans, strict=True):
        assert ours.isfinite().all()
        assert (ours - truth).abs().max() <= 1e-10 * max(truth.abs().max().item(), 1)


def test_a_mogrifier_of_more_rounds_than_the_loop_takes_runs_by_the_plain_one():
    assert [MogrifierLSTM(2, 3, rounds=rounds).kernel is None for rounds in (13, 14)] == [False, True]


def test_a_gradient_of_the_gradient_is_refused():
    cell, x = calm("gru", 2, 3), torch.randn(4, 2, 2, dtype=torch.float64, requires_grad=True)
    outputs, _ = compiled(cell, x, cell.initial_state(2))
    (first,) = torch.autograd.grad(outputs.square().sum(), x, create_graph=True)
    with pytest.raises(InputError, match="use scan='loop'"):
        first.sum().backward()


@pytest.mark.parametrize(("make", "width"), [(LSTM, 7), (GRU, 5)])
def test_what_the_way_back_does_not_read_is_not_kept(make, width):
    """Of each step the outputs, an LSTM's c, and the gates; nothing of what the input was projected to."""
    T, B, H = 8, 2, 16
    cell, kept = make(H, H), {}
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.setdefault(x.data_ptr(), x), lambda x: x):
        run("compiled", cell, torch.randn(T, B, H, requires_grad=True), cell.initial_state(B))
    assert sum(tensor.size(2) for tensor in kept.values() if tensor.shape[:2] == (T, B)) == width * H
