"""What is checked of every named cell, checked here of the gated cells with their options, and of the wrappers."""

import pytest
import torch
from torch import nn

from throughtime.cell.coupled_lstm import CoupledLSTM
from throughtime.cell.gru import GRU
from throughtime.cell.layer_norm_lstm import LayerNormLSTM
from throughtime.cell.lstm import LSTM
from throughtime.cell.mogrifier import MogrifierLSTM
from throughtime.cell.recurrent_dropout import RecurrentDropout
from throughtime.cell.slstm import SLSTM
from throughtime.cell.state_norm import StateNorm
from throughtime.cell.zoneout import Zoneout

CELLS = {
    "lstm": lambda: LSTM(3, 4, init="chrono"),
    "gru": lambda: GRU(3, 4, init="uniform-gate"),
    "coupled": lambda: CoupledLSTM(3, 4),
    "layer-norm": lambda: LayerNormLSTM(3, 4),
    "mogrifier": lambda: MogrifierLSTM(3, 4),
    "mogrifier, low rank": lambda: MogrifierLSTM(3, 4, rounds=2, rank=2),
    "slstm": lambda: SLSTM(3, 4),
    "slstm, exponential, heads": lambda: SLSTM(3, 4, forget_gate="exponential", num_heads=2),
    "zoneout": lambda: Zoneout(LSTM(3, 4), {"c": 0.5, "h": 0.25}),
    "zoneout, evaluation": lambda: Zoneout(LSTM(3, 4), 0.3).eval(),
    "recurrent dropout": lambda: RecurrentDropout(LSTM(3, 4), 0.4),
    "recurrent dropout, evaluation": lambda: RecurrentDropout(LSTM(3, 4), 0.4).eval(),
    "state norm": lambda: StateNorm(LSTM(3, 4), parts=("h", "c")),
    "wrapped twice": lambda: Zoneout(StateNorm(RecurrentDropout(GRU(3, 4), 0.4)), 0.3),
}


@pytest.fixture(params=CELLS)
def cell(request):
    made = CELLS[request.param]()
    with torch.no_grad():
        for parameter in made.parameters():  # away from zeros and ones, where a mistake could hide
            parameter += 0.1 * torch.randn_like(parameter)
    return made.double()


def some_state(cell, batch):
    """Random parts; a normaliser is positive, as that of every state that an sLSTM reaches."""
    return [
        torch.rand_like(part) + 0.5 if name == "n" else torch.randn_like(part)
        for name, part in zip(cell.state_names, cell.initial_state(batch), strict=True)
    ]


def steps(cell, x, state):
    torch.manual_seed(3)  # the same masks at every call
    outputs = []
    for projected in cell.project(x):
        state, output = cell.step(projected, state)
        outputs.append(output)
    return (*outputs, *state)


def test_gradcheck(cell):
    names = [name for name, _ in cell.named_parameters()]
    x = torch.randn(3, 2, 3, dtype=torch.float64, requires_grad=True)
    state = [part.requires_grad_() for part in some_state(cell, 2)]

    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = cell

        def forward(self, x, *state):
            return steps(self.cell, x, state)

    module = Steps()

    def run(x, *rest):
        parameters = dict(zip((f"cell.{name}" for name in names), rest[len(state) :], strict=True))
        return torch.func.functional_call(module, parameters, (x, *rest[: len(state)]))

    assert torch.autograd.gradcheck(run, (x, *state, *cell.parameters()))


def test_a_step_keeps_the_old_state_and_rows_apart(cell):
    state = tuple(some_state(cell, 4))
    before = [part.clone() for part in state]
    projected = cell.project(torch.randn(1, 4, 3, dtype=torch.float64))[0]
    after, output = cell.step(projected, state)
    assert all(torch.equal(old, kept) for old, kept in zip(before, state, strict=True))
    assert [part.shape for part in after] == [part.shape for part in state]
    assert output.shape == (4, cell.output_size)
    for row in range(4):
        alone, output_alone = cell.step(projected[row : row + 1], tuple(part[row : row + 1] for part in state))
        torch.testing.assert_close(output_alone[0], output[row])
        for one, many in zip(alone, after, strict=True):
            torch.testing.assert_close(one[0], many[row])


def test_drawing_anew_follows_the_seed(cell):
    drawn = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        cell.reset_parameters()
        drawn.append([parameter.detach().clone() for parameter in cell.parameters()])
    assert all(torch.equal(one, again) for one, again in zip(drawn[0], drawn[2], strict=True))
    assert any(not torch.equal(one, other) for one, other in zip(drawn[0], drawn[1], strict=True))


def test_the_initial_state_follows_the_parameters_or_the_request(cell):
    assert all(part.dtype == torch.float64 for part in cell.initial_state(2))
    assert all(part.dtype == torch.float32 for part in cell.initial_state(2, dtype=torch.float32))
    assert all(part.device.type == "meta" for part in cell.initial_state(2, device=torch.device("meta")))
    assert len(cell.initial_state(2)) == len(cell.state_names)


def test_no_steps_give_no_projection(cell):
    assert cell.project(torch.zeros(0, 2, 3, dtype=torch.float64)).shape[:2] == (0, 2)
