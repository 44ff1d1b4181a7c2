import torch

from throughtime.cell import Cell
from throughtime.scan import loop


class Counter(Cell):
    """h_t = h_{t-1} + x_t from a first state of 100: numbers that one can add up by hand."""

    state_names = ("h",)

    def reset_parameters(self):
        pass

    def initial_state(self, batch, *, device=None, dtype=None):
        return (torch.full((batch, 1), 100.0, device=device, dtype=dtype),)

    def project(self, x):
        return x

    def step(self, projected, state):
        h = state[0] + projected
        return (h,), h


def run(reset=None, lengths=None):
    x = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]).unsqueeze(2)
    outputs, (h,) = loop(
        Counter(1, 1),
        x,
        (torch.zeros(2, 1),),
        None if reset is None else torch.tensor(reset),
        None if lengths is None else torch.tensor(lengths),
    )
    return outputs.squeeze(2).t().tolist(), h.flatten().tolist()


def test_plain():
    assert run() == ([[1, 3, 6], [10, 30, 60]], [6, 60])


def test_reset_restores_the_initial_state_before_its_step():
    reset = [[False, True], [False, False], [True, False]]
    assert run(reset) == ([[1, 3, 103], [110, 130, 160]], [103, 160])


def test_beyond_a_length_outputs_are_zero_and_the_state_stays():
    assert run(lengths=[2, 0]) == ([[1, 3, 0], [0, 0, 0]], [3, 0])


def test_a_reset_beyond_a_length_does_nothing():
    assert run([[False, True], [False, False], [True, False]], [2, 0]) == ([[1, 3, 0], [0, 0, 0]], [3, 0])


def test_no_steps():
    outputs, (h,) = loop(Counter(1, 1), torch.zeros(0, 2, 1), (torch.ones(2, 1),))
    assert outputs.shape == (0, 2, 1)
    assert h.tolist() == [[1], [1]]
