"""`throughtime diagnose train.py`: a script runs under watch for a few steps, and what it trains is diagnosed."""

from __future__ import annotations

import gc
import runpy
import sys
import traceback
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.utils.rnn import PackedSequence
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from throughtime.check import at_least
from throughtime.diagnosis import Diagnosis
from throughtime.diagnosis.finding import codes_of
from throughtime.diagnosis.losses import first_output
from throughtime.errors import InputError, ThroughtimeError
from throughtime.measurement import Watch, watch
from throughtime.remedy import Prescription
from throughtime.trial.surroundings import num_threads
from throughtime.workflow.caught_loss import CaughtLoss, LossCalls
from throughtime.workflow.caught_step import as_one_model, as_replay, is_loop_over_time
from throughtime.workflow.diagnosis import Examined, examined
from throughtime.workflow.earlier_batches import EarlierBatches
from throughtime.workflow.living_optimizers import holding, living_optimizers, parameters_of
from throughtime.workflow.loose_weights import LooseWeights, names_in_scope, with_embeddings
from throughtime.workflow.one_sequence import as_batch
from throughtime.workflow.step_tape import StepTape
from throughtime.workflow.written_loss import written_loss

__all__ = ["STEPS", "ScriptDiagnosis", "diagnose_script"]

STEPS = 60
"""Optimizer steps after which a script is stopped."""


@dataclass(frozen=True)
class ScriptDiagnosis:
    """What came of a script.

    Attributes:
        diagnosis: of the model that it trains; None where it ended with an exit code of its own before that.
        exit_code: its own, where it ended by itself and not with 0; else 0 for a healthy model and 1 for another.
        prescription: what to do; None where there is no diagnosis.
    """

    diagnosis: Diagnosis | None
    exit_code: int
    prescription: Prescription | None = None


def diagnose_script(
    path: Path,
    arguments: Sequence[str] = (),
    *,
    steps: int = STEPS,
    ignore: Collection[str] = (),
    seed: int = 0,
    threads: int = 0,
) -> ScriptDiagnosis:
    """Run a training script until its optimizer has made `steps` steps, and diagnose what it trains.

    A script that has no optimizer and changes its weights itself is stopped after as many backward passes, and nothing
    that takes an optimizer is looked at.

    The script runs as `python path arguments` would, in this process; its output is its own. The model is the outermost
    module whose parameters the optimizer holds, the batch the last one that it was called with, the loss the last call
    of one of torch's loss functions on what the model returned. Where the script calls several modules, or one at each
    step of a loop over time, or computes its loss itself, all that it does from the modules to the loss is the model.

    Args:
        path: of the script.
        arguments: that it gets.
        steps: at most; fewer if it ends before.
        ignore: codes that are not wanted.
        seed: of all that is drawn.
        threads: threads that torch uses, unless the script says otherwise; 0 leaves them.

    Raises:
        InputError: if there is no such script, or no optimizer, model or loss was seen in it.
        RecipeError: if a code in `ignore` is unknown.
    """
    ignored = codes_of(ignore)
    at_least("steps", steps, 1)
    if not path.is_file():
        raise InputError(f"there is no script {path}")
    seen = _Seen(steps)
    with num_threads(threads):
        try:
            exit_code = _run(path, list(arguments), seen)
        finally:
            if seen.watched is not None:
                seen.watched.stop()
        if exit_code:
            return ScriptDiagnosis(None, exit_code)
        found = seen.examined(path, ignored, seed)
    return ScriptDiagnosis(found.diagnosis, 0 if found.diagnosis.healthy else 1, found.prescription)


class _Enough(BaseException):
    """Stops a script; no Exception, so that no handler of the script's takes it for an error."""


@dataclass
class _Seen:
    """What was caught on the way."""

    most_steps: int
    num_steps: int = 0
    num_backwards: int = 0
    optimizers: list[Optimizer] = field(default_factory=list)
    calls: dict[nn.Module, tuple[Any, Any]] = field(default_factory=dict)
    evaluated: dict[nn.Module, tuple[Any, Any]] = field(default_factory=dict)  # without gradients
    odd_calls: set[nn.Module] = field(default_factory=set)  # with a dict of tensors, or in two ways at once
    losses: list[CaughtLoss] = field(default_factory=list)
    root: Tensor | None = None
    tape: StepTape = field(default_factory=StepTape)
    watched: Watch | None = None
    main: nn.Module | None = None
    start: dict[str, Tensor] = field(default_factory=dict)
    earlier: EarlierBatches = field(default_factory=EarlierBatches)
    loose: LooseWeights | None = None
    names: dict[Tensor, str] = field(default_factory=dict)  # of weights that are in no module

    def model(self, optimizers: Sequence[Optimizer]) -> nn.Module | None:
        """The module called first of those that hold most of some optimizers' parameters; of all, if there is none.

        Where no module with parameters is called at all, the weights that the script computes with.
        """
        if not self.calls:
            return self.loose_weights(optimizers)
        held = {id(p) for optimizer in optimizers for p in parameters_of(optimizer)}
        if not optimizers:
            held = {id(p) for module in self.calls for p in module.parameters()}
        sizes = [(sum(id(p) in held for p in module.parameters()), module) for module in self.calls]
        best = max((size for size, _ in sizes), default=0)
        return next((module for size, module in sizes if size == best and best), None)

    def loose_weights(self, optimizers: Sequence[Optimizer]) -> LooseWeights | None:
        """The leaves outside of the modules that are called, as far as an optimizer holds them or every step has them.

        All that optimizers of such leaves hold, where no module is called; all leaves, where there is no optimizer.
        None where there are none.
        """
        in_modules = {id(p) for module in self.calls for p in module.parameters()}
        leaves, lasting = (
            [p for p in each if id(p) not in in_modules] for each in (self.tape.loose, self.tape.lasting)
        )
        used = {id(leaf) for leaf in leaves}
        groups = [list(parameters_of(each)) for each in optimizers] if optimizers else [leaves]
        held = [p for group in groups if any(id(p) in used for p in group) for p in group]
        if self.calls:
            held = [p for p in held if id(p) in used]
        if not held:
            return None
        own = {id(p): p for p in (*held, *lasting)}
        if any(leaf not in self.names for leaf in (*own.values(), *leaves)):
            self.names = names_in_scope([*own.values(), *leaves])
        if self.loose is None or {id(p) for p in self.loose.parameters()} != set(own):
            self.loose = LooseWeights(list(own.values()), self.names)
        return self.loose

    def watch(self) -> None:
        """Begin with the first loss, so that the first update is seen: it may be the one that spoils everything.

        No optimizer has made a step by then, so those there are have to be looked for.
        """
        if self.main is not None:
            return  # it is seen already, or changes its weights itself
        living = living_optimizers()
        model = self.model(living)
        if model is None or not living:
            return
        whole = self.joined(model, living)
        optimizers = holding(whole, living)
        scaler = next((each for each in gc.get_objects() if type(each) is GradScaler and each.is_enabled()), None)
        self.watched = watch(whole, optimizers, every=1 << 30, sample_every=1, scaler=scaler).start()
        self.take(model)

    def take(self, model: nn.Module) -> None:
        """It is what is diagnosed, unless another turns out to hold more of what the optimizer trains."""
        self.main = model
        self.start = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def joined(self, model: nn.Module, optimizers: Sequence[Optimizer]) -> nn.Module:
        """The model, and beside it whatever else with weights the step computed with before its loss."""
        called = [call.function for call in self.tape.calls if isinstance(call.function, nn.Module)]
        together = dict.fromkeys([model, *(each for each in called if any(True for _ in each.parameters()))])
        if len(together) > 1 or (model in self.calls and self.tape.has_made(self.calls[model][0])):
            loose = self.loose_weights(optimizers)
            together |= {} if loose is None else {loose: None}
        return model if len(together) == 1 else nn.ModuleList(together)

    def stepped(self, optimizer: Optimizer, *_: Any) -> None:
        """After each step of any optimizer."""
        if optimizer not in self.optimizers:
            self.optimizers.append(optimizer)
        if optimizer is not self.optimizers[0]:
            return
        self.num_steps += 1
        self.keep_batch()
        if self.num_steps >= self.most_steps:
            raise _Enough
        self.tape.end_update()

    def keep_batch(self) -> None:
        """The one that the model was called with last."""
        if self.main in self.calls and self.losses:
            inputs, returned = self.calls[self.main]
            with suppress(InputError):
                self.earlier.keep(inputs, first_output(returned), self.losses[-1])

    def lost(self, caught: CaughtLoss) -> None:
        """At each call of a loss function."""
        if self.root is not None:
            self.losses, self.root = [], None
        self.losses.append(caught)
        self.watch()
        if self.watched is not None:
            self.watched.loss(caught.value.mean(), caught.targets)

    def evaluated_by(self, caught: CaughtLoss) -> None:
        """At each call of a loss function where gradients are off."""
        if self.main in self.evaluated:
            inputs, returned = self.evaluated[self.main]
            with suppress(InputError):
                self.earlier.keep_evaluated(inputs, first_output(returned), caught)

    def backward(self, root: Tensor) -> None:
        """At each backward pass; without a loss function before it, what it begins from is the loss."""
        if self.root is not None:
            self.losses = []
        self.root = root
        self.tape.end_step()
        if not self.losses and root.numel() == 1:
            self.watch()
            written = written_loss(self.tape.calls, root)
            self.losses = [] if written is None else [written]
            if self.watched is not None:
                self.watched.loss(root.detach(), None if written is None else written.targets)
        self.num_backwards += 1
        if not self.optimizers:
            if self.num_backwards > 1:
                self.went_on_by_hand()
            self.tape.end_update()

    def went_on_by_hand(self) -> None:
        """At a backward pass without a step of an optimizer before it: gradients add up, or the script steps itself."""
        model = self.model(())
        if model is None:
            return
        if self.main is None:
            self.take(model)
        self.keep_batch()
        if self.num_backwards == self.most_steps and not holding(self.joined(model, ()), living_optimizers()):
            raise _Enough

    def examined(self, path: Path, ignore: Collection[str], seed: int) -> Examined:
        """What was seen, diagnosed, and what to do.

        Raises:
            InputError: if something was not.
        """
        model = self.model(self.optimizers)
        if not (self.optimizers or self.num_backwards) or model is None:
            what = "no training" if not self.optimizers else "no call of a model that its optimizer trains"
            raise InputError(f"{path} ended, and {what} was seen: diagnose a factory instead, package.module:factory")
        given = self.given(model)
        if given is None:
            raise InputError(
                f"in {path} it was not seen how the loss comes from what the model returns: diagnose a factory "
                "instead, package.module:factory"
            )
        self._back_to_finite(model)
        given = as_batch(given, self.earlier)
        if not self.optimizers:
            return examined(given, ignore, seed)
        if self.watched is not None:
            self.watched.probe_start()  # 60 steps may have hidden what kept it from learning
        return examined({**given, "optimizer": list(self.optimizers), "watch": self.watched}, ignore, seed)

    def given(self, model: nn.Module) -> dict[str, Any] | None:
        """Model, inputs, targets and loss: the model as it is if it is one, else a replay of the step."""
        first_turns, loose = self.tape.first_turns, self.loose_weights(self.optimizers)
        weights = loose.held if loose is not None else {} if first_turns else None
        calls = with_embeddings([*first_turns, *self.tape.calls], weights or {})
        if model is loose:
            return as_replay(calls, self.losses, self.root, weights)
        one = as_one_model(model, self.calls[model], self.losses[-1]) if self.losses else None
        whole = self.joined(model, self.optimizers)
        if one is not None and not (whole is not model or is_loop_over_time(calls, model) or model in self.odd_calls):
            if self.main is not model:
                return one
            outputs = first_output(self.calls[model][1])
            return {**one, **self.earlier.told(one, self.losses[-1], outputs)}
        return as_replay(calls, self.losses, self.root, weights) or one

    def _back_to_finite(self, model: nn.Module) -> None:
        """A model whose weights are NaN shows no cause any more: it is looked at as it was before the first step."""
        if model is self.main and not all(bool(p.isfinite().all()) for p in model.parameters()):
            model.load_state_dict(self.start)
            for optimizer in self.optimizers:
                optimizer.state.clear()


def _called_with(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """As a model's inputs are handed over: one argument, a tuple of several, or a dict of named ones."""
    if kwargs and not args:
        return dict(kwargs)
    alone = len(args) == 1 and (isinstance(args[0], PackedSequence) or not isinstance(args[0], dict | list | tuple))
    return args[0] if alone else args


def _is_plain(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether these are inputs as a measurement takes them, tensors among them; else the step is replayed."""
    values = (*args, *kwargs.values())
    return not (args and kwargs) and any(isinstance(value, Tensor | PackedSequence) for value in values)


@contextmanager
def _watched(seen: _Seen) -> Iterator[None]:
    """Hooks on every module, optimizer and loss while a script runs."""
    depth: list[nn.Module] = []

    def begins(module: nn.Module, _: Any) -> None:
        depth.append(module)
        seen.tape.depth = len(depth)

    def ends(module: nn.Module, args: tuple[Any, ...], *rest: Any) -> None:
        depth.pop()
        seen.tape.depth = len(depth)
        if len(rest) == 1:  # without the named arguments: how torch calls it after a forward pass that raised
            return
        kwargs, result = rest
        if not depth:
            seen.tape.of_module(module, args, dict(kwargs), result)
        if depth or not any(True for _ in module.parameters()):
            return
        if not torch.is_grad_enabled():
            seen.evaluated[module] = (_called_with(args, kwargs), result)
            return
        seen.calls[module] = (_called_with(args, kwargs), result)
        if not _is_plain(args, kwargs):
            seen.odd_calls.add(module)

    hooks = torch.nn.modules.module
    handles = [
        hooks.register_module_forward_pre_hook(begins),
        hooks.register_module_forward_hook(ends, with_kwargs=True, always_call=True),
        register_optimizer_step_post_hook(seen.stepped),
    ]
    try:
        with LossCalls(seen.lost, seen.backward, seen.evaluated_by), seen.tape:
            yield
    finally:
        for handle in handles:
            handle.remove()
            hooks._global_forward_hooks_with_kwargs.pop(handle.id, None)  # torch leaves it, and torch.compile warns


def _run(path: Path, arguments: list[str], seen: _Seen) -> int:
    """The exit code with which the script ended by itself; 0 where it was stopped."""
    before, folder = sys.argv, str(path.resolve().parent)
    sys.argv = [str(path), *arguments]
    sys.path.insert(0, folder)
    try:
        with _watched(seen):
            runpy.run_path(str(path), run_name="__main__")
    except _Enough:
        return 0
    except SystemExit as end:
        if end.code is None or end.code == 0:
            return 0
        if isinstance(end.code, int):
            return end.code
        sys.stderr.write(f"{end.code}\n")
        return 1
    except (KeyboardInterrupt, ThroughtimeError):
        raise
    except Exception:
        traceback.print_exc()
        return 1
    finally:
        sys.argv = before
        sys.path.remove(folder)
        sys.stdout.flush()
    return 0
