"""A cell of your own in 20 lines: a leaky integrator, each unit of which learns how fast it forgets.

    h_t = (1 - a) * h_{t-1} + a * tanh(W x_t + U h_{t-1}),    a = sigmoid(leak)

Reference: Jaeger, Lukoševičius, Popovici & Siewert 2007, doi:10.1016/j.neunet.2007.04.016.
"""

import torch
from torch import nn

from throughtime.cell import Cell
from throughtime.layer import Recurrent


class LeakyIntegrator(Cell):
    """The equations above."""

    state_names = ("h",)

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.input = nn.Linear(input_size, hidden_size)
        self.recurrent = nn.Linear(hidden_size, hidden_size, bias=False)
        self.leak = nn.Parameter(torch.empty(hidden_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        self.input.reset_parameters()
        nn.init.orthogonal_(self.recurrent.weight)
        nn.init.uniform_(self.leak, -3, 0)

    def project(self, x):
        """All that does not depend on the state, for all steps at once."""
        return self.input(x)

    def step(self, projected, state):
        """One step."""
        (h,) = state
        a = torch.sigmoid(self.leak)
        h = (1 - a) * h + a * torch.tanh(projected + self.recurrent(h))
        return (h,), h


def main() -> None:
    """Two layers, both directions, sequences of different lengths, a reset: all of it comes with `Recurrent`."""
    torch.manual_seed(0)
    layer = Recurrent(LeakyIntegrator, 3, 16, num_layers=2, bidirectional=True)
    x = torch.randn(10, 4, 3)
    reset = torch.zeros(10, 4, dtype=torch.bool)
    reset[5, 0] = True
    y, (h,) = layer(x, lengths=[10, 7, 7, 2], reset=reset)
    y.square().mean().backward()
    print(f"outputs {tuple(y.shape)}, state {tuple(h.shape)}")

    streaming = Recurrent(LeakyIntegrator, 3, 16)
    whole, _ = streaming(x)
    state = None
    for t in range(10):
        y_t, state = streaming.step(x[t], state)
    print(f"one step at a time, the last output differs by {(y_t - whole[-1]).abs().max():.0e}")


if __name__ == "__main__":
    main()
