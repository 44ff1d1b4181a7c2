"""The contract of a cell: one time step, `state, input -> state, output`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from throughtime.check import at_least
from throughtime.kernels.spec import KernelSpec

__all__ = ["Cell"]


class Cell(nn.Module, ABC):
    """What happens in one time step; how the steps are run along time is the business of a scan.

    A cell of your own needs `state_names`, `project`, `step` and `reset_parameters`, about 20 lines
    (`examples/own_cell.py`); `throughtime.Recurrent` then gives it layers, directions, lengths, resets and streaming.

    Args:
        input_size: I, features of the input.
        hidden_size: H, features of the state.
        output_size: features of the output; H unless given.

    Attributes:
        state_names: one name for each tensor of the state.
        one_memory: parts of the state that are one memory in units of exp of the last of them, so that none may be
            changed alone; empty when every part means something by itself.
        inits: names of the initialisations on offer, the default first; empty when there is only one.
        linear: whether the new state is a linear function of the old one.
        torch_kernel: which of torch's fused kernels (`rnn_tanh`, `rnn_relu`, `gru`, `lstm`) computes these same
            equations along time, from the tensors that `torch_weights` gives; None when there is none.
        kernel: which of our compiled loops computes these same equations along time, from what `project` gives and
            the tensors that `kernel_weights` gives; None when there is none.
        matrix_rule: by which rule the chunkwise scan computes these same equations; None when there is none.

    Raises:
        RecipeError: if a size is below 1.
    """

    state_names: ClassVar[tuple[str, ...]]
    one_memory: ClassVar[tuple[str, ...]] = ()
    inits: ClassVar[tuple[str, ...]] = ()
    linear: ClassVar[bool] = False
    torch_kernel: str | None = None
    kernel: KernelSpec | None = None
    matrix_rule: ClassVar[str | None] = None

    def __init__(self, input_size: int, hidden_size: int, *, output_size: int | None = None) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.output_size = hidden_size if output_size is None else output_size
        at_least("input_size", self.input_size, 1)
        at_least("hidden_size", self.hidden_size, 1)
        at_least("output_size", self.output_size, 1)

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """Everything that does not depend on the state, for many steps at once: x (T, B, I) -> (T, B, G)."""

    @abstractmethod
    def step(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        """One step: projected (B, G), state -> the next state, output (B, output_size).

        It never changes a tensor of the old state in place.
        """

    @abstractmethod
    def reset_parameters(self) -> None:
        """Draw all parameters anew."""

    def initial_state(
        self, batch: int, *, device: torch.device | None = None, dtype: torch.dtype | None = None
    ) -> tuple[Tensor, ...]:
        """The state before the first step; zeros (B, H) for each of `state_names` unless the cell says otherwise.

        Args:
            batch: B.
            device: where to put it; where the first parameter lies unless given.
            dtype: of the input that will be met; that of the first parameter unless given.

        Returns:
            One tensor (B, ...) for each of `state_names`.
        """
        return tuple(self._zeros(batch, self.hidden_size, device, dtype) for _ in self.state_names)

    def torch_weights(self) -> list[Tensor]:
        """The weights in the order in which `torch_kernel` takes them; empty when there is no such kernel."""
        return []

    def kernel_weights(self) -> list[Tensor]:
        """The tensors that `kernel` takes besides the projected input and the state; empty when there is no kernel."""
        return []

    def extra_repr(self) -> str:
        """The sizes, for `print`."""
        projected = "" if self.output_size == self.hidden_size else f", output_size={self.output_size}"
        return f"{self.input_size}, {self.hidden_size}{projected}"

    def _zeros(self, batch: int, size: int, device: torch.device | None, dtype: torch.dtype | None) -> Tensor:
        parameter = next(self.parameters(), None)
        if parameter is not None:
            device = parameter.device if device is None else device
            dtype = parameter.dtype if dtype is None else dtype
        return torch.zeros(batch, size, device=device, dtype=dtype)
