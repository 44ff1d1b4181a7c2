"""How fast layers run forward and backward: `python benchmarks/recurrent.py [--part PART ...] [--json FILE]`.

With `--large-blocks` the memory allocator keeps large blocks, as in `throughtime.train`; else it gives many of them
back after each pass, and a tenth of a pass goes into fetching them again.

Each time is that of one whole forward and backward pass, gradients by the input and all parameters included, in
float32, of one layer with as many inputs as units. What is compared runs in turns in one process, and the median of the
turns counts. A ratio above 1 says that ours is the faster one.

Floating-point operations are those of matrix products alone: a matrix of M x N numbers, used once a step, counts
2 M N T B forward and twice that backward. The peak is that of a product of two square matrices in the same run.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from throughtime import Recurrent, cells
from throughtime.cell import Cell, make_cell
from throughtime.kernels import linear_scan
from throughtime.scan import OBSTACLES
from throughtime.training.compute import keep_large_blocks

GRID = (
    (1000, 1, 256),
    (35, 20, 200),
    (100, 32, 256),
    (64, 32, 512),
    (512, 16, 128),
    (1000, 8, 64),
    (784, 64, 128),
    (200, 64, 64),
)
"""T, B, H."""

AGAINST_THE_LOOP = (512, 16, 128)
DIAGONAL = (4096, 8, 256)
MATRIX_STATE = (512, 4, 64)
TURNS = 9
PEAK_SIZE = 2048

Figures = dict[str, Any]


def main() -> None:
    """Measure the parts, print each as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--large-blocks", action="store_true", help="have the allocator of throughtime.train")
    parser.add_argument("--json", type=Path, help="a file for the same figures")
    choices = parser.parse_args()
    torch.set_num_threads(choices.threads)
    if choices.large_blocks:
        keep_large_blocks()
    peak = peak_gflops()
    print(f"{choices.threads} threads, torch {torch.__version__}, matrix products up to {peak:.0f} GFLOP/s")
    found: Figures = {"threads": choices.threads, "large_blocks": choices.large_blocks, "peak_gflops": peak}
    for part in choices.part:
        found[part] = PARTS[part](peak)
    if choices.json:
        choices.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def against_torch(peak: float) -> Figures:
    """Our layers and torch's own, on the whole grid."""
    return _against_torch(peak, "machine otherwise idle")


def against_torch_when_busy(peak: float) -> Figures:
    """The same beside one other busy process."""
    with a_busy_process():
        return _against_torch(peak, "one other busy process")


def _against_torch(peak: float, where: str) -> Figures:
    print(f"\nour layer against torch's, {where}: time of torch / time of ours; GFLOP/s and share of the peak")
    print(f"{'T, B, H':>16}" + "".join(f"{kind.__name__:>22}" for kind in TORCH.values()))
    ratios: dict[str, dict[str, float]] = {name: {} for name in TORCH}
    for T, B, H in GRID:
        line = f"{f'{T}, {B}, {H}':>16}"
        for name, kind in TORCH.items():
            theirs = kind(H, H)
            ours = Recurrent.from_torch(theirs)
            x = torch.randn(T, B, H)
            times = in_turns({"theirs": passes(theirs, x), "ours": passes(ours, x)})
            ratio = ratios[name][f"{T},{B},{H}"] = times["theirs"] / times["ours"]
            gflops = layer_flops(ours, T, B) / times["ours"] / 1e9
            line += f"{f'{ratio:.2f}  {gflops:4.0f}  {gflops / peak:4.0%}':>22}"
        print(line)
    means = {name: geometric_mean(found.values()) for name, found in ratios.items()}
    everything = [ratio for found in ratios.values() for ratio in found.values()]
    print(f"{'geometric mean':>16}" + "".join(f"{means[name]:>8.2f}{'':14}" for name in TORCH))
    print(f"of all {geometric_mean(everything):.2f}, lowest {min(everything):.2f}")
    return {"ratios": ratios, "means": means, "mean": geometric_mean(everything), "lowest": min(everything)}


def dense_cells(peak: float) -> Figures:
    """Cells with a dense recurrent matrix: time an operation relative to our own LSTM, and against their own loop."""
    T, B, H = AGAINST_THE_LOOP
    print(f"\ncells with a dense recurrent matrix at (T, B, H) = {T, B, H}, compiled")
    print(f"{'cell':>22}{'ms':>8}{'GFLOP/s':>9}{'of peak':>9}{'time an operation / LSTM':>26}{'loop / compiled':>17}")
    found: Figures = {}
    x = torch.randn(T, B, H)
    yardstick = Recurrent("lstm", H, H, scan="compiled")
    for name in names_by_scan("compiled", x):
        if not has_recurrent_matrix(name, H):
            continue
        layers = {scan: Recurrent(name, H, H, scan=scan) for scan in ("compiled", "loop")}
        layers["lstm"] = yardstick
        times = in_turns({what: passes(layer, x) for what, layer in layers.items()})
        flops = layer_flops(layers["compiled"], T, B)
        relative = times["compiled"] / flops / (times["lstm"] / layer_flops(yardstick, T, B))
        gflops, speed_up = flops / times["compiled"] / 1e9, times["loop"] / times["compiled"]
        found[name] = {"ms": times["compiled"] * 1e3, "gflops": gflops, "relative": relative, "loop": speed_up}
        print(
            f"{name:>22}{times['compiled'] * 1e3:>8.1f}{gflops:>9.0f}{gflops / peak:>9.0%}{relative:>26.2f}"
            f"{speed_up:>17.1f}"
        )
    return found


def diagonal_scan(_: float) -> Figures:
    """The linear recurrence alone beside copies of as many bytes as it reads and writes."""
    T, B, S = DIAGONAL
    a, b = (torch.rand(T, B, S).requires_grad_() for _ in range(2))
    start, weight = torch.zeros(B, S), torch.ones(T, B, S)

    def scan() -> None:
        torch.autograd.grad(linear_scan(a, b, start), (a, b), weight)

    # Forward reads a and b and writes the states; backward reads a, the states and the gradient by them and writes the
    # gradients by a and b: eight arrays, as many as four copies read and write.
    source, mapped = torch.rand(4, T, B, S), torch.zeros(4, T, B, S)
    functions = {
        "scan": scan,
        "copy into new memory": lambda: source.clone(),
        "copy into memory in use": lambda: mapped.copy_(source),
    }
    print(f"\nlinear recurrence at (T, B, S) = {T, B, S}, forward and backward, beside a copy of the same bytes")
    found: Figures = {}
    for allocator in ("as the C library has it", "keeping large blocks, as in throughtime.train"):
        if found:
            keep_large_blocks()
        times = found[allocator] = in_turns(functions)
        print(f"  memory allocator {allocator}")
        for name, seconds in times.items():
            print(f"{name:>26}{seconds * 1e3:>9.1f} ms{times['scan'] / seconds:>8.2f}")
    return found


def matrix_states(_: float) -> Figures:
    """Cells whose state is a matrix: in chunks against their own loop."""
    T, B, H = MATRIX_STATE
    x = torch.randn(T, B, H)
    print(f"\ncells with a matrix for a state at (T, B, H) = {T, B, H}: chunkwise against the loop")
    found: Figures = {}
    for name in names_by_scan("chunkwise", x):
        functions = {scan: passes(Recurrent(name, H, H, scan=scan), x) for scan in ("chunkwise", "loop")}
        times = in_turns(functions, turns=7)
        found[name] = {**times, "ratio": times["loop"] / times["chunkwise"]}
        print(f"{name:>26}{times['chunkwise'] * 1e3:>9.1f} ms{found[name]['ratio']:>8.1f}")
    return found


TORCH: Mapping[str, Callable[..., nn.RNN | nn.GRU | nn.LSTM]] = {"elman": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
PARTS: Mapping[str, Callable[[float], Figures]] = {
    "torch": against_torch,
    "busy": against_torch_when_busy,
    "dense": dense_cells,
    "diagonal": diagonal_scan,
    "matrix": matrix_states,
}


def names_by_scan(scan: str, x: Tensor) -> Iterator[str]:
    """The named cells that `scan` can run."""
    H = x.size(2)
    return (info.name for info in cells() if OBSTACLES[scan](make_cell(info.name, H, H), x) is None)


def has_recurrent_matrix(name: str, units: int) -> bool:
    """Whether the loop multiplies the state by a matrix."""
    return any(weight.dim() == 2 for weight in make_cell(name, units, units).kernel_weights())


def passes(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    """One whole forward and backward pass, as a function."""
    x = x.clone().requires_grad_()
    weight = torch.randn_like(layer(x)[0])
    wanted = (x, *layer.parameters())

    def run() -> None:
        torch.autograd.grad(layer(x)[0], wanted, weight)

    return run


def in_turns(functions: Mapping[str, Callable[[], Any]], turns: int = TURNS) -> dict[str, float]:
    """Median seconds of each, taken in turns after one run that does not count; short ones are repeated in a turn."""
    repeats = {}
    for name, function in functions.items():
        function()
        begin = time.perf_counter()
        function()
        repeats[name] = max(1, math.ceil(0.02 / (time.perf_counter() - begin)))
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(turns):
        for name, function in functions.items():
            begin = time.perf_counter()
            for _ in range(repeats[name]):
                function()
            seconds[name].append((time.perf_counter() - begin) / repeats[name])
    return {name: statistics.median(found) for name, found in seconds.items()}


def layer_flops(layer: Recurrent, steps: int, batch: int) -> float:
    """Of the matrix products of a forward and a backward pass."""
    cell = cast(Cell, layer.cells[0])
    x = torch.zeros(1, 1, layer.input_size)
    projected = cell.project(x)
    of_input = 0 if projected is x else layer.input_size * projected.size(2)
    return 6 * steps * batch * (of_input + sum(weight.numel() for weight in cell.kernel_weights() if weight.dim() == 2))


def peak_gflops() -> float:
    """Of a product of two square matrices in float32."""
    left, right = torch.randn(PEAK_SIZE, PEAK_SIZE), torch.randn(PEAK_SIZE, PEAK_SIZE)
    return 2 * PEAK_SIZE**3 / in_turns({"product": lambda: left @ right})["product"] / 1e9


def geometric_mean(ratios: Any) -> float:
    """The mean of ratios."""
    return math.exp(statistics.fmean(map(math.log, ratios)))


@contextmanager
def a_busy_process() -> Iterator[None]:
    """Another process that keeps one core busy meanwhile."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
