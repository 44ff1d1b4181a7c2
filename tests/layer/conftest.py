import pytest
import torch
from torch import nn

from throughtime.cell import Cell, cells


class OwnCell(Cell):
    """A user's cell with what the named ones lack: two states of different shapes, a learned start, a wider output."""

    state_names = ("h", "traces")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size, output_size=hidden_size + 1)
        self.input = nn.Linear(input_size, hidden_size)
        self.recurrent = nn.Linear(hidden_size, hidden_size)
        self.read = nn.Linear(hidden_size, hidden_size + 1)
        self.first = nn.Parameter(torch.empty(hidden_size))
        self.reset_parameters()

    def reset_parameters(self):
        for part in (self.input, self.recurrent, self.read):
            part.reset_parameters()
        nn.init.normal_(self.first)

    def initial_state(self, batch, *, device=None, dtype=None):
        traces = torch.zeros(batch, 2, self.hidden_size, device=device or self.first.device)
        return self.first.expand(batch, -1), traces.to(dtype or self.first.dtype)

    def project(self, x):
        return self.input(x)

    def step(self, projected, state):
        h, traces = state
        h = torch.tanh(projected + self.recurrent(h) + traces.sum(1))
        traces = traces * traces.new_tensor([[0.5], [0.9]]) + 0.1 * h.unsqueeze(1)
        return (h, traces), self.read(h)


@pytest.fixture(params=[*(info.name for info in cells()), OwnCell], ids=str)
def cell(request):
    """Every named cell and one of a user's own."""
    torch.manual_seed(0)
    return request.param


@pytest.fixture(params=[*(info.name for info in cells())])
def name(request):
    """Every named cell."""
    torch.manual_seed(0)
    return request.param


@pytest.fixture
def own_cell():
    """The class of a user's own cell."""
    torch.manual_seed(0)
    return OwnCell
