"""Shaded words can be read."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from throughtime.reporting.words import STRONGEST

LEGIBLE = 4.5
"""Contrast of small text, by WCAG 2.2, level AA."""


def schemes() -> dict[str, dict[str, str]]:
    """The variables of the page's style, as they are set for each medium in turn."""
    css = files("throughtime.reporting").joinpath("page.css").read_text(encoding="utf-8")
    found = {}
    for head, body in re.findall(r"(@media[^{]*\{\s*)?:root \{(.*?)\}", css, flags=re.DOTALL):
        name = "dark" if "dark" in head else "print" if "print" in head else "light"
        found[name] = dict(re.findall(r"--([\w]+): ([^;]+);", body))
    return found


def channels(colour: str) -> list[float]:
    if colour.startswith("#"):
        return [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    return [int(part) / 255 for part in colour.split(",")]


def luminance(colour: list[float]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: list[float], other: list[float]) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
@pytest.mark.parametrize("shade", ["shade", "against"])
def test_a_word_on_its_shade_is_legible(scheme: str, shade: str) -> None:
    colours = schemes()[scheme]
    card, over = channels(colours["card"]), channels(colours[shade])
    ground = [STRONGEST * o + (1 - STRONGEST) * c for o, c in zip(over, card, strict=True)]
    assert contrast(channels(colours["text"]), ground) >= LEGIBLE


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
@pytest.mark.parametrize("ink", ["text", "muted", "accent", "good", "bad", "warn", "info"])
def test_text_on_a_card_is_legible(scheme: str, ink: str) -> None:
    colours = schemes()[scheme]
    assert contrast(channels(colours[ink]), channels(colours["card"])) >= LEGIBLE
