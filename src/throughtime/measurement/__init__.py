"""What a model, or the data, does through time: one record type for each question."""

from throughtime.measurement.gradient import measure
from throughtime.measurement.gradient_record import GradientRecord, LagProfile

__all__ = ["GradientRecord", "LagProfile", "measure"]
