"""Several processes that train one model: `torchrun --nproc-per-node 2 -m throughtime train ...`.

Torch's own distributed data parallel averages the gradients; every process reads its own streams of the text with its
own carried state, and process 0 alone writes.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

import torch
from torch import Tensor, nn

from throughtime.errors import RecipeError, RunError

if TYPE_CHECKING:
    from throughtime.model import WordPredictor

__all__ = ["Processes", "leave"]

TIMEOUT_VARIABLE = "THROUGHTIME_TIMEOUT_SECONDS"
"""Environment variable: after how long a process that does not answer is given up; 120 seconds unless set."""


class Processes:
    """The processes of a run; one alone unless `torchrun` started more.

    Attributes:
        rank: the number of this process, from 0.
        size: how many there are.
        device: where tensors must lie to be exchanged.
    """

    def __init__(self, rank: int = 0, size: int = 1, device: str = "cpu") -> None:
        self.rank = rank
        self.size = size
        self.device = device

    @classmethod
    @contextmanager
    def joined(cls, device: str) -> Iterator[Processes]:
        """The processes that the environment names (`RANK`, `WORLD_SIZE`), joined for as long as this is entered."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            yield cls()
            return
        os.environ.setdefault("TORCH_GLOO_LAZY_INIT", "1")
        if device == "cuda":
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo", timeout=_timeout())
        try:
            yield cls(torch.distributed.get_rank(), size, device)
        except RuntimeError as error:
            raise RunError(
                f"process {os.environ.get('RANK')} of {size} lost touch with the others "
                f"({str(error).splitlines()[0]}): start the same command again with --resume"
            ) from error
        finally:
            torch.distributed.destroy_process_group()

    @property
    def writes(self) -> bool:
        """Whether this process writes the run."""
        return self.rank == 0

    def wrap(self, model: WordPredictor) -> nn.Module:
        """The model as its training forward pass is called: gradients are averaged where there are several."""
        if self.size == 1:
            return model
        return nn.parallel.DistributedDataParallel(model)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.size == 1:
            return values
        moved = values.to(self.device)
        torch.distributed.all_reduce(moved)
        return moved.to(values.device)

    def largest(self, value: int) -> int:
        """The largest of every process's value: how a signal to one is heard by all."""
        if self.size == 1:
            return value
        tensor = torch.tensor([value], device=self.device)
        torch.distributed.all_reduce(tensor, op=torch.distributed.ReduceOp.MAX)
        return int(tensor)

    def agree(self, value: int) -> int:
        """Process 0's value, everywhere."""
        return self.largest(value if self.rank == 0 else 0)

    def gather(self, value: Tensor) -> list[Tensor]:
        """Everyone's tensor of one shape, in the order of rank."""
        if self.size == 1:
            return [value]
        own = value.to(self.device).contiguous()
        tensors = [torch.empty_like(own) for _ in range(self.size)]
        torch.distributed.all_gather(tensors, own)
        return tensors

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            torch.distributed.barrier()


def _timeout() -> timedelta:
    given = os.environ.get(TIMEOUT_VARIABLE, "120")
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise RecipeError(f"{TIMEOUT_VARIABLE} must be a number of seconds above 0, not {given!r}")
    return timedelta(seconds=seconds)


def leave(exit_code: int) -> NoReturn:
    """End this process, one of several, with everything written and without taking the interpreter down.

    Data parallelism keeps the process group, and with it gloo's threads, alive after `destroy_process_group`. One that
    is still letting go of a tensor when the interpreter ends asks for a lock that is gone, and aborts the process
    (pytorch issue 190489), which torchrun then reports as a failed run.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
