"""A patient that does not learn, treated: which of four symbols stood in the first of twenty-four steps?

Its recurrent matrix shrinks the gradient at every step. `throughtime treat sick_reader:patient` does as `main` does.
"""

import torch
from torch import nn

import throughtime

LENGTH, SYMBOLS = 24, 4


class Reader(nn.Module):
    """An nn.RNN, and a readout of its last step."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(SYMBOLS, 16)
        nn.init.orthogonal_(self.rnn.weight_hh_l0, gain=0.5)
        self.head = nn.Linear(16, SYMBOLS)

    def forward(self, x):
        """What the last step says."""
        return self.head(self.rnn(x)[0][-1])


def drawn(generator, batch):
    """The symbol in the first step, noise in all of them."""
    y = torch.randint(SYMBOLS, (batch,), generator=generator)
    x = 0.1 * torch.randn(LENGTH, batch, SYMBOLS, generator=generator)
    x[0, torch.arange(batch), y] += 1.0
    return x, y


class Patient:
    """What `throughtime.treat` takes."""

    target = 0.9  # the score that means that it has learned
    steps = 80  # updates that it is trained for
    clip = 1.0  # the norm that its gradient is clipped to

    def build(self, seed):
        """A freshly drawn model and its optimizer."""
        torch.manual_seed(seed)
        model = Reader()
        return model, torch.optim.Adam(model.parameters(), lr=5e-3)

    def batches(self, seed):
        """(inputs, targets), without end."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield drawn(generator, 32)

    def loss(self, outputs, targets):
        """What is minimised."""
        return nn.functional.cross_entropy(outputs, targets)

    def score(self, model):
        """Accuracy on data that it was not trained on."""
        x, y = drawn(torch.Generator().manual_seed(1234), 256)
        return (model(x).argmax(-1) == y).float().mean().item()


def patient():
    """The factory for the command line."""
    return Patient()


def main() -> None:
    """Diagnose, prescribe, try, prove."""
    result = throughtime.treat(Patient(), remedies=["orthogonal-start", "clip-norm"], jobs=1)
    print(result)
    print(result.best.plan)
    model, optimizer = Patient().build(0)
    model, optimizer = result.best.plan.apply(model, optimizer)  # the cure in one's own code


if __name__ == "__main__":
    main()
