"""Recurrent layers: stacks, directions, lengths, resets, streaming; import from and export to torch.nn."""

from throughtime.layer.recurrent import Recurrent

__all__ = ["Recurrent"]
