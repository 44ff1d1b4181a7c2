"""A recipe: all choices of a run as one frozen value, read from and written to TOML, and the model that it builds."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_origin, get_type_hints

import tomli_w

from throughtime.check import at_least, nearest, one_of, valid_seed
from throughtime.errors import RecipeError
from throughtime.text.choices import TextChoices

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from throughtime.model import WordPredictor

__all__ = ["MODELS", "Budget", "Compute", "Plan", "Recipe", "build", "differences"]

MODELS = ("recurrent", "window", "cloze")
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "float32", "bfloat16")
MOST_THREADS = 1024
"""Where the system has no room for one more thread, the library that starts them ends the process."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The treatable part of a recipe: what a remedy may change.

    Attributes:
        cell: the recurrent cell; a window model has none and ignores it.
        start: the named initialisation of the cell; empty for its own.
        num_layers: recurrent layers, or hidden layers of a window model.
        embedding_size: E.
        hidden_size: H.
        dropout: share of features dropped, the same at all steps of a window.
        learning_rate: the peak of AdamW's.
        warmup_share: share of all steps over which the learning rate rises; it then falls along a cosine.
        weight_decay: AdamW's, on matrices only.
        clip: the largest norm of the gradient over all parameters.
        window: steps of truncated backpropagation through time.
        num_streams: stretches of text read side by side (the batch).
        carry: whether the state is carried from window to window.
        patience: evaluations in a row without a better loss after which training stops.
    """

    cell: str = "lstm"
    start: str = ""
    num_layers: int = 1
    embedding_size: int = 512
    hidden_size: int = 512
    dropout: float = 0.3
    learning_rate: float = 3e-3
    warmup_share: float = 0.05
    weight_decay: float = 0.1
    clip: float = 1.0
    window: int = 64
    num_streams: int = 40
    carry: bool = True
    patience: int = 5

    def __post_init__(self) -> None:
        for name in ("num_layers", "embedding_size", "hidden_size", "window", "num_streams", "patience"):
            at_least(f"plan.{name}", getattr(self, name), 1)
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise RecipeError(f"plan.{name} must be above 0, not {getattr(self, name):g}")
        at_least("plan.weight_decay", self.weight_decay, 0)
        for name in ("learning_rate", "weight_decay"):
            if math.isinf(getattr(self, name)):
                raise RecipeError(f"plan.{name} must be a number, not infinity")
        for name in ("dropout", "warmup_share"):
            if not 0 <= getattr(self, name) < 1:
                raise RecipeError(f"plan.{name} must lie in [0, 1), not {getattr(self, name):g}")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long to train: minutes, epochs or steps; exactly one is above 0.

    Attributes:
        minutes: wall-clock time of training, turned into steps by a short measurement before step 1.
        epochs: passes over the training text.
        steps: updates.
    """

    minutes: float = 0.0
    epochs: float = 0.0
    steps: int = 0

    def __post_init__(self) -> None:
        given = [value for value in (self.minutes, self.epochs, self.steps) if value != 0]
        if len(given) != 1 or not 0 < given[0] < math.inf:
            raise RecipeError("a budget is either minutes, or epochs, or steps, a number above 0")


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Where and how numbers are computed; "auto" is settled before step 1.

    Attributes:
        device: "cpu", "cuda" or "auto".
        threads: threads of one process; 0 for torch's choice.
        precision: of the large products of the softmax in training: "float32", "bfloat16" or "auto".
    """

    device: str = "auto"
    threads: int = 0
    precision: str = "auto"

    def __post_init__(self) -> None:
        one_of("device", self.device, DEVICES)
        one_of("precision", self.precision, PRECISIONS)
        at_least("threads", self.threads, 0)
        if self.threads > MOST_THREADS:
            raise RecipeError(f"threads must be at most {MOST_THREADS}, not {self.threads}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All choices of a run.

    Attributes:
        model: "recurrent", "window" or "cloze".
        context_words: n, the words that a window model reads on a side.
        sample_size: words sampled for the training softmax; 0 for an exact one.
        text: what is read, and how.
        plan: the treatable part.
        budget: how long to train.
        compute: where and how numbers are computed.
        seed: of weights, dropout, samples and the order of windows.
    """

    model: str = "recurrent"
    context_words: int = 5
    sample_size: int = 4096
    text: TextChoices = field(default_factory=TextChoices)
    plan: Plan = field(default_factory=Plan)
    budget: Budget = field(default_factory=lambda: Budget(minutes=5.0))
    compute: Compute = field(default_factory=Compute)
    seed: int = 0

    def __post_init__(self) -> None:
        one_of("model", self.model, MODELS)
        at_least("context_words", self.context_words, 1)
        at_least("sample_size", self.sample_size, 0)
        valid_seed(self.seed)

    def to_toml(self) -> str:
        """The recipe as TOML."""
        return tomli_w.dumps(_plain(self))

    @classmethod
    def from_toml(cls, text: str) -> Recipe:
        """The recipe that `to_toml` wrote.

        Raises:
            RecipeError: if the text is no TOML, or names what no recipe has.

        Example:
            >>> Recipe.from_toml(Recipe(seed=3).to_toml()) == Recipe(seed=3)
            True
        """
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(f"the recipe is no TOML: {error}") from None
        return cast("Recipe", _from_plain(cls, values, ""))

    def chosen(self, **choices: object) -> Recipe:
        """The recipe with some entries replaced, each named without its group.

        A budget replaces the budget: `chosen(epochs=3)` forgets the minutes.

        Raises:
            RecipeError: if no entry has such a name (the nearest is offered), or a value does not fit.

        Example:
            >>> Recipe().chosen(cell="gru", epochs=2).budget
            Budget(minutes=0.0, epochs=2.0, steps=0)
            >>> Recipe().chosen(cel="gru")
            Traceback (most recent call last):
            throughtime.errors.RecipeError: a recipe has no entry 'cel': did you mean 'cell'?
        """
        values = _plain(self)
        groups = {name: group for group in values.values() if isinstance(group, dict) for name in group}
        owners = {name: values for name in values if not isinstance(values[name], dict)} | groups
        if any(name in values["budget"] for name in choices):
            values["budget"].update(minutes=0.0, epochs=0.0, steps=0)
        for name, value in choices.items():
            if name not in owners:
                raise RecipeError(f"a recipe has no entry '{name}': {nearest(name, owners)}")
            owners[name][name] = list(value) if isinstance(value, tuple) else value
        return cast("Recipe", _from_plain(Recipe, values, ""))

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """The recipe in a file, as `storage.write_text` wrote it.

        Raises:
            RecipeError: if it cannot be read.
        """
        try:
            return cls.from_toml(path.read_text(encoding="utf-8", errors="surrogateescape"))
        except OSError as error:
            raise RecipeError(f"cannot read the recipe {path}: {error}") from None


def differences(old: Recipe, new: Recipe) -> list[str]:
    """One line for every choice in which two recipes differ.

    Example:
        >>> differences(Recipe(seed=1), Recipe(seed=2))
        ['seed: 1 in the run, 2 now']
    """
    before, after = _flat(_plain(old)), _flat(_plain(new))
    return [f"{key}: {before[key]} in the run, {after[key]} now" for key in before if before[key] != after[key]]


def build(recipe: Recipe, counts: Tensor, *, matmul_dtype: torch.dtype) -> WordPredictor:
    """The untrained model of a recipe, its weights drawn from torch's global generator.

    Args:
        recipe: the choices.
        counts: (V,) how often each word of the vocabulary stands in the training text.
        matmul_dtype: what the large products of the softmax are computed in.
    """
    from throughtime.model import ClozePredictor, RecurrentPredictor, Sizes, WindowPredictor

    plan = recipe.plan
    sizes = Sizes(
        embedding_size=plan.embedding_size,
        hidden_size=plan.hidden_size,
        num_layers=plan.num_layers,
        dropout=plan.dropout,
        sample_size=recipe.sample_size,
        matmul_dtype=matmul_dtype,
    )
    if recipe.model == "window":
        return WindowPredictor(counts, sizes, words=recipe.context_words)
    predictor = ClozePredictor if recipe.model == "cloze" else RecurrentPredictor
    return predictor(counts, sizes, cell=plan.cell, start=plan.start or None)


def _plain(value: Any) -> Any:
    """Dataclasses as dictionaries, tuples as lists: what TOML can hold."""
    if dataclasses.is_dataclass(value):
        return {entry.name: _plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    return list(value) if isinstance(value, tuple) else value


def _from_plain(kind: type[Any], values: dict[str, Any], where: str) -> Any:
    hints = get_type_hints(kind)
    known = [entry.name for entry in dataclasses.fields(kind)]
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise RecipeError(f"the recipe has no entry '{where}{name}': {nearest(name, known)}")
        hint = hints[name]
        expected = get_origin(hint) or hint
        if dataclasses.is_dataclass(expected) and isinstance(value, dict):
            value = _from_plain(hint, value, f"{where}{name}.")
        elif expected is tuple and isinstance(value, list):
            value = tuple(value)
        elif expected is float and type(value) is int:
            value = float(value)
        if type(value) is not expected:
            raise RecipeError(f"'{where}{name}' in the recipe must be {expected.__name__}, not {type(value).__name__}")
        arguments[name] = value
    return kind(**arguments)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
