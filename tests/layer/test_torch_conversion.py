import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from throughtime.errors import RecipeError
from throughtime.layer import Recurrent

KINDS = [(nn.RNN, {}), (nn.RNN, {"nonlinearity": "relu"}), (nn.GRU, {}), (nn.LSTM, {}), (nn.LSTM, {"proj_size": 2})]
SHAPES = [{}, {"num_layers": 3}, {"bidirectional": True}, {"num_layers": 2, "bidirectional": True, "bias": False}]
TOLERANCES = {torch.float32: 1e-6, torch.float64: 1e-12}


def make(kind, choices, dtype=torch.float64):
    torch.manual_seed(0)
    return kind(3, 4, **choices, dtype=dtype)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")  # torch's own
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_both_ways_give_the_same_numbers(kind, options, shape, dtype):
    module = make(kind, options | shape, dtype)
    layer = Recurrent.from_torch(module)
    back = layer.to_torch()
    x = torch.randn(6, 5, 3, dtype=dtype)
    expected, state = module(x)
    for other in (layer, back, Recurrent.from_torch(module, scan="loop")):
        close = {"rtol": 0, "atol": TOLERANCES[dtype]}
        y, final = other(x)
        torch.testing.assert_close(y, expected, **close)
        torch.testing.assert_close(final, state, **close)
        torch.testing.assert_close(other(x, state), module(x, state), **close)
    assert type(back) is kind
    assert all(torch.equal(value, back.state_dict()[key]) for key, value in module.state_dict().items())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("kind", "options"), KINDS)
@pytest.mark.parametrize("lengths", [[5, 3, 3, 1], [2, 5, 1, 4]])
def test_packed_sequences_give_the_same_numbers(kind, options, shape, lengths):
    module = make(kind, options | shape)
    layer = Recurrent.from_torch(module)
    packed = pack_sequence([torch.randn(n, 3, dtype=torch.float64) for n in lengths], enforce_sorted=False)
    expected, state = module(packed)
    y, final = layer(packed)
    close = {"rtol": 0, "atol": 1e-12}
    torch.testing.assert_close(y.data, expected.data, **close)
    torch.testing.assert_close(final, state, **close)
    torch.testing.assert_close(layer(packed, state)[0].data, module(packed, state)[0].data, **close)


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_gradients_are_the_same(kind, options):
    module = make(kind, {**options, "num_layers": 2, "bidirectional": True})
    layer = Recurrent.from_torch(module)
    x = torch.randn(6, 5, 3, dtype=torch.float64)
    for each in (module, layer):
        each(x)[0].square().sum().backward()
    ours = {name: parameter.grad for name, parameter in layer.named_parameters()}
    for name, parameter in module.named_parameters():
        base, _, rest = name.rpartition("_l")
        index = 2 * int(rest[0]) + rest.endswith("_reverse")
        torch.testing.assert_close(ours[f"cells.{index}.{base}"], parameter.grad, rtol=0, atol=1e-10)
    assert len(ours) == len(list(module.parameters()))


def test_choices_travel_and_weights_are_copies():
    module = nn.LSTM(3, 4, 2, batch_first=True, dropout=0.25).eval()
    module.weight_hh_l1.requires_grad_(False)
    layer = Recurrent.from_torch(module)
    assert (layer.num_layers, layer.batch_first, layer.dropout, layer.training) == (2, True, 0.25, False)
    assert not layer.cells[1].weight_hh.requires_grad
    assert layer.cells[0].weight_hh.requires_grad
    with torch.no_grad():
        layer.cells[0].weight_hh.zero_()
    assert module.weight_hh_l0.any()
    back = layer.to_torch()
    assert (back.num_layers, back.batch_first, back.dropout, back.training) == (2, True, 0.25, False)
    assert not back.weight_hh_l1.requires_grad
    assert not back.weight_hh_l0.any()


def test_what_has_no_counterpart_is_refused(own_cell):
    with pytest.raises(RecipeError, match=r"expected a torch.nn.RNN, GRU or LSTM, not Linear"):
        Recurrent.from_torch(nn.Linear(3, 4))
    with pytest.raises(RecipeError, match=r"torch.nn has no module for the cell OwnCell"):
        Recurrent(own_cell, 3, 4).to_torch()
