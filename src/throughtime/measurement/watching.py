"""`watch`: a training loop looked at from its side, by hooks alone, without changing one of its numbers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from throughtime.check import at_least
from throughtime.errors import InputError
from throughtime.measurement.gradient_record import GradientRecord
from throughtime.measurement.model_check import check_watchable
from throughtime.measurement.probe import original_module
from throughtime.measurement.watch_budget import Budget
from throughtime.measurement.watch_carry import Carrying
from throughtime.measurement.watch_finite import FirstNonFinite
from throughtime.measurement.watch_history import History
from throughtime.measurement.watch_hooks import BackwardWatch, hook_model, hook_optimizer
from throughtime.measurement.watch_probe import Batch, Prober, unprobable
from throughtime.measurement.watch_record import WatchRecord
from throughtime.measurement.watch_sample import SampledStep
from throughtime.measurement.watch_start import Start
from throughtime.storage.atomic import make_folder

__all__ = ["Watch", "watch"]

FILE = "watch.json"


def watch(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer],
    *,
    every: int = 200,
    sample_every: int | None = None,
    max_overhead: float | None = 0.02,
    loss: Callable[..., Any] | None = None,
    scaler: Any = None,
    time_dim: int | None = None,
) -> Watch:
    """Watch a training loop of your own, which stays as it is.

    Hooks see the model's calls and the optimizer's steps. At some steps they take the norms of gradients, weights and
    updates; every `every` steps the gradient through time is measured on four sequences of the last batch (see
    `measure`). Training gives bit for bit the numbers that it gives without being watched. Of several processes the
    first alone is watched.

    Gradients are seen before clipping at the end of the last backward pass before a step, so gradients may be
    accumulated; and after clipping when the optimizer steps. A sampled step needs room for a second copy of the
    weights. On an accelerator sampled steps wait for it, others never do.

    Non-finite numbers are looked for at sampled steps; a loss on the CPU in every step. What is found first is traced
    at once: weights, then the batch (the model's copy runs once more), the loss, the gradient. Where that is within the
    first 64 steps and before any probe, the first weights, of which a copy is kept on the CPU, are probed as step 0.

    Args:
        model: any module; compiled or data parallel ones are measured by what is inside.
        optimizer: one, or several.
        every: steps between two probes, at least.
        sample_every: steps between two samples of the norms, whatever they cost; unless given, as the budget allows.
        max_overhead: share of the training time that may be spent, and 50 ms on the first samples; intervals grow until
            it is kept. None is no limit: every step is sampled, and probes come as asked.
        loss: (outputs, targets) -> loss, for the probes; the targets are those given to `Watch.loss`. Where it is None,
            random projections of the outputs.
        scaler: the `torch.amp.GradScaler`, so that its scale is taken out of the norms.
        time_dim: axis of time in the inputs, where the model has no recurrent module that tells.

    Returns:
        A watch: a context (`with`), or started and stopped by hand.

    Raises:
        InputError: if the model has no parameters, or an optimizer holds none of them.
        RecipeError: if an interval or a share is too small.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> rnn = nn.RNN(3, 8)
        >>> optimizer = torch.optim.SGD(rnn.parameters(), lr=0.1)
        >>> with watch(rnn, optimizer, every=5, max_overhead=None) as watched:
        ...     for _ in range(10):
        ...         value = rnn(torch.randn(20, 4, 3))[0].square().mean()
        ...         optimizer.zero_grad()
        ...         value.backward()
        ...         optimizer.step()
        >>> len(watched.record.samples), list(watched.records)
        (10, [5, 10])
    """
    at_least("every", every, 1)
    at_least("sample_every", 1 if sample_every is None else sample_every, 1)
    at_least("max_overhead", 0.0 if max_overhead is None else max_overhead, 0.0)
    optimizers = (optimizer,) if isinstance(optimizer, Optimizer) else tuple(optimizer)
    check_watchable(original_module(model), optimizers)
    return Watch(model, optimizers, Budget(every, sample_every, max_overhead), _Choices(loss, scaler, time_dim))


@dataclass(frozen=True)
class _Choices:
    loss: Callable[..., Any] | None
    scaler: Any
    time_dim: int | None


class Watch:
    """A training loop being watched; made by `watch`."""

    def __init__(self, model: nn.Module, optimizers: tuple[Optimizer, ...], budget: Budget, choices: _Choices) -> None:
        self._called, self._model = model, original_module(model)
        self._optimizers = optimizers
        self._budget, self._choices = budget, choices
        names, parameters = zip(*self._model.named_parameters(), strict=True)
        self._parameters: tuple[Tensor, ...] = parameters
        device = parameters[0].device.type
        self._device = device if torch.amp.is_autocast_available(device) else "cpu"
        self._history = History(names, parameters, optimizers)
        self._finite = FirstNonFinite(self._model, names, parameters, self._history.note)
        self._carrying = Carrying(self._model)
        self._prober = Prober(self._model, choices.loss, choices.time_dim)
        self._remove: list[Callable[[], None]] = []
        self._stepped: list[Optimizer] = []
        self._inside: Optimizer | None = None
        self._closure = False
        self._batch: Batch | None = None
        self._targets: Tensor | None = None
        self._start: Start | None = None
        self._sample: SampledStep | None = None
        self._backward: BackwardWatch | None = None
        self._probes_go_on = self._samples_go_on = True
        self._guess: float | None = None
        self._own_seconds = self._last_time = 0.0

    # The loop's side.

    def start(self) -> Self:
        """Begin, or go on.

        Raises:
            InputError: if it has begun already.
        """
        if self._remove:
            raise InputError("this watch is running already: call stop() first, or watch() for another one")
        if _rank() != 0:
            self._history.note(f"of several processes the first alone is watched, and this is number {_rank()}")
            return self
        reason = unprobable(self._model)
        if reason is not None:
            self._stop_probing(reason)
        self._remove.append(hook_model(self._called, self._see_call, self._see_result))
        self._remove += [hook_optimizer(each, self._before_step, self._after_step) for each in self._optimizers]
        self._last_time = time.perf_counter()
        self._begin_step()
        return self

    def stop(self) -> None:
        """Take all hooks away; harmless where there are none."""
        if not self._remove:
            return
        try:
            if self._stepped:
                self._end_step()
        finally:
            for remove in self._remove:
                remove()
            self._remove = []
            self._drop_sample()
            self._batch = self._targets = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def loss(self, value: Tensor | float, targets: Tensor | None = None) -> Tensor | float:
        """Hand over a loss of the current step; several of them are averaged.

        Args:
            value: as it is before any scaling.
            targets: of the same batch, for the probes with `loss=`, and to see whether the next batch goes on from it.

        Returns:
            `value` itself.
        """
        if self._remove:
            if self._stepped and self._inside is None:
                self._end_step()
            if targets is not None:
                self._targets = targets
                self._carrying.targets(targets)
            known = self._history.losses.add(value)
            if known is not None and not math.isfinite(known):
                with self._ours():
                    self._finite.trace(self._history.num_steps + 1, self._batch, targets=targets)
        return value

    @property
    def record(self) -> WatchRecord:
        """What was seen so far."""
        with self._ours():
            self._finite.look_at_losses(self._history.losses)
        return self._history.record(
            self._budget, self._finite, carrying=self._carrying.found(), may_probe=self._probes_go_on
        )

    @property
    def records(self) -> dict[int, GradientRecord]:
        """The probes, by the step after which each was made."""
        return dict(self._history.probes)

    @property
    def batches(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """The first ones in their order, with their targets, of a model that keeps a state from batch to batch."""
        return self._carrying.batches.found

    def probe_start(self) -> None:
        """Probe the weights that training began with, on its first batch, as step 0.

        As happens by itself where it ends in NaN; after 64 steps, or another probe, nothing is done.
        """
        start, self._start = self._start, None
        if start is None or self._history.probes or not self._probes_go_on:
            return
        began = time.perf_counter()
        try:
            found = start.record(self._model, self._choices.loss, self._choices.time_dim)
            self._history.add_probe(found, step=0)
        except Exception as error:
            self._history.note(f"the start could not be measured: {type(error).__name__}: {error}")
        self._budget.other_seconds += time.perf_counter() - began

    def save(self, folder: str | Path) -> Path | None:
        """Write the record into a folder, made where it is absent.

        Returns:
            The file; None in a process that is not the first, which writes nothing.

        Raises:
            RunError: if it cannot be written.
        """
        if _rank() != 0:
            return None
        make_folder(Path(folder))
        path = Path(folder, FILE)
        self.record.save(path)
        return path

    # What the hooks call.

    def _see_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not torch.is_grad_enabled():
            return  # an evaluation
        if self._stepped and self._inside is None:
            self._end_step()
        self._batch = Batch.of(args, kwargs, self._device)
        if not self._carrying.full:
            with self._ours():
                self._carrying.called(args, kwargs)

    def _see_result(self, result: Any) -> None:
        if torch.is_grad_enabled() and not self._carrying.full:
            with self._ours():
                self._carrying.returned(result)

    def _before_step(self, optimizer: Optimizer, closure: bool) -> None:
        if any(optimizer is each for each in self._stepped):
            self._end_step()
        self._inside, self._closure = optimizer, closure
        if self._sample is None:
            return
        with self._ours():
            if not self._history.num_steps and self._start is None:
                self._start = Start.of(self._parameters)
            if self._start is not None:
                self._start = self._start.on(self._batch, self._targets, self._history.num_steps)
            self._sample.before_step(optimizer, closure=closure)
            if not closure:
                self._look_at_gradients(self._sample, optimizer)

    def _after_step(self, optimizer: Optimizer) -> None:
        self._inside = None
        self._stepped.append(optimizer)
        if self._sample is not None:
            with self._ours():
                self._sample.after_step(optimizer, closure=self._closure)
                if self._closure:
                    self._look_at_gradients(self._sample, optimizer)
                self._finite.look_at_weights(self._history.num_steps + 1, self._sample)
        if len(self._stepped) == len(self._optimizers):
            self._end_step()

    def _look_at_gradients(self, sample: SampledStep, optimizer: Optimizer) -> None:
        self._finite.look_at_losses(self._history.losses)
        scaled = self._choices.scaler is not None
        self._finite.look_at_gradients(self._history.num_steps + 1, sample, optimizer, self._batch, scaled=scaled)

    # One step after another. Optimizers that step without a forward or backward pass between them make one.

    def _begin_step(self) -> None:
        self._own_seconds = 0.0
        if not self._samples_go_on or not self._budget.wants_sample(self._history.num_steps + 1):
            return
        with self._ours():
            after_another = self._history.num_steps > 0
            self._sample = SampledStep(self._parameters, self._choices.scaler, after_another=after_another)
            self._backward = self._sample.watched(self._ours)

    def _end_step(self) -> None:
        self._history.num_steps += 1
        self._stepped = []
        self._history.losses.step_ended()
        took = time.perf_counter() - self._last_time - self._own_seconds
        if self._sample is not None:
            with self._ours():
                self._keep_sample(self._sample)
        self._budget.step_took(took)
        if self._sample is not None:
            self._budget.sample_took(self._own_seconds)
        else:
            self._budget.other_seconds += self._own_seconds
        self._drop_sample()
        if self._finite.found is not None:
            self.probe_start()  # there is nothing else to measure any more
        self._probe()
        self._batch = self._targets = None
        self._last_time = time.perf_counter()
        self._begin_step()

    def _keep_sample(self, sample: SampledStep) -> None:
        self._finite.look_at_losses(self._history.losses)
        self._history.add_sample(sample, scaled=self._choices.scaler is not None)
        if self._finite.found is None:
            self._finite.last_finite = self._history.num_steps

    def _drop_sample(self) -> None:
        if self._backward is not None:
            self._backward.remove()
        self._sample = self._backward = None

    def _probe(self) -> None:
        if self._batch is None or not self._probes_go_on:
            return
        step, budget = self._history.num_steps, self._budget
        if step - budget.last_probe < budget.every:
            return
        began = time.perf_counter()
        try:
            if self._guess is None and budget.wants_probe(step, budget.step_seconds or 0.0):
                self._guess = self._prober.guessed_seconds(self._batch)  # the first time it takes about a step
                budget.other_seconds += time.perf_counter() - began
                began = time.perf_counter()
            if self._guess is None or not budget.wants_probe(step, self._guess):
                return
            self._history.add_probe(self._prober.record(self._batch, self._targets))
        except Exception as error:
            self._stop_probing(f"{type(error).__name__}: {error}")
        budget.probe_took(step, time.perf_counter() - began)

    # Our own work.

    @contextmanager
    def _ours(self) -> Iterator[None]:
        """Work of our own: timed, without gradients, and never an error of the loop's."""
        began = time.perf_counter()
        try:
            with torch.no_grad():
                yield
        except Exception as error:
            self._history.note(f"no norms are taken any more, since: {type(error).__name__}: {error}")
            self._samples_go_on = False
            self._drop_sample()
        finally:
            self._own_seconds += time.perf_counter() - began

    def _stop_probing(self, reason: str) -> None:
        self._probes_go_on = False
        self._history.note(f"the gradient through time is not measured: {reason}")


def _rank() -> int:
    distributed = torch.distributed
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0
