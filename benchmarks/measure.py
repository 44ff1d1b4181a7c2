"""What `throughtime.measure` costs: time against an ordinary pass, and memory over many steps.

    python benchmarks/measure.py                       # several cells and sizes, then 10,000 steps
    python benchmarks/measure.py --steps 200 --sizes 64 --memory-steps 0

`ratio` is the time of one call over that of one forward and backward pass of the same batch through the same model,
unrolled in a Python loop in float64: the fastest of `--repeats` each, taken in turn. `growth` is the peak resident
memory of a fresh process during one call, above what it held before.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

MOST = 3.0
"""What the ratio is to stay below."""
BATCH = 8


def tagger(kind: str, size: int) -> Any:
    """A recurrent layer of torch with something read from every step."""
    import torch
    from torch import nn

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent, self.read = getattr(nn, kind)(size, size), nn.Linear(size, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            read: torch.Tensor = self.read(self.recurrent(x)[0])
            return read

    torch.manual_seed(0)
    return Tagger()


def squares(outputs: Any, _: Any) -> Any:
    """A loss at every step."""
    return (outputs - 0.3).square().mean(-1)


def ratio(kind: str, steps: int, size: int, repeats: int) -> dict[str, Any]:
    """Both in turn, the fastest of each."""
    import torch

    from throughtime import Recurrent, measure

    model, x, targets = tagger(kind, size), torch.randn(steps, BATCH, size), torch.zeros(steps, BATCH)
    unrolled = tagger(kind, size).double()
    unrolled.recurrent = Recurrent.from_torch(unrolled.recurrent, scan="loop")
    x64 = x.double()

    def ordinary() -> None:
        squares(unrolled(x64), None).mean().backward()

    seconds: dict[str, list[float]] = {"ordinary": [], "measure": []}
    for run in range(repeats + 1):
        for name, call in (("ordinary", ordinary), ("measure", lambda: measure(model, x, targets, squares))):
            begin = time.perf_counter()
            call()
            if run:  # the first one loads whatever is loaded late
                seconds[name].append(time.perf_counter() - begin)
    best = {name: min(each) for name, each in seconds.items()}
    return {"kind": kind, "steps": steps, "size": size, "ratio": best["measure"] / best["ordinary"], **best}


def memory(kind: str, steps: int, size: int) -> dict[str, Any]:
    """One call in this process."""
    import torch

    from throughtime import measure

    model, x, targets = tagger(kind, size), torch.randn(steps, BATCH, size), torch.zeros(steps, BATCH)
    measure(model, x[:20], targets[:20], squares)
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    record = measure(model, x, targets, squares)
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"growth_mib": growth, "seconds": time.perf_counter() - begin, "lags": len(record.lags)}


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=["RNN", "GRU", "LSTM"])
    parser.add_argument("--steps", type=int, nargs="+", default=[200, 1000])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory-steps", type=int, default=10_000, help="0 for none")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        kind, steps, size = arguments.one
        print(json.dumps(memory(kind, int(steps), int(size))))
        return
    print(f"batch {BATCH}\n{'':6}{'T':>8}{'H':>6}{'ratio':>8}   at most {MOST:g}")
    for kind in arguments.kinds:
        for steps in arguments.steps:
            for size in arguments.sizes:
                found = ratio(kind, steps, size, arguments.repeats)
                print(f"{kind:6}{steps:>8}{size:>6}{found['ratio']:>8.2f}", flush=True)
    if arguments.memory_steps:
        print(f"\n{'':6}{'T':>8}{'H':>6}{'growth MiB':>12}{'lags':>8}")
        for size in arguments.sizes:
            command = [sys.executable, __file__, "--one", "LSTM", str(arguments.memory_steps), str(size)]
            one = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            print(f"LSTM  {arguments.memory_steps:>8}{size:>6}{one['growth_mib']:>12.0f}{one['lags']:>8}", flush=True)


if __name__ == "__main__":
    main()
