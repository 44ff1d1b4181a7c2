"""Mixed precision follows the equations to the precision that bfloat16 has, and steps aside where it cannot."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from throughtime.layer import Recurrent
from throughtime.scan import mixed_obstacle
from throughtime.scan.mixed import LANES, MIN_HIDDEN

T, B, INPUT = 12, 3, 20
H = MIN_HIDDEN


def gradients(scan: str, weights: dict[str, Tensor], x: Tensor, state: tuple[Tensor, Tensor]) -> list[Tensor]:
    H = state[0].size(2)
    layer = Recurrent("lstm", INPUT, H, scan=scan)
    layer.load_state_dict(weights)
    x = x.clone().requires_grad_()
    h, c = (part.clone().requires_grad_() for part in state)
    y, (last_h, last_c) = layer(x, (h, c))
    (y.square().sum() + last_h.sum() + (last_c * torch.linspace(-1, 1, H)).sum()).backward()
    found = [y.detach(), last_h.detach(), last_c.detach()]
    return found + [part.grad for part in (x, h, c, *layer.parameters()) if part.grad is not None]


@pytest.mark.parametrize(
    "H", [MIN_HIDDEN, MIN_HIDDEN + LANES // 2]
)  # the compiled loop, if there is one; the plain one
def test_values_and_gradients_follow_the_loop(H: int) -> None:
    weights = Recurrent("lstm", INPUT, H).state_dict()
    x, state = torch.randn(T, B, INPUT), (torch.randn(1, B, H) * 0.3, torch.randn(1, B, H) * 0.3)
    pairs = list(zip(gradients("mixed", weights, x, state), gradients("loop", weights, x, state), strict=True))
    assert len(pairs) == 10
    for mixed, exact in pairs:
        assert 0 < float((mixed - exact).abs().max() / exact.abs().max()) < 0.02


def test_without_gradients_the_numbers_are_exact() -> None:
    mixed, exact = Recurrent("lstm", INPUT, H, scan="mixed"), Recurrent("lstm", INPUT, H, scan="auto")
    exact.load_state_dict(mixed.state_dict())
    x = torch.randn(T, B, INPUT)
    with torch.no_grad():
        assert torch.equal(mixed(x)[0], exact(x)[0])


@pytest.mark.parametrize(
    ("cell", "size", "dtype", "words"),
    [
        ("gru", H, torch.float32, "is for the LSTM"),
        ("lstm", H - 1, torch.float32, "gains nothing"),
        ("lstm", H, torch.float64, "starts from float32"),
    ],
)
def test_obstacles_are_named(cell: str, size: int, dtype: torch.dtype, words: str) -> None:
    layer = Recurrent(cell, INPUT, size).to(dtype)
    obstacle = mixed_obstacle(layer._cell(0), torch.zeros(T, B, INPUT, dtype=dtype), None, None)
    assert obstacle is not None
    assert words in obstacle
    assert layer(torch.zeros(T, B, INPUT, dtype=dtype))[0].shape == (T, B, size)


def test_resets_and_lengths_take_the_exact_way() -> None:
    layer, exact = Recurrent("lstm", INPUT, H, scan="mixed"), Recurrent("lstm", INPUT, H)
    exact.load_state_dict(layer.state_dict())
    x = torch.randn(T, B, INPUT)
    assert torch.equal(layer(x, lengths=[3, T, 5])[0], exact(x, lengths=[3, T, 5])[0])


def test_a_second_derivative_is_refused() -> None:
    x = torch.randn(T, B, INPUT, requires_grad=True)
    y, _ = Recurrent("lstm", INPUT, H, scan="mixed")(x)
    (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
