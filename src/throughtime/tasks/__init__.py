"""Made sequences whose need is known by construction, to train on and to measure the measurements with."""

from throughtime.tasks.adding import Adding
from throughtime.tasks.associative import AssociativeRecall
from throughtime.tasks.base import Batch, Chance, Task
from throughtime.tasks.copying import Copying, SelectiveCopying
from throughtime.tasks.digits import Digits
from throughtime.tasks.dyck import Dyck
from throughtime.tasks.forecasting import CoupledSines, MackeyGlass
from throughtime.tasks.majority import NoisyMajority
from throughtime.tasks.recall import DelayedRecall, NBack
from throughtime.tasks.registry import make, names
from throughtime.tasks.tracking import Parity, Permutations

__all__ = [
    "Adding",
    "AssociativeRecall",
    "Batch",
    "Chance",
    "Copying",
    "CoupledSines",
    "DelayedRecall",
    "Digits",
    "Dyck",
    "MackeyGlass",
    "NBack",
    "NoisyMajority",
    "Parity",
    "Permutations",
    "SelectiveCopying",
    "Task",
    "make",
    "names",
]
