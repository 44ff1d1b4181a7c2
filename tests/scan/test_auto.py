import pytest
import torch

from throughtime.cell import Cell, make_cell
from throughtime.errors import InputError
from throughtime.scan import choose, compiled_obstacle, run


class Leaky(Cell):
    state_names = ("h",)

    def reset_parameters(self):
        pass

    def project(self, x):
        return x

    def step(self, projected, state):
        h = 0.5 * state[0] + projected
        return (h,), h


@pytest.mark.parametrize("name", ["elman", "gru", "lstm"])
def test_a_kernel_is_chosen_for_the_cells_that_have_one(name):
    cell = make_cell(name, 2, 3)
    choice = choose(cell, torch.empty(4, 5, 2))
    assert choice.scan == ("fused" if compiled_obstacle(cell, torch.empty(4, 5, 2)) else "compiled")


def test_torch_serves_a_wide_lstm_unless_it_is_cut():
    cell, x = make_cell("lstm", 2, 200), torch.empty(4, 5, 2)
    assert choose(cell, x).scan == "fused"
    assert "torch.lstm" in choose(cell, x).reason
    assert choose(cell, x, cut=True).scan == ("fused" if compiled_obstacle(cell, x) else "compiled")


@pytest.mark.parametrize(("units", "batch", "torchs"), [(256, 5, False), (256, 1, True), (512, 2, False), (528, 2, True)])
def test_a_wide_lstm_of_several_rows_and_whole_vectors_is_our_own(units, batch, torchs):
    cell, x = make_cell("lstm", 2, units), torch.empty(4, batch, 2)
    assert choose(cell, x).scan == ("fused" if torchs or compiled_obstacle(cell, x) else "compiled")


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (torch.empty(4, 5, 2, dtype=torch.bfloat16), "bfloat16"),
        (torch.empty(4, 5, 2, device="meta"), "'meta'"),
        (torch.empty(0, 5, 2), "no step"),
        (torch.empty(4, 0, 2), "no step"),
    ],
)
def test_the_loop_is_chosen_where_the_kernel_does_not_serve(x, reason):
    choice = choose(make_cell("lstm", 2, 3), x)
    assert choice.scan == "loop"
    assert reason in choice.reason


def test_the_loop_is_chosen_under_autocast_and_for_own_cells():
    with torch.autocast("cpu", torch.bfloat16):
        assert "autocast" in choose(make_cell("gru", 2, 3), torch.empty(4, 5, 2)).reason
    assert "Leaky" in choose(Leaky(2, 2), torch.empty(4, 5, 2)).reason


def test_all_scans_agree():
    torch.manual_seed(0)
    cell = make_cell("lstm", 2, 3).double()
    x = torch.randn(6, 4, 2, dtype=torch.float64)
    reset, lengths = torch.rand(6, 4) < 0.3, torch.tensor([6, 2, 0, 5])
    state = tuple(torch.randn_like(part) for part in cell.initial_state(4))
    truth = run("loop", cell, x, state, reset, lengths)
    for scan in ("fused", "auto"):
        torch.testing.assert_close(run(scan, cell, x, state, reset, lengths), truth)


def test_fused_or_an_error():
    with pytest.raises(InputError, match="scan='fused' cannot run: torch has no fused kernel for Leaky"):
        run("fused", Leaky(2, 2), torch.zeros(1, 1, 2), (torch.zeros(1, 2),))


@pytest.mark.parametrize("scan", ["loop", "auto"])
def test_what_lies_beyond_a_length_never_reaches_a_gradient(scan):
    cell = make_cell("gru", 2, 3)
    x = torch.zeros(3, 2, 2)
    x[2, 0] = torch.nan
    outputs, (h,) = run(scan, cell, x, cell.initial_state(2), None, torch.tensor([2, 3]))
    (outputs.sum() + h.sum()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in cell.parameters())
    assert h.isfinite().all()


@pytest.mark.parametrize("name", ["elman", "gru", "lstm"])
def test_the_loop_has_gradients_of_gradients(name):
    torch.manual_seed(0)
    cell = make_cell(name, 2, 2).double()
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: run("loop", cell, x, cell.initial_state(2))[0], (x,))
