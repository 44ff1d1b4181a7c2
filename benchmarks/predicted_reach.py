"""Predicted against measured reach of the analytic starts: `python benchmarks/predicted_reach.py [--json FILE]`.

For each start, cell, size and size of the inputs, the reach that the formula gives before anything is measured
(`throughtime.remedy.mean_field`), and what `throughtime.measure` finds in a network so started, over several seeds. The
figure counts cases whose measured reach lies between 10 and half of the sequence: there neither end distorts it.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import throughtime
from throughtime import Recurrent
from throughtime.remedy import TreatmentPlan
from throughtime.remedy.application import ring_radii
from throughtime.remedy.mean_field import elman_reach, gain_for, gru_reach, identity_reach, lstm_reach, ring_reach

WITHIN = 0.2


@dataclass(frozen=True)
class Case:
    """One start in one network.

    Attributes:
        name: start and cell.
        setting: what else was chosen.
        plan: the start.
        make: input and hidden size -> the network before it.
        predict: input variance and hidden size -> reach.
        input_size: I.
        hidden_size: H.
        scale: deviation of the inputs, Gaussian and independent.
        steps: T.
    """

    name: str
    setting: str
    plan: TreatmentPlan
    make: Callable[[int, int], nn.Module]
    predict: Callable[[float, int], int]
    input_size: int
    hidden_size: int
    scale: float
    steps: int


def cases() -> Iterator[Case]:
    """All of them."""
    for hidden in (32, 64, 128):
        for scale in (0.1, 0.3, 1.0):
            sizes: dict[str, Any] = {"input_size": 4, "hidden_size": hidden, "scale": scale}
            for gain in (0.8, 0.9, 1.0):
                yield Case(
                    "orthogonal, tanh",
                    f"gain {gain}",
                    TreatmentPlan(start="orthogonal", start_gain=gain),
                    nn.RNN,
                    partial(elman_reach, gain),
                    steps=1600 if gain == 1 else 200,
                    **sizes,
                )
            for reach in (50, 150, 400):
                gain = gain_for(reach, variance(4, hidden, scale), hidden)
                yield Case(
                    "critical, tanh",
                    f"for {reach}",
                    TreatmentPlan(start="orthogonal", start_gain=gain),
                    nn.RNN,
                    partial(elman_reach, gain),
                    steps=1600,
                    **sizes,
                )
            for start, lag in (("chrono", 20), ("chrono", 100), ("forget-bias", 100)):
                yield Case(
                    f"{start}, LSTM",
                    f"lag {lag}" if start == "chrono" else "",
                    TreatmentPlan(start=start, start_steps=lag),
                    nn.LSTM,
                    partial(lstm_reach, start, lag),
                    steps=1200 if lag == 100 and start == "chrono" else 400,
                    **sizes,
                )
            for lag in (20, 100):
                yield Case(
                    "chrono, GRU",
                    f"lag {lag}",
                    TreatmentPlan(start="chrono", start_steps=lag),
                    nn.GRU,
                    partial(gru_reach, "chrono", lag),
                    steps=1200 if lag == 100 else 400,
                    **sizes,
                )
        for lag in (20, 100):
            yield Case(
                "ring, LRU",
                f"lag {lag}",
                TreatmentPlan(start="ring", start_steps=lag),
                lambda i, h: Recurrent("lru", i, h),
                lambda _, hidden, lag=lag: ring_reach(*ring_radii(lag), hidden),
                4,
                hidden,
                1.0,
                1600,
            )
        for gain, scale in ((0.8, 1.0), (0.9, 1.0), (0.95, 1.0), (1.0, 40.0), (1.0, 100.0)):
            yield Case(
                "identity, tanh",
                f"gain {gain}",
                TreatmentPlan(start="identity", start_gain=gain),
                nn.RNN,
                lambda _, hidden, gain=gain, scale=scale: identity_reach(gain, 4e-6 * scale**2, 4, hidden),
                4,
                hidden,
                scale,
                800 if gain == 1 else 400,
            )


def variance(inputs: int, hidden: int, scale: float) -> float:
    """Of what inputs of this deviation add to a unit's sum through Glorot's weights."""
    return 2 / (inputs + hidden) * inputs * scale**2


def measured(case: Case, seed: int) -> throughtime.measurement.GradientRecord:
    """The reach of one network."""
    torch.manual_seed(seed)
    model = case.make(case.input_size, case.hidden_size)
    model, _ = case.plan.apply(model, torch.optim.SGD(model.parameters(), lr=0.1))
    x = case.scale * torch.randn(case.steps, 8, case.input_size)
    return throughtime.measure(model, x, seed=seed, time_dim=0, max_lag=case.steps // 2 + 1)


def main() -> None:
    """Print the table and the share within 20 %."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--json", type=Path, help="a file for every case")
    choices = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    print(f"{'start':20}{'':10}{'H':>5}{'inputs':>8}{'predicted':>11}  measured")
    for case in cases():
        if choices.only not in case.name:
            continue
        reaches = [measured(case, seed).reach or 0 for seed in range(choices.seeds)]
        predicted = case.predict(variance(case.input_size, case.hidden_size, case.scale), case.hidden_size)
        middle = statistics.median(reaches)
        counts = 10 <= middle <= case.steps / 2
        error = predicted / middle - 1 if middle else float("inf")
        mark = "" if not counts else f"{error:+.0%}" + ("" if abs(error) <= WITHIN else "  X")
        told = ", ".join(map(str, reaches))
        print(f"{case.name:20}{case.setting:10}{case.hidden_size:>5}{case.scale:>8}{predicted:>11}  {told:24}{mark}")
        rows.append({"case": case.name, "setting": case.setting, "hidden_size": case.hidden_size, "scale": case.scale})
        rows[-1] |= {"predicted": predicted, "measured": reaches, "counts": counts, "error": error}
    kinds = sorted({row["case"] for row in rows})
    print()
    for kind in kinds:
        counted = [abs(row["error"]) for row in rows if row["case"] == kind and row["counts"]]
        good = sum(error <= WITHIN for error in counted)
        print(f"{kind:20}{good:>4} of {len(counted):<4} within {WITHIN:.0%}, largest {max(counted, default=0):.0%}")
    if choices.json:
        choices.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
