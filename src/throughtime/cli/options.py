"""The options that several commands share, as dataclasses that cyclopts lays flat.

Every field is None unless it was given, so that a recipe keeps its own value, and a resumed run its own choices.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any

from cyclopts import Parameter

from throughtime.check import valid_seed
from throughtime.errors import RecipeError

__all__ = [
    "STANDARD_INPUT",
    "BudgetOptions",
    "ComputeOptions",
    "Json",
    "MachineOptions",
    "PlanOptions",
    "TextOptions",
    "given",
    "machine",
    "named",
]

Json = Annotated[bool, Parameter(negative=(), help="Print JSON.")]

STANDARD_INPUT = "<standard input>"
"""What a lone "-" is called while cyclopts parses, which takes every word that begins with "-" for an option."""


@Parameter(name="*", group="Text")
@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """How a text is read.

    Attributes:
        lower: Fold letter case.
        tokenised: The text is one sentence a line already, its words separated by spaces.
        encoding: Of the bytes; utf-8 if not given.
        errors: "strict" refuses bytes that are not of the encoding, "replace" replaces and counts them.
        min_count: How often a word must stand in the training text to be in the vocabulary.
        max_words: The largest vocabulary.
        max_bytes: The most that a compressed file may unpack to.
    """

    lower: bool | None = None
    tokenised: bool | None = None
    encoding: str | None = None
    errors: str | None = None
    min_count: int | None = None
    max_words: int | None = None
    max_bytes: int | None = None


@Parameter(name="*", group="Network and training")
@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """The network and how it is trained.

    Attributes:
        start: A named initialisation of the cell.
        num_layers: Recurrent layers, or hidden layers of a window model.
        embedding_size: Features of a word vector.
        hidden_size: Units of a layer.
        dropout: Share of features dropped, the same at all steps of a window.
        learning_rate: The peak of AdamW's.
        weight_decay: AdamW's, on matrices only.
        clip: The largest gradient norm that is applied.
        window: Steps of truncated backpropagation through time.
        num_streams: Stretches of text read side by side (the batch).
        patience: Evaluations without a better loss after which training stops.
        context_words: Words that a window model reads on a side.
        sample_size: Words sampled for the training softmax; 0 for an exact one.
    """

    start: str | None = None
    num_layers: int | None = None
    embedding_size: int | None = None
    hidden_size: int | None = None
    dropout: float | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    clip: float | None = None
    window: int | None = None
    num_streams: int | None = None
    patience: int | None = None
    context_words: int | None = None
    sample_size: int | None = None


@Parameter(name="*", group="Budget")
@dataclass(frozen=True, kw_only=True)
class BudgetOptions:
    """How long to train; give one.

    Attributes:
        minutes: Wall-clock minutes, turned into steps by a short measurement.
        epochs: Passes over the training text.
        steps: Updates.
    """

    minutes: float | None = None
    epochs: float | None = None
    steps: int | None = None


@Parameter(name="*", group="Machine")
@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """Where and how numbers are computed.

    Attributes:
        seed: Of weights, dropout, samples and the order of windows.
        threads: Threads of one process.
        device: "cpu", "cuda" or "auto".
        precision: Of the large products of the training softmax: "float32", "bfloat16" or "auto".
    """

    seed: int | None = None
    threads: int | None = None
    device: str | None = None
    precision: str | None = None


@Parameter(name="*", group="Machine")
@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """Where and how numbers are computed.

    Attributes:
        seed: Of what is drawn; where nothing is, it changes nothing.
        threads: Threads of the process.
        device: "cpu", "cuda" or "auto".
    """

    seed: int | None = None
    threads: int | None = None
    device: str | None = None


def named(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The texts as they were written."""
    return tuple("-" if text == STANDARD_INPUT else text for text in texts)


def machine(compute: MachineOptions | None, *names: str) -> dict[str, Any]:
    """What was given of `names`, which are those that make a difference to a command; of a device at least the name.

    Raises:
        RecipeError: if a number or a device is none, or a GPU is asked for where nothing can run on one.
    """
    from throughtime.recipe import Compute

    found = given(compute)
    Compute(**{name: value for name, value in found.items() if name != "seed"})
    valid_seed(found.get("seed", 0))
    if "device" not in names and found.get("device") == "cuda":
        raise RecipeError("this runs on the CPU, whatever device there is: leave out --device cuda")
    return {name: value for name, value in found.items() if name in names}


def given(*groups: Any) -> dict[str, Any]:
    """What was given, by name."""
    return {
        entry.name: value
        for group in groups
        if group is not None
        for entry in fields(group)
        if (value := getattr(group, entry.name)) is not None
    }
