"""The compiled linear recurrence against the equation, step by step."""

import pytest
import torch

from throughtime.kernels import absence, library, linear_scan

pytestmark = pytest.mark.skipif(library() is None, reason=f"no compiled library: {absence()}")

SIZES = [(1, 1, 2), (3, 2, 6), (17, 3, 34), (5, 17, 64), (64, 1, 130)]


def step_by_step(a, b, start, complex_pairs):
    h, states = start, []
    for t in range(b.size(0)):
        factor = a if a.dim() == 1 else a[t]
        if complex_pairs:
            (re, im), (x, y) = factor.chunk(2, dim=-1), h.chunk(2, dim=-1)
            h = torch.cat([re * x - im * y, re * y + im * x], dim=-1) + b[t]
        else:
            h = factor * h + b[t]
        states.append(h)
    return torch.stack(states)


def draw(size, constant, dtype=torch.float64):
    torch.manual_seed(0)
    a = torch.rand(size[2] if constant else size, dtype=torch.float64) * 0.7
    b, start = torch.randn(size, dtype=torch.float64), torch.randn(size[1:], dtype=torch.float64)
    return tuple(tensor.to(dtype).requires_grad_() for tensor in (a, b, start))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("complex_pairs", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_values_and_gradients(size, complex_pairs, constant, dtype, tolerance):
    weight = torch.randn(size, dtype=torch.float64)
    truth_in, ours_in = draw(size, constant), draw(size, constant, dtype)
    truth = step_by_step(*truth_in, complex_pairs)
    ours = linear_scan(*ours_in, complex_pairs=complex_pairs)
    wanted = torch.autograd.grad((truth * weight).sum(), truth_in)
    got = torch.autograd.grad((ours * weight.to(dtype)).sum(), ours_in)
    for one, other in zip((ours, *got), (truth, *wanted), strict=True):
        assert (one.double() - other).abs().max() <= tolerance * other.abs().max()


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("complex_pairs", [False, True])
def test_gradients_of_gradients(complex_pairs, constant):
    def run(a, b, start):
        return linear_scan(a, b, start, complex_pairs=complex_pairs)

    assert torch.autograd.gradcheck(run, draw((4, 2, 6), constant))
    assert torch.autograd.gradgradcheck(run, draw((3, 2, 4), constant))
