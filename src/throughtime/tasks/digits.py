"""Digits pixel by pixel: small images as sequences, in reading order or in a fixed random one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import ClassVar

import torch
from torch import Tensor

from throughtime.check import one_of
from throughtime.errors import InputError, RecipeError
from throughtime.tasks.base import Batch, Chance, Task

__all__ = ["Digits"]

_NUM_PIXELS = 64
_NUM_TRAINING = 1437
"""Four fifths of the 1797 images, in their order."""


@dataclass(frozen=True, kw_only=True)
class Digits(Task):
    """Which digit is it? Images of 8 x 8 pixels, one pixel a step; they come with scikit-learn.

    Need is None: images are not made, so nothing is known by construction but that it is at most 63;
    `throughtime.need` measures it. The classes are nearly, not quite, equally frequent, and `chance` is counted.

    *Reference*: pixel by pixel, in order and permuted, as in Le, Jaitly & Hinton 2015, arXiv:1504.00941, whose images
    have 784 pixels; the images are those of Alpaydin & Kaynak 1998, doi:10.24432/C50P49.

    Args:
        length: 64, the pixels.
        permuted: the pixels of every image in the same random order.
        part: "train", the first 1437 images, or "test", the other 360; batches are drawn from it with replacement.

    Raises:
        InputError: if scikit-learn is not installed, at the first batch.
    """

    name: ClassVar[str] = "sequential-digits"
    reference: ClassVar[str] = "Le, Jaitly & Hinton 2015, arXiv:1504.00941"

    length: int = _NUM_PIXELS
    permuted: bool = False
    part: str = "train"

    @property
    def input_size(self) -> int:
        """The brightness of a pixel, 0 to 1."""
        return 1

    @property
    def output_size(self) -> int:
        """The ten digits."""
        return 10

    @property
    def need(self) -> None:
        """None: not known by construction."""
        return

    @property
    def chance(self) -> Chance:
        """The entropy of the classes, and the share of the most frequent."""
        shares = torch.bincount(self._part()[1], minlength=10).double()
        shares = shares / shares.sum()
        return Chance(float(-(shares * shares.log()).sum()), float(shares.max()))

    def _validate(self) -> None:
        one_of("part", self.part, ("train", "test"))
        if self.length != _NUM_PIXELS:
            raise RecipeError(f"length of digits must be {_NUM_PIXELS}, the pixels of an image, not {self.length}")

    def _draw(self, batch: int, generator: torch.Generator) -> Batch:
        pixels, classes = self._part()
        rows = torch.randint(classes.numel(), (batch,), generator=generator)
        sequences = pixels[rows].t()
        if self.permuted:
            sequences = sequences[torch.randperm(_NUM_PIXELS, generator=torch.Generator().manual_seed(0))]
        return Batch(sequences.unsqueeze(2).contiguous(), classes[rows])

    def _part(self) -> tuple[Tensor, Tensor]:
        pixels, classes = _images()
        rows = slice(_NUM_TRAINING) if self.part == "train" else slice(_NUM_TRAINING, None)
        return pixels[rows], classes[rows]


@lru_cache(maxsize=1)
def _images() -> tuple[Tensor, Tensor]:
    """(N, 64) brightness and (N,) digits."""
    try:
        datasets = import_module("sklearn.datasets")
    except ImportError as error:
        raise InputError(
            f"the digits come with scikit-learn, which cannot be imported ({error}): pip install 'throughtime[digits]'"
        ) from error
    pixels, classes = datasets.load_digits(return_X_y=True)
    return torch.as_tensor(pixels).float() / 16, torch.as_tensor(classes).long()
