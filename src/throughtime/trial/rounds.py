"""Selection and proof, and once more with all that is known by then where the first proof fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from throughtime.trial.conduct import Trial
from throughtime.trial.halving import Arm, Standing
from throughtime.trial.proof import LEVELS, Proof

__all__ = ["Rounds", "in_rounds"]

Select = Callable[[Trial, Standing | None], list[Standing]]
"""In a trial, and after what was not proven, or None: where everything stood that was tried."""
Prove = Callable[[Trial, Arm], Proof]
"""On the fresh seeds of a trial."""


@dataclass(frozen=True)
class Rounds:
    """What came of a trial.

    Attributes:
        standings: every arm once, with all seeds that it was selected with.
        chosen: what each proof was about, and how it stood before.
        proofs: in their order, at most as many as there are levels.
    """

    standings: tuple[Standing, ...] = ()
    chosen: tuple[Standing, ...] = ()
    proofs: tuple[Proof, ...] = ()

    @property
    def proof(self) -> Proof | None:
        """The one that passed; else the last that shows higher scores; else the last; None where there is none."""
        shown = [proof for proof in self.proofs if proof.passed] or [proof for proof in self.proofs if proof.better]
        return next(reversed(shown or self.proofs), None)

    @property
    def best(self) -> Standing | None:
        """What that proof was about."""
        return None if self.proof is None else self.chosen[self.proofs.index(self.proof)]


def in_rounds(trial: Trial, select: Select, prove: Prove) -> Rounds:
    """Select a treatment and prove it; where that fails, another one, with the seeds of that proof to select with.

    There is a second round only where there is something to be hoped: what failed had learned with most of the seeds
    that it was selected with (its scores were higher with most of the fresh ones, where there is no target). And there
    is a second proof only of what does better on all seeds that are known by then than what failed.

    Args:
        trial: the first round.
        select: see `Select`.
        prove: see `Prove`.
    """
    standings: dict[Arm, Standing] = {}
    chosen: list[Standing] = []
    proofs: list[Proof] = []
    failed: Standing | None = None
    while True:
        found = select(trial, failed)
        for each in found:
            standings[each.arm] = standings.get(each.arm, Standing(each.arm)).joined(each.seeds, each.results)
        best = trial.best(found)
        if best is None or (trial.has_target and best.num_learned == 0):
            break
        if failed is not None and best.merit <= failed.merit:
            break
        chosen.append(best)
        proofs.append(prove(trial, best.arm))
        if proofs[-1].passed or len(proofs) == len(LEVELS) or not _hopeful(best, proofs[-1]):
            break
        trial, failed = trial.after(proofs[-1])
    return Rounds(tuple(standings.values()), tuple(chosen), tuple(proofs))


def _hopeful(best: Standing, proof: Proof) -> bool:
    return 2 * best.num_learned > len(best.results) if proof.has_target else proof.p < 0.5
