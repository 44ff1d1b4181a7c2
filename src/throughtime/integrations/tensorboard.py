"""TensorBoard: numbers as scalars, the gradient through time as an image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from throughtime.errors import InputError
from throughtime.integrations.feed import PREFIX, probe_scalars
from throughtime.integrations.heat_map import heat_map
from throughtime.measurement.gradient_record import GradientRecord

__all__ = ["TensorBoard"]


class TensorBoard:
    """Writes to TensorBoard.

    Args:
        target: a folder, or a `SummaryWriter` of `tensorboardX` or of `torch.utils.tensorboard`, which stays open.

    Raises:
        InputError: if a folder is given and neither of the two libraries is installed.
    """

    def __init__(self, target: str | Path | Any) -> None:
        self._is_ours = isinstance(target, str | Path)
        self._writer: Any = _summary_writer(Path(target)) if self._is_ours else target

    def write_sample(self, step: int, values: Mapping[str, float]) -> None:
        """See `Writer`."""
        for name, value in values.items():
            self._writer.add_scalar(f"{PREFIX}{name}", value, step)

    def write_probe(self, step: int, probes: Mapping[int, GradientRecord]) -> None:
        """See `Writer`."""
        self.write_sample(step, probe_scalars(probes[step]))
        self._writer.add_image(f"{PREFIX}gradient_through_time", heat_map(probes), step, dataformats="HWC")

    def close(self) -> None:
        """Write out what is buffered; a writer that was handed over stays open."""
        self._writer.close() if self._is_ours else self._writer.flush()


def _summary_writer(folder: Path) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise InputError("TensorBoard needs a library: pip install 'throughtime[tensorboard]'") from None
    return SummaryWriter(str(folder))
