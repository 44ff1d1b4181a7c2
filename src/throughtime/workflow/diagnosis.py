"""The diagnosis of a run of this package, and of whatever a factory in the user's own code returns."""

from __future__ import annotations

import importlib
import inspect
import math
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from throughtime.check import at_least, nearest
from throughtime.diagnosis import Diagnosis, diagnose, joined
from throughtime.errors import InputError
from throughtime.measurement import WatchRecord
from throughtime.model import ClozePredictor
from throughtime.recipe import Recipe
from throughtime.remedy import Prescription, facts_of, prescribe
from throughtime.storage import MetricsFile, RunFolder
from throughtime.storage.json_text import Json
from throughtime.text import open_corpus
from throughtime.trial.surroundings import num_threads
from throughtime.workflow.horizons import STEPS
from throughtime.workflow.predictor import load
from throughtime.workflow.run import Run
from throughtime.workflow.sides import Side, sides_of

__all__ = [
    "DIAGNOSIS_FILE",
    "Examined",
    "diagnose_factory",
    "diagnose_run",
    "examine_factory",
    "examine_run",
    "examined",
    "examined_after_training",
    "factory_named",
    "is_factory",
]

DIAGNOSIS_FILE = "diagnosis.json"
_SEQUENCES = 32
_FEWEST_SEQUENCES = 4
_ARGUMENTS = [name for name in inspect.signature(diagnose).parameters if name not in ("ignore", "seed")]
_REQUIRED = ("model", "inputs", "targets", "loss")
_PATIENT = ("build", "batches", "loss")


@dataclass(frozen=True)
class Examined:
    """What is wrong, and what to do about it.

    Attributes:
        diagnosis: the findings.
        prescription: what fits the patient, the first thing first.
    """

    diagnosis: Diagnosis
    prescription: Prescription

    def parts(self) -> dict[str, Json]:
        """Both, each under its name."""
        return {"diagnosis": self.diagnosis.to_json(), "prescription": self.prescription.to_json()}

    def to_json(self) -> dict[str, Json]:
        """The fields of the diagnosis, and the prescription beside them."""
        return {**self.diagnosis.to_json(), "prescription": self.prescription.to_json()}


def diagnose_run(run: str | Path, **choices: Any) -> Diagnosis:
    """The diagnosis alone of `examine_run`, which see."""
    return examine_run(run, **choices).diagnosis


def examine_run(
    run: str | Path,
    *,
    ignore: Collection[str] = (),
    sequences: int = _SEQUENCES,
    seed: int = 0,
    device: str = "auto",
    threads: int = 0,
) -> Examined:
    """What is wrong with a run's network and its training, from its validation text and its metrics; and what to do.

    Args:
        run: the folder of a run; it gets the diagnosis as `diagnosis.json`. A two-sided network is looked at from
            either side of a blank, and a window model not at all.
        ignore: codes that are not wanted.
        sequences: stretches of validation text, spread evenly; fewer where a short text would make them overlap.
        seed: of all that is drawn.
        device: "cpu", "cuda" or "auto".
        threads: threads that torch uses; 0 leaves them.

    Raises:
        RecipeError: if the network has no recurrence, or a code is unknown.
        InputError: if the validation text is too short.
        RunError: if the run cannot be used.
    """
    folder = RunFolder.open(Path(run))
    plan = Recipe.read(folder.recipe_path).plan
    at_least("sequences", sequences, 2)
    predictor = load(run, device=device, threads=threads)
    num_words = len(open_corpus(folder.corpus_path).valid) - 1
    beyond = predictor.model.after if isinstance(predictor.model, ClozePredictor) else 0
    sides = sides_of(run, predictor, *_apart(num_words - beyond, sequences, plan.window))
    given: dict[str, Any] = {"watch": _history(folder), "window": plan.window, "time_dim": 0}
    diagnoses = {name: _of_side(side, ignore=ignore, seed=seed, **given) for name, side in sides.items()}
    first = next(iter(sides.values()))
    found = joined(diagnoses) if len(sides) > 1 else next(iter(diagnoses.values()))
    found.save(folder.path / DIAGNOSIS_FILE)
    facts = facts_of(first.model, first.inputs, **given)
    facts = replace(
        facts, optimizer="AdamW", learning_rate=plan.learning_rate, weight_decay=plan.weight_decay, hand_written=()
    )
    return Examined(found, prescribe(found, facts))


def _of_side(side: Side, **given: Any) -> Diagnosis:
    """Of one half of the sequences; the other is for validation."""
    half = side.targets.size(1) // 2
    inputs, targets = side.sequences(slice(half))
    return diagnose(side.model, inputs, targets, side.loss, validation=side.sequences(slice(half, None)), **given)


def examined_after_training(run: Run) -> Examined | None:
    """What is wrong with a run that has just ended, and what to do; None in a process that does not write.

    Raises:
        RecipeError: if the network has no recurrence.
        InputError: if the validation text is too short.
    """
    return examine_run(run.path) if run.test else None


def _apart(num_words: int, sequences: int, window: int) -> tuple[int, int]:
    """Steps and number of stretches that do not overlap: what stands in the text once is to count once.

    They are as long as for `throughtime.measure_run`; where the text is short, shorter, down to twice the window.
    """
    steps = max(2, min(STEPS, num_words, max(2 * window, num_words // sequences)))
    return steps, max(_FEWEST_SEQUENCES, min(sequences, num_words // steps))


def _history(folder: RunFolder) -> WatchRecord:
    """The metrics of a run as what a watch would have seen of them."""
    steps = [line for line in MetricsFile(folder.metrics_path).read() if line.get("event") == "step"]
    samples = tuple(
        {
            "step": line["step"],
            "loss": line["loss_nats"],
            "gradient_norm": line["gradient_norm"],
            "clipped_norm": line["clipped_gradient_norm"],
            "update_norm": None,
            "weight_norm": None,
            "update_ratio": None,
            "learning_rate": line["learning_rate"],
        }
        for line in steps
    )
    seconds = [line["seconds"] for line in steps]
    return WatchRecord(
        num_steps=len(steps),
        samples=samples,
        losses=tuple(line["loss_nats"] for line in steps),
        losses_every=1,
        probes={},
        never_updated=(),
        without_gradient=(),
        not_in_optimizer=(),
        frozen=(),
        non_finite=None,
        accumulating=None,
        backward_passes_per_step=1.0,
        overhead_share=0.0,
        probe_seconds=None,
        sample_seconds=None,
        step_seconds=(seconds[-1] - seconds[0]) / (len(seconds) - 1) if len(seconds) > 1 else math.nan,
        interval_steps=0,
        notes=("from the metrics of the run",),
    )


def is_factory(name: str) -> bool:
    """Whether a name is of the form package.module:factory and not a path that exists."""
    module, colon, attribute = name.partition(":")
    return bool(colon) and attribute.isidentifier() and bool(module) and not Path(name).exists()


def diagnose_factory(name: str, *, ignore: Collection[str] = (), seed: int = 0) -> Diagnosis:
    """The diagnosis alone of `examine_factory`, which see."""
    return examine_factory(name, ignore=ignore, seed=seed).diagnosis


def examine_factory(name: str, *, ignore: Collection[str] = (), seed: int = 0, threads: int = 0) -> Examined:
    """What is wrong with what `package.module:factory` returns, a mapping of arguments of `throughtime.diagnose`.

    The module is looked for in the present folder too. Only its `model`, `inputs`, `targets` and `loss` are needed. It
    may also return a patient, an object with `build(seed) -> (model, optimizer)`, `batches(seed)` and `loss(outputs,
    targets)`; then a model is built, and the first batch is the one at hand.

    Raises:
        InputError: if it cannot be imported or called, or returns something else.
        RecipeError: if a code is unknown.
    """
    with num_threads(threads):
        made = _made(factory_named(name), name, seed)
        _check_made(made, name)
        return examined(made, ignore, seed)


def _check_made(made: Any, name: str) -> None:
    if not isinstance(made, Mapping):
        raise InputError(
            f"{name} returns {type(made).__name__}: expected a mapping with {', '.join(_REQUIRED)} and, where there "
            "are any, optimizer, lengths, validation, more, need, time_dim, window; or a patient with build, batches "
            "and loss"
        )
    for wanted in _REQUIRED:
        if wanted not in made:
            raise InputError(f"what {name} returns has no '{wanted}': it has {', '.join(map(str, made)) or 'nothing'}")
    for given in made:
        if given not in _ARGUMENTS:
            raise InputError(f"what {name} returns has an unknown '{given}': {nearest(str(given), _ARGUMENTS)}")


def examined(given: Mapping[str, Any], ignore: Collection[str], seed: int) -> Examined:
    """The diagnosis from arguments of `throughtime.diagnose`, and the prescription for the model among them."""
    found = diagnose(**given, ignore=ignore, seed=seed)
    optimizers = given.get("optimizer")
    first = next(iter(optimizers), None) if isinstance(optimizers, Sequence) else optimizers
    known = {name: given.get(name) for name in ("window", "time_dim", "watch")}
    facts = facts_of(given["model"], given["inputs"], optimizer=first, **known)
    return Examined(found, prescribe(found, facts))


def factory_named(name: str) -> Callable[[], Any]:
    """The function `package.module:factory`, or one that returns the patient or the mapping that stands there.

    The module is looked for in the present folder too.

    Raises:
        InputError: if there is none, or its module cannot be imported.
    """
    module_name, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise InputError(f"there is no module '{module_name}', in {here} or installed") from None
        raise InputError(f"the module {module_name} cannot be imported ({error})") from error
    except Exception as error:
        raise InputError(f"the module {module_name} cannot be imported ({type(error).__name__}: {error})") from error
    factory = getattr(module, attribute, None)
    if isinstance(factory, Mapping) or _is_patient(factory):
        return lambda: factory
    if not callable(factory):
        names = [known for known, value in vars(module).items() if callable(value) and not known.startswith("_")]
        offered = nearest(attribute, names) if names else "it has no functions"
        what = "is not callable" if factory is not None else "is not there"
        raise InputError(f"'{attribute}' in the module {module_name} {what}: {offered}")
    return factory  # type: ignore[no-any-return]  # an attribute of an imported module may be anything


def _made(factory: Callable[[], Any], name: str, seed: int) -> Any:
    """What the factory returns; of a patient, a model of its own and its first batch, as a mapping."""
    try:
        made = factory()
        if isinstance(made, Mapping) or not _is_patient(made):
            return made
        model, optimizer = made.build(seed)
        batches = iter(made.batches(seed))
        inputs, targets = next(batches)
        further = {name: getattr(made, name, None) for name in ("lengths", "need", "time_dim", "validation", "window")}
        known = {name: value for name, value in further.items() if value is not None}
        return {
            "model": model,
            "inputs": inputs,
            "targets": targets,
            "loss": made.loss,
            "optimizer": optimizer,
            "more": batches,
            **known,
        }
    except Exception as error:
        raise InputError(
            f"{name} fails ({type(error).__name__}: {error}), in {os.path.relpath(_place(error))}"
        ) from error


def _is_patient(value: object) -> bool:
    return not isinstance(value, type) and all(callable(getattr(value, part, None)) for part in _PATIENT)


def _place(error: BaseException) -> str:
    """The file in which an error was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_filename if trace is not None else "."
