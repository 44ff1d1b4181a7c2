"""Several runs on one page, and the page that a comparison leaves behind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import throughtime
from report_pages import console, marks, opened, requests
from throughtime.workflow import diagnose_run
from tiny import TINY


def test_a_comparison_leaves_a_page(text_file: Path, tmp_path: Path) -> None:
    throughtime.compare(text_file, only=["elman", "cloze"], out=tmp_path / "all", steps=3, **TINY)
    shown = (tmp_path / "all" / "report.html").read_text(encoding="utf-8")
    assert "<h1>Comparison: all</h1>" in shown
    assert "5-gram" in shown
    assert "cloze fills blanks, and has no next word." in shown
    assert "Asked for a blank, which is easier, cloze comes to " in shown
    columns = set(re.findall(r'<th scope="col"[^>]*>([^<]+)</th>', shown))
    assert {"perplexity", "blank perplexity", "context", "next 1", "blank 5", "reach", "words/s", "seconds"} <= columns
    assert not {"need", "use", "diagnosis"} & columns  # of which nothing is known yet
    elman = tmp_path / "all" / "elman"
    assert f"a comparison makes one only where it is told --diagnose: throughtime diagnose {elman} makes it" in shown
    assert "Blanks in real sentences" in shown
    assert 'id="gradient-history-0"' in shown
    assert 'id="gradient-history-1"' in shown
    assert "cloze, Gradient through time, left layer 1" in shown
    again = throughtime.report(tmp_path / "all" / "elman", tmp_path / "all" / "cloze", out=tmp_path / "two.html")
    assert "2 runs" in again.read_text(encoding="utf-8")
    diagnose_run(elman)
    shown = throughtime.report(tmp_path / "all").read_text(encoding="utf-8")
    assert '<th scope="col">diagnosis</th>' in shown
    assert "No diagnosis" not in shown


@pytest.mark.parametrize("width", [390, 1100])
def test_the_page_of_a_comparison_in_a_browser(driver: Any, text_file: Path, tmp_path: Path, width: int) -> None:
    throughtime.compare(text_file, only=["elman", "cloze"], out=tmp_path / "all", steps=3, **TINY)
    page = tmp_path / "all" / "report.html"
    assert page.stat().st_size < 2_000_000
    opened(driver, page, width=width)
    seen = {name.removesuffix("-plot"): num for name, _, num in marks(driver)}
    assert set(seen) == {"scores", "validation", "gradient-history-0", "gradient-history-1"}
    assert [name for name, num in seen.items() if not num] == []
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    assert console(driver) == []
    assert requests(driver) == {page.resolve().as_uri()}


def test_a_comparison_diagnoses_where_it_is_told_to(text_file: Path, tmp_path: Path) -> None:
    choices = {"only": ["window", "elman"], "out": tmp_path / "all", "steps": 3, "diagnose": True}
    throughtime.compare(text_file, **choices, **TINY)
    shown = (tmp_path / "all" / "report.html").read_text(encoding="utf-8")
    assert '<th scope="col">diagnosis</th>' in shown
    assert (tmp_path / "all" / "elman" / "diagnosis.json").exists()
    assert not (tmp_path / "all" / "window" / "diagnosis.json").exists()


def test_a_model_without_a_gradient_through_time_says_so(text_file: Path, tmp_path: Path) -> None:
    for model in ("window", "recurrent"):
        throughtime.train(text_file, out=tmp_path / model, model=model, steps=2, **TINY)
    page = throughtime.report(tmp_path / "window", tmp_path / "recurrent", out=tmp_path / "two.html")
    shown = page.read_text(encoding="utf-8")
    assert "window: a window model has no recurrence, so there is no gradient through time." in shown
    assert 'id="gradient-history-1"' in shown
