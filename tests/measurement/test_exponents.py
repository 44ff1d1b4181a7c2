import math

import pytest
import torch

from throughtime.measurement.exponents import GradedProduct, estimate, log_singular_values, long_product, sweep

CLOSE = {"rtol": 0, "atol": 1e-9}


def random_frame(batch, size, k):
    return torch.linalg.qr(torch.randn(batch, size, k, dtype=torch.float64)).Q


def times(matrices):
    """One function a step, which multiplies columns."""
    return [lambda columns, matrix=matrix: matrix @ columns for matrix in matrices]


def measured(matrices, k, seed=0):
    """Log singular values of the product of the matrices (first one first), by the long way, and the last change."""
    torch.manual_seed(seed)
    first = sweep(times(matrices), random_frame(1, len(matrices[0]), k))
    back = [matrix.t() for matrix in reversed(matrices)]
    values, change = long_product(lambda: times(matrices), lambda: times(back), first)
    return values[0], change


def random_matrices(num_steps, size, scale=1.0):
    torch.manual_seed(1)
    return list(scale * torch.randn(num_steps, size, size, dtype=torch.float64) / size**0.5)


@pytest.mark.parametrize("k", [6, 2, 1])
@pytest.mark.parametrize("num_steps", [1, 2, 5, 8])
def test_a_short_product_has_the_singular_values_of_the_product(num_steps, k):
    matrices = random_matrices(num_steps, 6)
    product = torch.linalg.multi_dot([*reversed(matrices), torch.eye(6, dtype=torch.float64)])
    values, change = measured(matrices, k)
    # Each frame bounds each value from below; what the last sweep still changed says how far off it may be.
    torch.testing.assert_close(values, torch.linalg.svdvals(product).log()[:k], rtol=0, atol=1e-9 + 10 * change)
    assert change < 1e-2


@pytest.mark.parametrize("k", [4, 2])
def test_a_product_far_below_the_smallest_number_is_exact(k):
    torch.manual_seed(2)
    left, right = (torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q for _ in range(2))
    logs = torch.tensor([0.1, -0.3, -0.4, -2.0], dtype=torch.float64)
    steps = 3000  # the smallest singular value is exp(-6000), and a float64 ends at exp(-745)
    # left S^T right^T: the first and last of the factors turn, those between them scale.
    matrices = [right.t(), *[torch.diag(logs.exp())] * steps, left]
    values, _ = measured(matrices, k)
    torch.testing.assert_close(values, logs[:k] * steps, rtol=0, atol=1e-7)


def test_an_orthogonal_product_has_singular_values_one():
    matrix = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    for k in (5, 2):
        torch.testing.assert_close(measured([matrix] * 400, k)[0], torch.zeros(k, dtype=torch.float64), **CLOSE)


def test_a_pair_of_equal_scales_is_told_apart_from_what_lies_far_below():
    # Twice [[1, 1], [0, 1]] at scales 1 and exp(-2000): golden ratio and its inverse, each twice, 2000 nats apart.
    unit = torch.eye(4, dtype=torch.float64)
    unit[0, 1] = unit[2, 3] = 1.0
    unit[0, 2] = unit[1, 3] = 0.7
    values = log_singular_values(GradedProduct(torch.tensor([[0.0, 0, -2000, -2000]]).double(), unit.unsqueeze(0)))[0]
    golden = math.log((1 + 5**0.5) / 2)
    torch.testing.assert_close(values[:2].sum().item(), torch.linalg.svdvals(unit[:2]).log().sum().item(), **CLOSE)
    torch.testing.assert_close(values.sum().item(), -4000.0, **CLOSE)
    uncoupled = unit.clone()
    uncoupled[:2, 2:] = 0
    graded = GradedProduct(torch.tensor([[0.0, 0, -2000, -2000]]).double(), uncoupled.unsqueeze(0))
    expected = torch.tensor([[golden, -golden, golden - 2000, -golden - 2000]], dtype=torch.float64)
    torch.testing.assert_close(log_singular_values(graded), expected, **CLOSE)


def test_logs_of_all_directions_add_up_to_the_determinant():
    matrices = random_matrices(30, 5)
    found = sweep(times(matrices), random_frame(2, 5, 5))
    determinants = torch.stack([torch.linalg.slogdet(matrix).logabsdet for matrix in matrices])
    torch.testing.assert_close(found.logs.sum(2), determinants.unsqueeze(1).expand(-1, 2), rtol=0, atol=1e-10)
    torch.testing.assert_close(found.graded.log_scale, found.logs.sum(0), rtol=0, atol=1e-10)


def test_the_graded_product_is_the_product():
    matrices = random_matrices(6, 4)
    frame = random_frame(1, 4, 3)
    found = sweep(times(matrices), frame)
    product = found.frame @ (found.graded.log_scale.exp().unsqueeze(2) * found.graded.unit)
    for matrix in matrices:
        frame = matrix @ frame
    torch.testing.assert_close(product, frame, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("k", [5, 3])
def test_a_lost_direction_is_named_and_the_others_stay_exact(k):
    matrices = random_matrices(12, 5)
    matrices[4] = matrices[4] @ torch.diag(torch.tensor([1.0, 1, 0, 0, 1], dtype=torch.float64))
    product = torch.linalg.multi_dot([*reversed(matrices)])
    values, _ = measured(matrices, k)
    torch.testing.assert_close(values[:3], torch.linalg.svdvals(product).log()[:3], rtol=0, atol=1e-9)
    assert torch.equal(values[3:], torch.full((k - 3,), -math.inf, dtype=torch.float64))
    found = sweep(times(matrices), random_frame(1, 5, k))
    assert found.collapsed.any(0).sum() == k - 3
    held = estimate(found.logs, found.collapsed, [(0, 12)])
    assert [value is None for value in held.exponents] == [False] * 3 + [True] * (k - 3)
    assert [value is None for value in held.errors] == [False] * 3 + [True] * (k - 3)
    after = estimate(found.logs, found.collapsed, [(5, 12)])
    assert None not in after.exponents


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    truth, num_trials = -0.25, 400
    generator = torch.Generator().manual_seed(0)
    logs = truth + 0.5 * torch.randn(80, 4 * num_trials, 1, generator=generator, dtype=torch.float64)
    collapsed = torch.zeros(80, 4, 1, dtype=torch.bool)
    hits = 0
    for trial in range(num_trials):
        found = estimate(logs[:, 4 * trial : 4 * trial + 4], collapsed, [(0, 80)] * 4)
        hits += abs(found.exponents[0] - truth) <= found.errors[0]
    # 95 % from Student's t, more by the drift that is added; 3 standard errors of 400 trials are 3 %.
    assert hits / num_trials > 0.92


def test_sequences_that_differ_widen_the_error_and_so_does_a_drift():
    steady = torch.zeros(40, 4, 1, dtype=torch.float64)
    collapsed = torch.zeros(40, 4, 1, dtype=torch.bool)
    spans = [(0, 40)] * 4
    assert estimate(steady, collapsed, spans).errors == (0.0,)
    unlike = steady + torch.tensor([-1.0, 1, -1, 1], dtype=torch.float64).view(1, 4, 1)
    assert estimate(unlike, collapsed, spans).errors[0] > 1
    drifting = steady + torch.linspace(0, 1, 40, dtype=torch.float64).view(-1, 1, 1)
    assert estimate(drifting, collapsed, spans).errors[0] > 0.25
    assert estimate(drifting[:, :1], collapsed[:, :1], spans[:1]).errors[0] > 0.25


def test_spans_say_what_counts_and_longer_sequences_weigh_more():
    logs = torch.zeros(10, 2, 2, dtype=torch.float64)
    logs[2:10, 0, 1] = 1.0
    logs[:2] += 100.0
    logs[6:, 1] += 100.0
    found = estimate(logs, torch.zeros(10, 2, 2, dtype=torch.bool), [(2, 10), (2, 6)])
    assert found.exponents == pytest.approx((8 / 12, 0.0))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_steps_far_below_one_are_no_collapse(k):
    matrices = random_matrices(6, 3)
    values, _ = measured(matrices, k)
    smaller, _ = measured([1e-200 * matrix for matrix in matrices], k)
    torch.testing.assert_close(smaller, values - 6 * 200 * math.log(10), rtol=0, atol=1e-6)
