import pytest
import torch

from throughtime.cell import GRU, LSTM, MLSTM, SkipInTime
from throughtime.cell.elman import Elman
from throughtime.errors import RecipeError
from throughtime.layer import Recurrent


@pytest.mark.parametrize("kind", [Elman, GRU, LSTM])
def test_it_is_the_formula(kind):
    torch.manual_seed(0)
    inner = kind(3, 5).double()
    cell = SkipInTime(inner, steps=3)
    x = torch.randn(8, 2, 3, dtype=torch.float64)
    y, _ = Recurrent(cell, 3, 5)(x)
    state, hs = inner.initial_state(2), []
    for projected in inner.project(x):
        older = hs[-3] if len(hs) >= 3 else torch.zeros(2, 5, dtype=torch.float64)
        state, h = inner.step(projected, ((state[0] + older) / 2**0.5, *state[1:]))
        hs.append(h)
    torch.testing.assert_close(y, torch.stack(hs))


def test_a_gradient_passes_all_steps_at_once():
    """Through a matrix that lets 1 % through at each step, 12 steps are four skips: (0.01 / sqrt(2))^4."""
    cell = Elman(1, 1)
    torch.nn.init.constant_(cell.weight_hh, 0.01)
    layer = Recurrent(SkipInTime(cell, steps=3), 1, 1)
    x = torch.zeros(13, 1, 1, requires_grad=True)
    (slope,) = torch.autograd.grad(layer(x)[0][-1].sum(), x)
    assert float(slope[0, 0, 0]) == pytest.approx(float(slope[-1, 0, 0]) * (0.01 / 2**0.5) ** 4, rel=0.01)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SkipInTime(GRU(3, 5), steps=1), "steps of SkipInTime must be at least 2, not 1"),
        (lambda: SkipInTime(torch.nn.GRUCell(3, 5), steps=2), "goes around a Cell"),
        (lambda: SkipInTime(MLSTM(3, 4), steps=2), "a state whose first part can be mixed, which MLSTM lacks"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(RecipeError, match=message):
        make()
