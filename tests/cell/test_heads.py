import pytest
import torch

from throughtime.cell.gate_starts import settled_start
from throughtime.cell.heads import HEAD_STARTS, decay_bias_, settled_num_heads
from throughtime.errors import RecipeError


@pytest.mark.parametrize(
    ("hidden_size", "num_heads"), [(1, 1), (4, 1), (64, 1), (65, 1), (66, 2), (127, 1), (128, 2), (200, 4), (1024, 16)]
)
def test_as_few_heads_as_keep_them_narrow_but_not_too_narrow(hidden_size, num_heads):
    assert settled_num_heads(hidden_size, None) == num_heads


def test_what_is_given_counts():
    assert settled_num_heads(6, 3) == 3
    with pytest.raises(RecipeError, match="num_heads must divide hidden_size 4, and 3 does not"):
        settled_num_heads(4, 3)
    with pytest.raises(RecipeError, match="num_heads must be at least 1, not 0"):
        settled_num_heads(4, 0)


def test_spread_biases_reach_from_three_to_six():
    bias = torch.empty(4)
    decay_bias_("spread", None, bias)
    torch.testing.assert_close(bias, torch.tensor([3.0, 4.0, 5.0, 6.0]))
    alone = torch.empty(1)
    decay_bias_("spread", None, alone)
    assert alone.item() == 4.5


def test_chrono_biases_are_logarithms_of_lags():
    bias = torch.empty(2000)
    decay_bias_("chrono", 50, bias)
    lags = bias.exp()
    assert lags.min() >= 1
    assert lags.max() <= 49
    assert abs(lags.mean().item() - 25) < 1


def test_starts_are_settled():
    assert settled_start("mlstm", None, None, HEAD_STARTS) == ("spread", None)
    assert settled_start("mlstm", "chrono", None, HEAD_STARTS) == ("chrono", 100)
    with pytest.raises(RecipeError, match="unknown init of mlstm 'torch'"):
        settled_start("mlstm", "torch", None, HEAD_STARTS)
    with pytest.raises(RecipeError, match="max_lag is used by init='chrono' alone"):
        settled_start("mlstm", "spread", 7, HEAD_STARTS)
