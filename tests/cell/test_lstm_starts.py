import math

import pytest
import torch

from throughtime.cell.coupled_lstm import CoupledLSTM
from throughtime.cell.gate_starts import GATE_STARTS
from throughtime.cell.gru import GRU
from throughtime.cell.layer_norm_lstm import LayerNormLSTM
from throughtime.cell.lstm import LSTM
from throughtime.cell.mogrifier import MogrifierLSTM
from throughtime.cell.slstm import SLSTM
from throughtime.errors import RecipeError
from throughtime.kernels.spec import KernelSpec

H = 400
KEEPS = {LSTM: 1, GRU: 1, CoupledLSTM: 0, LayerNormLSTM: 1, MogrifierLSTM: 1, SLSTM: 1}
"""Which block of the bias belongs to the gate that multiplies the old memory."""
WRITES = {LSTM: 0, LayerNormLSTM: 0, MogrifierLSTM: 0}
"""Which block belongs to an input gate that starts at 1 - f."""


def start(kind, init, hidden_size=H, **options):
    torch.manual_seed(0)
    cell = kind(2, hidden_size, init=init, **options).double()
    cell.reset_parameters()
    bias = cell.bias_ih + cell.bias_hh if kind in (LSTM, GRU) else cell.bias
    return cell, [block.detach() for block in bias.chunk(len(bias) // hidden_size)]


def is_uniform(drawn, low, high):
    """Kolmogorov and Smirnov: the empirical distribution lies within 1.95 / sqrt(n) of the uniform one (p = 0.001)."""
    scaled = (drawn.sort().values - low) / (high - low)
    steps = torch.arange(1, len(drawn) + 1, dtype=scaled.dtype) / len(drawn)
    return bool((scaled >= 0).all() and (scaled <= 1).all() and (scaled - steps).abs().max() < 1.95 / len(drawn) ** 0.5)


def test_the_check_of_uniformity_can_fail():
    assert is_uniform(torch.rand(H), 0, 1)
    assert not is_uniform(torch.rand(H).square(), 0, 1)
    assert not is_uniform(torch.rand(H), 0, 0.99)


@pytest.mark.parametrize("kind", KEEPS)
def test_chrono_draws_lags_uniformly_up_to_the_longest(kind):
    _, blocks = start(kind, "chrono", max_lag=50)
    forget = blocks[KEEPS[kind]]
    assert is_uniform(forget.exp(), 1, 49)  # exp(b) = f / (1 - f), one less than the lag 1 / (1 - f)
    assert (torch.sigmoid(forget) <= 1 - 1 / 50).all()
    for index, block in enumerate(blocks):
        if index == WRITES.get(kind):
            assert torch.equal(block, -forget)
        elif index != KEEPS[kind]:
            assert not block.any()


@pytest.mark.parametrize("kind", KEEPS)
def test_uniform_gate_draws_gates_uniformly(kind):
    _, blocks = start(kind, "uniform-gate")
    forget = blocks[KEEPS[kind]]
    assert is_uniform(torch.sigmoid(forget), 1 / H, 1 - 1 / H)
    for index, block in enumerate(blocks):
        if index == WRITES.get(kind):
            assert torch.equal(block, -forget)
        elif index != KEEPS[kind]:
            assert not block.any()


def test_uniform_gate_of_one_unit_is_half_open():
    assert start(CoupledLSTM, "uniform-gate", hidden_size=1)[1][0] == 0


@pytest.mark.parametrize("kind", [CoupledLSTM, LayerNormLSTM, MogrifierLSTM, SLSTM])
def test_default_start(kind):
    assert kind.inits == GATE_STARTS
    cell, blocks = start(kind, None, hidden_size=32)
    assert cell.init == "forget-bias"
    for index, block in enumerate(blocks):
        assert (block == (1.0 if index == KEEPS[kind] else 0.0)).all()
    for block in cell.weight_hh.chunk(len(blocks)):
        torch.testing.assert_close(block @ block.t(), torch.eye(32, dtype=torch.float64))
    bound = math.sqrt(6 / (2 + 32))
    for block in cell.weight_ih.chunk(len(blocks)):
        assert 0.9 * bound < block.abs().max() <= bound


@pytest.mark.parametrize("init", GATE_STARTS)
def test_an_exponential_forget_gate_starts_at_the_same_value(init):
    _, (_, sigmoid, _, _) = start(SLSTM, init)
    _, (_, exponential, _, _) = start(SLSTM, init, forget_gate="exponential")
    torch.testing.assert_close(exponential.exp(), torch.sigmoid(sigmoid))


@pytest.mark.parametrize("kind", [LSTM, GRU])
@pytest.mark.parametrize("init", ["chrono", "uniform-gate"])
def test_only_biases_differ_from_the_default(kind, init):
    torch.manual_seed(0)
    default = kind(3, 4)
    torch.manual_seed(0)
    drawn = kind(3, 4, init=init)
    assert not torch.equal(drawn.bias_ih, default.bias_ih)
    for name in ("weight_ih", "weight_hh", "bias_hh"):
        assert torch.equal(getattr(drawn, name), getattr(default, name))


@pytest.mark.parametrize("kind", KEEPS)
def test_max_lag_defaults_to_100_for_chrono_and_to_nothing_else(kind):
    cell, blocks = start(kind, "chrono")
    assert cell.max_lag == 100
    assert 90 < blocks[KEEPS[kind]].exp().max() <= 99
    assert start(kind, None)[0].max_lag is None


@pytest.mark.parametrize("kind", KEEPS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_lag": 10}, "max_lag is used by init='chrono' alone: choose that, or leave max_lag out"),
        ({"init": "uniform-gate", "max_lag": 9}, "max_lag is used by init='chrono' alone: choose that, or leave"),
        ({"init": "chrono", "max_lag": 1}, "max_lag must be at least 2, not 1"),
        ({"init": "crono"}, "did you mean 'chrono'"),
    ],
)
def test_mistakes_are_named(kind, options, message):
    with pytest.raises(RecipeError) as caught:
        kind(3, 4, **options)
    assert message in str(caught.value)


@pytest.mark.parametrize("kind", [LSTM, GRU])
@pytest.mark.parametrize("init", ["chrono", "uniform-gate"])
def test_a_start_made_of_biases_needs_biases(kind, init):
    with pytest.raises(RecipeError, match=f"init='{init}' draws biases, and bias=False leaves none"):
        kind(3, 4, init=init, bias=False)


def test_kernels_and_their_weights():
    lstm, gru = LSTM(3, 4), GRU(3, 4)
    assert lstm.kernel == KernelSpec("lstm")
    assert gru.kernel == KernelSpec("gru")
    (weight,) = lstm.kernel_weights()
    assert weight is lstm.weight_hh
    weight, bias = gru.kernel_weights()
    assert weight is gru.weight_hh
    assert bias is gru.bias_hh
    _, bias = GRU(3, 4, bias=False).kernel_weights()
    assert torch.equal(bias, torch.zeros(12))
    projected = LSTM(3, 4, proj_size=2)
    assert projected.kernel is None
    assert projected.kernel_weights() == []
