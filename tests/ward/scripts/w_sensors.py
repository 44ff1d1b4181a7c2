"""What happened to a device, from three groups of sensors: an LSTM for each stream, and facts about the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ward.case import Batch, Case, Patient

T = 48
NUM_CLASSES = 8
SHOCK_BEFORE_END = (28, 40)
DEVICES = 1500


def recordings(count: int, seed: int, steps: int = T) -> tuple[dict[str, Tensor], Tensor]:
    """The class has three bits: the sign of a shock 28 to 40 steps before the end, fast or slow rotation, and on/off.

    The shock is in the first axis of the accelerometer, the rotation in all axes of the gyroscope.
    """
    g = torch.Generator().manual_seed(seed)
    bits = torch.randint(2, (count, 3), generator=g)
    accelerometer = 0.3 * torch.randn(count, steps, 3, generator=g)
    when = steps - torch.randint(SHOCK_BEFORE_END[0], SHOCK_BEFORE_END[1] + 1, (count,), generator=g)
    rows = torch.arange(count)
    for later in range(2):
        accelerometer[rows, when + later, 0] += (2 * bits[:, 0] - 1) * 4.0
    period = torch.where(bits[:, 1] == 1, 6.0, 12.0)[:, None, None]
    phase = 2 * math.pi * torch.rand(count, 1, 3, generator=g)
    gyroscope = torch.sin(2 * math.pi * torch.arange(steps)[None, :, None] / period + phase)
    gyroscope = gyroscope + 0.3 * torch.randn(gyroscope.shape, generator=g)
    power = (2.0 * bits[:, 2:] - 1) + 0.3 * torch.randn(count, 1, generator=g)
    device = torch.cat([power, torch.randn(count, 1, generator=g)], dim=1)
    label = bits[:, 0] + 2 * bits[:, 1] + 4 * bits[:, 2]
    return {"accelerometer": accelerometer, "gyroscope": gyroscope, "device": device}, label


class Fusion(nn.Module):
    def __init__(self, *, hidden: int = 32, ignored: str = "", dropout: float = 0.0) -> None:
        super().__init__()
        self.ignored = ignored
        self.motion = nn.LSTM(3, hidden, batch_first=True)
        self.rotation = nn.LSTM(3, hidden, batch_first=True)
        self.device = nn.Linear(2, 8)
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Sequential(nn.Linear(2 * hidden + 8, 32), nn.ReLU(), nn.Linear(32, NUM_CLASSES))

    def forward(self, accelerometer: Tensor, gyroscope: Tensor, device: Tensor) -> Tensor:
        if self.ignored == "an axis":
            accelerometer = torch.stack([accelerometer[..., 1], accelerometer[..., 1], accelerometer[..., 2]], dim=-1)
        a, _ = self.motion(accelerometer)
        b, _ = self.rotation(accelerometer if self.ignored == "the gyroscope" else gyroscope)
        d = torch.relu(self.device(device))
        if self.ignored == "the device":
            d = torch.zeros_like(d)
        features = torch.cat([a.amax(dim=1), b[:, -1], d], dim=-1)
        return self.classify(self.dropout(features))


class Loader:
    """How recordings come from the files to the model, and what went wrong on the way."""

    def __init__(
        self,
        *,
        cut: int = T,
        steps: int = T,
        dead_axes: int = 0,
        dead_gyroscope: bool = False,
        counts: float = 0.0,
        offset: float = 0.0,
        broken_every: int = 0,
        broken: str = "nan",
    ) -> None:
        self.cut, self.steps, self.dead_axes, self.dead_gyroscope = cut, steps, dead_axes, dead_gyroscope
        self.counts, self.offset, self.broken_every, self.broken = counts, offset, broken_every, broken

    def load(self, count: int, seed: int, *, honest: bool = False) -> tuple[dict[str, Tensor], Tensor]:
        inputs, label = recordings(count, seed, self.steps)
        a, b = inputs["accelerometer"], inputs["gyroscope"]
        if not honest:
            a[..., : self.dead_axes] = 0.0
            if self.dead_gyroscope:
                b[:] = b[:1, :1]  # the driver repeats its first reading
            if self.broken_every:
                a[:: self.broken_every, 5] = float(self.broken)
        if self.counts:  # raw counts of the converter
            a, b = (a * self.counts + self.offset).round(), (b * self.counts + self.offset).round()
        cut = self.cut if self.steps == T else self.steps
        return {"accelerometer": a[:, -cut:], "gyroscope": b[:, -cut:], "device": inputs["device"]}, label


def script(
    loader: Loader | None = None,
    *,
    batch_size: int = 32,
    target: float = 0.8,
    steps_to_learn: int = 400,
    know_need: bool = False,
    **options: object,
) -> Callable[[int], Patient]:
    loader = loader or Loader()
    criterion = nn.CrossEntropyLoss()

    def build(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = Fusion(**options)
        return model, torch.optim.Adam(model.parameters(), lr=5e-3)

    def batches(seed: int) -> Iterator[Batch]:
        inputs, label = loader.load(DEVICES, seed)
        while True:
            for start in range(0, DEVICES - batch_size + 1, batch_size):
                rows = slice(start, start + batch_size)
                yield {name: values[rows] for name, values in inputs.items()}, label[rows]

    def loop(patient: Patient, num_steps: int, clip: float | None = 2.0) -> None:
        patient.model.train()
        for _ in range(num_steps):
            inputs, label = next(patient.stream)
            patient.optimizer.zero_grad()
            loss = criterion(patient.model(**inputs), label)
            loss.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(patient.model.parameters(), clip)
            patient.optimizer.step()

    def evaluate(model: nn.Module) -> float:
        inputs, label = loader.load(400, 90_009, honest=True)
        logits = model(**inputs)
        if not logits.isfinite().all():
            return 0.0
        return float((logits.argmax(-1) == label).float().mean())

    def make(seed: int) -> Patient:
        return Patient(
            seed,
            build=build,
            batches=batches,
            loss=criterion,
            loop=loop,
            evaluate=evaluate,
            target=target,
            steps_to_learn=steps_to_learn,
            validation=loader.load(batch_size, 90_010),
            need=SHOCK_BEFORE_END[1] if know_need else None,
        )

    return make


def case(
    name: str, code: str | None = None, strength: int = 0, loader: Loader | None = None, **options: object
) -> Case:
    return Case(f"w_sensors-{name}", "w_sensors", code, strength, script(loader, **options))


CASES = [
    case("three-inputs"),
    case("dropout-half-and-need-known", dropout=0.5, know_need=True, target=0.7),
    case("long-500", loader=Loader(steps=500), batch_size=16, target=0.4),
    case("unused-input-0", "unused-input", 0, ignored="an axis"),
    case("unused-input-1", "unused-input", 1, ignored="the device"),
    case("unused-input-2", "unused-input", 2, ignored="the gyroscope"),
    case("constant-feature-0", "constant-feature", 0, Loader(dead_axes=1)),
    case("constant-feature-1", "constant-feature", 1, Loader(dead_axes=3)),
    case("constant-feature-2", "constant-feature", 2, Loader(dead_axes=3, dead_gyroscope=True)),
    case("non-finite-data-0", "non-finite-data", 0, Loader(broken_every=25)),
    case("non-finite-data-1", "non-finite-data", 1, Loader(broken_every=4)),
    case("non-finite-data-2", "non-finite-data", 2, Loader(broken_every=6, broken="inf")),
    case("unscaled-input-0", "unscaled-input", 0, Loader(counts=1e3)),
    case("unscaled-input-1", "unscaled-input", 1, Loader(counts=2e3, offset=32_768.0)),
    case("sequence-too-short-0", "sequence-too-short", 0, Loader(cut=25), know_need=True),
    case("sequence-too-short-1", "sequence-too-short", 1, Loader(cut=16), know_need=True),
    case("sequence-too-short-2", "sequence-too-short", 2, Loader(cut=8), know_need=True),
]
