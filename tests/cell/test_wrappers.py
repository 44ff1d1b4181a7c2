import pytest
import torch
from torch import nn

from throughtime.cell import Cell
from throughtime.cell.gru import GRU
from throughtime.cell.lstm import LSTM
from throughtime.cell.mlstm import MLSTM
from throughtime.cell.recurrent_dropout import RecurrentDropout
from throughtime.cell.slstm import SLSTM
from throughtime.cell.state_norm import StateNorm
from throughtime.cell.zoneout import Zoneout
from throughtime.errors import RecipeError
from throughtime.layer import Recurrent


class Traces(Cell):
    """A user's cell: a part of another shape, one that is complex, one of one feature, and an output of its own."""

    state_names = ("h", "traces", "phase", "clock")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size, output_size=2)
        self.inner = nn.Linear(input_size, hidden_size)
        self.read = nn.Linear(hidden_size, 2)

    def reset_parameters(self):
        self.inner.reset_parameters()
        self.read.reset_parameters()

    def initial_state(self, batch, *, device=None, dtype=None):
        h, clock = self._zeros(batch, self.hidden_size, device, dtype), self._zeros(batch, 1, device, dtype)
        return h, h.unsqueeze(1).expand(-1, 2, -1), h.to(torch.complex64), clock

    def project(self, x):
        return self.inner(x)

    def step(self, projected, state):
        h, traces, phase, clock = state
        h = torch.tanh(projected + h + traces.sum(1) + phase.real)
        return (h, 0.9 * traces + h.unsqueeze(1), 1j * phase + h, clock + 1), self.read(h)


WRAPPED = {
    "zoneout": lambda i, h: Zoneout(LSTM(i, h), {"c": 0.5, "h": 0.25}),
    "zoneout of traces": lambda i, h: Zoneout(Traces(i, h), 0.5),
    "recurrent dropout": lambda i, h: RecurrentDropout(LSTM(i, h), 0.5),
    "recurrent dropout of traces": lambda i, h: RecurrentDropout(Traces(i, h), 0.5, parts=("phase", "traces")),
    "state norm": lambda i, h: StateNorm(GRU(i, h)),
    "state norm of traces": lambda i, h: StateNorm(Traces(i, h), parts=("traces", "h")),
    "three": lambda i, h: Zoneout(RecurrentDropout(StateNorm(SLSTM(i, h)), 0.5), {"h": 0.5}),
}


@pytest.fixture(params=WRAPPED)
def factory(request):
    return WRAPPED[request.param]


def random_state(cell, batch):
    return tuple(torch.randn_like(part) for part in cell.initial_state(batch))


def test_a_wrapper_is_a_cell_like_the_one_inside(factory):
    cell = factory(3, 4)
    inner = cell.cell
    assert isinstance(cell, Cell)
    for name in ("input_size", "hidden_size", "output_size", "state_names"):
        assert getattr(cell, name) == getattr(inner, name)
    for part, same in zip(cell.initial_state(2), inner.initial_state(2), strict=True):
        assert torch.equal(part, same)
    assert cell.kernel is None
    assert cell.torch_kernel is None
    assert cell.kernel_weights() == cell.torch_weights() == []


def test_a_layer_takes_it_and_every_way_to_run_uses_the_same_masks(factory):
    layer = Recurrent(factory, 3, 4, num_layers=2, bidirectional=True)
    y, state = layer(torch.randn(6, 2, 3), lengths=[6, 4])
    assert y.shape == (6, 2, layer.output_size)
    y.abs().sum().backward()
    assert len(state) == len(layer.cells[0].state_names)

    cell = factory(3, 4)
    projected = cell.project(torch.randn(6, 2, 3))
    state = cell.initial_state(2)
    for t in range(3):
        state, _ = cell.step(projected[t], state)
    once, again = (cell.step(projected[3], state)[1] for _ in range(2))
    assert torch.equal(once, again)


def test_in_evaluation_nothing_is_random_and_nothing_appended(factory):
    layer = Recurrent(factory, 3, 4).eval()
    cell = layer.cells[0]
    x = torch.randn(5, 2, 3)
    inside = cell
    while hasattr(inside, "cell"):
        inside = inside.cell
    assert cell.project(x).shape == inside.project(x).shape
    whole, _ = layer(x)
    assert torch.equal(whole, layer(x)[0])
    state = None
    for t in range(5):
        y, state = layer.step(x[t], state)
        torch.testing.assert_close(y, whole[t])


def test_zoneout_is_that_of_the_paper():
    cell = Zoneout(LSTM(3, 50), {"c": 0.5, "h": 0.2})
    projected = cell.project(torch.randn(1, 40, 3))[0]
    h, c = random_state(cell, 40)
    (new_h, new_c), output = cell.step(projected, (h, c))
    assert output is new_h
    (plain_h, plain_c), _ = cell.cell.step(projected[:, :200], (h, c))  # tanh of the whole new c, as in equation 3
    masks = dict(zip(("c", "h"), projected[:, 200:].chunk(2, dim=1), strict=True))
    for name, rate, old, plain, new in (("c", 0.5, c, plain_c, new_c), ("h", 0.2, h, plain_h, new_h)):
        assert torch.equal(new, masks[name] * old + (1 - masks[name]) * plain)
        assert abs(masks[name].mean() - rate) < 4 * (rate * (1 - rate) / 2000) ** 0.5
    assert not torch.equal(masks["c"], masks["h"])


def test_zoneout_gives_the_expected_value_in_evaluation():
    cell = Zoneout(LSTM(3, 4), {"c": 0.5}).double()
    x = torch.randn(1, 1, 3, dtype=torch.float64)
    state = random_state(cell, 1)
    many = 20_000
    rows = tuple(part.expand(many, -1) for part in state)
    with torch.no_grad():
        (_, noisy), _ = cell.step(cell.project(x.expand(1, many, 3))[0], rows)
    cell.eval()
    (h, c), output = cell.step(cell.project(x)[0], state)
    (plain_h, plain_c), _ = cell.cell.step(cell.cell.project(x)[0], state)
    torch.testing.assert_close(c, 0.5 * state[1] + 0.5 * plain_c)
    torch.testing.assert_close(noisy.mean(0), c[0], rtol=0, atol=4 * float(noisy.std(0).max()) / many**0.5)
    assert torch.equal(h, plain_h)  # no rate, no change
    assert output is h


@pytest.mark.parametrize("training", [True, False])
def test_zoneout_at_its_ends(training):
    keep_all, keep_none = Zoneout(GRU(3, 4), 1.0).train(training), Zoneout(GRU(3, 4), 0.0).train(training)
    x = torch.randn(1, 5, 3)
    (h,) = random_state(keep_all, 5)
    assert torch.equal(keep_all.step(keep_all.project(x)[0], (h,))[1], h)
    plain = keep_none.cell.step(keep_none.cell.project(x)[0], (h,))[1]
    assert torch.equal(keep_none.step(keep_none.project(x)[0], (h,))[1], plain)


def test_zoneout_draws_new_masks_at_every_step_and_dropout_does_not():
    x = torch.zeros(30, 4, 3)
    masks = Zoneout(GRU(3, 8), 0.5).project(x)[..., 24:]
    assert masks.unique(dim=0).size(0) == 30
    dropout = RecurrentDropout(GRU(3, 8), 0.5)
    masks = dropout.project(x)[..., 24:]
    assert masks.unique(dim=0).size(0) == 1
    assert masks[0].unique(dim=0).size(0) == 4  # each row has its own
    assert not torch.equal(masks, dropout.project(x)[..., 24:])


def test_recurrent_dropout_hides_units_of_the_entering_state():
    cell = RecurrentDropout(LSTM(3, 40), 0.25)
    projected = cell.project(torch.randn(1, 50, 3))[0]
    h, c = random_state(cell, 50)
    seen = projected[:, 160:]
    after, output = cell.step(projected, (h, c))
    expected, _ = cell.cell.step(projected[:, :160], (h * seen / 0.75, c))
    torch.testing.assert_close(after, expected)
    assert output is after[0]
    assert set(seen.unique().tolist()) == {0.0, 1.0}
    assert abs(seen.mean() - 0.75) < 4 * (0.75 * 0.25 / 2000) ** 0.5
    hidden = torch.where(seen == 0, torch.full_like(h, 1e9), h)  # what is not seen has no effect
    torch.testing.assert_close(cell.step(projected, (hidden, c))[0], after)


def test_state_norm_normalises_what_leaves_the_step():
    cell = StateNorm(LSTM(3, 6), parts=("c",), eps=0.01).double()
    with torch.no_grad():
        cell.norms[0].weight.uniform_(0.5, 2)
        cell.norms[0].bias.normal_()
    projected = cell.project(torch.randn(1, 2, 3, dtype=torch.float64))[0]
    state = random_state(cell, 2)
    (h, c), output = cell.step(projected, state)
    (plain_h, plain_c), _ = cell.cell.step(projected, state)
    centred = plain_c - plain_c.mean(1, keepdim=True)
    expected = centred / (centred.square().mean(1, keepdim=True) + 0.01).sqrt()
    torch.testing.assert_close(c, expected * cell.norms[0].weight + cell.norms[0].bias)
    assert torch.equal(h, plain_h)
    assert output is h
    cell.reset_parameters()
    assert (cell.norms[0].weight == 1).all()
    assert not cell.norms[0].bias.any()


def test_state_norm_is_made_like_its_cell():
    assert StateNorm(GRU(3, 4).double()).norms[0].weight.dtype == torch.float64


def test_an_output_of_its_own_stays():
    cell = StateNorm(Traces(3, 4))
    projected, state = cell.project(torch.randn(1, 2, 3))[0], cell.initial_state(2)
    assert torch.equal(cell.step(projected, state)[1], cell.cell.step(projected, state)[1])


def test_print_shows_what_was_chosen():
    assert "h=0.1" in repr(Zoneout(GRU(3, 4), 0.1))
    assert "0.1, parts=('h',)" in repr(RecurrentDropout(LSTM(3, 4), 0.1))
    assert "parts=('c',)" in repr(StateNorm(LSTM(3, 4), parts="c"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Zoneout("lstm", 0.1), "Zoneout goes around a Cell, not around 'lstm': make the cell first"),
        (lambda: Zoneout(LSTM(3, 4), 1.1), "the zoneout rate of h must lie between 0 and 1, not at 1.1"),
        (lambda: Zoneout(LSTM(3, 4), {"c": -1}), "the zoneout rate of c must lie between 0 and 1, not at -1"),
        (lambda: Zoneout(LSTM(3, 4), {"d": 0.1}), "unknown part of the state 'd': choose one of h, c"),
        (lambda: Zoneout(LSTM(3, 4), {}), "Zoneout needs parts of the state (h, c), each once, not ()"),
        (lambda: StateNorm(LSTM(3, 4), parts=("h", "h")), "StateNorm needs parts of the state (h, c), each once, not"),
        (
            lambda: RecurrentDropout(LSTM(3, 4), 1.0),
            "the rate of recurrent dropout must be at least 0 and below 1, not",
        ),
        (lambda: RecurrentDropout(GRU(3, 4), 0.1, parts="c"), "unknown part of the state 'c': choose one of h"),
        (lambda: StateNorm(GRU(3, 4), eps=0), "eps must be above 0, not 0"),
        (lambda: StateNorm(GRU(3, 1)), "part h of GRU cannot be normalised: it must hold real numbers in at least"),
        (lambda: StateNorm(Traces(3, 4), parts="phase"), "part phase of Traces cannot be normalised: it must hold"),
        (lambda: Zoneout(SLSTM(3, 4), 0.1), "Zoneout around an SLSTM can change h alone, not h, c, n, m: c, n and m"),
        (
            lambda: StateNorm(RecurrentDropout(SLSTM(3, 4), 0.1), parts="c"),
            "StateNorm around an SLSTM can change h alone, not c: c, n and m are one memory in units of exp(m)",
        ),
        (lambda: Zoneout(MLSTM(3, 4), 0.1), "Zoneout around an MLSTM can change no part, not C, n, m: C, n"),
        (lambda: StateNorm(MLSTM(3, 4), parts="n"), "StateNorm around an MLSTM can change no part, not n: C, n and m"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(RecipeError) as caught:
        make()
    assert str(caught.value).startswith(message)
