"""The network that is put to a task: a map of the inputs, recurrent layers, and a read-out."""

from __future__ import annotations

from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from throughtime.layer import Recurrent
from throughtime.tasks import Task
from throughtime.workflow.bench_setting import Setting, kind_of

__all__ = ["TaskNetwork", "num_asked"]

_MOST_FEATURES = 64


class TaskNetwork(nn.Module):
    """Ids or numbers to answers.

    Args:
        task: whose inputs it reads, of any length.
        setting: the cell and its sizes.
    """

    def __init__(self, task: Task, setting: Setting) -> None:
        super().__init__()
        hidden, width = setting.hidden_size, min(setting.hidden_size, _MOST_FEATURES)
        self.embedding = None if task.num_ids is None else nn.Embedding(task.num_ids, width)
        num_features = width if task.input_size is None else task.input_size
        self.map: nn.Module = nn.Identity()
        if setting.mapped:
            self.map, num_features = nn.Sequential(nn.Linear(num_features, hidden), nn.ReLU()), hidden
        self.recurrent = _recurrent(setting, num_features)
        head: list[nn.Module] = [nn.Linear(hidden, hidden), nn.ReLU()] if setting.mapped else []
        self.head = nn.Sequential(*head, nn.Linear(hidden, task.output_size))

    def forward(self, inputs: Tensor, num_asked: int | None = None) -> Tensor:
        """Answers at the last `num_asked` steps, (num_asked, B, O); (B, O), of the last step alone, for None."""
        x = inputs if self.embedding is None else self.embedding(inputs)
        y = cast(Tensor, self.recurrent(self.map(x))[0])
        return cast(Tensor, self.head(y[-1] if num_asked is None else y[-num_asked:]))


def _recurrent(setting: Setting, num_features: int) -> nn.Module:
    if setting.cell == "torch-rnn":
        return nn.RNN(num_features, setting.hidden_size, setting.num_layers)
    if setting.cell == "torch-lstm":
        return nn.LSTM(num_features, setting.hidden_size, setting.num_layers)
    kind = kind_of(setting.cell)
    sizes = (num_features, setting.hidden_size, setting.num_layers)
    if isinstance(kind, str):
        assert set(setting.options) <= {"init"}, f"{kind} takes a start and nothing else"
        return Recurrent(kind, *sizes, init=setting.options.get("init"))
    return Recurrent(partial(kind, **setting.options), *sizes)


def num_asked(task: Task, targets: Tensor) -> int | None:
    """From which step on, counted from the end, a batch asks; None where it asks once a sequence."""
    if not task.per_step:
        return None
    asked = (targets >= 0).any(1)
    return targets.size(0) - int(torch.nonzero(asked)[0])
