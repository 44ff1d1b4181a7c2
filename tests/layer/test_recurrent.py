import copy
import itertools
import pickle

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

from throughtime.errors import InputError, RecipeError
from throughtime.layer import Recurrent
from throughtime.scan import OBSTACLES, SCANS

CLOSE = {"rtol": 0, "atol": 1e-12}


def parts(state):
    return (state,) if isinstance(state, torch.Tensor) else state


def rebuilt(state, change):
    """`state` with `change` done to each tensor."""
    return change(state) if isinstance(state, torch.Tensor) else tuple(change(part) for part in state)


def build(cell, **choices):
    return Recurrent(cell, 3, 4, **choices).double()


def random_x(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def random_state(layer, batch):
    """A state that the layer can reach: not every cell's equations hold for numbers out of the air."""
    with torch.no_grad():
        x = random_x(2, batch, layer.input_size)
        return layer(x.transpose(0, 1) if layer.batch_first else x)[1]


def same(got, expected):
    torch.testing.assert_close(got, expected, **CLOSE)


@pytest.mark.parametrize("scan", ["auto", "loop"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_lengths_equal_each_sequence_alone(cell, scan, bidirectional):
    layer = build(cell, num_layers=2, bidirectional=bidirectional, scan=scan)
    x, state, lengths = random_x(6, 4, 3), random_state(layer, 4), [6, 3, 1, 4]
    x[3:, 1] = torch.nan  # beyond a length anything may lie
    y, final = layer(x, state, lengths=lengths)
    for row, length in enumerate(lengths):
        alone, final_alone = layer(x[:length, [row]], rebuilt(state, lambda part, row=row: part[:, [row]]))
        same(y[:length, [row]], alone)
        assert not y[length:, row].any()
        same(rebuilt(final, lambda part, row=row: part[:, [row]]), final_alone)


@pytest.mark.parametrize("scan", ["auto", "loop"])
def test_a_length_of_zero_keeps_the_state(cell, scan):
    layer = build(cell, num_layers=2, scan=scan)
    state = random_state(layer, 2)
    y, final = layer(random_x(3, 2, 3), state, lengths=torch.tensor([0, 3]))
    assert not y[:, 0].any()
    same(rebuilt(final, lambda part: part[:, 0]), rebuilt(state, lambda part: part[:, 0]))


@pytest.mark.parametrize("scan", ["auto", "loop"])
def test_reset_equals_sequences_cut_apart(cell, scan):
    layer = build(cell, num_layers=2, scan=scan)
    x, state = random_x(7, 3, 3), random_state(layer, 3)
    reset = torch.zeros(7, 3, dtype=torch.bool)
    for t, row in [(2, 0), (3, 0), (5, 0), (0, 1), (4, 1)]:
        reset[t, row] = True
    y, final = layer(x, state, reset=reset)
    for row, cuts in enumerate([[0, 2, 3, 5, 7], [0, 4, 7], [0, 7]]):
        for start, end in itertools.pairwise(cuts):
            passed_in = rebuilt(state, lambda part, row=row: part[:, [row]])
            before = None if reset[start, row] else passed_in
            alone, final_alone = layer(x[start:end, [row]], before)
            same(y[start:end, [row]], alone)
        same(rebuilt(final, lambda part, row=row: part[:, [row]]), final_alone)


@pytest.mark.parametrize("scan", ["auto", "loop"])
def test_reset_cuts_a_backward_direction_at_the_same_boundary(cell, scan):
    layer = build(cell, bidirectional=True, num_layers=2, scan=scan)
    x, state = random_x(6, 2, 3), random_state(layer, 2)
    reset = torch.zeros(6, 2, dtype=torch.bool)
    reset[1, 0] = reset[4, 0] = reset[5, 1] = (
        True  # unlike from either end; the last lies beyond the length, and cuts nothing
    )
    y, final = layer(x, state, lengths=[6, 5], reset=reset)

    fresh = layer.initial_state(1)
    cuts = [0, 1, 4, 6]
    for start, end in itertools.pairwise(cuts):
        first, last = start == 0, end == 6

        def choose(given, new, first=first, last=last):
            """The forward cells (even) start from `given` in the first piece, the backward ones in the last."""
            given = given[:, [0]]
            rows = [given[i] if (last if i % 2 else first) else new[i] for i in range(4)]
            return torch.stack(rows)

        before = tuple(choose(given, new) for given, new in zip(parts(state), parts(fresh), strict=True))
        before = before[0] if isinstance(state, torch.Tensor) else before
        alone, final_alone = layer(x[start:end, [0]], before)
        same(y[start:end, [0]], alone)
        for ours, theirs in zip(parts(final), parts(final_alone), strict=True):
            if first:
                same(ours[1::2, 0], theirs[1::2, 0])
            if last:
                same(ours[0::2, 0], theirs[0::2, 0])
    uncut, final_uncut = layer(x[:5, [1]], rebuilt(state, lambda part: part[:, [1]]))
    same(y[:5, [1]], uncut)
    same(rebuilt(final, lambda part: part[:, [1]]), final_uncut)


@pytest.mark.parametrize("scan", ["auto", "loop"])
def test_chunk_by_chunk_equals_the_whole(cell, scan):
    layer = build(cell, num_layers=2, scan=scan)
    x, state = random_x(9, 3, 3), random_state(layer, 3)
    whole, final = layer(x, state)
    chunks = []
    for chunk in x.split([1, 4, 0, 4]):
        y, state = layer(chunk, state)
        chunks.append(y)
    same(torch.cat(chunks), whole)
    same(state, final)


def test_step_equals_forward(cell):
    layer = build(cell, num_layers=2)
    x = random_x(5, 3, 3)
    whole, final = layer(x)
    state = None
    for t in range(5):
        y, state = layer.step(x[t], state)
        same(y, whole[t])
    same(state, final)


def test_a_batch_equals_its_rows_alone(cell):
    layer = build(cell, num_layers=2, bidirectional=True)
    x = random_x(5, 3, 3)
    y, final = layer(x)
    for row in range(3):
        alone, final_alone = layer(x[:, [row]])
        same(y[:, [row]], alone)
        same(rebuilt(final, lambda part, row=row: part[:, [row]]), final_alone)


def test_batch_first_moves_inputs_outputs_and_resets_but_never_the_state(cell):
    layer = build(cell, num_layers=2, bidirectional=True)
    x, reset, state = random_x(5, 3, 3), torch.rand(5, 3) < 0.3, random_state(layer, 3)
    y, final = layer(x, state, reset=reset, lengths=[5, 2, 4])
    layer.batch_first = True
    y_first, final_first = layer(x.transpose(0, 1), state, reset=reset.t(), lengths=[5, 2, 4])
    same(y_first.transpose(0, 1), y)
    same(final_first, final)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("enforce_sorted", [False, True])
def test_packed_equals_lengths(cell, batch_first, enforce_sorted):
    layer = build(cell, num_layers=2, bidirectional=True, batch_first=batch_first)
    lengths = [5, 4, 1] if enforce_sorted else [4, 1, 5]
    sequences = [random_x(length, 3) for length in lengths]
    packed = pack_sequence(sequences, enforce_sorted=enforce_sorted)
    padded, _ = pad_packed_sequence(packed, batch_first=batch_first)
    state = random_state(layer, 3)
    y_packed, final_packed = layer(packed, state)
    y, final = layer(padded, state, lengths=lengths)
    assert torch.equal(y_packed.batch_sizes, packed.batch_sizes)
    assert y_packed.sorted_indices is packed.sorted_indices
    same(pad_packed_sequence(y_packed, batch_first=batch_first)[0], y)
    same(final_packed, final)


@pytest.mark.parametrize("shape", [(0, 3, 3), (4, 0, 3), (0, 0, 3)])
def test_nothing_in_nothing_out(cell, shape):
    layer = build(cell, num_layers=2, bidirectional=True)
    state = random_state(layer, shape[1])
    y, final = layer(random_x(*shape), state, lengths=[0] * shape[1], reset=torch.zeros(shape[:2], dtype=torch.bool))
    assert y.shape == (*shape[:2], layer.output_size)
    same(final, state)


@pytest.mark.parametrize("choices", [{}, {"num_layers": 3}, {"num_layers": 2, "bidirectional": True}])
def test_shapes_and_initial_state(cell, choices):
    layer = build(cell, **choices)
    y, final = layer(random_x(5, 2, 3))
    y_given, final_given = layer(random_x(5, 2, 3) * 0, layer.initial_state(2))
    num_cells = choices.get("num_layers", 1) * (1 + choices.get("bidirectional", False))
    assert len(layer.cells) == num_cells
    assert y.shape == y_given.shape == (5, 2, layer.output_size)
    assert all(part.shape[:2] == (num_cells, 2) for part in parts(final))
    same(layer(random_x(5, 2, 3) * 0), (y_given, final_given))


def test_state_forms(own_cell):
    x = random_x(2, 1, 3)
    assert isinstance(build("elman")(x)[1], torch.Tensor)
    assert isinstance(build("gru")(x)[1], torch.Tensor)
    h, c = build("lstm", proj_size=2)(x)[1]
    assert (h.shape, c.shape) == ((1, 1, 2), (1, 1, 4))
    h, traces = build(own_cell, num_layers=2)(x)[1]
    assert (h.shape, traces.shape) == ((2, 1, 4), (2, 1, 2, 4))


def test_gradcheck_through_everything(cell):
    layer = build(cell, num_layers=2, bidirectional=True)
    state = [part.requires_grad_() for part in parts(random_state(layer, 2))]
    reset = torch.tensor([[False, True], [False, False], [True, False]])

    def run(x, *state):
        y, final = layer(x, state if len(state) > 1 else state[0], lengths=[3, 2], reset=reset)
        return (y, *parts(final))

    assert torch.autograd.gradcheck(run, (random_x(3, 2, 3).requires_grad_(), *state), fast_mode=True)


def test_all_scans_train_every_parameter_alike(name):
    torch.manual_seed(0)
    loop = build(name, num_layers=2, bidirectional=True, scan="loop")
    x, reset = random_x(6, 3, 3), torch.rand(6, 3) < 0.2

    def train(layer):
        layer(x, lengths=[6, 4, 5], reset=reset)[0].square().sum().backward()
        return layer

    train(loop)
    assert all(parameter.grad.any() for parameter in loop.parameters())
    for scan in SCANS:
        other = copy.deepcopy(loop)
        other.scan = scan
        other.zero_grad()
        if scan in OBSTACLES and OBSTACLES[scan](other.cells[0], x) is not None:
            continue
        for (key, ours), truth in zip(train(other).named_parameters(), loop.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, truth.grad, rtol=1e-10, atol=1e-10, msg=f"{scan} {key}")


def test_copies_give_the_same_numbers_and_share_nothing(cell):
    layer = build(cell, num_layers=2, bidirectional=True)
    x = random_x(4, 2, 3)
    expected = layer(x)
    copied = copy.deepcopy(layer)
    loaded = build(cell, num_layers=2, bidirectional=True)
    loaded.load_state_dict(layer.state_dict())
    others = [copied, loaded]
    if isinstance(cell, str) and cell != "orthogonal":  # torch refuses to pickle its parametrised modules
        others.append(pickle.loads(pickle.dumps(layer)))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    for other in others:
        same(other(x), expected)


def test_dropout_lies_between_layers_only_and_in_training_only():
    torch.manual_seed(0)
    layer = build("elman", num_layers=2, dropout=1.0, init="torch")
    x = random_x(3, 2, 3)
    y, _ = layer(x)
    y_step, _ = layer.step(x[0])
    same(layer(torch.randn_like(x))[0], y)  # all that the upper layer sees is zero
    same(y_step, y[0])
    assert y.any()  # the outputs of the last layer are not dropped
    assert not torch.equal(layer.eval()(x)[0], y)
    one = build("elman", dropout=1.0)
    same(one(x), one.eval()(x))


def test_reset_parameters_follows_the_seed(cell):
    layer = build(cell, num_layers=2)
    before = layer.state_dict()
    before = {key: value.clone() for key, value in before.items()}
    torch.manual_seed(5)
    layer.reset_parameters()
    assert any(not torch.equal(before[key], value) for key, value in layer.state_dict().items())
    after = {key: value.clone() for key, value in layer.state_dict().items()}
    torch.manual_seed(5)
    layer.reset_parameters()
    assert all(torch.equal(after[key], value) for key, value in layer.state_dict().items())


def test_autocast_runs(cell):
    layer = Recurrent(cell, 3, 4, num_layers=2)
    x = torch.randn(4, 2, 3)
    expected, _ = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        y, state = layer(x)
        y, state = layer(x, state)
        y, _ = layer(x, reset=torch.ones(4, 2, dtype=torch.bool))
        y, _ = layer(x)
    torch.testing.assert_close(y.float(), expected, rtol=0, atol=0.05)


def test_one_cell_object_serves_one_layer(own_cell):
    cell = own_cell(3, 4)
    layer = Recurrent(cell, 3, 4)
    assert layer.cells[0] is cell
    with pytest.raises(RecipeError, match="one cell object serves one layer in one direction"):
        Recurrent(own_cell(4, 4), 4, 4, bidirectional=True)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"cell": "lstn"}, "did you mean 'lstm'"),
        ({"num_layers": 0}, "num_layers must be at least 1"),
        ({"hidden_size": 0}, "hidden_size must be at least 1"),
        ({"dropout": 1.5}, "dropout must lie between 0 and 1, not at 1.5"),
        ({"dropout": float("nan")}, "dropout must lie between 0 and 1"),
        ({"scan": "fuzed"}, "unknown scan 'fuzed': did you mean 'fused'"),
        ({"proj_size": 2}, "cell 'gru' has no projection"),
        ({"cell": 7}, "a cell must be a name, a Cell or a factory of Cells, not 7"),
        ({"cell": lambda *_: torch.nn.Linear(3, 4)}, "must give Cell objects, not Linear"),
    ],
)
def test_choices_that_do_not_fit_are_refused(choices, message):
    with pytest.raises(RecipeError, match=message):
        Recurrent(**{"cell": "gru", "input_size": 3, "hidden_size": 4, **choices})


def test_choices_that_do_not_fit_an_own_cell_are_refused(own_cell):
    with pytest.raises(RecipeError, match="init and proj_size go with the name of a cell"):
        Recurrent(own_cell, 3, 4, init="torch")
    with pytest.raises(RecipeError, match="scan='fused' does not fit the cell OwnCell"):
        Recurrent(own_cell, 3, 4, scan="fused")
    with pytest.raises(RecipeError, match="must have input_size 3 and hidden_size 4, not 5 and 4"):
        Recurrent(own_cell(5, 4), 3, 4)


def test_two_directions_do_not_step():
    with pytest.raises(InputError, match="a bidirectional layer cannot step"):
        build("gru", bidirectional=True).step(random_x(2, 3))


def test_print_shows_what_was_chosen():
    layer = Recurrent("lstm", 3, 4, 2, bidirectional=True, batch_first=True, dropout=0.5, scan="loop")
    expected = "3, 4, num_layers=2, bidirectional=True, batch_first=True, dropout=0.5, scan='loop'"
    assert layer.extra_repr() == expected
