"""What a model, or the data, does through time: one record type for each question."""

from throughtime.measurement.adapters import register_adapter
from throughtime.measurement.gradient import measure
from throughtime.measurement.gradient_history import GradientHistory
from throughtime.measurement.gradient_record import GradientRecord, LagProfile
from throughtime.measurement.needs import NeedRecord, need
from throughtime.measurement.overview import HorizonsRecord, horizons
from throughtime.measurement.spectra import spectrum
from throughtime.measurement.spectrum_record import LayerSpectrum, SpectrumRecord
from throughtime.measurement.usage import UseRecord, use
from throughtime.measurement.watch_record import WatchRecord
from throughtime.measurement.watching import Watch, watch

__all__ = [
    "GradientHistory",
    "GradientRecord",
    "HorizonsRecord",
    "LagProfile",
    "LayerSpectrum",
    "NeedRecord",
    "SpectrumRecord",
    "UseRecord",
    "Watch",
    "WatchRecord",
    "horizons",
    "measure",
    "need",
    "register_adapter",
    "spectrum",
    "use",
    "watch",
]
