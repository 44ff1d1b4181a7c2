"""What is said of a training while it goes on: each once, where it is so, and not where it is not."""

from __future__ import annotations

import math
import random

import pytest
import torch

from throughtime.model import RecurrentPredictor, Sizes
from throughtime.training import Evaluated, Evaluation, Event, GradientSeen, Started, Stepped
from throughtime.training.schedule import Schedule
from throughtime.workflow.live_findings import RECENT, LiveFindings


def stepped(step: int, loss: float, norm: float = 0.5, clip: float = 1.0, rate: float = 0.1) -> Stepped:
    return Stepped(
        step=step,
        loss_nats=loss,
        gradient_norm=norm,
        clipped_gradient_norm=min(norm, clip),
        learning_rate=rate,
        seconds=float(step),
    )


def evaluated(step: int, loss: float) -> Evaluated:
    found = Evaluation(head="next", loss_nats=loss, top1=0.1, top5=0.2, num_words=9, context_carried=True)
    return Evaluated(step=step, evaluation=found, unknown_rate=0.0, best=False)


def looked(step: int, log10_gradient: tuple[float | None, ...], reach: int, censored: bool = False) -> GradientSeen:
    return GradientSeen(step=step, log10_gradient=log10_gradient, reach=reach, reach_censored=censored)


def said(events: list[Event]) -> list[str]:
    findings = LiveFindings()
    return [sentence for event in events for sentence in findings(event)]


def course(steps: int, *, seed: int = 0) -> list[tuple[int, float, float]]:
    """A healthy training: step, a loss that falls with some noise, a norm that grows a little."""
    draw = random.Random(seed)
    return [
        (n, 4 + 2 * math.exp(-n / 150) + draw.gauss(0, 0.05), (0.4 + 0.001 * n) * draw.uniform(0.7, 1.4))
        for n in range(1, steps + 1)
    ]


def test_a_healthy_training_is_left_alone() -> None:
    events: list[Event] = [stepped(n, loss, norm) for n, loss, norm in course(900)]
    events += [looked(n, tuple(-0.2 * lag for lag in range(40)), 10) for n in (0, 1, 2, 100, 400, 900)]
    events += [evaluated(n, 4.5 - n / 1000) for n in (300, 600, 900)]
    assert said(events) == []


def test_a_clip_that_leaves_next_to_nothing() -> None:
    found = said([stepped(n, loss, norm, clip=0.01) for n, loss, norm in course(400)])
    assert len(found) == 1
    assert found[0].startswith(f"step {RECENT}: over-clipping: 100% of the last {RECENT} updates were clipped")
    assert said([stepped(n, loss, norm, clip=0.1) for n, loss, norm in course(400)]) == []  # a habit


def test_a_gradient_that_grows() -> None:
    events: list[Event] = [stepped(n, loss, norm * (30 if n > 300 else 1), 1e9) for n, loss, norm in course(600)]
    assert [sentence.split(": ")[1] for sentence in said(events)] == ["exploding-gradient"]
    events = [stepped(n, loss, norm * (3 if n > 300 else 1), 1e9) for n, loss, norm in course(600)]
    assert said(events) == []


def test_a_loss_that_comes_up_again() -> None:
    up = [stepped(n, loss + max(0.0, (n - 400) / 200), norm) for n, loss, norm in course(800)]
    found = said(up)
    assert [sentence.split(": ")[1] for sentence in found] == ["learning-rate-too-high"]
    assert "nats again" in found[0]


def test_a_loss_that_stands_still_at_full_rate() -> None:
    flat = [stepped(n, 6.0 + 0.01 * (n % 3), 0.5) for n in range(1, 400)]
    assert [sentence.split(": ")[:2] for sentence in said(flat)] == [["step 200", "plateau"]]
    warming_up = [stepped(n, 6.0, 0.5, rate=n * n / 1e6) for n in range(1, 400)]
    assert [sentence.split(": ")[1] for sentence in said(warming_up)] == ["plateau"]
    assert int(said(warming_up)[0].split(":")[0].removeprefix("step ")) >= 200


def test_a_loss_that_climbs_at_once() -> None:
    climbing = [stepped(n, 6.0 + min(4.0, 0.4 * n), 0.5) for n in range(1, 60)]
    found = said(climbing)
    assert [sentence.split(": ")[1] for sentence in found] == ["learning-rate-too-high"]
    assert int(found[0].split(":")[0].removeprefix("step ")) <= 15
    assert said([stepped(n, 6.0 + 0.5 * (n < 20), 0.5) for n in range(1, 60)]) == []  # it warms up


def test_what_the_frequencies_of_words_give_is_no_learning() -> None:
    model = RecurrentPredictor(torch.tensor([50.0, 30, 10, 5, 5]), Sizes(embedding_size=4, hidden_size=4), cell="elman")
    chance = model.output.frequency_nats
    schedule = Schedule(
        steps=400,
        evaluate_every_steps=100,
        save_every_steps=100,
        valid_words=50,
        step_seconds=0.1,
        device="cpu",
        threads=1,
        precision="float32",
        num_processes=1,
    )
    started = Started(first_step=0, schedule=schedule, window=6, words_per_step=24, num_parameters=99, model=model)
    events: list[Event] = [started, *(stepped(n, chance + (1.0 if n < 9 else 0.0), 0.5) for n in range(1, 400))]
    found = said(events)
    assert [sentence.split(": ")[1] for sentence in found] == ["plateau"]
    assert f"the frequencies of the words alone give {chance:.2f}" in found[0]
    events = [started, *(stepped(n, chance * (1.0 if n < 9 else 0.9), 0.5) for n in range(1, 400))]
    assert said(events) == []


def test_a_gradient_through_time_that_explodes_or_vanishes() -> None:
    found = said([looked(5, (0.0, 1.0, 3.5, 2.0), 3, censored=True)])
    assert found == ["step 5: exploding-gradient: at lag 2 the gradient is 10^3.5 times what it is at lag 0"]
    fading = (0.0, -1.5, -4.0, None)
    found = said([looked(n, fading, 1) for n in (0, 1, 2, 3, 150, 200, 300, 400)])
    assert found == ["step 300: vanishing-gradient: at 3 looks in a row the gradient has reached 1 steps"]
    assert said([looked(n, fading, reach) for n, reach in ((150, 1), (200, 5), (300, 1), (400, 1))]) == []


@pytest.mark.parametrize(("losses", "times"), [((3.0, 3.1, 3.2, 3.3, 3.4), 1), ((3.0, 3.1, 3.2, 3.1, 3.2), 0)])
def test_a_validation_loss_that_rises(losses: tuple[float, ...], times: int) -> None:
    events: list[Event] = [stepped(1, 2.5)]
    events += [evaluated(number, loss) for number, loss in enumerate(losses, start=2)]
    assert sum("has risen 3 times in a row" in sentence for sentence in said(events)) == times
