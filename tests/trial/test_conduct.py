"""When an arm is cured, and when that can be told before the last fresh seed."""

from __future__ import annotations

import itertools
import random

from throughtime.trial.conduct import FRESH, cured, decided


def test_eight_have_to_learn_and_significantly_more_than_untreated() -> None:
    assert cured([True] * 8 + [False] * 2, [False] * 10)
    assert not cured([True] * 7 + [False] * 3, [False] * 10)
    assert cured([True] * 10, [True] * 5 + [False] * 5)
    assert not cured([True] * 10, [True] * 6 + [False] * 4)


def test_what_is_decided_early_is_what_all_pairs_say() -> None:
    draw = random.Random(0)
    outcomes = []
    for shares in itertools.product((0.5, 0.8, 1.0), (0.0, 0.3, 0.6)):
        for _ in range(20):
            treated, untreated = ([draw.random() < share for _ in range(FRESH)] for share in shares)
            order = [(True, n) for n in range(FRESH)] + [(False, n) for n in range(FRESH)]
            early = next(
                (answer, number)
                for number in range(2 * FRESH + 1)
                if (answer := decided(*_known(treated, untreated, order[:number]))) is not None
            )
            assert early[0] == cured(treated, untreated)
            outcomes.append(early)
    assert {answer for answer, _ in outcomes} == {True, False}
    assert min(number for _, number in outcomes) == 3
    assert max(number for _, number in outcomes) <= 2 * FRESH


def _known(treated: list[bool], untreated: list[bool], seen: list[tuple[bool, int]]) -> tuple[list[bool], list[bool]]:
    return [treated[n] for arm, n in seen if arm], [untreated[n] for arm, n in seen if not arm]
