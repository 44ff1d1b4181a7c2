"""The compiled products of matrices against torch's in float64."""

import pytest
import torch
from torch.nn import functional as F

from against_the_loop import TOLERANCES
from throughtime.kernels import CompiledLinear, absence, library
from throughtime.kernels.dense import transposed_times, transposed_times_and_sums

pytestmark = pytest.mark.skipif(library() is None, reason=f"no compiled library: {absence()}")

SIZES = [(64, 1, 16, 1), (33, 2, 16, 17), (16, 5, 35, 16), (97, 1, 64, 130), (13, 11, 130, 67)]
"""T, B, I, O."""


@pytest.fixture(autouse=True)
def _unwritten_memory_is_nan():
    """Deterministic torch fills what `torch.empty` gives with NaN, so whatever reads what nothing wrote shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def draw(size, dtype=torch.float64, strided=False):
    torch.manual_seed(0)
    T, B, I, O = size  # noqa: E741
    x = torch.randn(B, T, I + 3)[..., 1 : 1 + I].transpose(0, 1) if strided else torch.randn(T, B, I)
    return tuple(
        tensor.to(dtype).requires_grad_() for tensor in (x, torch.randn(O, I), torch.randn(O), torch.randn(T, B, O))
    )


def everything(x, weight, bias, by_y):
    y = F.linear(x, weight, bias)
    return y, *torch.autograd.grad(y, [x, weight, *([] if bias is None else [bias])], by_y)


@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("size", SIZES)
def test_values_and_gradients(size, dtype, with_bias, strided):
    def arguments(dtype):
        x, weight, bias, by_y = draw(size, dtype, strided)
        return x, weight, bias if with_bias else None, by_y

    with CompiledLinear():
        ours = everything(*arguments(dtype))
    assert "throughtime" in ours[0].grad_fn.name()
    for mine, truth in zip(ours, everything(*arguments(torch.float64)), strict=True):
        assert mine.shape == truth.shape
        assert (mine - truth).abs().max() <= TOLERANCES[dtype] * truth.abs().max()


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (torch.ones(64, 16), torch.ones(16, 16)),
        (torch.ones(63, 1, 16), torch.ones(16, 16)),
        (torch.ones(64, 1, 15), torch.ones(16, 15)),
        (torch.ones(64, 1, 16, dtype=torch.bfloat16), torch.ones(16, 16, dtype=torch.bfloat16)),
    ],
)
def test_what_it_does_not_serve_is_torchs(x, weight):
    weight.requires_grad_()
    with CompiledLinear():
        y = F.linear(x, weight)
    assert "throughtime" not in y.grad_fn.name()
    assert torch.equal(y, F.linear(x, weight))


def test_a_gradient_that_nobody_wants_is_not_computed():
    x, weight, bias, by_y = draw(SIZES[3])
    x, weight = x.detach(), weight.detach()
    with CompiledLinear():
        y = F.linear(x, weight, bias)
    (by_bias,) = torch.autograd.grad(y, [bias], by_y)
    torch.testing.assert_close(by_bias, by_y.sum((0, 1)))


def test_gradients_of_the_gradient():
    arguments = [tensor.detach()[..., :16].clone().requires_grad_() for tensor in draw((64, 1, 16, 16))[:2]]

    def twice():
        y = F.linear(*arguments).square().sum()
        first = torch.autograd.grad(y, arguments, create_graph=True)
        return torch.autograd.grad(sum(part.square().sum() for part in first), arguments)

    with CompiledLinear():
        ours = twice()
    torch.testing.assert_close(ours, twice())


@pytest.mark.parametrize("num_threads", [1, 2, 5])
def test_the_numbers_do_not_depend_on_the_threads(num_threads):
    x, weight, bias, by_y = draw((200, 3, 40, 70), torch.float32)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, num_threads):
            torch.set_num_threads(threads)
            with CompiledLinear():
                found.append(everything(x, weight, bias, by_y)[:3])
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize(
    ("rows", "columns", "others"), [(64, 5, 16), (200, 33, 40), (65, 1, 17), (1100, 33, 40), (9001, 6, 17)]
)
def test_sums_over_the_rows_of_parts_of_wider_arrays(rows, columns, others):
    torch.manual_seed(0)
    left = torch.randn(rows, columns + 7, dtype=torch.float64)[:, 4 : 4 + columns]
    right = torch.randn(rows, others + 2, dtype=torch.float64)[:, 2:]
    torch.testing.assert_close(transposed_times(left, right), left.t() @ right)


@pytest.mark.parametrize("rows", [1, 3, 64, 1100, 9001])
@pytest.mark.parametrize("more_rows", [1, 5, 700])
def test_products_are_added_and_rows_summed_in_one_go(rows, more_rows):
    torch.manual_seed(0)
    pairs = [
        (torch.randn(count, 33, dtype=torch.float64), torch.randn(count, 37, dtype=torch.float64)[:, :17])
        for count in (rows, more_rows)
    ]
    pairs += 3 * [(pairs[1][0].t().contiguous().t(), pairs[1][1])]  # by columns; and more than are computed together
    summed = torch.randn(more_rows, 9, dtype=torch.float64)[:, 2:]
    truth = sum(left.t() @ right for left, right in pairs)
    torch.testing.assert_close(transposed_times(*pairs[0], *pairs[1:]), truth)
    product, sums = transposed_times_and_sums(*pairs[0], *pairs[1:], summed=summed)
    torch.testing.assert_close(product, truth)
    torch.testing.assert_close(sums, summed.sum(0))


def test_rows_that_overlap():
    """Where one lies at the end of its memory, reading a whole vector of it would read beyond."""
    _, weight, bias, by_y = draw((64, 2, 35, 16))
    row = torch.randn(35, dtype=torch.float64)

    def found(x):
        return everything(x.detach().requires_grad_(), weight, bias, by_y)

    with CompiledLinear():
        ours = found(row.expand(64, 2, 35))
    for mine, truth in zip(ours, found(row.repeat(64, 2, 1)), strict=True):
        torch.testing.assert_close(mine, truth)


def test_sums_over_many_rows_lose_little_to_rounding():
    torch.manual_seed(0)
    left, right = torch.rand(1 << 15, 16), torch.rand(1 << 15, 16)
    exact = left.double().t() @ right.double()
    product, sums = transposed_times_and_sums(left, right, summed=left)
    for found, truth in ((product, exact), (sums, left.double().sum(0))):
        error = (found - truth).abs() / truth
        assert error.mean() < 4 * torch.finfo(torch.float32).eps  # 16 times, if the sums were formed one by one
