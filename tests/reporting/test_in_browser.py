"""The report of a real run, as a browser shows it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import throughtime
from throughtime.reporting import Arm, TextRecord, read_run, run_page, trial_picture
from throughtime.reporting.ink import GREEN, PLUM
from throughtime.reporting.page import Section
from throughtime.reporting.page import page as page_of
from throughtime.workflow import report

pytest.importorskip("selenium")

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

import odd_runs
from report_pages import console, marks, marks_in_print, on_paper, opened, requests

FIGURES = {
    "horizons",
    "gradient-history",
    "losses",
    "norms",
    "rate",
    "updates",
    "exponents",
    "singular-values",
    "saturation",
    "saturation-by-step",
    "by-place",
    "by-frequency",
}
TOOLTIP = """
function text(node) {
  let found = node.classList && node.classList.contains("bk-Tooltip") ? (node.shadowRoot || node).textContent : "";
  for (const child of node.children) found += text(child);
  if (node.shadowRoot) for (const child of node.shadowRoot.children) found += text(child);
  return found;
}
return text(document.body);
"""


EDGES = """
function canvases(node) {
  const found = [...node.children].flatMap(child => [child, ...canvases(child)]).filter(e => e.tagName === "CANVAS");
  return node.shadowRoot ? [...found, ...canvases(node.shadowRoot)] : found;
}
return [...document.querySelectorAll("[id^=gradient-history][data-drawn]")].filter(plot => canvases(plot).some(canvas =>
  canvas.width > 100 && canvas.getContext("2d").getImageData(0, 0, 1, canvas.height).data.some(value => value > 0)
)).map(plot => plot.id);
"""


@pytest.fixture(scope="module")
def page(run_folder: Path) -> Path:
    return report(run_folder)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_figure_has_marks_and_nothing_is_asked_for(driver: Any, page: Path, scheme: str) -> None:
    assert page.stat().st_size < 2_000_000
    opened(driver, page, scheme=scheme)
    found = {name.removesuffix("-plot"): (colours, seen) for name, colours, seen in marks(driver)}
    assert set(found) == FIGURES
    for name, (colours, seen) in found.items():
        assert seen > 0, (name, colours)
    assert console(driver) == []
    assert requests(driver) == {page.resolve().as_uri()}


def test_dark_pages_have_dark_figures(driver: Any, page: Path) -> None:
    opened(driver, page)
    ground = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    colours = {name: set(wanted) for name, wanted, _ in marks(driver)}
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    assert driver.execute_script("return getComputedStyle(document.body).backgroundColor") != ground
    after = {name: set(wanted) for name, wanted, _ in marks(driver)}
    assert all(after[name] and not after[name] & colours[name] for name in colours)


@pytest.mark.parametrize("width", [390, 1100])
def test_it_is_as_wide_as_the_window(driver: Any, page: Path, width: int) -> None:
    opened(driver, page, width=width)
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    drawn = "[...document.querySelectorAll('.plot')].filter(plot => plot.dataset.drawn)"
    narrow = driver.execute_script(f"return Math.min(...{drawn}.map(plot => plot.clientWidth))")
    assert narrow > 0.7 * min(width, 900)


@pytest.mark.parametrize("width", [390, 1100])
def test_nothing_is_left_at_the_edge_of_what_was_drawn_at_another_size(driver: Any, page: Path, width: int) -> None:
    """Bokeh does not clear the first column of a canvas, so that a label must not reach it, however narrow a figure."""
    opened(driver, page, width=width)
    assert driver.execute_script(EDGES) == []


def test_numbers_show_under_the_pointer(driver: Any, page: Path) -> None:
    opened(driver, page)
    plot = driver.find_element(By.ID, "gradient-history-plot")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
    ActionChains(driver).move_to_element(plot).perform()
    WebDriverWait(driver, 20, poll_frequency=0.05).until(lambda there: "lag" in there.execute_script(TOOLTIP))
    assert "log10 of the gradient" in driver.execute_script(TOOLTIP)


def test_figures_have_words_and_are_reached_by_the_keyboard(driver: Any, page: Path) -> None:
    opened(driver, page)
    for figure in driver.find_elements(By.TAG_NAME, "figure"):
        name = figure.get_attribute("id")
        assert driver.execute_script(f"return document.getElementById('{name}-says').textContent.length") > 20
        assert driver.execute_script(f"return document.querySelectorAll('#{name} td').length") > 0
    reached = set()
    for _ in range(40):
        ActionChains(driver).send_keys(Keys.TAB).perform()
        reached.add(driver.execute_script("return document.activeElement.id || document.activeElement.tagName"))
    assert {"horizons", "gradient-history", "losses", "SUMMARY"} <= reached


def test_what_stands_for_tools_without_room_is_never_seen(driver: Any, page: Path) -> None:
    """A toolbar that has no room holds three dots, which must be gone at once where it hides."""
    opened(driver, page)
    shown = """
    const seen = [];
    for (const view of Bokeh.index) {
      const bar = view.toolbar_panel?.toolbar_view;
      if (!bar) continue;
      bar.set_visibility(true);
      getComputedStyle(bar.el).opacity;
      bar.set_visibility(false);
      seen.push(getComputedStyle(bar.el).visibility + getComputedStyle(bar.el).opacity);
    }
    return seen;
    """
    assert set(driver.execute_script(shown)) == {"hidden0"}
    put_in = """
    const bars = [...Bokeh.index].map(view => view.toolbar_panel?.toolbar_view).filter(bar => bar);
    for (const bar of bars) bar.shadow_el.append(bar._overflow_el);
    const found = bars.map(bar => getComputedStyle(bar._overflow_el).display);
    for (const bar of bars) bar._overflow_el.remove();
    return found;
    """
    assert set(driver.execute_script(put_in)) == {"none"}


def test_a_layer_is_drawn_when_it_is_asked_for(driver: Any, page: Path) -> None:
    opened(driver, page)
    more = driver.find_element(By.CSS_SELECTOR, "details.more > summary")
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", more)
    more.click()
    WebDriverWait(driver, 20, poll_frequency=0.05).until(
        lambda there: any(name.startswith("gradient-history-layer") and seen for name, _, seen in marks(there))
    )


def test_text_of_the_corpus_is_text(driver: Any, page: Path, run_folder: Path, tmp_path: Path) -> None:
    files = read_run(run_folder)
    evil = "</script><script>window.hacked=1</script>"
    image = "<img src=x onerror=window.hacked=1>"
    blank = {
        "words": ("It", evil, image, "."),
        "blank": 2,
        "guesses": ((image, 0.5), (evil, 0.25)),
        "influence": (0.1, -0.2, None, None),
        "left_out": (0.1, 0.2, None, None),
        "agreement": None,
    }
    assert isinstance(files.text, TextRecord)
    text = replace(files.text, blanks=(blank,), by_place=({"bin": evil, "num_words": 3, "perplexity": {image: 2.0}},))
    path = tmp_path / "page.html"
    path.write_text(run_page(replace(files, text=text)), encoding="utf-8")
    opened(driver, path)
    assert driver.execute_script("return window.hacked === undefined")
    assert driver.execute_script("return document.querySelectorAll('b script, img, i').length") == 0
    shown = driver.execute_script("return document.body.textContent")
    assert evil in shown
    assert image in shown
    assert run_folder.name in driver.find_element(By.TAG_NAME, "h1").text
    assert console(driver) == []


def test_a_page_without_most_of_its_records(driver: Any, run_folder: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(run_folder, bare, ignore=shutil.ignore_patterns("records", "diagnosis.json", "outcome.json"))
    opened(driver, throughtime.report(bare, measure=False))
    assert {name for name, _, _ in marks(driver)} == {"losses-plot", "norms-plot", "rate-plot"}
    shown = driver.execute_script("return document.body.textContent")
    assert "throughtime diagnose" in shown
    assert "it has not" in shown
    assert console(driver) == []


@pytest.mark.parametrize("kind", ["one_step", "killed", "failed", "not_finite"])
def test_pages_of_runs_that_are_not_as_they_should_be(driver: Any, text_file: Path, tmp_path: Path, kind: str) -> None:
    page = throughtime.report(getattr(odd_runs, kind)(text_file, tmp_path / "run"), measure=False)
    assert page.stat().st_size < 2_000_000
    opened(driver, page, width=390)
    found = {name.removesuffix("-plot"): seen for name, _, seen in marks(driver)}
    if kind != "failed":  # which may end at its first update
        assert {"losses", "rate"} <= set(found)
    assert [name for name, seen in found.items() if not seen] == []
    assert driver.execute_script("return document.documentElement.scrollWidth") <= 390
    assert console(driver) == []
    assert requests(driver) == {page.resolve().as_uri()}


def test_what_is_printed_from_a_dark_page_is_light(driver: Any, page: Path) -> None:
    opened(driver, page, scheme="dark")
    dark = {name: set(colours) for name, colours, _ in marks(driver)}
    printed = {name: (set(colours), seen) for name, colours, seen in marks_in_print(driver)}
    for name, (colours, seen) in printed.items():
        assert colours
        assert not colours & dark[name]
        assert seen > 0, name
    assert {name: set(colours) for name, colours, _ in marks(driver)} == dark


def test_paper_has_all_marks_whatever_the_page_looked_like(driver: Any, page: Path) -> None:
    """Those of the legends too, which are canvases of their own."""
    opened(driver, page)
    from_light = on_paper(driver)
    opened(driver, page, scheme="dark")
    from_dark = on_paper(driver)
    for ink in (GREEN, PLUM):  # lines are images on paper; what is drawn in their colours are the marks of the legends
        assert from_light[ink.light] == from_dark[ink.light] > 0
        assert from_light[ink.dark] == from_dark[ink.dark] == 0


def test_nothing_is_wider_than_the_figures_on_paper(driver: Any, page: Path) -> None:
    """A browser shrinks a page to what is widest in it."""
    opened(driver, page, width=794)  # A4
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    widths = """
    const main = document.querySelector("main").getBoundingClientRect();
    return [...document.querySelectorAll("main *")].filter(node => node.checkVisibility()).map(
      node => [node.tagName, node.getBoundingClientRect().right - main.right]).filter(([, over]) => over > 1);
    """
    assert driver.execute_script(widths) == []
    ground = "return getComputedStyle(document.body).backgroundColor"
    assert driver.execute_script(ground) == "rgb(255, 255, 255)"
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_the_recipe_is_printed_and_the_tables_of_figures_are_not(driver: Any, page: Path) -> None:
    visible = "return [...document.querySelectorAll('{}')].map(node => node.checkVisibility())"
    opened(driver, page)
    assert driver.execute_script(visible.format("details.told pre")) == [False]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert all(driver.execute_script(visible.format("details.told pre, details.told > summary")))
    assert not any(driver.execute_script(visible.format("figure table")))
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_the_page_of_a_trial(driver: Any, tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parent / "records" / "treatment.json", tmp_path)
    page = throughtime.report(tmp_path / "treatment.json")
    opened(driver, page)
    assert {name for name, _, seen in marks(driver) if seen} == {"trial-plot", "horizons-plot"}
    assert console(driver) == []
    assert requests(driver) == {page.resolve().as_uri()}


def test_long_names_of_arms_leave_room_for_the_dots_on_a_phone(driver: Any, tmp_path: Path) -> None:
    name = "linear recurrent units, ring start + orthogonal start at the critical gain"
    arms = [Arm(each, (0, 1), (0.2, 0.9), (False, True)) for each in ("baseline", name)]
    picture = trial_picture(arms, target=0.8)
    assert picture is not None
    path = tmp_path / "trial.html"
    path.write_text(page_of("Trial", [Section("", pictures=[picture])]), encoding="utf-8")
    opened(driver, path, width=390)
    assert driver.execute_script("return Bokeh.documents[0].roots()[0].inner_width") > 100
    assert [seen for _, _, seen in marks(driver) if seen == 0] == []
