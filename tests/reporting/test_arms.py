"""The page of a trial whose trainings were looked at: a heat map and a loss of each arm that matters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import throughtime
from report_pages import console, marks, marks_in_print, opened, requests
from throughtime.remedy import TreatmentPlan
from throughtime.reporting import load_record, treatment_page
from throughtime.reporting.arms import arm_heat_maps, arm_losses, arms_shown, left_out, why_no_heat_map
from throughtime.trial import ArmRecord, Treatment, treat
from throughtime.trial.looks import Looks
from trial.toys import Toy

MARKUP = "ten <b>times</b> the rate"
LONG = "orthogonal start at the critical gain, three times the rate, with a warm-up"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trial that cures, with what it found."""
    out = tmp_path_factory.mktemp("trial") / "toy"
    plans = {
        "a clip": TreatmentPlan(clip=0.1),
        MARKUP: TreatmentPlan(learning_rate=0.05),
        LONG: TreatmentPlan(clip=0.5, start="orthogonal"),
    }
    assert treat(Toy(length=12), remedies=plans, jobs=1, out=out).best_name is not None
    return out


@pytest.fixture(scope="module")
def found(folder: Path) -> Treatment:
    return Treatment.load(folder / "treatment.json")


def arm(name: str, source: str, num_learned: int, **rest: Any) -> ArmRecord:
    record = load_record(Path(__file__).parent / "records" / "treatment.json")
    assert isinstance(record, Treatment)
    looks = Looks(
        seed=0,
        steps=(0, 5, 20),
        losses=(1.5, 0.2, 0.01),
        module="rnn",
        log10_gradient=((0.0, -1.0, -2.5), (0.0, -0.5, -1.0), (0.0, -0.1, None)),
        reach=(1, 2, 1),
        censored=(False, True, False),
    )
    return replace(record.baseline, name=name, source=source, num_learned=num_learned, looks=looks, **rest)


def trial_of(*arms: ArmRecord, best_name: str | None = None) -> Treatment:
    record = load_record(Path(__file__).parent / "records" / "treatment.json")
    assert isinstance(record, Treatment)
    return replace(record, values=tuple(each.to_json() for each in arms), best_name=best_name)


def test_the_arms_that_matter_are_drawn_and_the_others_named() -> None:
    baseline = arm("baseline", "baseline", 0)
    prescribed = [arm(f"remedy {number}", "prescribed", number % 4) for number in range(8)]
    drawn = [arm("random 1", "random", 0), arm("random 2", "random", 1)]
    record = trial_of(baseline, *prescribed, *drawn, best_name="remedy 5")
    shown = [each.name for each in arms_shown(record)]
    assert shown == ["baseline", "remedy 5", "remedy 3", "remedy 7", "remedy 2", "random 2"]
    assert left_out(record) == "Not drawn: remedy 0; remedy 1; remedy 4; remedy 6; 1 plan of random search."
    assert [picture.on_demand for picture in arm_heat_maps(record)] == [False, False, True, True, True, True]


def test_the_best_at_random_may_be_the_best_of_all() -> None:
    record = trial_of(
        arm("baseline", "baseline", 0),
        arm("a clip", "prescribed", 1),
        arm("random 1", "random", 3),
        best_name="random 1",
    )
    assert [each.name for each in arms_shown(record)] == ["baseline", "random 1", "a clip"]
    assert left_out(record) == ""


def test_a_heat_map_says_what_is_seen_in_it_and_who_learned() -> None:
    first, second = arm_heat_maps(trial_of(arm("baseline", "baseline", 0), arm("a gate", "prescribed", 2)))
    assert first.title == "baseline: Gradient through time, rnn"
    assert first.sentence.startswith(
        "Before training the gradient reached back 1 steps; after 20 updates it reaches 1."
    )
    assert "The data need 20." in first.sentence
    assert second.sentence.endswith("With this arm 2 of 3 seeds learned.")
    assert first.table.rows[1][:2] == (5, "≥ 2")
    ranges = {(picture.figure.y_range.start, picture.figure.y_range.end) for picture in (first, second)}
    assert len(ranges) == 1  # so that one can be laid beside the other


def test_the_losses_are_told_and_drawn_by_decades() -> None:
    picture = arm_losses(trial_of(arm("baseline", "baseline", 0), arm("a gate", "prescribed", 2)))
    assert picture is not None
    assert "with seed 0" in picture.sentence
    assert "baseline from 1.5 to 0.01; a gate from 1.5 to 0.01." in picture.sentence
    assert picture.table.rows[1] == ("a gate", 20, 1.5, 0.01, 0.01, 1, 1)
    assert type(picture.figure.yaxis[0]).__name__ == "LogAxis"


def test_a_trial_of_an_older_version_says_why_there_is_nothing() -> None:
    record = load_record(Path(__file__).parent / "records" / "treatment.json")
    assert isinstance(record, Treatment)
    assert (arm_heat_maps(record), arm_losses(record), arms_shown(record)) == ([], None, [])
    assert "No training of this trial was looked at" in treatment_page("Old", record)


def test_what_could_not_be_measured_is_said() -> None:
    blind = replace(
        arm("baseline", "baseline", 0), looks=Looks(seed=0, steps=(0,), losses=(None,), cannot_tell="it fails")
    )
    record = trial_of(blind)
    assert why_no_heat_map(record) == ["baseline: no gradient was measured, since it fails."]
    assert arm_losses(record) is None


def test_the_record_of_a_real_trial_is_small_and_has_all_of_it(folder: Path, found: Treatment) -> None:
    assert (folder / "treatment.json").stat().st_size < 60_000
    with_gradient = [each for each in found.arms if each.looks is not None and each.looks.module]
    assert all(each.looks is not None for each in found.arms)
    assert sum(each.source == "random" for each in with_gradient) == 1
    best = found.best.looks
    assert best is not None
    assert best.losses[0] is not None
    assert best.losses[-1] is not None
    assert best.losses[-1] < 0.5 * best.losses[0]


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    return throughtime.report(folder / "treatment.json", out=folder / "report.html")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1100), ("dark", 1100), ("light", 390)])
def test_every_figure_can_be_seen(driver: Any, page: Path, scheme: str, width: int) -> None:
    assert page.stat().st_size < 2_000_000
    opened(driver, page, scheme=scheme, width=width)
    seen = {name.removesuffix("-plot"): num for name, _, num in marks(driver)}
    assert {"trial", "gradient-history-0", "gradient-history-1", "arm-losses"} <= set(seen)
    assert [name for name, num in seen.items() if not num] == []
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    assert MARKUP in driver.execute_script("return document.body.textContent")
    assert driver.execute_script("return document.querySelectorAll('main b').length") == 0
    inner = "Bokeh.documents.flatMap(d => d.roots()).filter(r => r.inner_width > 0).map(r => r.inner_width)"
    assert min(driver.execute_script(f"return {inner}")) > 100
    assert console(driver) == []
    assert requests(driver) == {page.resolve().as_uri()}


def test_further_arms_are_drawn_when_they_are_asked_for_and_print_is_light(driver: Any, page: Path) -> None:
    opened(driver, page, scheme="dark")
    before = {name for name, _, _ in marks(driver)}
    dark = {name: set(colours) for name, colours, _ in marks(driver)}
    printed = marks_in_print(driver)
    assert all(seen and not set(colours) & dark[name] for name, colours, seen in printed)
    driver.execute_script("document.querySelectorAll('details.more').forEach(more => { more.open = true; })")
    opened_ = "return [...document.querySelectorAll('.plot')].every(plot => plot.dataset.drawn)"
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 30, poll_frequency=0.05).until(lambda there: there.execute_script(opened_))
    added = {name: seen for name, _, seen in marks(driver) if name not in before}
    assert added
    assert all(added.values())
