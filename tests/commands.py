"""The commands of a page, made so small that tests run them: minutes and epochs become two steps, networks tiny."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path

from tiny import OPTIONS

__all__ = ["SCRIPT", "commands", "shrunk", "written"]

SCRIPT = """
import argparse
import torch

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int)
model, x = torch.nn.RNN(3, 8), torch.randn(10, 16, 3)
optimizer = torch.optim.Adam(model.parameters())
for _ in range(parser.parse_args().epochs):
    optimizer.zero_grad()
    torch.nn.functional.mse_loss(model(x)[0], torch.ones(10, 16, 8)).backward()
    optimizer.step()
"""
"""A reader's own, `train.py`."""


def commands(page: str) -> list[str]:
    """The lines of a page's console blocks, without what is said behind them."""
    blocks = re.findall(r"^ *```console\n(.*?)^ *```$", page, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.join(words) for line in lines if (words := shlex.split(line.removeprefix("$ "), comments=True))]


def shrunk(command: str) -> list[str]:
    """A command without its name, with two steps where it has minutes or epochs, and tiny."""
    name, *words = shlex.split(command)[1:]
    if name == "diagnose":  # the epochs behind a script are the script's own
        return [name, *words]
    if name == "bench":
        lags = words.index("--lag")
        end = next((place for place, word in enumerate(words) if place > lags and word.startswith("--")), len(words))
        words[lags + 1 : end] = ["5"]
        words = _with(words, "--minutes", "0.01")
        words = words if "--cells" in words else _with(words, "--cells", "lru")
        return [name, *(_with(words, "--seeds", "1") if "--seeds" in words else words)]
    if name == "treat":
        words = _with(words, "--steps", "2") if "--steps" in words else words
        return [name, *words, "--jobs", "1", "--remedy", "gentler-rate"]
    for budget in ("--minutes", "--epochs"):
        if budget in words:
            at = words.index(budget)
            words[at : at + 2] = ["--steps", "2"]
    if name in ("train", "compare") and "--resume" not in words:
        for option, value in zip(OPTIONS[::2], OPTIONS[1::2], strict=True):
            words = words if option == "--min-count" else _with(words, option, value)
    return [name, *words]


def written(words: list[str]) -> list[Path]:
    """The files and folders that a command says it writes."""
    options = [Path(value) for option, value in pairwise(words) if option in ("--out", "--html")]
    return [*options, *([Path(words[2])] if words[0] == "export" else [])]


def _with(words: list[str], option: str, value: str) -> list[str]:
    """With the option at that value, whatever it was."""
    if option not in words:
        return [*words, option, value]
    at = words.index(option)
    return [*words[: at + 1], value, *words[at + 2 :]]
