"""The measurements of `why`, small; and that its page says what its record holds."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from throughtime.trial.statistics import wilson
from throughtime.workflow import WhyRecord, as_markdown, sentence_of, write_why
from throughtime.workflow.why_gradient import gates, way_back
from throughtime.workflow.why_memory import loop, window
from throughtime.workflow.why_record import Answer, Chart, Curve, Table
from throughtime.workflow.why_sensitivity import sensitivity
from throughtime.workflow.why_training import STARTS, Trained, drift, lengths, outcomes, trained
from throughtime.workflow.why_words import WORDS, shown

DOCS = Path(__file__).parents[2] / "docs"


def test_a_window_sees_five_inputs_and_no_more() -> None:
    found = window(0, num_updates=60)
    assert found.numbers["inside"] > 0.95
    assert found.numbers["outside"] == pytest.approx(0.25, abs=0.05)
    assert found.numbers["gradient_steps"] == 4


def test_a_loop_sees_further() -> None:
    found = loop(0, num_updates=60)
    assert found.numbers["outside"] > 0.5
    assert found.numbers["gradient_steps"] == 47


def test_a_linear_loop_keeps_scale_to_the_power_of_its_steps() -> None:
    found = way_back(0, scales=(0.5, 1.0, 1.5), depths=(5, 40), hidden_size=8)
    assert found.numbers["agrees"]
    assert found.numbers["worst_difference"] < 1e-10
    assert found.numbers["log10_least"] == pytest.approx(40 * math.log10(0.5))
    rows = {row[:2]: row[2:] for row in found.table.rows}
    for scale in (0.5, 1.0, 1.5):
        assert rows[scale, "tanh"][1] < rows[scale, "linear"][1]  # its slopes are below 1


def test_a_loop_that_departs_from_the_law_is_not_said_to_follow_it() -> None:
    found = way_back(0, scales=(0.5, 1.0), depths=(5, 10), hidden_size=8)
    wrong = {**found.numbers, "agrees": 0.0, "worst_difference": 2.0}
    assert "within rounding" in sentence_of(found)
    assert "departs from scale^k by up to 10^2" in WORDS["way-back"].sentence(wrong)


def test_gates_started_for_long_lags_keep_more() -> None:
    found = gates(0, num_steps=60, hidden_size=16)
    assert found.numbers["gated_decay"] > found.numbers["plain_decay"] + 0.1
    assert found.numbers["gated_reach"] > found.numbers["plain_reach"]


def test_the_loss_bends_as_theory_says() -> None:
    found = sensitivity(0, distances=(0.5, 0.2, 0.1, 0.05))
    for row in found.table.rows:
        assert row[3] == pytest.approx(row[2], rel=0.35)
    written = [row[5] for row in found.table.rows]
    assert max(written) / min(written) < 3 < found.numbers["growth"]


def test_longer_is_harder() -> None:
    found = lengths(0, of=(3, 60), num_seeds=2, num_updates=40, hidden_size=24)
    assert [row[1] for row in found.table.rows] == ["2 of 2", "0 of 2"]
    assert (found.numbers["longest_solved"], found.numbers["shortest_lost"]) == (3, 60)


def test_training_is_measured_before_and_after() -> None:
    starts = {name: STARTS[name] for name in ("plain, torch's start", "LSTM, chrono")}
    found = trained(0, starts, length=30, num_seeds=2, num_updates=5)
    assert [(each.start, each.seed) for each in found] == [(name, seed) for name in starts for seed in (0, 1)]
    plain, gated = (max(each.before for each in found if each.start == name) for name in starts)
    assert plain < gated == 29
    assert {each.steps for each in found} == {5}


NETWORKS = (
    Trained("a", 0, before=99, after=99, score=1.0, solved=True, steps=9),
    Trained("a", 1, before=99, after=20, score=0.5, solved=False, steps=20),
    Trained("b", 0, before=10, after=99, score=1.0, solved=True, steps=9),
    Trained("b", 1, before=10, after=11, score=0.5, solved=False, steps=20),
    Trained("c", 0, before=10, after=10, score=0.5, solved=False, steps=20),
    Trained("c", 1, before=10, after=10, score=0.5, solved=False, steps=20),
)


def test_drift_counts_what_moved() -> None:
    numbers = drift(NETWORKS).numbers
    assert (numbers["num_networks"], numbers["num_moved"]) == (6, 2)
    assert (numbers["num_shorter"], numbers["num_longer"], numbers["widest"]) == (1, 1, 88)


def test_outcomes_are_counted_by_start_and_by_reach() -> None:
    found = outcomes(NETWORKS)
    assert (found.numbers["num_mixed"], found.numbers["num_starts"]) == (2, 3)
    assert (found.numbers["far"], found.numbers["far_solved"]) == (2, 1)
    assert (found.numbers["short"], found.numbers["short_solved"]) == (4, 1)
    low, high = wilson(1, 2)
    assert found.table.rows[0][1:3] == ("1 of 2", f"{low:.0%} to {high:.0%}")


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    record = WhyRecord.of((drift(NETWORKS), outcomes(NETWORKS)), seed=3, torch_version="2.9.0")
    write_why(record, json=tmp_path / "why.json", markdown=tmp_path / "why.md")
    again = WhyRecord.load(tmp_path / "why.json")
    assert again == record
    assert again.answers == (drift(NETWORKS), outcomes(NETWORKS))
    assert (tmp_path / "why.md").read_text() == as_markdown(record)


def test_the_page_with_pictures_draws_every_answer(tmp_path: Path) -> None:
    record = WhyRecord.of((drift(NETWORKS), gates(0, num_steps=20, hidden_size=8)), seed=3, torch_version="2.9.0")
    write_why(record, html=tmp_path / "why.html")
    page = (tmp_path / "why.html").read_text(encoding="utf-8")
    for answer in record.answers:
        assert f'id="{answer.key}-plot"' in page
        assert WORDS[answer.key].question.replace("'", "&#x27;") in page
    assert "reach before training, steps" in page
    assert "<script src" not in page


def test_a_page_holds_question_sentence_and_numbers() -> None:
    chart = Chart("x", "y", (Curve("a", (0.0,), (1.0,)),))
    numbers = {"num_updates": 9, "num_seeds": 2, "longest_solved": 0, "shortest_lost": 0, "score_longest": 0.7}
    answer = Answer("lengths", {**numbers, "longest": 80}, Table(("length", "b"), ((80, None), (5, 0.25))), chart)
    page = as_markdown(WhyRecord.of((answer,), seed=0, torch_version="2.9.0+cpu"))
    assert "## Does a longer sequence make it worse?" in page
    assert "within 9 updates not every seed learns it at any length, and at 80 the mean accuracy is 70%." in page
    assert "| 80 | - |\n| 5 | 0.25 |" in page
    assert "torch 2.9.0)" in page


def test_the_page_in_the_documentation_is_that_of_its_record() -> None:
    record = WhyRecord.load(DOCS / "why.json")
    assert {answer.key for answer in record.answers} == set(WORDS)
    assert (DOCS / "why.md").read_text(encoding="utf-8") == as_markdown(record)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("3 of 5", "3 of 5"),
        (0, "0"),
        (0.5, "0.5"),
        (12.3456, "12.346"),
        (2053.4, "2,053"),
        (1e-8, "1.0e-08"),
    ],
)
def test_numbers_as_they_are_printed(value: float | str | None, text: str) -> None:
    assert shown(value) == text
