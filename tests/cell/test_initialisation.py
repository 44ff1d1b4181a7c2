import math

import pytest
import torch

from throughtime.cell import GRU, LSTM, Elman, cells, make_cell


@pytest.mark.parametrize("name", ["elman", "gru", "lstm"])
def test_default_start(name):
    torch.manual_seed(0)
    cell = make_cell(name, 40, 32).double()
    cell.reset_parameters()
    for block in cell.weight_hh.chunk(cell.num_blocks):
        torch.testing.assert_close(block @ block.t(), torch.eye(32, dtype=torch.float64))
    bound = math.sqrt(6 / (40 + 32))
    for block in cell.weight_ih.chunk(cell.num_blocks):
        assert 0.95 * bound < block.abs().max() <= bound
    assert not cell.bias_hh.any()
    if name == "lstm":
        i, f, g, o = cell.bias_ih.chunk(4)
        assert (f == 1).all()
        assert not torch.cat([i, g, o]).any()
    else:
        assert not cell.bias_ih.any()


@pytest.mark.parametrize("name", ["elman", "gru", "lstm"])
def test_torch_start_is_uniform_within_its_bound(name):
    torch.manual_seed(0)
    cell = make_cell(name, 40, 64, init="torch")
    for parameter in cell.parameters():
        assert 0.9 / 8 < parameter.abs().max() <= 1 / 8
        assert abs(parameter.mean()) < 0.04


def test_every_named_start_differs_from_the_others():
    for info in cells():
        drawn = []
        for init in info.inits:
            torch.manual_seed(0)
            cell = make_cell(info.name, 5, 6, init=init)
            drawn.append(torch.cat([parameter.detach().flatten() for parameter in cell.parameters()]))
        assert all(not torch.equal(drawn[0], other) for other in drawn[1:])


def test_without_bias_and_with_projection():
    for kind in (Elman, GRU, LSTM):
        cell = kind(3, 4, bias=False)
        assert cell.bias_ih is None
        assert len(cell.torch_weights()) == 2
    cell = LSTM(3, 4, proj_size=2)
    assert cell.weight_hr.shape == (2, 4)
    assert cell.weight_hh.shape == (16, 2)
    for block in cell.weight_hh.chunk(4):
        torch.testing.assert_close(block.t() @ block, torch.eye(2))
