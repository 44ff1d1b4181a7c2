import pytest
import torch

from throughtime.errors import InputError
from throughtime.layer import Recurrent

X = torch.zeros(5, 2, 3)
FLAGS = torch.zeros(5, 2, dtype=torch.bool)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": X[0]}, r"x must be \(T, B, I\) with I = 3, not of shape \(2, 3\); add the batch axis"),
        ({"x": X[..., :2]}, r"x must be \(T, B, I\) with I = 3, not of shape \(5, 2, 2\)$"),
        ({"x": [[1.0]]}, r"x must be a tensor \(T, B, I\), not a list of 1"),
        ({"x": None}, r"x must be a tensor \(T, B, I\), not a NoneType"),
        ({"x": X.double()}, "x is torch.float64 and the layer torch.float32"),
        ({"x": X.long()}, "x is torch.int64 and the layer torch.float32"),
        ({"x": X.to("meta")}, "x is on meta and the layer on cpu"),
        ({"state": torch.zeros(1, 2, 4)}, r"state must be \(h, c\), 2 tensor\(s\), not a torch.float32 tensor"),
        ({"state": 0.0}, r"state must be \(h, c\), 2 tensor\(s\), not a float"),
        ({"state": (torch.zeros(1, 2, 4),)}, r"state must be \(h, c\), 2 tensor\(s\), not a tuple of 1"),
        ({"state": (torch.zeros(1, 2, 4), None)}, r"state must be \(h, c\)"),
        (
            {"state": (torch.zeros(1, 2, 4), torch.zeros(1, 3, 4))},
            r"state c .* = \(1, 2, 4\), not of shape \(1, 3, 4\)",
        ),
        ({"state": (torch.zeros(2, 4), torch.zeros(2, 4))}, r"state h .* = \(1, 2, 4\), not of shape \(2, 4\)"),
        ({"state": (torch.zeros(1, 2, 4).double(),) * 2}, "state h is torch.float64 and must be torch.float32"),
        ({"state": (torch.zeros(1, 2, 4, device="meta"),) * 2}, "state h is on meta and x on cpu"),
        ({"lengths": [5, 6]}, "lengths must lie between 0 and T = 5, not between 5 and 6"),
        ({"lengths": [-1, 5]}, "lengths must lie between 0 and T = 5, not between -1 and 5"),
        ({"lengths": [5]}, r"one integer for each of 2 sequences, not of shape \(1,\)"),
        ({"lengths": torch.full((5,), 2)}, r"one integer for each of 2 sequences, not of shape \(5,\)"),
        ({"lengths": torch.tensor(5)}, r"one integer for each of 2 sequences, not of shape \(\)"),
        ({"lengths": 5}, r"one integer for each of 2 sequences, not of shape \(\)"),
        ({"lengths": ["five", "two"]}, "lengths must be integers, one for each of 2 sequences, not a list of 2"),
        ({"lengths": [[5], [2, 1]]}, "lengths must be integers, one for each of 2 sequences, not a list of 2"),
        ({"lengths": [5.0, 2.0]}, "lengths must be integers, not torch.float32"),
        ({"reset": FLAGS.float()}, r"reset must be a bool tensor \(T, B\), not a torch.float32 tensor"),
        ({"reset": [True] * 5}, r"reset must be a bool tensor \(T, B\), not a list of 5"),
        ({"reset": FLAGS.t()}, r"reset must be \(T, B\) = \(5, 2\), not of shape \(2, 5\)"),
        ({"reset": FLAGS.to("meta")}, "reset is on meta and x on cpu"),
    ],
)
def test_each_mistake_is_named(arguments, message):
    layer = Recurrent("lstm", 3, 4)
    with pytest.raises(InputError, match=message) as caught:
        layer(**{"x": X, **arguments})
    assert "\n" not in str(caught.value)


def test_batch_first_is_named_in_its_own_order():
    layer = Recurrent("gru", 3, 4, batch_first=True)
    with pytest.raises(InputError, match=r"x must be \(B, T, I\)"):
        layer(X[0])
    with pytest.raises(InputError, match=r"reset must be \(B, T\) = \(5, 2\), not of shape \(2, 5\)"):
        layer(X, reset=FLAGS.t())
    with pytest.raises(InputError, match="T = 2"):
        layer(X, lengths=[3, 1, 1, 1, 1])


def test_a_step_takes_one_step():
    layer = Recurrent("elman", 3, 4)
    with pytest.raises(InputError, match=r"x must be \(B, I\) with I = 3, not of shape \(5, 2, 3\)$"):
        layer.step(X)
    with pytest.raises(InputError, match=r"state must be h, 1 tensor\(s\), not a tuple of 2"):
        layer.step(X[0], (torch.zeros(1, 2, 4),) * 2)


def test_a_packed_sequence_has_its_own_lengths():
    packed = torch.nn.utils.rnn.pack_sequence([X[:, 0], X[:3, 1]])
    with pytest.raises(InputError, match="lengths must be left out for a PackedSequence"):
        Recurrent("gru", 3, 4)(packed, lengths=[5, 3])


def test_nan_and_strides_are_no_mistakes():
    layer = Recurrent("gru", 3, 4)
    y, _ = layer(torch.full((2, 5, 6), torch.nan).transpose(0, 1)[..., ::2])
    assert y.isnan().all()
    assert y.grad_fn is not None
