import pytest

from throughtime.cell import GRU, LSTM, SLSTM, Cell, CoupledLSTM, Elman, cells, make_cell
from throughtime.errors import RecipeError


def test_every_named_cell_is_described_and_made():
    kinds = {"elman": Elman, "gru": GRU, "lstm": LSTM, "coupled-lstm": CoupledLSTM, "slstm": SLSTM}
    assert set(kinds) < {info.name for info in cells()}
    for info in cells():
        cell = make_cell(info.name, 2, 4)
        assert isinstance(cell, Cell)
        assert type(cell) is kinds.get(info.name, type(cell))
        assert info.inits == cell.inits
        assert info.summary
        assert info.reference
        assert "\n" not in info.summary + info.reference


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"name": "lstn"}, "unknown cell 'lstn': did you mean 'lstm'?"),
        ({"name": "LSTM"}, "unknown cell 'LSTM': did you mean 'lstm'?"),
        ({"name": "zzz"}, "unknown cell 'zzz': choose one of " + ", ".join(info.name for info in cells())),
        ({"name": "lstm", "init": "forget_bias"}, "unknown init of lstm 'forget_bias': did you mean 'forget-bias'?"),
        ({"name": "gru", "proj_size": 2}, "cell 'gru' has no projection: leave proj_size at 0, or choose lstm"),
        ({"name": "lstm", "proj_size": 3}, "proj_size must be at least 0 and below hidden_size 3, not 3"),
        ({"name": "lstm", "proj_size": -1}, "proj_size must be at least 0 and below hidden_size 3, not -1"),
    ],
)
def test_mistakes_are_named(choices, message):
    with pytest.raises(RecipeError) as caught:
        make_cell(input_size=2, hidden_size=3, **choices)
    assert str(caught.value) == message
