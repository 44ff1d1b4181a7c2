"""How often `need` finds what ids are needed, by counts and by ridge regression: `python benchmarks/need.py`.

Tasks with ids and Markov chains whose need is known, over several seeds. An answer is right if the known need lies in
its interval; where nothing can be told from single inputs, "cannot tell" is right. `--text FILE` adds a text.
"""

from __future__ import annotations

import argparse
import json
import lzma
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from throughtime import need
from throughtime.measurement import NeedRecord
from throughtime.tasks import Task, make

_MOST_CONTEXTS = 4096
KEPT, BORDERS = 0.95, torch.special.ndtri(torch.arange(1, 16, dtype=torch.float64) / 16)
"""Of a slow drift: how much of it is kept each step, and where its ids part."""

Data = tuple[Tensor, Tensor, int | None]
"""Inputs (T, B), targets (B,) or (T, B), and the need; None where nothing can be told."""


@dataclass(frozen=True)
class Case:
    """Data whose need is known.

    Attributes:
        name: what it is.
        draw: seed -> the data.
    """

    name: str
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
        yield Case(f"{name} ({what}), {batch}", partial(asked, task, batch))
    for order in (1, 2, 3, 4):
        for size in (2, 4, 8, 20):
            if size**order <= _MOST_CONTEXTS:
                yield Case(f"Markov chain of order {order}, {size} ids", partial(chain, order, size))
    yield Case("Markov chain of order 1 that stays, 8 ids", partial(chain, 1, 8, stays=0.95))
    yield Case("Markov chain of order 1, 1000 ids", partial(sparse_chain, 1000))
    yield Case("Markov chain of order 1, 20000 ids", partial(sparse_chain, 20000))
    yield Case("exclusive or of the last two bits, noisy", partial(parity_of, range(2)))
    yield Case("parity of the last four bits, noisy", partial(parity_of, range(4)))
    yield Case("lag 0 or 12 again, of 50 ids", partial(again, (0, 12), 50))
    yield Case("lag 3, 9 or 27 again, of 5000 ids", partial(again, (3, 9, 27), 5000))
    yield Case("exclusive or of lags 3 and 7, noisy", partial(parity_of, (3, 7)))
    yield Case("lag 20 again, of 8 ids", partial(again, (20,), 8))
    for lag in (5, 20, 50):
        yield Case(f"lag {lag} again, of 8 ids, half of them any", partial(half_again, lag))
    yield Case("a word of lag 12 again, of 2000 words as Zipf says", zipf_again)
    yield Case("a walk over 16 ids", walk)
    yield Case("a slow drift of which 16 ids tell", drift)
    yield Case("a pattern of four ids over and over", partial(repeats, 0.0))
    yield Case("a pattern of four ids over and over, one in twenty wrong", partial(repeats, 0.05))
    yield Case("a label by the bit of lag 19, four in ten wrong, 60 rows", partial(label, 60))
    yield Case("a label by the bit of lag 19, four in ten wrong, 4000 rows", partial(label, 4000))
    yield Case("two chains that stay, unrelated", unrelated)
    for size in (2, 30, 1000):
        yield Case(f"random ids, {size} of them", partial(random_ids, size))
    yield Case("random ids, a label for each of 500 sequences", partial(random_ids, 10, whole=True))


def asked(task: Task, batch: int, seed: int) -> Data:
    """Inputs up to the last step at which anything is asked, and the targets of that step."""
    drawn = task.batch(batch, seed=seed)
    if not task.per_step:
        return drawn.inputs, drawn.targets, task.need
    asked_at = (drawn.targets != -100).any(1).nonzero().flatten()
    step = int(asked_at[0 if task.name == "selective-copying" else -1])  # its last symbol hardly ever is the oldest
    return drawn.inputs[: step + 1], drawn.targets[step], task.need


def ids(size: int, seed: int, num_steps: int = 400, batch: int = 40) -> Tensor:
    """Independent, equally frequent."""
    return torch.randint(size, (num_steps, batch), generator=torch.Generator().manual_seed(seed))


def chain(order: int, size: int, seed: int, *, stays: float = 0.0) -> Data:
    """Each id by the last few, with shares that are drawn; the next one is asked for."""
    draw = torch.Generator().manual_seed(seed)
    table = torch.rand(size**order, size, generator=draw, dtype=torch.float64).log().neg().square()  # uneven
    table = (1 - stays) * table / table.sum(1, keepdim=True)
    contexts = torch.arange(size**order)
    table[contexts, contexts % size] += stays
    x = ids(size, seed + 1, 500)
    for step in range(order, len(x)):
        context = sum(x[step - 1 - lag] * size**lag for lag in range(order))
        x[step] = torch.multinomial(table[context], 1, generator=draw)[:, 0]
    return x[100:-1], x[101:], need_of_chain(table, order)


def need_of_chain(table: Tensor, order: int) -> int:
    """By the definition, from the shares themselves: context (V^order,), the newest id first, -> (V,)."""
    size, contexts = table.size(1), torch.arange(len(table))
    shares = torch.full((len(table),), 1 / len(table), dtype=torch.float64)
    following = torch.arange(size) + size * (contexts % size ** (order - 1)).unsqueeze(1)
    for _ in range(2000):
        shares = torch.zeros_like(shares).index_add(0, following.flatten(), (shares.unsqueeze(1) * table).flatten())
    left = []
    for known in range(order + 1):
        joint = torch.zeros(size**known, size, dtype=torch.float64)
        joint.index_add_(0, contexts % size**known, shares.unsqueeze(1) * table)
        left.append(float(torch.special.entr(joint).sum() - torch.special.entr(joint.sum(1)).sum()))
    enough = left[0] - 0.99 * (left[0] - left[-1])
    return next(lag for lag, rest in enumerate(left[1:]) if rest <= enough + 1e-12)


def sparse_chain(size: int, seed: int, num_steps: int = 1000, batch: int = 50) -> Data:
    """Each id by the last one: one of eight that may follow it, the commoner ids more often."""
    draw = torch.Generator().manual_seed(seed)
    follows = (size * torch.rand(size, 8, generator=draw).pow(3)).long()
    x = ids(size, seed + 1, num_steps + 20, batch)
    for step in range(1, len(x)):
        x[step] = follows[x[step - 1], torch.randint(8, (batch,), generator=draw)]
    return x[20:-1], x[21:], 0


def parity_of(lags: Sequence[int], seed: int) -> Data:
    """Whether the bits at some lags have an odd sum, wrong one time in ten."""
    x = ids(2, seed)
    wrong = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed + 1)) < 0.1
    return x, sum(x.roll(lag, 0) for lag in lags).add(wrong) % 2, max(lags)


def label(num_rows: int, seed: int) -> Data:
    """Of each sequence the bit of 19 steps before its end, wrong four times in ten; few rows cannot tell that."""
    bits, wrong = ids(2, seed, 30, num_rows), ids(10, seed + 1, 1, num_rows)[0] < 4
    return bits, bits[10] ^ wrong.long(), 19 if num_rows > 1000 else None


def again(lags: tuple[int, ...], size: int, seed: int) -> Data:
    """The id of one of some lags, whichever."""
    x, which = ids(size, seed), ids(len(lags), seed + 1)
    return x, torch.stack([x.roll(lag, 0) for lag in lags]).gather(0, which.unsqueeze(0))[0], max(lags)


def half_again(lag: int, seed: int) -> Data:
    """The id of one lag, half of the time; else any."""
    x = ids(8, seed)
    other = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed + 1)) < 0.5
    return x, torch.where(other, ids(8, seed + 2), x.roll(lag, 0)), lag


def zipf_again(seed: int) -> Data:
    """The next word: that of 12 steps before the last four times in ten, else any, the commoner ones more often."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.multinomial(1 / torch.arange(1.0, 2001.0), 600 * 40, replacement=True, generator=draw).view(600, 40)
    copied = torch.rand(x.shape, generator=draw) < 0.4
    for step in range(13, len(x)):
        x[step] = torch.where(copied[step], x[step - 13], x[step])
    return x[100:-1], x[101:], 12


def walk(seed: int) -> Data:
    """The next id is the last one or a neighbour of it, wherever it came from."""
    moves = ids(3, seed, 500) - 1
    x = torch.full_like(moves, 8)
    for step in range(1, len(x)):
        x[step] = (x[step - 1] + moves[step]).clamp(0, 15)
    return x[100:-1], x[101:], 0


def drift(seed: int) -> Data:
    """The next of 16 ids that say how large a slow autoregressive series is, of which older ones hold a little more."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(500, 40, generator=draw)
    for step in range(1, len(x)):
        x[step] = KEPT * x[step - 1] + (1 - KEPT**2) ** 0.5 * x[step]
    coded = torch.bucketize(x, BORDERS.float())
    return coded[100:-1], coded[101:], need_of_drift()


@cache
def need_of_drift(most: int = 8, num_samples: int = 2000) -> int:
    """By the definition: what the last ids tell of the next, by the exact filter on a grid, averaged over draws."""
    grid = torch.linspace(-4, 4, 321, dtype=torch.float64)
    follows = (-((grid - KEPT * grid.unsqueeze(1)).square()) / (2 * (1 - KEPT**2))).softmax(1)
    usual = (-grid.square() / 2).softmax(0)
    of_id = torch.nn.functional.one_hot(torch.bucketize(grid, BORDERS)).double()  # (grid, ids)
    draw = torch.Generator().manual_seed(0)
    state = torch.multinomial(usual, num_samples, replacement=True, generator=draw)
    seen = []
    for _ in range(most + 1):
        seen.append(of_id[state].argmax(1))
        state = torch.multinomial(follows[state], 1, generator=draw)[:, 0]
    told = []
    for known in range(1, most + 2):
        belief = usual.expand(num_samples, -1)
        for each in seen[-known:]:
            belief = belief * of_id[:, each].t()
            belief = belief / belief.sum(1, keepdim=True) @ follows
        told.append(float(torch.special.entr(usual @ of_id).sum() - torch.special.entr(belief @ of_id).sum(1).mean()))
    return next(lag for lag, each in enumerate(told) if each >= 0.99 * told[-1])


def random_ids(size: int, seed: int, *, whole: bool = False) -> Data:
    """Inputs and targets that have nothing to do with one another."""
    if whole:
        return ids(size, seed, 30, 500), ids(size, seed + 99, 1, 500)[0], None
    return ids(size, seed), ids(size, seed + 99), None


def repeats(share: float, seed: int) -> Data:
    """The next of four ids that come again and again, some of them any instead: each earlier repeat is a vote."""
    pattern = ids(4, seed, 4, 16).repeat(50, 1)
    wrong = torch.rand(pattern.shape, generator=torch.Generator().manual_seed(seed + 1)) < share
    x = torch.where(wrong, ids(4, seed + 2, 200, 16), pattern)
    return x[:-1], x[1:], need_of_votes(share)


def need_of_votes(share: float, num_ids: int = 4, most: int = 7) -> int:
    """By the definition: the lag up to which repeats tell 99 % of what seven of them do."""
    likelihood = share / num_ids + (1 - share) * torch.eye(num_ids, dtype=torch.float64)  # (truth, what is seen)
    joint, left = torch.full((1, num_ids), 1 / num_ids, dtype=torch.float64), []  # (what was seen, truth)
    for _ in range(most + 1):
        of_next = joint @ likelihood
        left.append(float(torch.special.entr(of_next).sum() - torch.special.entr(joint.sum(1)).sum()))
        joint = (joint.unsqueeze(1) * likelihood.t()).flatten(0, 1)
    enough = left[0] - 0.99 * (left[0] - left[-1])
    return 4 * next(votes for votes, rest in enumerate(left) if rest <= enough) - 1


def unrelated(seed: int) -> Data:
    """Inputs and targets that both change slowly, and have nothing to do with one another."""
    return chain(1, 4, seed, stays=0.97)[0], chain(1, 4, seed + 99, stays=0.97)[0], None


def verdict(record: NeedRecord, known: int | None) -> str:
    """Right, wrong, or "cannot tell" where it could have been told."""
    if record.need is None:
        return "right" if known is None else "cannot tell"
    return "right" if known is not None and record.lower <= known <= record.upper else "wrong"


def words(path: Path, count: int) -> Tensor:
    """(T, 1) ids of the first words of a text."""
    packed = path.read_bytes()
    text = (lzma.decompress(packed) if path.suffix == ".xz" else packed).decode("utf-8")
    known: dict[str, int] = {}
    return torch.tensor([known.setdefault(word, len(known)) for word in text.split()[:count]]).unsqueeze(1)


WAYS: dict[str, Callable[[Tensor, Tensor, int], NeedRecord]] = {
    "counts": lambda x, y, seed: need(x, y, time_dim=0, seed=seed, information="entropy"),
    "ridge": lambda x, y, seed: need(x, y, time_dim=0, seed=seed, information="variance"),
}
VERDICTS = ("right", "cannot tell", "wrong")


def compared(case: Case, seeds: int) -> dict[str, Any]:
    """Print a line of the table, and give what is in it."""
    row: dict[str, Any] = {"case": case.name, "need": []}
    for way in WAYS:
        row[way] = dict.fromkeys(VERDICTS, 0) | {"answers": [], "seconds": 0.0}
    for seed in range(seeds):
        inputs, targets, known = case.draw(1000 * seed)
        row["need"].append(known)
        for way, measured in WAYS.items():
            began = time.process_time()
            record = measured(inputs, targets, seed)
            row[way]["seconds"] += (time.process_time() - began) / seeds
            row[way][verdict(record, known)] += 1
            row[way]["answers"].append(record.need)
    print(f"{case.name}: need {row['need']}")
    for way in WAYS:
        told = ", ".join(f"{row[way][name]} {name}" for name in VERDICTS)
        print(f"    {way:8}{told:36} {row[way]['answers']} ({row[way]['seconds']:.2f} s)", flush=True)
    return row


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="", help="cases with this in their name")
    parser.add_argument("--text", type=Path, help="a text, whose next word is asked for")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [compared(case, options.seeds) for case in cases() if options.only in case.name]
    for way in WAYS:
        totals = {name: sum(row[way][name] for row in rows) for name in VERDICTS}
        print(f"{way}: " + ", ".join(f"{count} {name}" for name, count in totals.items()))
    if options.text:
        for count in (20_000, 100_000, 400_000):
            x = words(options.text, count)
            began = time.process_time()
            record = need(x[:-1], x[1:], time_dim=0, max_lag=60, information="entropy")
            print(f"{count} words: {record} {record.lags} {record.explained} ({time.process_time() - began:.1f} s)")
            print(f"   ridge: {need(x[:-1], x[1:], time_dim=0, max_lag=60, information='variance')}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
