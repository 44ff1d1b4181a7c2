"""Pages as a browser shows them."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from selenium.webdriver.support.ui import WebDriverWait

__all__ = ["console", "marks", "marks_in_print", "on_paper", "opened", "requests"]

_DRAWN = """
return [...document.querySelectorAll(".plot")].every(
  plot => plot.closest("details.more:not([open])") || plot.dataset.drawn);
"""

# For every figure on the page: its place, the colours that its glyphs ask for, and how many of these are in its canvas.
_MARKS = """
function canvases(node) {
  const found = node.tagName === "CANVAS" ? [node] : [];
  for (const child of node.children) found.push(...canvases(child));
  if (node.shadowRoot) for (const child of node.shadowRoot.children) found.push(...canvases(child));
  return found;
}
const result = [];
for (const plot of document.querySelectorAll(".plot[data-drawn]")) {
  const model = Bokeh.documents.flatMap(d => d.roots()).find(r => {
    const view = Bokeh.index.get_by_id(r.id); return view && plot.contains(view.el); });
  const wanted = new Set();
  for (const renderer of model.renderers) for (const name of ["line_color", "fill_color", "text_color"]) {
    const value = renderer.glyph && renderer.glyph[name] && renderer.glyph[name].value;
    if (typeof value === "string" && value.startsWith("#") && value.length === 7) wanted.add(value);
  }
  for (const renderer of model.renderers)
    for (const shade of renderer.glyph?.color_mapper?.palette ?? []) wanted.add(shade);
  const seen = new Set();
  for (const canvas of canvases(plot)) {
    if (!canvas.width || !canvas.height) continue;
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    for (let i = 0; i < pixels.length; i += 4) if (pixels[i + 3] === 255)
      seen.add("#" + [0, 1, 2].map(k => pixels[i + k].toString(16).padStart(2, "0")).join(""));
  }
  result.push([plot.id, [...wanted], [...wanted].filter(colour => seen.has(colour)).length]);
}
return result;
"""


def opened(driver: Any, path: Path, *, scheme: str = "light", width: int = 1100) -> None:
    """Show a page, and wait until its figures are drawn; logs of what was before are thrown away."""
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    for kind in ("browser", "performance"):
        driver.get_log(kind)
    driver.get(path.resolve().as_uri())
    WebDriverWait(driver, 60, poll_frequency=0.05).until(lambda page: page.execute_script(_DRAWN))


def console(driver: Any) -> list[str]:
    """What the console says, but for Bokeh's own greetings."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] != "INFO"]


def requests(driver: Any) -> set[str]:
    """The addresses that were asked for, but for data that lie in the page."""
    messages = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    urls = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    return {url for url in urls if not url.startswith("data:")}


def marks(driver: Any) -> list[tuple[str, list[str], int]]:
    """Of every figure that is drawn: its name, the colours of its glyphs, and how many of these can be seen in it."""
    return [tuple(entry) for entry in driver.execute_script(_MARKS)]


def marks_in_print(driver: Any) -> list[tuple[str, list[str], int]]:
    """The same at the moment at which the page is printed, with no frame drawn in between."""
    found = driver.execute_script("dispatchEvent(new Event('beforeprint'));" + _MARKS)
    driver.execute_script("dispatchEvent(new Event('afterprint'))")
    return [tuple(entry) for entry in found]


def on_paper(driver: Any) -> Counter[str]:
    """How many things are filled or drawn in each colour on the paper (A4) that the page is printed on."""
    size = {"paperWidth": 8.27, "paperHeight": 11.69}
    document = base64.b64decode(driver.execute_cdp_cmd("Page.printToPDF", size)["data"])
    found: Counter[str] = Counter()
    for stream in re.findall(rb"/FlateDecode[^>]*>>\s*stream\r?\n(.*?)\r?\nendstream", document, flags=re.DOTALL):
        drawn = zlib.decompressobj().decompress(stream)
        for colour in re.findall(rb"(?<![\d.])([\d.]+) ([\d.]+) ([\d.]+) rg\b", drawn):
            found["#" + "".join(f"{round(255 * float(channel)):02x}" for channel in colour)] += 1
    return found
