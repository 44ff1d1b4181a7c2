"""Pictures as files: a page, or images, which a browser without a window draws."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from throughtime.errors import InputError
from throughtime.storage import write_bytes, write_text

if TYPE_CHECKING:
    from throughtime.reporting.picture import Pictures

__all__ = ["browser", "save_pictures"]

_WIDTH = 900
"""Of an image, in pixels; a page sets the width itself."""
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_DRIVERS = ("chromedriver", "chromium-driver")


def save_pictures(pictures: Pictures, path: Path) -> tuple[Path, ...]:
    """See `Pictures.save`."""
    if path.suffix == ".html":
        write_text(path, pictures.html())
        return (path,)
    if path.suffix not in (".png", ".svg"):
        raise InputError(f"pictures are saved as .html, .png or .svg, not as {path.name}")
    several = len(pictures) > 1
    written = []
    with browser() as driver:
        for picture in pictures:
            target = path.with_stem(f"{path.stem}-{picture.name}") if several else path
            write_bytes(target, _image(picture.figure, path.suffix, driver))
            written.append(target)
    return tuple(written)


@contextmanager
def browser() -> Iterator[Any]:
    """A Chromium without a window.

    Raises:
        InputError: if there is none, or nothing to drive it with.
    """
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        raise InputError("images are drawn by a browser: pip install 'throughtime[images]', or save as .html") from None
    binary = next(filter(None, map(shutil.which, _BROWSERS)), None)
    driver_path = next(filter(None, map(shutil.which, _DRIVERS)), None)
    if binary is None or driver_path is None:
        raise InputError(
            "images are drawn by a browser, and there is no Chromium with its chromedriver on the path: install both "
            "(apt-get install chromium chromium-driver), or save as .html"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(driver_path))
    try:
        yield driver
    finally:
        driver.quit()


def _image(figure: Any, suffix: str, driver: Any) -> bytes:
    """The figure by itself, in light colours on white, whatever page it stands on."""
    from io import BytesIO

    from bokeh.io.export import get_screenshot_as_png, get_svg
    from bokeh.resources import Resources

    resources = Resources(mode="inline")
    before = figure.sizing_mode, figure.width, figure.background_fill_color, figure.output_backend
    figure.update(sizing_mode=None, width=_WIDTH, background_fill_color="#ffffff", border_fill_color="#ffffff")
    try:
        if suffix == ".svg":
            figure.output_backend = "svg"
            return str(get_svg(figure, driver=driver, resources=resources)[0]).encode()
        found = BytesIO()
        get_screenshot_as_png(figure, driver=driver, resources=resources).save(found, "PNG")
        return found.getvalue()
    finally:
        mode, width, ground, backend = before
        figure.update(
            sizing_mode=mode,
            width=width,
            background_fill_color=ground,
            border_fill_color=ground,
            output_backend=backend,
        )
