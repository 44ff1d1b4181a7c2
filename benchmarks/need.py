"""How often `throughtime.need` finds what ids are needed, by counts and by ridge regression: `python benchmarks/need.py`.

Tasks with ids and Markov chains whose need is known, over several seeds. An answer is right if the known need lies in its
interval; where nothing can be told from single inputs, "cannot tell" is right. `--text FILE` adds a text.
"""

from __future__ import annotations

import argparse
import json
import lzma
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from throughtime import need
from throughtime.measurement import NeedRecord
from throughtime.measurement.need_by_variance import told_by_variance
from throughtime.measurement.need_rows import coded_targets, rows_of
from throughtime.measurement.needs import About
from throughtime.tasks import make

Data = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Case:
    """Data whose need is known.

    Attributes:
        name: what it is.
        need: known; None where nothing can be told.
        draw: seed -> inputs (T, B) and targets (B,) or (T, B).
    """

    name: str
    need: int | None
    draw: Callable[[int], Data]


def cases() -> Iterator[Case]:
    """All of them."""
    for name, options, batch in (
        ("copying", {"length": 30, "num_copied": 3}, 300),
        ("copying", {"length": 120, "num_copied": 10}, 300),
        ("selective-copying", {"length": 14, "num_copied": 2, "num_symbols": 4}, 1500),
        ("selective-copying", {"length": 14, "num_copied": 2, "num_symbols": 4}, 10000),
        ("associative-recall", {"length": 16, "num_pairs": 2, "vocabulary_size": 12}, 3000),
        ("associative-recall", {"length": 32, "num_pairs": 4, "vocabulary_size": 8192}, 20000),
        ("n-back", {"length": 40, "lag": 7}, 300),
        ("n-back", {"length": 100, "lag": 50, "num_symbols": 100}, 4000),
        ("dyck", {"length": 15}, 1000),
        ("dyck", {"length": 20}, 1000),
        ("dyck", {"length": 20}, 10000),
        ("noisy-majority", {"length": 11}, 2000),
        ("noisy-majority", {"length": 21}, 20000),
        ("parity", {"length": 12}, 1000),
        ("parity", {"length": 40}, 10000),
        ("permutations", {"num_items": 3}, 1000),
    ):
        task = make(name, **options)
        what = ", ".join(f"{key} {value}" for key, value in options.items())
        known = 12 if name == "selective-copying" else task.need  # of the first answer
        yield Case(f"{name} ({what}), {batch}", known, lambda seed, task=task, batch=batch: asked(task, batch, seed))
    for order in (1, 2, 3, 4):
        for size in (2, 4, 8, 20):
            if size**order <= 4096:
                yield Case(
                    f"Markov chain of order {order}, {size} ids",
                    order - 1,
                    lambda seed, order=order, size=size: chain(order, size, seed),
                )
    yield Case("Markov chain of order 1 that stays, 8 ids", 0, lambda seed: chain(1, 8, seed, stays=0.95))
    yield Case("Markov chain of order 1, 1000 ids", 0, lambda seed: sparse_chain(1000, seed))
    yield Case("Markov chain of order 1, 20000 ids", 0, lambda seed: sparse_chain(20000, seed))
    yield Case("exclusive or of the last two bits, noisy", 1, lambda seed: parity_of(2, seed))
    yield Case("parity of the last four bits, noisy", 3, lambda seed: parity_of(4, seed))
    yield Case("lag 0 or lag 12 again, of 50 ids", 12, lambda seed: again((0, 12), 50, seed))
    yield Case("lag 3, 9 or 27 again, of 5000 ids", 27, lambda seed: again((3, 9, 27), 5000, seed))
    yield Case("two chains that stay, unrelated", None, lambda seed: (chain(1, 4, seed, stays=0.97)[0], chain(1, 4, seed + 99, stays=0.97)[0]))
    yield Case("random ids", None, lambda seed: (ids(30, seed), ids(30, seed + 99)))


def asked(task: object, batch: int, seed: int) -> Data:
    """Inputs up to the last step at which anything is asked, and the targets of that step."""
    drawn = task.batch(batch, seed=seed)
    if not task.per_step:
        return drawn.inputs, drawn.targets
    step = int((drawn.targets != -100).any(1).nonzero()[-1])
    return drawn.inputs[: step + 1], drawn.targets[step]


def ids(size: int, seed: int, num_steps: int = 400, batch: int = 40) -> Tensor:
    """Independent, equally frequent."""
    return torch.randint(size, (num_steps, batch), generator=torch.Generator().manual_seed(seed))


def chain(order: int, size: int, seed: int, *, stays: float = 0.0, num_steps: int = 400, batch: int = 40) -> Data:
    """Each id by the last few, with shares that are drawn; the next one is asked for."""
    draw = torch.Generator().manual_seed(seed)
    table = torch.rand(size**order, size, generator=draw).log().neg().pow(3)  # uneven
    table /= table.sum(1, keepdim=True)
    x = ids(size, seed + 1, num_steps + 100, batch)
    for step in range(order, len(x)):
        context = sum(x[step - 1 - lag] * size**lag for lag in range(order))
        drawn = torch.multinomial(table[context], 1, generator=draw)[:, 0]
        kept = torch.rand(batch, generator=draw) < stays
        x[step] = torch.where(kept, x[step - 1], drawn)
    return x[100:-1], x[101:]


def sparse_chain(size: int, seed: int, num_steps: int = 1000, batch: int = 50) -> Data:
    """Each id by the last one: one of eight that may follow it, the commoner ids more often."""
    draw = torch.Generator().manual_seed(seed)
    follows = (size * torch.rand(size, 8, generator=draw).pow(3)).long()
    x = ids(size, seed + 1, num_steps + 20, batch)
    for step in range(1, len(x)):
        x[step] = follows[x[step - 1], torch.randint(8, (batch,), generator=draw)]
    return x[20:-1], x[21:]


def parity_of(count: int, seed: int) -> Data:
    """Whether the newest bits have an odd sum, wrong one time in ten."""
    x = ids(2, seed)
    wrong = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed + 1)) < 0.1
    return x, sum(x.roll(lag, 0) for lag in range(count)).add(wrong) % 2


def again(lags: tuple[int, ...], size: int, seed: int) -> Data:
    """The id of one of some lags, whichever."""
    x, which = ids(size, seed), ids(len(lags), seed + 1)
    return x, torch.stack([x.roll(lag, 0) for lag in lags]).gather(0, which.unsqueeze(0))[0]


def by_ridge(inputs: Tensor, targets: Tensor, seed: int) -> NeedRecord:
    """What `need` does with numbers, done with one-hot codes of ids."""
    generator, whole = torch.Generator().manual_seed(seed), targets.dim() == 1
    positions, rows, longest = rows_of(inputs, targets, whole, None, None, None, generator)
    wanted = coded_targets(targets[rows] if whole else targets[positions, rows])
    told = told_by_variance(inputs, positions, rows, longest, wanted, generator, seed)
    return About(positions.numel(), longest, "variance").judged(told, generator)


def verdict(record: NeedRecord, known: int | None) -> str:
    """Right, wrong, or "cannot tell" where it could have been told."""
    if record.need is None:
        return "right" if known is None else "cannot tell"
    return "right" if known is not None and record.lower <= known <= record.upper else "wrong"


def words(path: Path, count: int) -> Tensor:
    """(T, 1) ids of the first words of a text."""
    text = lzma.open(path, "rt").read() if path.suffix == ".xz" else path.read_text()
    known: dict[str, int] = {}
    return torch.tensor([known.setdefault(word, len(known)) for word in text.split()[:count]]).unsqueeze(1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="", help="cases with this in their name")
    parser.add_argument("--text", type=Path, help="a text, whose next word is asked for")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found, totals = [], {"counts": dict.fromkeys(("right", "cannot tell", "wrong"), 0)}
    totals["ridge"] = dict(totals["counts"])
    ways = {"counts": lambda x, y, seed: need(x, y, time_dim=0, seed=seed), "ridge": by_ridge}
    print(f"{'case':72} need   counts: right / cannot tell / wrong   ridge: the same    seconds of each")
    for case in (case for case in cases() if options.only in case.name):
        row: dict[str, object] = {"case": case.name, "need": case.need}
        for way, measured in ways.items():
            told, answers, began = dict.fromkeys(totals[way], 0), [], time.process_time()
            for seed in range(options.seeds):
                record = measured(*case.draw(1000 * seed), seed)
                told[verdict(record, case.need)] += 1
                answers.append(record.need)
            row[way] = {**told, "answers": answers, "seconds": (time.process_time() - began) / options.seeds}
            for name, count in told.items():
                totals[way][name] += count
        found.append(row)
        shown = [" / ".join(str(row[way][name]) for name in totals[way]) for way in ways]
        print(f"{case.name:72} {case.need!s:>4}   {shown[0]:14} {row['counts']['answers']!s:32} {shown[1]:14} "
              f"{row['ridge']['answers']!s:32} {row['counts']['seconds']:.2f} {row['ridge']['seconds']:.2f}", flush=True)
    for way, counts in totals.items():
        print(f"{way}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    if options.text:
        for count in (20_000, 100_000, 400_000):
            x = words(options.text, count)
            began = time.process_time()
            record = need(x[:-1], x[1:], time_dim=0, max_lag=60)
            print(f"{count} words: {record} {record.lags} {record.explained} ({time.process_time() - began:.1f} s)")
            print(f"   ridge: {by_ridge(x[:-1], x[1:], 0)}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
