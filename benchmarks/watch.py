"""What being watched costs a training loop: `python benchmarks/watch.py [--seconds S] [--json FILE]`.

An LSTM with a read-out is trained by Adam, in blocks of steps that are watched and not, in turns, in one run. The ratio
of a watched block to the mean of its two neighbours counts, and of these ratios the median: hooks and samples. A probe
is far longer than a block, and the median would hide it: blocks with a probe are left out there, and what the probes
took, as a share of all the time watched, is added. `record` is the share that the record itself states.

On a machine that others use too, `--clock cpu --threads 1` counts the seconds of this process alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import throughtime
from throughtime.training.compute import keep_large_blocks

GRID = ((35, 20, 200), (512, 16, 128), (1000, 8, 64))
"""T, B, H."""

BLOCK_SECONDS = 0.2
FEWEST_BLOCKS = 8
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    """Train each setting, print a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=60, help="of training for each setting")
    parser.add_argument("--every", type=int, default=200, help="steps between probes, at least")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="that times the blocks")
    parser.add_argument("--json", type=Path, help="a file for the same figures")
    choices = parser.parse_args()
    torch.set_num_threads(choices.threads)
    keep_large_blocks()
    print(f"{choices.threads} threads, torch {torch.__version__}, {choices.seconds:g} s each, {choices.clock} time")
    print(
        f"{'T, B, H':>14}{'ms a step':>11}{'blocks':>8}{'hooks, samples':>16}{'quartiles':>18}{'probes':>9}"
        f"{'in all':>9}{'record':>8}{'samples':>9}{'ms':>7}{'probes':>8}{'ms':>7}{'interval':>10}"
    )
    found = [overhead(*shape, choices.seconds, choices.every, CLOCKS[choices.clock]) for shape in GRID]
    if choices.json:
        choices.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


class Tagger(nn.Module):
    """An LSTM with something read from each step."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.rnn, self.read = nn.LSTM(size, size), nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.rnn(x)[0])


def overhead(T: int, B: int, H: int, seconds: float, every: int, clock: Callable[[], float]) -> dict[str, Any]:
    """Of one setting."""
    torch.manual_seed(0)
    model = Tagger(H)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x, targets = torch.randn(T, B, H), torch.randn(T, B, H)
    watched = throughtime.watch(model, optimizer, every=every)

    def step(hand: Callable[[Tensor], object]) -> None:
        optimizer.zero_grad()
        loss = (model(x) - targets).square().mean()
        hand(loss)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    def block(num: int, hand: Callable[[Tensor], object]) -> float:
        begun = clock()
        for _ in range(num):
            step(hand)
        return clock() - begun

    block(3, id)
    num = max(1, round(BLOCK_SECONDS * 3 / block(3, id)))
    without, blocks, watched_seconds = [block(num, id)], [], 0.0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(blocks) < FEWEST_BLOCKS:
        probed, begun = len(watched.records), time.perf_counter()
        watched.start()
        took = block(num, watched.loss)
        watched.stop()
        watched_seconds += time.perf_counter() - begun
        without.append(block(num, id))
        blocks.append((took, len(watched.records) > probed))
    ratios = [
        took / (without[at] + without[at + 1]) * 2 - 1 for at, (took, has_probe) in enumerate(blocks) if not has_probe
    ]
    record = watched.record
    low, median, high = statistics.quantiles(ratios, n=4)
    probes = len(watched.records) * (record.probe_seconds or 0.0) / watched_seconds
    print(
        f"{f'{T}, {B}, {H}':>14}{1e3 * statistics.median(without) / num:>11.2f}{len(ratios):>8}{median:>16.2%}"
        f"{f'{low:+.2%} {high:+.2%}':>18}{probes:>9.2%}{median + probes:>9.2%}{record.overhead_share:>8.2%}"
        f"{len(record.samples):>9}{1e3 * (record.sample_seconds or 0):>7.2f}{len(record.probes):>8}"
        f"{1e3 * (record.probe_seconds or 0):>7.0f}{record.interval_steps:>10}"
    )
    return {
        "T": T,
        "B": B,
        "H": H,
        "step_seconds": statistics.median(without) / num,
        "num_blocks": len(ratios),
        "hooks_and_samples": median,
        "quartiles": [low, high],
        "probes": probes,
        "in_all": median + probes,
        "clock": record.overhead_share,
        "num_steps": record.num_steps,
        "num_samples": len(record.samples),
        "sample_seconds": record.sample_seconds,
        "num_probes": len(record.probes),
        "probe_seconds": record.probe_seconds,
        "interval_steps": record.interval_steps,
        "notes": record.notes,
    }


if __name__ == "__main__":
    main()
