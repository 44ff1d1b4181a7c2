"""The diagonal scan against the plain loop, with the compiled recurrence and with the one in plain torch."""

from functools import partial

import pytest
import torch

from against_the_loop import TOLERANCES, assert_equal_to_the_float64_loop, projecting
from throughtime import kernels
from throughtime.cell import LSTM, cells, make_cell
from throughtime.cell.diagonal import DiagonalCell
from throughtime.errors import InputError
from throughtime.scan import diagonal, diagonal_obstacle, loop, run
from throughtime.scan.diagonal import linear_scan

NAMES = [info.name for info in cells() if isinstance(make_cell(info.name, 2, 2), DiagonalCell)]
SIZES = [(1, 1, 1), (2, 3, 1), (3, 2, 17), (17, 1, 64), (17, 17, 3), (3, 64, 2), (64, 3, 17), (2, 17, 64)]
RECURRENCES = {"chosen": None, "plain torch": linear_scan}

every_cell = pytest.mark.parametrize("name", NAMES)
every_recurrence = pytest.mark.parametrize("recurrence", RECURRENCES)


def scan_by(recurrence):
    return projecting(partial(diagonal, recurrence=RECURRENCES[recurrence]))


def test_there_are_diagonal_cells():
    assert set(NAMES) == {"lru", "mingru", "minlstm", "qrnn"}


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("size", SIZES)
@every_recurrence
@every_cell
def test_values_and_gradients_equal_the_loop(name, recurrence, size, dtype):
    torch.manual_seed(0)
    num_steps, batch, hidden_size = size
    cell = make_cell(name, 3, hidden_size)
    assert_equal_to_the_float64_loop(scan_by(recurrence), cell, num_steps, batch, dtype)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("lengths", [None, [7, 3, 0]])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@every_recurrence
@every_cell
def test_resets_and_lengths_equal_the_loop(name, recurrence, share, lengths, dtype):
    torch.manual_seed(1)
    reset, at = torch.rand(7, 3) < share, None if lengths is None else torch.tensor(lengths)
    assert_equal_to_the_float64_loop(scan_by(recurrence), make_cell(name, 3, 18), 7, 3, dtype, reset, at)


@every_recurrence
@every_cell
def test_long_memories_are_exact(name, recurrence):
    torch.manual_seed(0)
    cell = make_cell(name, 2, 4)
    with torch.no_grad():
        for key, parameter in cell.named_parameters():
            if key == "bias":
                parameter += 6.0 if name != "mingru" else -6.0  # what a unit keeps of itself is near 1
            elif key == "log_decay":
                parameter -= 6.0
    assert_equal_to_the_float64_loop(scan_by(recurrence), cell, 3000, 2)


@every_recurrence
@every_cell
def test_gradients_of_gradients(name, recurrence):
    torch.manual_seed(0)
    cell = make_cell(name, 2, 2).double()
    x = torch.randn(5, 2, 2, dtype=torch.float64, requires_grad=True)
    state = tuple(torch.randn_like(part).requires_grad_() for part in cell.initial_state(2))

    def outputs(x, *state):
        return scan_by(recurrence)(cell, x, state)[0]

    assert torch.autograd.gradcheck(outputs, (x, *state))
    assert torch.autograd.gradgradcheck(outputs, (x, *state))


@pytest.mark.parametrize("complex_pairs", [False, True])
@pytest.mark.parametrize("constant", [False, True])
def test_the_recurrence_with_zeros_and_huge_factors(complex_pairs, constant):
    torch.manual_seed(0)
    a = torch.randn(*(() if constant else (9, 3)), 4, dtype=torch.float64)
    b, start = torch.randn(9, 3, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    if not constant:
        a[2] = 0
        a[5] *= 1e200
        a[6] *= 1e-200
    found, h = linear_scan(a, b, start, complex_pairs=complex_pairs), start
    for t in range(9):
        factor = a if constant else a[t]
        if complex_pairs:
            product = torch.complex(*factor.expand(3, 4).chunk(2, -1)) * torch.complex(*h.chunk(2, -1))
            h = torch.cat([product.real, product.imag], -1) + b[t]
        else:
            h = factor * h + b[t]
        torch.testing.assert_close(found[t], h, rtol=1e-12, atol=0)


@every_cell
def test_nan_stays_in_its_own_row_and_later_steps(name):
    torch.manual_seed(0)
    cell, x = make_cell(name, 2, 3), torch.randn(8, 3, 2)
    x[4, 1] = torch.nan
    for recurrence in RECURRENCES:
        y, _ = scan_by(recurrence)(cell, x, cell.initial_state(3))
        assert y[:4].isfinite().all()
        assert y[4:, 1].isnan().all()
        assert y[:, [0, 2]].isfinite().all()


@every_cell
def test_nan_beyond_a_length_reaches_nothing(name):
    torch.manual_seed(0)
    cell, lengths = make_cell(name, 2, 3), torch.tensor([2, 6, 0])
    x = torch.randn(6, 3, 2)
    x[torch.arange(6).unsqueeze(1) >= lengths] = torch.nan
    x.requires_grad_()
    y, final = run("diagonal", cell, x, cell.initial_state(3), None, lengths)
    total = y.sum() + sum(part.sum() for part in final)
    for gradient in torch.autograd.grad(total, (x, *cell.parameters())):
        assert gradient.isfinite().all()


def test_without_the_library_plain_torch_serves(monkeypatch):
    monkeypatch.setattr(kernels, "library", lambda: None)
    torch.manual_seed(0)
    assert_equal_to_the_float64_loop(projecting(diagonal), make_cell("lru", 2, 3), 6, 2)


def test_half_precision_runs_in_plain_torch():
    torch.manual_seed(0)
    cell, x = make_cell("mingru", 2, 3).bfloat16(), torch.randn(6, 2, 2).bfloat16()
    state = cell.initial_state(2)
    torch.testing.assert_close(
        diagonal(cell, cell.project(x), state)[0], loop(cell, cell.project(x), state)[0], rtol=0.05, atol=0.05
    )


def test_other_cells_are_refused():
    cell, x = LSTM(2, 3), torch.zeros(2, 1, 2)
    assert "does not follow" in diagonal_obstacle(cell, x)
    with pytest.raises(InputError, match="scan='diagonal' cannot run: the state of LSTM"):
        run("diagonal", cell, x, cell.initial_state(1))
