"""How far the gradient reaches through an untrained layer, for every cell and every start: medians over three seeds.

    python benchmarks/reach.py

Inputs are standard normal numbers, the gradient is that of a random projection of the outputs at one position. A reach
that is the longest lag there is stands as "at least".
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch

import throughtime

SEEDS = 3
BATCH, FEATURES = 4, 8


def measured(cell: str, init: str | None, num_steps: int, size: int) -> dict[str, Any]:
    """Medians of reach and decay per step."""
    records = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        layer = throughtime.Recurrent(cell, FEATURES, size, init=init)
        records.append(throughtime.measure(layer, torch.randn(num_steps, BATCH, FEATURES), loss=None))
    decays = [record.decay_per_step for record in records if record.decay_per_step is not None]
    return {
        "cell": cell,
        "start": init or "",
        "reach_steps": statistics.median(record.reach or 0 for record in records),
        "censored": sum(record.reach_censored for record in records) > SEEDS / 2,
        "decay_per_step": statistics.median(decays) if decays else None,
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    rows = [
        measured(info.name, init, chosen.steps, chosen.size)
        for info in throughtime.cells()
        for init in (info.inits or (None,))
    ]
    print(f"{'cell':20} {'start':14} {'reach':>13} {'decay a step':>13}")
    for row in sorted(rows, key=lambda row: row["reach_steps"]):
        reach = f"{'at least ' if row['censored'] else ''}{row['reach_steps']:g}"
        decay = "" if row["decay_per_step"] is None else f"{row['decay_per_step']:.3f}"
        print(f"{row['cell']:20} {row['start']:14} {reach:>13} {decay:>13}")
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
