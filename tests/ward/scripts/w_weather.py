"""The temperature of the next hour from five series: a GRU over (T, B, features), a forecast at every step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ward.case import Batch, Case, Patient

T = 48
STATIONS = 400
FEATURES = ("temperature", "pressure", "humidity", "wind", "sun")


def measurements(seed: int, stations: int = STATIONS) -> Tensor:
    """(T + 1, stations, 5), each of unit scale: the temperature follows the sun, the pressure and its own past."""
    g = torch.Generator().manual_seed(seed)
    hours = torch.arange(T + 1)[:, None] + torch.randint(24, (stations,), generator=g)
    sun = torch.sin(2 * math.pi * hours / 24)
    temperature, pressure = torch.randn(stations, generator=g), torch.randn(stations, generator=g)
    rows = []
    for t in range(T + 1):
        humidity, wind = torch.randn(stations, generator=g), torch.randn(stations, generator=g)
        rows.append(torch.stack([temperature, pressure, humidity, wind, sun[t]], dim=-1))
        temperature = 0.5 * temperature + 0.5 * sun[t] - 0.6 * pressure + 0.4 * humidity * wind.sign()
        temperature = temperature + 0.05 * torch.randn(stations, generator=g)
        pressure = 0.8 * pressure + 0.6 * torch.randn(stations, generator=g)
    return torch.stack(rows)


class Forecaster(nn.Module):
    def __init__(
        self,
        num_features: int = 5,
        *,
        hidden: int = 32,
        kernel: int = 0,
        padding: str = "same",
        normalisation: str | None = None,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(num_features) if normalisation == "layer" else nn.Identity()
        self.kernel, self.causal = kernel, padding == "causal"
        if kernel:
            self.conv = nn.Conv1d(num_features, 16, kernel, padding=0 if self.causal else kernel // 2)
        self.rnn = nn.GRU(16 if kernel else num_features, hidden)
        self.batch_norm = nn.BatchNorm1d(hidden) if normalisation == "batch" else None
        self.head = nn.Sequential(nn.Linear(hidden, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        if self.kernel:
            x = x.permute(1, 2, 0)
            if self.causal:
                x = F.pad(x, (self.kernel - 1, 0))
            x = torch.relu(self.conv(x)).permute(2, 0, 1)
        h, _ = self.rnn(x)
        if self.batch_norm is not None:
            steps, batch, size = h.shape
            h = self.batch_norm(h.reshape(steps * batch, size)).view(steps, batch, size)
        return self.head(h).squeeze(-1)


class Raw:
    """What the files hold: how the measured series come into the model, and where that went wrong."""

    def __init__(
        self,
        *,
        scale: float = 1.0,
        offset: float = 0.0,
        units: bool = False,
        leak: float | None = None,
        unshifted: float = 0.0,
        nan_rows: int = 0,
        dead: tuple[int, ...] = (),
    ) -> None:
        self.scale, self.offset, self.units, self.leak = scale, offset, units, leak
        self.unshifted, self.nan_rows, self.dead = unshifted, nan_rows, dead

    def pair(self, series: Tensor, *, honest: bool = False) -> tuple[Tensor, Tensor]:
        x, y = series[:-1].clone(), series[1:, :, 0].clone()
        if not honest:
            num_unshifted = round(self.unshifted * x.shape[1])
            y[:, :num_unshifted] = x[:, :num_unshifted, 0]
            if self.nan_rows:
                x[10:13, :: self.nan_rows, 3] = float("nan")  # the anemometer was frozen
            for column in self.dead:
                x[:, :, column] = 0.0
        if self.units:  # kelvin, pascal, per cent, kilometres an hour, lux
            x = x * torch.tensor([8.0, 900.0, 15.0, 10.0, 3e4]) + torch.tensor([285.0, 101_300.0, 60.0, 30.0, 3e4])
        x = x * self.scale + self.offset
        if self.leak is not None:  # the table was joined with the column that was to be predicted
            column = x[:, :, :1] if honest else y[:, :, None] + self.leak * torch.randn(y.shape).unsqueeze(-1)
            x = torch.cat([x, column], dim=-1)
        return x, y


def script(raw: Raw | None = None, *, target: float | None = -0.12, **options: object) -> Callable[[int], Patient]:
    raw = raw or Raw()

    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = Forecaster(5 if raw.leak is None else 6, **options)
        return model, torch.optim.Adam(model.parameters(), lr=5e-3)

    def batches(seed: int) -> Iterator[Batch]:
        torch.manual_seed(seed)
        series = measurements(seed)
        shuffle = torch.Generator().manual_seed(seed)
        while True:
            for stations in torch.randperm(STATIONS, generator=shuffle).split(32)[:-1]:
                yield raw.pair(series[:, stations])

    def loop(patient: Patient, num_steps: int, clip: float | None = 1.0) -> None:
        patient.model.train()
        for _ in range(num_steps):
            x, y = next(patient.stream)
            patient.optimizer.zero_grad()
            loss = F.mse_loss(patient.model(x), y)
            loss.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(patient.model.parameters(), clip)
            patient.optimizer.step()

    def evaluate(model: nn.Module) -> float:
        """The forecast of the hour that has not been measured yet."""
        series = measurements(90_009, 200)
        errors = []
        for end in (12, 20, 28, 36, 44):
            x, y = raw.pair(series[: end + 1], honest=True)
            errors.append(F.mse_loss(model(x)[-1], y[-1]))
        score = -float(torch.stack(errors).mean())
        return score if math.isfinite(score) else -math.inf

    def make(seed: int) -> Patient:
        return Patient(
            seed,
            build=build,
            batches=batches,
            loss=nn.MSELoss(reduction="none"),
            loop=loop,
            evaluate=evaluate,
            target=target,
            steps_to_learn=400,
            time_dim=0,
        )

    return make


def case(name: str, code: str | None = None, strength: int = 0, raw: Raw | None = None, **options: object) -> Case:
    return Case(f"w_weather-{name}", "w_weather", code, strength, script(raw, **options))


CASES = [
    case("time-first"),
    case("scale-50-layer-norm", raw=Raw(scale=50.0), normalisation="layer", target=-0.25),
    case("batch-norm-between-layers", normalisation="batch"),
    case("causal-convolution", kernel=5, padding="causal"),
    case("future-leak-0", "future-leak", 0, kernel=3),
    case("future-leak-1", "future-leak", 1, kernel=9),
    case("target-leak-0", "target-leak", 0, raw=Raw(leak=0.02)),
    case("target-leak-1", "target-leak", 1, raw=Raw(leak=0.0)),
    case("targets-shifted-0", "targets-shifted", 0, raw=Raw(unshifted=0.75)),
    case("targets-shifted-1", "targets-shifted", 1, raw=Raw(unshifted=1.0)),
    case("non-finite-data-0", "non-finite-data", 0, raw=Raw(nan_rows=16)),
    case("non-finite-data-1", "non-finite-data", 1, raw=Raw(nan_rows=3)),
    case("unscaled-input-0", "unscaled-input", 0, raw=Raw(scale=1e3)),
    case("unscaled-input-1", "unscaled-input", 1, raw=Raw(units=True)),
    case("unscaled-input-2", "unscaled-input", 2, raw=Raw(offset=1e5)),
    case("constant-feature-0", "constant-feature", 0, raw=Raw(dead=(1,))),
    case("constant-feature-1", "constant-feature", 1, raw=Raw(dead=(1, 2, 4))),
]
