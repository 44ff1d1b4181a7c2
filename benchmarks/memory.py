"""Memory of one forward and backward pass over T steps, by scan: peak resident memory of a fresh process each.

    python benchmarks/memory.py                                        # an LSTM of 64 units, a batch of 1
    python benchmarks/memory.py --scans checkpoint --steps 1000000     # a million steps

`growth` is the peak above what the process held before there was an input; `beyond` is what of it is neither the
input, nor the outputs, nor the gradient by the input, which no scan can do without (the gradient by the outputs is the
outputs here, those of a loss of half their square). It holds a few megabytes of the allocator's own, so that it says
little of short sequences.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SCANS = ("loop", "auto", "checkpoint")
STEPS = (1_000, 4_000, 16_000, 64_000, 256_000)
MOST_LOOP_STEPS = 16_000
"""Beyond, the loop takes minutes, and soon all the memory of an ordinary computer."""
MIB = 1 << 20


def measured(scan: str, cell_name: str, num_steps: int, batch: int, size: int) -> dict[str, Any]:
    """One pass in this process, after one over a few steps that loads whatever is loaded late."""
    import torch

    from throughtime.cell import make_cell
    from throughtime.scan import run

    torch.manual_seed(0)
    cell = make_cell(cell_name, size, size)

    def both_ways(steps: int) -> int:
        x = torch.randn(steps, batch, size, requires_grad=True)
        outputs, _ = run(scan, cell, x, cell.initial_state(batch))
        torch.autograd.backward(outputs, outputs.detach())
        assert x.grad is not None
        return sum(tensor.nbytes for tensor in (x, outputs, x.grad))

    both_ways(10)
    before, begin = resident_bytes("VmRSS"), time.perf_counter()
    needed = both_ways(num_steps)
    seconds, peak = time.perf_counter() - begin, resident_bytes("VmHWM")
    return {
        "scan": scan,
        "steps": num_steps,
        "peak_bytes": peak,
        "growth_bytes": peak - before,
        "beyond_bytes": peak - before - needed,
        "seconds": seconds,
    }


def resident_bytes(field: str) -> int:
    """VmRSS (now) or VmHWM (the most so far) of this process, from Linux."""
    for entry in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = entry.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise SystemExit("this benchmark reads /proc/self/status, which is Linux's")


def in_a_process(arguments: argparse.Namespace, scan: str, num_steps: int) -> dict[str, Any]:
    """`measured` in a process of its own, whose peak is that of this pass alone."""
    options = {
        "--one": scan,
        "--steps": num_steps,
        "--cell": arguments.cell,
        "--batch": arguments.batch,
        "--size": arguments.size,
    }
    command = [sys.executable, __file__, *(str(part) for option in options.items() for part in option)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def line(found: dict[str, Any]) -> str:
    """One row."""
    sizes = "".join(f"{found[name] / MIB:>10.1f}" for name in ("peak_bytes", "growth_bytes", "beyond_bytes"))
    return f"{found['scan']:12}{found['steps']:>10}{sizes}{found['seconds']:>10.1f}"


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--scans", choices=SCANS, nargs="+", default=SCANS)
    parser.add_argument("--cell", default="lstm")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, default=64, help="features of input and state")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--one", choices=SCANS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        found = measured(arguments.one, arguments.cell, arguments.steps[0], arguments.batch, arguments.size)
        print(json.dumps(found))
        return
    print(f"{arguments.cell}, batch {arguments.batch}, {arguments.size} features in and out; MiB")
    print(f"{'scan':12}{'steps':>10}{'peak':>10}{'growth':>10}{'beyond':>10}{'seconds':>10}")
    rows = []
    for scan in arguments.scans:
        for num_steps in arguments.steps:
            if scan != "loop" or num_steps <= MOST_LOOP_STEPS:
                rows.append(in_a_process(arguments, scan, num_steps))
                print(line(rows[-1]), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
