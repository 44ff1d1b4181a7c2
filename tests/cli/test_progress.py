"""What training shows as it happens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import throughtime
from throughtime.cli import progress
from throughtime.training import Evaluated, Evaluation, GradientSeen, Stepped
from tiny import TINY


def step(number: int, loss: float, norm: float = 0.5) -> Stepped:
    return Stepped(
        step=number,
        loss_nats=loss,
        gradient_norm=norm,
        clipped_gradient_norm=min(norm, 1.0),
        learning_rate=0.1,
        seconds=float(number),
    )


def evaluated(number: int, loss: float) -> Evaluated:
    found = Evaluation(head="next", loss_nats=loss, top1=0.1, top5=0.2, num_words=9, context_carried=True)
    return Evaluated(step=number, evaluation=found, unknown_rate=0.0, best=False)


def test_bars_show_how_a_gradient_fades() -> None:
    assert progress.bars(tuple(-0.5 * lag for lag in range(9))) == "█▇▆▅▄▃▂▁ "
    long = progress.bars(tuple(-0.01 * lag for lag in range(500)), plain=True)
    assert len(long) == progress.NUM_BARS
    assert long[0] == "@"
    assert long[-1] == " "
    assert progress.bars((0.0, None, 2.0)) == "█ █"


def test_plain_lines_where_there_is_no_terminal(
    text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with progress.shown() as observer:
        throughtime.train(text_file, out=tmp_path / "run", steps=3, observers=[observer], **TINY)
    lines = capsys.readouterr().err.splitlines()
    assert not any("\x1b" in line for line in lines)
    assert any(line.startswith("step 2 of 3: loss ") and "gradient reaches " in line for line in lines)
    assert lines[-1].startswith("step 3: the gradient reaches ")


def test_a_terminal_gets_the_gradient_as_bars(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress.shown() as observer:
        observer(GradientSeen(step=0, log10_gradient=(0.0, -1.0, -2.0), reach=2, reach_censored=True))
    assert "█▆▄ reaches at least 2 of 2 steps" in capsys.readouterr().err


COLOURS = re.compile(r"\x1b\[(?:\d+;)*(?:3\d|4\d|9\d|10\d)(?:;\d+)*m")


@pytest.mark.parametrize("refused", [False, True], ids=["colours", "NO_COLOR"])
def test_a_terminal_is_told_loss_speed_and_what_is_left_and_spared_colours_where_asked_to(
    refused: bool,
    text_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "160")
    if refused:
        monkeypatch.setenv("NO_COLOR", "1")
    with progress.shown() as observer:
        throughtime.train(text_file, out=tmp_path / "run", steps=40, observers=[observer], **TINY)
    said = capsys.readouterr().err
    assert re.search(r"loss \d\.\d+  perplexity [\d.]+.*words/s", said)
    assert re.search(r"\d:\d\d:\d\d", said)
    assert "gradient by lag █" in said
    assert (COLOURS.search(said) is None) is refused


def test_spikes_and_rising_losses_are_told_as_they_come(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.shown() as observer:
        for number in range(1, 40):
            observer(step(number, 3.0))
        observer(step(40, 3.0, norm=30.0))
        observer(step(41, 7.0))
        for number, loss in enumerate((3.0, 3.1, 3.2, 3.3, 3.4), start=42):
            observer(evaluated(number, loss))
    said = capsys.readouterr().err
    assert "step 41: the loss jumps to 7.00 nats; the gradient of update 40 was 60 times as large as usual" in said
    assert said.count("has risen 3 times in a row") == 1


def test_how_far_a_network_that_learns_on_has_come(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    with progress.learning_on() as told:
        assert capsys.readouterr().err == ""
        for done in (0, 64, 1280):
            told(done, 2000)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("learning on: 1,280 of 2,000 words, ")
    assert line.endswith(" s left")


def test_a_terminal_sees_a_network_learn_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "160")
    with progress.learning_on() as told:
        told(0, 2000)
        told(1280, 2000)
    assert "1,280 of 2,000 words" in capsys.readouterr().err
