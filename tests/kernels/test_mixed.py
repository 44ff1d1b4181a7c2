"""Mixed precision against the equations in float64, on numbers that bfloat16 holds exactly."""

import pytest
import torch
from torch.nn import functional as F

from throughtime.kernels import absence, cross_entropy_, library, mixed_lstm, mixed_lstm_backward

found = library()
pytestmark = pytest.mark.skipif(
    found is None or not found.mixed, reason=absence() or "this processor multiplies no bfloat16 numbers"
)
SIZES = [(1, 1, 16), (2, 3, 48), (7, 17, 80), (5, 13, 272)]
TOLERANCE = 1e-2
"""Of max |difference| / max |reference|: h and the gradients by sums are rounded to 8 bits before a product."""


def difference(got, reference):
    reference = reference.detach()
    return float((got.double() - reference).abs().max() / reference.abs().max())


def rounded(*shape):
    return torch.randn(*shape).bfloat16()


def equations(projected, bias, weight, h, c):
    outputs, cells = [], [c]
    for x in projected:
        i, f, g, o = (x + bias + h @ weight.t()).chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        outputs.append(h)
        cells.append(c)
    return torch.stack(outputs), torch.stack(cells)


def problem(T, B, H):
    torch.manual_seed(0)
    return (
        rounded(T, B, 4 * H),
        torch.randn(4 * H),
        rounded(4 * H, H) * 0.5 / H**0.5,
        torch.randn(B, H),
        torch.randn(B, H),
    )


@pytest.mark.parametrize("size", SIZES)
def test_the_lstm_follows_the_equations(size):
    inputs = problem(*size)
    exact = [part.double().requires_grad_() for part in inputs]
    outputs, cells = equations(*exact)
    got, before, gates, got_cells = mixed_lstm(*inputs)
    assert difference(got, outputs) < TOLERANCE
    assert difference(got_cells, cells) < TOLERANCE
    assert torch.equal(before, torch.cat([inputs[3].unsqueeze(0), got[:-1]]).bfloat16())

    d_outputs, d_c = torch.randn_like(got), torch.randn_like(inputs[4])
    total = (outputs * d_outputs).sum() + (cells[-1] * d_c).sum()
    by_projected, by_bias, by_h, by_c = torch.autograd.grad(total, [exact[0], exact[1], exact[3], exact[4]])
    d_gates, d_h, d_first, d_bias = mixed_lstm_backward(inputs[2], gates, got_cells, d_outputs, d_c)
    for ours, truth in ((d_gates, by_projected), (d_h, by_h), (d_first, by_c), (d_bias, by_bias)):
        assert difference(ours, truth) < 2 * TOLERANCE


@pytest.mark.parametrize("num_threads", [1, 2, 5])
def test_any_number_of_threads_gives_the_same_bits(num_threads):
    inputs = problem(6, 7, 48)
    expected = mixed_lstm(*inputs)
    ways = (inputs[2], *expected[2:], torch.ones(6, 7, 48), torch.zeros(7, 48))
    back = mixed_lstm_backward(*ways)
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        assert all(map(torch.equal, mixed_lstm(*inputs), expected))
        again = mixed_lstm_backward(*ways)
        assert all(map(torch.equal, again[:3], back[:3]))
        torch.testing.assert_close(again[3], back[3])  # a sum over rows, which threads cut differently
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 15), (5, 16), (40, 317), (700, 33)])
def test_the_cross_entropy_and_its_gradient(rows, columns):
    torch.manual_seed(0)
    logits, offset = rounded(rows, columns) * 4, torch.randn(columns)
    targets = torch.randint(columns, (rows,))
    exact, exact_offset = logits.double().requires_grad_(), offset.double().requires_grad_()
    truth = F.cross_entropy(exact + exact_offset, targets, reduction="none")
    by_logits, by_offset = torch.autograd.grad(truth.mean(), [exact, exact_offset])
    losses, d_offset = cross_entropy_(logits, offset, targets)
    torch.testing.assert_close(losses.double(), truth.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(d_offset.double(), by_offset, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(logits.double(), by_logits, atol=1e-6, rtol=2**-8)


def test_nan_stays_in_its_own_row():
    logits = torch.zeros(2, 20, dtype=torch.bfloat16)
    logits[0, 3] = torch.nan
    losses, _ = cross_entropy_(logits, torch.zeros(20), torch.tensor([1, 2]))
    assert losses[0].isnan()
    assert losses[1].isfinite()
    assert logits[0].isnan().all()
    assert logits[1].isfinite().all()
