"""How good the diagnosis is, on the ward (`tests/ward/`): `python benchmarks/ward.py [--json FILE]`.

With `--treat`: how often what is prescribed for it cures, beside random search (see `ward_treat.py`).

Every patient is diagnosed from what its script has in its variables; one whose fault lies in its training loop is first
trained to its end under `throughtime.watch`, its losses handed over (`--mode watch` does so with all of them, for 60
steps).

A broken patient is detected if there is an error, named first if the first error has its code, and among the first
two if one of the first two errors has. Rules and thresholds were made while looking at the scripts in DEVELOPMENT; the
others are for scoring. Shares have Wilson's 95 % intervals.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import throughtime
from throughtime.measurement import WatchRecord
from throughtime.trial.statistics import wilson
from throughtime.workflow.caught_loss import CaughtLoss, LossCalls

sys.path[0] = str(Path(__file__).parents[1] / "tests")  # in place of this folder, where `ward` is this script
from ward.case import Case, Patient
from ward.cases import CASES

sys.path.append(str(Path(__file__).parent))
import ward_treat

SCORING = ("tagger", "w_one_step", "w_sensors", "w_tagger", "w_topics", "w_weather")
DEVELOPMENT = tuple(sorted({case.base for case in CASES} - set(SCORING)))
STEPS = 60


@dataclass(frozen=True)
class Outcome:
    """What the diagnosis said of one case.

    Attributes:
        name: of the case.
        base: of its script.
        code: that must come first; None for a healthy one.
        errors: codes of the findings of severity error, in their order.
        warnings: codes of the warnings.
        seconds: of the diagnosis.
        steps_seconds: of the training steps before it, 0 where there were none.
    """

    name: str
    base: str
    code: str | None
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: float
    steps_seconds: float

    @property
    def right(self) -> bool:
        """Whether a healthy one has no error, and the first error of a broken one has its code."""
        return not self.errors if self.code is None else self.errors[:1] == (self.code,)


def diagnosed(case: Case, seed: int, mode: str) -> Outcome:
    """One case."""
    patient = case.make(seed)
    given, trained = patient.factory(), 0.0
    if mode == "watch" or case.needs_loop:
        begin = time.perf_counter()
        given["watch"] = watched(patient, patient.steps_to_learn if case.needs_loop else STEPS)
        trained = time.perf_counter() - begin
    begin = time.perf_counter()
    found = throughtime.diagnose(**given)
    for code, reason in found.not_checked.items():
        if reason.startswith("it broke off"):
            print(f"  {case.name}: {code}: {reason}", file=sys.stderr)
    seconds = time.perf_counter() - begin
    errors, others = (
        tuple(finding.code for finding in found.findings if finding.severity == severity)
        for severity in ("error", "warning")
    )
    return Outcome(case.name, case.base, case.code, errors, others, seconds, trained)


def watched(patient: Patient, steps: int) -> Any:
    """Its own loop, every step sampled, each loss and its targets handed over as `watch.loss(loss, targets)` would."""
    own, calls = patient.loss, []

    def tell(value: torch.Tensor, targets: Any) -> None:
        watch.loss(value.detach().mean(), targets if isinstance(targets, torch.Tensor) else None)

    def told(outputs: Any, targets: Any) -> torch.Tensor:
        calls.append(True)  # the script's own function, and not what it calls in turn
        value = own(outputs, targets)
        calls.pop()
        tell(value, targets)
        return value

    def caught(loss: CaughtLoss) -> None:
        if not calls:
            tell(loss.value, loss.targets)

    with throughtime.watch(
        patient.model, patient.optimizer, every=20, sample_every=1, max_overhead=None, time_dim=patient.time_dim
    ) as watch:
        patient.loss = told
        with LossCalls(caught):
            patient.train(steps)
    patient.loss = own
    return watch


def summary(name: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The four figures, printed."""
    broken = [outcome for outcome in outcomes if outcome.code is not None]
    healthy = [outcome for outcome in outcomes if outcome.code is None]
    counts = {
        "healthy with an error": (sum(not outcome.right for outcome in healthy), len(healthy)),
        "broken, detected": (sum(bool(outcome.errors) for outcome in broken), len(broken)),
        "right code first": (sum(outcome.right for outcome in broken), len(broken)),
        "among the first two": (sum(outcome.code in outcome.errors[:2] for outcome in broken), len(broken)),
    }
    print(f"\n{name}")
    for what, (hits, total) in counts.items():
        low, high = wilson(hits, total)
        print(f"  {what:24}{hits:>5} of {total:<5}{hits / max(1, total):>8.1%}   [{low:.1%}, {high:.1%}]")
    return {
        what: {"hits": hits, "of": total, "interval": wilson(hits, total)} for what, (hits, total) in counts.items()
    }


def confusion(outcomes: Sequence[Outcome]) -> None:
    """For each code what came first, and how often."""
    print(f"\n{'truth':36}{'cases':>6}{'first':>7}{'in two':>8}  came first instead")
    for code in sorted({outcome.code or "" for outcome in outcomes}):
        own = [outcome for outcome in outcomes if (outcome.code or "") == code]
        wrong = Counter(outcome.errors[0] if outcome.errors else "nothing" for outcome in own if not outcome.right)
        among = sum(outcome.right or outcome.code in outcome.errors[:2] for outcome in own)
        instead = ", ".join(f"{found} {count}" for found, count in wrong.most_common())
        print(f"{code or 'healthy':36}{len(own):>6}{sum(o.right for o in own):>7}{among:>8}  {instead}")


def treat(choices: argparse.Namespace) -> None:
    """The campaign of treatments, as far as it gets."""

    def examine(case: Case, in_training: bool) -> tuple[throughtime.Diagnosis, WatchRecord | None]:
        patient = case.make(choices.seed)
        if not in_training:
            return throughtime.diagnose(**patient.factory()), None
        watch = watched(patient, patient.steps_to_learn)
        return throughtime.diagnose(**patient.factory(), watch=watch), watch.record

    cases = ward_treat.drawn_order(ward_treat.selected(CASES, choices.only), choices.seed)[: choices.sample]
    lines = ward_treat.campaign(
        cases,
        examine,
        choices.out,
        jobs=choices.jobs,
        sides=choices.sides or list(ward_treat.SIDES),
        limit=choices.limit,
    )
    found = ward_treat.summary(lines, DEVELOPMENT)
    if choices.json:
        ward_treat.write(choices.json, lines, found)


def main() -> None:
    """Diagnose all, print the table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=("own", "watch"), default="own", help="watch: train all under watch first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="cases whose name contains this; of --treat, several with | between")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="a file for every outcome")
    parser.add_argument("--treat", action="store_true", help="treat the broken ones, in a campaign that goes on")
    parser.add_argument("--sample", type=int, help="of --treat: the first N of the cases in their drawn order")
    parser.add_argument("--sides", nargs="*", choices=list(ward_treat.SIDES), help="of --treat: all unless given")
    parser.add_argument("--limit", type=int, help="of --treat: lines that are made now, at most")
    parser.add_argument("--jobs", type=int, default=1, help="of --treat: processes")
    parser.add_argument("--out", type=Path, default=Path("runs/ward-treat"), help="of --treat: the campaign's folder")
    choices = parser.parse_args()
    torch.set_num_threads(choices.threads)
    if choices.treat:
        treat(choices)
        return
    outcomes = []
    for case in CASES:
        if choices.only not in case.name:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the scripts' own
            outcome = diagnosed(case, choices.seed, choices.mode)
        outcomes.append(outcome)
        mark = "  " if outcome.right else "X "
        said = ", ".join(outcome.errors) or "no error"
        print(f"{mark}{outcome.name:48}{outcome.seconds:6.1f} s  {said}", flush=True)
    confusion(outcomes)
    found = {
        name: summary(name, [outcome for outcome in outcomes if outcome.base in bases])
        for name, bases in (("development scripts", DEVELOPMENT), ("scoring scripts", SCORING))
    }
    slow = [outcome for outcome in outcomes if outcome.seconds > max(30.0, outcome.steps_seconds)]
    print(f"\nlonger than 30 s: {len(slow)}; the longest took {max((o.seconds for o in outcomes), default=0):.1f} s")
    if choices.json:
        content = {"summary": found, "outcomes": [asdict(outcome) for outcome in outcomes]}
        choices.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
