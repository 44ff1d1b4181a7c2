import torch

from throughtime.layer.reversal import reverse_reset, reverse_time


def test_reversal_within_lengths_undoes_itself():
    x = torch.arange(24.0).view(4, 3, 2)
    lengths = torch.tensor([4, 2, 0])
    turned = reverse_time(x, lengths)
    assert torch.equal(turned[:, 0], x[:, 0].flip(0))
    assert torch.equal(turned[:, 1], x[[1, 0, 2, 3], 1])
    assert torch.equal(turned[:, 2], x[:, 2])
    assert torch.equal(reverse_time(turned, lengths), x)
    assert torch.equal(reverse_time(x, None), reverse_time(x, torch.tensor([4, 4, 4])))


def test_boundaries_are_the_same_from_both_ends():
    torch.manual_seed(0)
    for lengths in (None, torch.tensor([6, 4, 1, 0, 6])):
        reset = torch.rand(6, 5) < 0.4
        turned = reverse_reset(reset, lengths)
        for row in range(5):
            length = 6 if lengths is None else int(lengths[row])
            boundaries = {t for t in range(1, length) if reset[t, row]}
            assert {length - s for s in range(length) if turned[s, row]} == boundaries
            assert not turned[length:, row].any()
