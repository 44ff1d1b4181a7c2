import pytest

from throughtime.cell import Cell, make_cell
from throughtime.errors import RecipeError
from throughtime.layer.assembly import assemble


def test_sizes_follow_the_layers_and_directions():
    cells = assemble("lstm", 3, 5, 2, 2, init="torch", proj_size=2)
    assert [cell.input_size for cell in cells] == [3, 3, 4, 4]
    assert {cell.output_size for cell in cells} == {2}
    assert {cell.init for cell in cells} == {"torch"}


class Window(Cell):
    """A state whose shape follows the input: it cannot be stacked over layers of different input."""

    state_names = ("seen",)

    def reset_parameters(self):
        pass

    def initial_state(self, batch, *, device=None, dtype=None):
        return (self._zeros(batch, self.input_size, device, dtype),)

    def project(self, x):
        return x

    def step(self, projected, state):
        return (projected,), state[0]


class Forgetful(Window):
    state_names = ("seen", "missing")


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (Window, "states of one shape"),
        (Forgetful, "one tensor for each of"),
        (lambda input_size, hidden_size: make_cell("gru", input_size, 7), "hidden_size 5, not 3 and 7"),
    ],
)
def test_cells_that_cannot_be_stacked_are_refused(factory, message):
    with pytest.raises(RecipeError, match=message):
        assemble(factory, 3, 5, 2, 1, init=None, proj_size=0)
