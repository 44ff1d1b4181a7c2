"""The checkpointed scan has the loop's values and gradients, keeps little, and changes nothing around it."""

from __future__ import annotations

import weakref
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from throughtime.cell import Cell, Zoneout, cells, make_cell
from throughtime.errors import InputError, RecipeError
from throughtime.scan import run
from throughtime.scan.checkpoint import checkpoint

INNER = partial(run, "auto")
TOLERANCE = 1e-10


class Leaky(Cell):
    """A user's cell: an own first state that is learned, an output that is no state, and a count of steps."""

    state_names = ("h", "steps")

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size, output_size=2 * hidden_size)
        self.input = nn.Linear(input_size, hidden_size)
        self.first = nn.Parameter(torch.linspace(-1, 1, hidden_size))
        self.unused = nn.Parameter(torch.ones(2))

    def reset_parameters(self):
        self.input.reset_parameters()

    def initial_state(self, batch, *, device=None, dtype=None):
        return self.first.expand(batch, -1), torch.zeros(batch, dtype=torch.int64, device=device)

    def project(self, x):
        return self.input(x)

    def step(self, projected, state):
        h, steps = state
        h = 0.8 * h + torch.tanh(projected) / (1 + steps).unsqueeze(1)
        return (h, steps + 1), torch.cat([h, projected * h], dim=1)


class Dropping(Cell):
    """Draws a mask for each step in `project`."""

    state_names = ("h",)

    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.input = nn.Linear(input_size, hidden_size)

    def reset_parameters(self):
        self.input.reset_parameters()

    def project(self, x):
        return nn.functional.dropout(self.input(x), 0.5, self.training)

    def step(self, projected, state):
        h = 0.8 * state[0] + projected
        return (h,), h


def segmented(segment, inner=INNER):
    return partial(checkpoint, inner=inner, segment=segment)


LOOP = partial(run, "loop")


def everything(scan, cell, x, state, *, reset=None, lengths=None):
    """Outputs, final state, and the gradients of a weighted sum of both by x, the state and every parameter."""
    x = x.clone().requires_grad_()
    state = tuple(part.detach().clone().requires_grad_(part.is_floating_point()) for part in state)
    outputs, final = scan(cell, x, state, reset, lengths)
    weight = torch.linspace(-1, 1, outputs.numel(), dtype=x.dtype).view(outputs.shape).cos()
    total = (outputs * weight).sum() + sum((part * part).sum() for part in final if part.requires_grad)
    wanted = [tensor for tensor in (x, *state, *cell.parameters()) if tensor.requires_grad]
    return [outputs, *final, *torch.autograd.grad(total, wanted, allow_unused=True)]


def assert_equal(found, truth):
    for ours, theirs in zip(found, truth, strict=True):
        if ours is None or theirs is None:  # nothing depends on the tensor: None or zeros, each scan as it likes
            assert all(gradient is None or not gradient.any() for gradient in (ours, theirs))
            continue
        ours, theirs = ours.detach(), theirs.detach()
        assert ours.dtype == theirs.dtype
        # The compiled exponential ends near 1e-308, torch's at 0.
        assert (ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max() + 1e-300


def made(cell, num_steps, batch):
    cell = cell.double()
    x = torch.randn(num_steps, batch, cell.input_size, dtype=torch.float64)
    state = cell.initial_state(batch, dtype=torch.float64)
    return cell, x, tuple(p + 0.3 * torch.randn_like(p) if p.is_floating_point() else p for p in state)


@pytest.mark.parametrize("info", cells(), ids=lambda info: info.name)
@pytest.mark.parametrize(("num_steps", "batch", "segment"), [(1, 2, 1), (7, 1, 1), (7, 3, 3), (7, 2, 7), (40, 2, None)])
def test_values_and_gradients_equal_the_loop(info, num_steps, batch, segment):
    cell, x, state = made(make_cell(info.name, 3, 4), num_steps, batch)
    assert_equal(everything(segmented(segment), cell, x, state), everything(LOOP, cell, x, state))


@pytest.mark.parametrize("info", cells(), ids=lambda info: info.name)
@pytest.mark.parametrize("inner", [INNER, LOOP], ids=["auto", "loop"])
def test_resets_and_lengths_equal_the_loop(info, inner):
    cell, x, state = made(make_cell(info.name, 2, 3), 11, 4)
    cuts = {"reset": torch.rand(11, 4) < 0.2, "lengths": torch.tensor([11, 4, 0, 7])}
    for segment in (1, 4, 11, 50):
        assert_equal(
            everything(segmented(segment, inner), cell, x, state, **cuts), everything(LOOP, cell, x, state, **cuts)
        )


def test_a_users_cell_with_a_learned_start_an_integer_state_and_an_unused_parameter():
    cell, x, state = made(Leaky(3, 4), 9, 2)
    reset = torch.zeros(9, 2, dtype=torch.bool)
    reset[5, 0] = True
    assert_equal(everything(segmented(4), cell, x, state, reset=reset), everything(LOOP, cell, x, state, reset=reset))
    assert_equal(everything(segmented(2), cell, x, state), everything(LOOP, cell, x, state))


def test_a_learned_start_gets_the_gradient_of_the_first_state_too():
    cell, x, _ = made(Leaky(3, 4), 5, 2)
    found, truth = (
        torch.autograd.grad(scan(cell, x, cell.initial_state(2))[0].sum(), cell.first) for scan in (segmented(2), LOOP)
    )
    assert_equal(found, truth)


@pytest.mark.parametrize("inner", [INNER, LOOP], ids=["auto", "loop"])
def test_a_parametrised_weight(inner):
    cell, x, state = made(parametrizations.orthogonal(make_cell("lstm", 3, 4), "weight_hh"), 9, 2)
    assert "parametrizations.weight_hh.original" in dict(cell.named_parameters())
    assert_equal(everything(segmented(4, inner), cell, x, state), everything(LOOP, cell, x, state))


def test_frozen_parameters():
    cell, x, state = made(make_cell("gru", 3, 4), 9, 2)
    cell.weight_ih.requires_grad_(False)
    assert_equal(everything(segmented(4), cell, x, state), everything(LOOP, cell, x, state))


@pytest.mark.parametrize("who", ["x", "state", "parameters"])
def test_gradients_go_only_where_they_are_wanted(who):
    cell, x, state = made(make_cell("lstm", 3, 4), 9, 2)
    cell.requires_grad_(who == "parameters")
    x.requires_grad_(who == "x")
    state[1].requires_grad_(who == "state")
    wanted = {"x": [x], "state": [state[1]], "parameters": list(cell.parameters())}[who]
    found, truth = (
        torch.autograd.grad(scan(cell, x, state)[0].square().sum(), wanted) for scan in (segmented(4), LOOP)
    )
    assert_equal(found, truth)


@pytest.mark.parametrize("place", [-1, 0])
def test_a_gradient_that_comes_from_one_place_alone(place):
    """From the final state without the outputs; and from an output with no gradient behind it."""
    cell, x, state = made(make_cell("lstm", 3, 4), 9, 2)
    x.requires_grad_()

    def total(scan):
        outputs, final = scan(cell, x, state)
        return final[1].sum() if place < 0 else outputs[place].sum()

    wanted = [x, *cell.parameters()]
    assert_equal(torch.autograd.grad(total(segmented(4)), wanted), torch.autograd.grad(total(LOOP), wanted))


def test_a_second_way_back_and_gradients_that_add_up():
    cell, x, state = made(make_cell("gru", 3, 4), 9, 2)
    total = segmented(4)(cell, x, state)[0].square().sum()
    total.backward(retain_graph=True)
    once = [parameter.grad.clone() for parameter in cell.parameters()]
    total.backward()
    assert_equal([parameter.grad for parameter in cell.parameters()], [2 * gradient for gradient in once])


def test_hooks_on_parameters_see_the_whole_gradient_once():
    cell, x, state = made(make_cell("gru", 3, 4), 9, 2)
    seen = []
    cell.weight_hh.register_hook(lambda gradient: seen.append(gradient.clone()))
    segmented(2)(cell, x, state)[0].sum().backward()
    assert_equal(seen, [cell.weight_hh.grad])


def test_parameters_that_were_lent_for_the_forward_pass_alone():
    class Wrapped(nn.Module):
        def __init__(self, cell, scan):
            super().__init__()
            self.cell, self.scan = cell, scan

        def forward(self, x, state):
            return self.scan(self.cell, x, state)[0].square().sum()

    cell, x, state = made(make_cell("gru", 3, 4), 9, 2)
    lent = {f"cell.{name}": (2 * value).detach().requires_grad_() for name, value in cell.named_parameters()}
    found, truth = (
        torch.autograd.grad(torch.func.functional_call(Wrapped(cell, scan), lent, (x, state)), list(lent.values()))
        for scan in (segmented(4), LOOP)
    )
    assert_equal(found, truth)


@pytest.mark.parametrize("make", [lambda: Dropping(3, 4), lambda: Zoneout(make_cell("lstm", 3, 4), 0.5)])
def test_random_masks_are_drawn_again_as_they_were(make):
    """The truth is autograd through the same segments, which remembers the masks instead of drawing them again."""
    cell, x, state = made(make(), 11, 2)

    def remembered(cell, x, state, reset=None, lengths=None):
        parts = []
        for begin in range(0, 11, 4):
            part, state = run("loop", cell, x[begin : begin + 4], state)
            parts.append(part)
        return torch.cat(parts), state

    found, left = [], []
    for scan in (segmented(4), remembered):
        torch.manual_seed(1)
        found.append(everything(scan, cell, x, state))
        left.append(torch.rand(3))
    assert_equal(*found)
    assert torch.equal(*left)
    assert (found[0][0] - everything(segmented(4), cell, x, state)[0]).abs().max() > 0.01


def test_the_way_back_leaves_random_numbers_and_modes_as_they_were():
    cell, x, state = made(Dropping(3, 4), 11, 2)
    truth = []
    for changed in (False, True):
        torch.manual_seed(1)
        cell.train().zero_grad()
        total = segmented(4)(cell, x, state)[0].square().sum()
        cell.train(not changed)
        before = torch.get_rng_state()
        total.backward()
        assert torch.equal(torch.get_rng_state(), before)
        assert cell.training == cell.input.training == (not changed)
        truth.append(cell.input.weight.grad)
    assert torch.equal(*truth)


@pytest.mark.parametrize("inside", [True, False])
def test_autocast_is_restored_for_the_second_run(inside):
    """The gradients are autocast's to its precision, and nothing like those without autocast in all digits."""
    torch.manual_seed(3)
    cell, x = make_cell("lstm", 3, 8), torch.randn(12, 4, 3)
    types = []

    def inner(cell, x, state, reset, lengths):
        types.append(cell.project(x).dtype)
        return run("loop", cell, x, state, reset, lengths)

    found = []
    for scan in (segmented(5, inner), LOOP):
        cell.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            total = scan(cell, x, cell.initial_state(4))[0].float().square().sum()
            if inside:
                total.backward()
        if not inside:
            total.backward()
        found.append(cell.weight_hh.grad)
    assert types == [torch.bfloat16] * 6
    assert (found[0] - found[1]).abs().max() < 0.02 * found[1].abs().max()


def test_autocast_around_the_way_back_alone_is_kept_out():
    cell, x, state = made(make_cell("lstm", 3, 4), 9, 2)
    cell, x, state = cell.float(), x.float(), tuple(part.float() for part in state)
    gradients = []
    for enabled in (False, True):
        total = segmented(4)(cell, x, state)[0].square().sum()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            gradients.append(torch.autograd.grad(total, cell.weight_hh)[0])
    assert torch.equal(*gradients)


def saved_bytes(scan, num_steps):
    """The most that autograd holds at once besides x and the parameters, on the way there and on the way back."""
    torch.manual_seed(0)
    cell, x = make_cell("lstm", 2, 4), torch.randn(num_steps, 1, 2, requires_grad=True)
    known = {tensor.untyped_storage().data_ptr() for tensor in (x, *cell.parameters())}
    held, most = [0], [0]

    class Held:
        def __init__(self, tensor):
            self.tensor = tensor
            size = 0 if tensor.untyped_storage().data_ptr() in known else tensor.nbytes
            held[0] += size
            most[0] = max(most[0], held[0])
            weakref.finalize(self, lambda: held.__setitem__(0, held[0] - size))

    with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
        outputs, _ = scan(cell, x, cell.initial_state(1))
        outputs.sum().backward()
    return most[0]


@pytest.mark.parametrize("inner", [INNER, LOOP], ids=["auto", "loop"])
def test_what_is_kept_grows_as_the_square_root(inner):
    short, long = (saved_bytes(segmented(None, inner), num_steps) for num_steps in (64, 16 * 64))
    assert 3 < long / short < 5
    assert 15 < saved_bytes(LOOP, 16 * 64) / saved_bytes(LOOP, 64) < 17
    assert long < saved_bytes(LOOP, 16 * 64) / 10


def test_the_default_segment_keeps_about_the_least():
    most = {segment: saved_bytes(segmented(segment, LOOP), 800) for segment in (None, 2, 5, 20, 50, 200)}
    assert most[None] <= 1.5 * min(most.values())


def test_states_are_kept_in_one_block_each():
    """Small blocks between large ones that come and go would leave holes: memory would grow as T after all."""
    numbers = []
    for num_steps in (10, 1000):
        cell, x, state = made(make_cell("lstm", 3, 4), num_steps, 2)
        packed = []
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor, to=packed: to.append(tensor), lambda held: held):
            segmented(None)(cell, x, state)
        numbers.append(len(packed))
    assert numbers[0] == numbers[1]


@pytest.mark.parametrize("why", ["no_grad", "nothing needs it"])
def test_nothing_is_kept_when_no_gradient_is_needed(why):
    cell, x, state = made(make_cell("lstm", 3, 4), 9, 2)
    cell.requires_grad_(why == "no_grad")
    packed = []
    with (
        torch.set_grad_enabled(why != "no_grad"),
        torch.autograd.graph.saved_tensors_hooks(packed.append, lambda held: held),
    ):
        outputs, final = segmented(4)(cell, x, state)
    assert not packed
    assert not outputs.requires_grad
    expected, expected_final = run("loop", cell, x, state)
    assert_equal([outputs, *final], [expected, *expected_final])


def test_a_final_state_that_is_a_view_does_not_hold_its_segment():
    cell, x, state = made(make_cell("gru", 3, 4), 40, 2)

    def inner(cell, x, state, reset, lengths):
        outputs, _ = run("loop", cell, x, state, reset, lengths)
        return outputs, (outputs[-1],)

    _, (h,) = segmented(10, inner)(cell, x.requires_grad_(), state)
    assert h.untyped_storage().nbytes() == h.nbytes


@pytest.mark.parametrize("by", ["everything", "x", "state", "a parameter"])
def test_a_second_derivative_is_refused_with_the_remedy(by):
    cell, x, state = made(make_cell("lstm", 3, 4), 5, 2)
    h = state[0].requires_grad_()
    outputs, _ = segmented(2)(cell, x.requires_grad_(), state)
    (first,) = torch.autograd.grad(outputs.square().sum(), x, create_graph=True)
    penalty = first.square().sum() + x.sum() + h.sum() + cell.weight_hh.sum()
    differentiate = {
        "everything": penalty.backward,
        "x": lambda: torch.autograd.grad(penalty, x),
        "state": lambda: torch.autograd.grad(penalty, h),
        "a parameter": lambda: torch.autograd.grad(penalty, cell.weight_hh),
    }[by]
    with pytest.raises(InputError, match="use scan='loop'"):
        differentiate()


def test_a_first_derivative_with_a_graph_is_the_first_derivative():
    cell, x, state = made(make_cell("lstm", 3, 4), 5, 2)
    total = segmented(2)(cell, x.requires_grad_(), state)[0].square().sum()
    plain, with_graph = (
        torch.autograd.grad(total, x, retain_graph=True, create_graph=create) for create in (False, True)
    )
    assert_equal(with_graph, plain)


def test_parameters_changed_before_the_way_back_are_an_error():
    cell, x, state = made(make_cell("lstm", 3, 4), 5, 2)
    outputs, _ = segmented(2)(cell, x, state)
    with torch.no_grad():
        cell.weight_hh.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.sum().backward()


@pytest.mark.parametrize("shape", [(0, 2, 3), (4, 0, 3)])
def test_no_steps_and_no_rows(shape):
    cell = make_cell("lstm", 3, 4)
    outputs, (h, _) = segmented(None)(cell, torch.zeros(shape), cell.initial_state(shape[1]))
    assert outputs.shape == (*shape[:2], 4)
    assert h.shape == (shape[1], 4)


def test_strided_input_and_a_gradient_that_is_one_number_everywhere():
    cell, _, state = made(make_cell("lstm", 3, 4), 9, 2)
    x = torch.randn(3, 2, 18, dtype=torch.float64).permute(2, 1, 0)[::2].requires_grad_()
    for total in (torch.sum, torch.mean):
        found, truth = (torch.autograd.grad(total(scan(cell, x, state)[0]), x) for scan in (segmented(4), LOOP))
        assert_equal(found, truth)


def test_a_segment_has_a_step():
    cell = make_cell("gru", 3, 4)
    with pytest.raises(RecipeError, match="segment must be at least 1"):
        segmented(0)(cell, torch.zeros(2, 1, 3), cell.initial_state(1))
