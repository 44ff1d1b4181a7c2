"""Every record has pictures; records that older versions wrote are still read."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import throughtime
from throughtime.errors import InputError, RunError
from throughtime.measurement import GradientHistory, NeedRecord, WatchRecord
from throughtime.reporting import RECORDS, Arm, draw, load_record, trial_picture
from throughtime.storage import Record

OLD = Path(__file__).parent / "records"


def kinds(base: type[Record]) -> set[type[Record]]:
    """All types of record, but for those that tests and doctests make."""
    own = {kind for kind in base.__subclasses__() if kind.__module__.startswith("throughtime.measurement")}
    return own.union(*(kinds(kind) for kind in base.__subclasses__()))


def test_every_measurement_can_be_drawn() -> None:
    assert kinds(Record) <= set(RECORDS)


@pytest.mark.parametrize("path", sorted(OLD.glob("*.json")), ids=lambda path: path.stem)
def test_records_of_older_versions_are_read_and_drawn(path: Path) -> None:
    record = load_record(path)
    pictures = draw(record)
    assert all(picture.sentence and picture.table.rows for picture in pictures)
    assert f"{pictures[0].name}-plot" in pictures.html()


def test_the_old_records_are_all_kinds() -> None:
    assert {load_record(path).record_kind for path in OLD.glob("*.json")} == {record.record_kind for record in RECORDS}


def test_a_record_shows_itself_in_a_notebook(tmp_path: Path) -> None:
    record = throughtime.measure(nn.RNN(3, 8), torch.randn(12, 4, 3))
    html = record._repr_html_()
    assert html is not None
    assert html.startswith("<iframe srcdoc=")
    (path,) = record.plot().save(tmp_path / "reach.html")
    assert "Gradient through time" in path.read_text(encoding="utf-8")
    with pytest.raises(InputError, match=r"\.html, \.png or \.svg"):
        record.plot().save(tmp_path / "reach.pdf")


def test_the_folder_of_a_watch_becomes_a_page(tmp_path: Path) -> None:
    model = nn.RNN(3, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with throughtime.watch(model, optimizer, every=2, max_overhead=None) as watch:
        for _ in range(4):
            optimizer.zero_grad()
            loss = model(torch.randn(12, 4, 3))[0].square().mean()
            watch.loss(loss)
            loss.backward()
            optimizer.step()
    watch.save(tmp_path / "mine")
    page = throughtime.report(tmp_path / "mine")
    assert page == tmp_path / "mine" / "watch.html"
    shown = page.read_text(encoding="utf-8")
    assert "<h1>Watch</h1>" in shown
    assert "<p>4 steps, 4 sampled, 2 probed" in shown
    assert "The learning rate is 0.1 throughout." in shown
    for figure in ("gradient-history", "losses", "norms", "rate"):
        assert f'id="{figure}"' in shown


def test_all_losses_of_a_watch_are_drawn_though_few_steps_were_sampled() -> None:
    record = load_record(OLD / "watch.json")
    assert isinstance(record, WatchRecord)
    few = replace(record, samples=record.samples[:2], losses=(3.0, 2.0, 1.0), losses_every=2)
    losses = next(picture for picture in few.plot() if picture.name == "losses")
    assert [row[0] for row in losses.table.rows] == [2, 4, 6]
    assert "goes from 3 to 1 in 6 updates" in losses.sentence


def test_images_of_the_same_figures(tmp_path: Path, driver: object) -> None:
    record = throughtime.measure(nn.RNN(3, 8), torch.randn(12, 4, 3))
    (png,) = record.plot().save(tmp_path / "reach.png")
    assert png.read_bytes().startswith(b"\x89PNG")
    (svg,) = record.plot().save(tmp_path / "reach.svg")
    assert "<svg" in svg.read_text(encoding="utf-8")[:300]


def test_what_cannot_be_drawn_says_so() -> None:
    record = NeedRecord(None, None, None, (), (), 0.5, 10, 8, "cannot tell", "cannot tell")
    with pytest.raises(InputError, match="nothing to draw in this need record"):
        record.plot()
    assert record._repr_html_() is None


def test_files_that_hold_no_record(tmp_path: Path) -> None:
    for content, words in (("{}", "no record"), ('{"kind": "pie"}', "a pie record"), ("[1]", "no record")):
        path = tmp_path / "file.json"
        path.write_text(content)
        with pytest.raises(RunError, match=words):
            load_record(path)
    page = tmp_path / "report.html"
    page.write_text("<!DOCTYPE html>")
    with pytest.raises(RunError, match=r"report\.html holds no record: name the folder of a run"):
        load_record(page)
    path.write_text("{")
    with pytest.raises(RunError, match="is damaged"):
        load_record(path)


def test_measuring_imports_nothing_that_draws() -> None:
    code = (
        "import sys, throughtime.measurement, throughtime.workflow;"
        "assert not {'bokeh', 'throughtime.reporting'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_history_without_numbers_is_drawn() -> None:
    history = GradientHistory((0, 5), "rnn", {"rnn": ((), (0.0, None))}, {"rnn": (None, 0)}, {"rnn": (False, False)})
    picture = history.plot()[0]
    assert "reached back unknown steps" in picture.sentence
    assert picture.table.rows[1][2] == "−∞"


def test_a_treatment_shows_every_seed() -> None:
    picture = load_record(OLD / "treatment.json").plot()[0]
    assert picture.name == "trial"
    assert picture.sentence == "With 'as it is' 0 of 3 seeds learned; with 'orthogonal start' 4 of 5."
    assert picture.table.rows[0][:3] == ("as it is", 0, 3)


def test_of_many_arms_the_best_are_told_and_the_others_together() -> None:
    learned = {"as it is": 0, "a": 1, "b": 3, "c": 0, "d": 2, "e": 3, "f": 1}
    arms = [
        Arm(name, (0, 1, 2), (0.1, 0.5, 0.9), (number > 2, number > 1, number > 0)) for name, number in learned.items()
    ]
    picture = trial_picture(arms, target=0.8)
    assert picture is not None
    assert picture.sentence == (
        "With 'as it is' 0 of 3 seeds learned; with 'b' 3 of 3; with 'e' 3 of 3; with 'd' 2 of 3; "
        "with the other 3 arms together 2 of 9."
    )
