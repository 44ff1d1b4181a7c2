"""Weights & Biases, offline or not: numbers as metrics, the gradient through time as an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from throughtime.integrations.feed import PREFIX, probe_scalars
from throughtime.integrations.heat_map import heat_map
from throughtime.measurement.gradient_record import GradientRecord

__all__ = ["WeightsAndBiases"]

STEP = f"{PREFIX}step"


class WeightsAndBiases:
    """Writes to a run of Weights & Biases.

    The optimizer's step is a metric of its own, `throughtime/step`, on the x axis of the others, so that it does not
    get in the way of the steps that a script logs itself.

    Args:
        run: what `wandb.init(...)` returned; it stays open. `wandb.init(mode="offline")` needs no account and no net.
    """

    def __init__(self, run: Any) -> None:
        self._run = run
        run.define_metric(f"{PREFIX}*", step_metric=STEP)

    def write_sample(self, step: int, values: Mapping[str, float]) -> None:
        """See `Writer`."""
        self._run.log({STEP: step, **{f"{PREFIX}{name}": value for name, value in values.items()}})

    def write_probe(self, step: int, probes: Mapping[int, GradientRecord]) -> None:
        """See `Writer`."""
        from wandb import Image

        scalars = {f"{PREFIX}{name}": value for name, value in probe_scalars(probes[step]).items()}
        image = Image(heat_map(probes), caption="lag, upwards, against training step")
        self._run.log({STEP: step, **scalars, f"{PREFIX}gradient_through_time": image})

    def close(self) -> None:
        """Nothing: the run is its owner's to finish."""
