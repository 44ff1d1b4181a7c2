import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from throughtime.scan.pieces import cut


def plain_cut(reset, lengths):
    """The pieces as lists of (step, row), found one step after the other."""
    pieces = []
    for row in range(reset.size(1)):
        for step in range(int(lengths[row])):
            if step == 0 or reset[step, row]:
                pieces.append([])
            pieces[-1].append((step, row))
    return pieces


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_packing_equals_the_plain_search(data):
    num_steps, batch = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 4))
    flags = st.lists(st.booleans(), min_size=num_steps * batch, max_size=num_steps * batch)
    reset = torch.tensor(data.draw(flags)).view(num_steps, batch)
    lengths = torch.tensor(data.draw(st.lists(st.integers(0, num_steps), min_size=batch, max_size=batch)))
    expected = plain_cut(reset, lengths)
    pieces = cut(reset, lengths)
    if not expected:
        assert pieces is None
        return

    found = [[] for _ in expected]
    positions = iter(pieces.positions.tolist())
    for size in pieces.batch_sizes.tolist():
        for index in range(size):
            found[index].append(divmod(next(positions), batch))
    assert next(positions, None) is None
    assert sorted(found) == sorted(expected)
    assert [len(piece) for piece in found] == sorted((len(piece) for piece in expected), reverse=True)
    assert pieces.rows.tolist() == [piece[0][1] for piece in found]
    assert pieces.fresh.tolist() == [bool(reset[piece[0]]) for piece in found]
    assert pieces.empty.tolist() == (lengths == 0).tolist()
    for row in range(batch):
        if lengths[row]:
            assert found[int(pieces.last[row])][-1] == (int(lengths[row]) - 1, row)
