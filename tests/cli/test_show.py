"""What `predict --why` shows in a terminal."""

from __future__ import annotations

import re

import pytest

from throughtime.cli import show
from throughtime.workflow.explanation import Explanation, WordInfluence

COLOURS = re.compile(r"\x1b\[(?:\d+;)*(?:3\d|4\d)(?:;\d+)*m")
FOUND = Explanation(
    answer="pipe",
    log_probability_nats=-1.0,
    blank=2,
    words=(
        WordInfluence("lit", 0.8, 0.9),
        WordInfluence("his", -0.3, -0.2),
        WordInfluence("___", None, None),
        WordInfluence("and", 0.0, 0.0),
    ),
    agreement=1.0,
)


@pytest.mark.parametrize("refused", [False, True], ids=["colours", "NO_COLOR"])
def test_words_are_shaded_unless_colours_are_refused(
    refused: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    if refused:
        monkeypatch.setenv("NO_COLOR", "1")
    show.explanation(FOUND)
    sentence = next(line for line in capsys.readouterr().out.splitlines() if "[pipe]" in line)
    shaded = re.findall(r"\x1b\[(?:\d+;)*48;[\d;]+m(\w+)", sentence)
    assert shaded == ([] if refused else ["lit", "his"])
    assert (COLOURS.search(sentence) is None) is refused
