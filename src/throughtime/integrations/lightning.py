"""Lightning: a callback that watches `Trainer.fit`.

It works with both packages of Lightning (`lightning` and `pytorch-lightning`), 2.6.4 and later.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Unpack

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from throughtime.check import nearest
from throughtime.errors import InputError
from throughtime.integrations.choices import WatchChoices
from throughtime.integrations.feed import PREFIX, Feed, Writer, probe_scalars
from throughtime.integrations.heat_map import heat_map
from throughtime.integrations.watching import Watching
from throughtime.measurement import watch
from throughtime.measurement.gradient_record import GradientRecord

if TYPE_CHECKING:
    from pytorch_lightning import Callback, LightningModule, Trainer
else:
    # A Trainer calls hooks by name, so either package's callback serves both; the one in use is at hand already.
    in_use = sys.modules.get("lightning.pytorch")
    try:
        Callback = (in_use or import_module("pytorch_lightning")).Callback
    except ImportError:
        try:
            from lightning.pytorch import Callback
        except ImportError as error:
            raise ImportError(
                f"LightningWatch needs Lightning, which cannot be imported ({error}): "
                "pip install 'throughtime[lightning]'"
            ) from error

__all__ = ["LightningWatch"]


class LightningWatch(Watching, Callback):
    """Watches a Lightning training as `throughtime.watch` watches a loop.

    Gradients are seen at the end of the backward pass, before Lightning clips them, and once more when the optimizer
    steps; losses before Lightning divides or scales them. Numbers go to the Trainer's own loggers (images to those
    that take them), and to `writers`.

    Args:
        module: name of the submodule to watch, such as "model": the one that `training_step` calls. Unless given, the
            LightningModule where it has a `forward` of its own; else its only child with parameters.
        writers: further places to write to.
        log_every: steps between two looks at what is new.
        choices: as in `throughtime.watch`.

    Attributes:
        watched: the watch; None before training.

    Raises:
        RecipeError: if a choice is unknown or out of range.

    Example:
        `Trainer(callbacks=[LightningWatch(every=100)]).fit(module, data)`
    """

    _begin_with = "fit"

    def __init__(
        self,
        module: str | None = None,
        *,
        writers: Sequence[Writer] = (),
        log_every: int = 50,
        **choices: Unpack[WatchChoices],
    ) -> None:
        self._choose(writers, log_every, choices)
        self._name = module
        self._was_called = False
        self._handle: RemovableHandle | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        module = _chosen(pl_module, self._name)
        self.watched = watch(module, trainer.optimizers, scaler=_scaler(trainer), **self._choices).start()
        self._feed = Feed(self.watched, (*map(_LoggerWriter, trainer.loggers), *self._writers))
        self._was_called = False
        self._handle = module.register_forward_pre_hook(self._see_call)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Take the loss, as `training_step` returned it."""
        assert self.watched is not None
        scaler = _scaler(trainer)
        scale = 1.0 if scaler is None else float(scaler.get_scale())
        shares = trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1
        self.watched.loss(loss.detach() * (shares / scale))

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Hand on what is new."""
        assert self._feed is not None
        if not self._was_called:
            self._was_called = True  # said once
            name = self._name or type(pl_module).__name__
            warnings.warn(
                f"training_step never called {name} itself, so the gradient through time is not measured: name the "
                "submodule that it calls, LightningWatch('NAME')",
                stacklevel=2,
            )
        if trainer.global_step % self._log_every == 0:
            self._feed.update()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002 - Lightning's hook
        """Stop."""
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        """Stop, and keep what was seen."""
        self._stop()

    def _see_call(self, *_: Any) -> None:
        self._was_called = True
        self._forget_call()

    def _forget_call(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _stop(self) -> None:
        self._forget_call()
        self._stop_watching()


class _LoggerWriter:
    """A logger of Lightning's as a writer."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def write_sample(self, step: int, values: Mapping[str, float]) -> None:
        self._logger.log_metrics({f"{PREFIX}{name}": value for name, value in values.items()}, step)

    def write_probe(self, step: int, probes: Mapping[int, GradientRecord]) -> None:
        self.write_sample(step, probe_scalars(probes[step]))
        name, log_image = f"{PREFIX}gradient_through_time", getattr(self._logger, "log_image", None)
        if log_image is not None:
            log_image(name, [heat_map(probes)])
        elif hasattr(self._logger.experiment, "add_image"):
            self._logger.experiment.add_image(name, heat_map(probes), step, dataformats="HWC")

    def close(self) -> None:
        self._logger.save()


def _chosen(pl_module: LightningModule, name: str | None) -> nn.Module:
    """The module to watch."""
    modules: dict[str, nn.Module] = dict(pl_module.named_modules())
    if name is not None:
        if name not in modules:
            raise InputError(f"{type(pl_module).__name__} has no submodule '{name}': {nearest(name, modules)}")
        return modules[name]
    # Lightning's own class, of either package, has a forward too, which is nobody's.
    if type(pl_module).forward.__module__.partition(".")[0] not in ("lightning", "pytorch_lightning"):
        return modules[""]
    own: dict[str, nn.Module] = dict(pl_module.named_children())
    children = {name: child for name, child in own.items() if any(True for _ in child.parameters())}
    if len(children) != 1:
        raise InputError(
            f"{type(pl_module).__name__} has no forward and {len(children)} children with parameters "
            f"({', '.join(children) or 'none'}): name the one that training_step calls, LightningWatch('NAME')"
        )
    return next(iter(children.values()))


def _scaler(trainer: Trainer) -> Any:
    return getattr(trainer.precision_plugin, "scaler", None)
