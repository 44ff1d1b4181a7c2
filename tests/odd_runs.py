"""Runs that are not as they should be, as they come about."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import throughtime
from throughtime.errors import NonFiniteError
from throughtime.training import Event, Stepped
from tiny import TINY

__all__ = ["failed", "killed", "not_finite", "one_step"]


def one_step(text: Path, out: Path) -> Path:
    """It made a single update."""
    return throughtime.train(text, out=out, steps=1, **TINY).path


def killed(text: Path, out: Path) -> Path:
    """It was killed at its third update, while it wrote a line, before its first checkpoint."""

    def stop(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        throughtime.train(text, out=out, steps=9, observers=[stop], **TINY)
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"event": "step", "st')
    return out


def failed(text: Path, out: Path) -> Path:
    """It stopped since its numbers were no longer finite."""
    choices = TINY | {"learning_rate": 1e30, "warmup_share": 0.0, "clip": 1e30, "cell": "elman", "weight_decay": 0.0}
    with pytest.raises(NonFiniteError):
        throughtime.train(text, out=out, steps=20, **choices)
    return out


def not_finite(text: Path, out: Path) -> Path:
    """Losses and norms in its metrics are NaN and infinite."""
    path = throughtime.train(text, out=out, steps=6, **TINY).path
    with (path / "metrics.jsonl").open("a") as file:
        for step, value in ((7, float("nan")), (8, float("inf"))):
            line = {"event": "step", "step": step, "loss_nats": value, "gradient_norm": value, "learning_rate": 0.1}
            file.write(json.dumps(line | {"clipped_gradient_norm": value, "seconds": float(step)}) + "\n")
    return path
