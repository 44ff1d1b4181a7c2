"""Hooks that only look: on a model's calls, an optimizer's steps, and what backward passes do to gradients.

None of them returns anything, so none changes what flows through it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = ["BackwardWatch", "Hook", "hook_model", "hook_optimizer"]

Remove = Callable[[], None]


class Hook:
    """Hands a call on to `see`; in a copy, and in a file, it is nothing: a copied or saved model is not watched.

    Inside a graph that `torch.compile` traces it is nothing either.
    """

    def __init__(self, see: Callable[..., None] | None) -> None:
        self.see = see

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Look, and change nothing."""
        if not torch.compiler.is_compiling() and self.see is not None:
            self.see(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Hook:
        return Hook(None)

    def __reduce__(self) -> tuple[type[Hook], tuple[None]]:
        return Hook, (None,)


def hook_model(
    model: nn.Module, see: Callable[[tuple[Any, ...], dict[str, Any]], None], seen: Callable[[Any], None]
) -> Remove:
    """Call `see(args, kwargs)` before each call of `model` and `seen(result)` after it; what is returned ends that."""
    compiled = getattr(model, "_compiled_call_impl", None)
    if compiled is None:
        before = model.register_forward_pre_hook(Hook(lambda _, args, kwargs: see(args, kwargs)), with_kwargs=True)
        after = model.register_forward_hook(Hook(lambda _, __, result: seen(result)))

        def remove_both() -> None:
            before.remove()
            after.remove()

        return remove_both

    # After `model.compile()` hooks run inside the compiled graph: so we stand in front of it.
    def entrance(*args: Any, **kwargs: Any) -> Any:
        see(args, kwargs)
        result = compiled(*args, **kwargs)
        seen(result)
        return result

    def remove() -> None:
        if model._compiled_call_impl is entrance:
            model._compiled_call_impl = compiled

    model._compiled_call_impl = entrance
    return remove


def hook_optimizer(
    optimizer: Optimizer, before: Callable[[Optimizer, bool], None], after: Callable[[Optimizer], None]
) -> Remove:
    """Call `before(optimizer, has a closure)` and `after(optimizer)` around each of its steps."""

    def see_before(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        before(optimizer, any(map(callable, (*args[1:], *kwargs.values()))))

    first = optimizer.register_step_pre_hook(Hook(see_before))
    second = optimizer.register_step_post_hook(Hook(lambda optimizer, *_: after(optimizer)))

    def remove() -> None:
        first.remove()
        second.remove()

    return remove


class BackwardWatch:
    """Tells when a backward pass begins to fill the gradients of some parameters, and when it has ended.

    A hook on each parameter fires before the first gradient is added: what is in `.grad` then was there before. The
    end is a callback of the engine, queued twice, since that of DistributedDataParallel, which brings the processes'
    gradients together, is queued after the first. A call of `torch.autograd.grad` fills no `.grad` and is not told.

    Args:
        parameters: with `requires_grad`.
        begins: called before anything is added.
        ended: called after everything was.
    """

    def __init__(self, parameters: Sequence[Tensor], begins: Callable[[], None], ended: Callable[[], None]) -> None:
        self._parameters = parameters
        self._begins, self._ended = begins, ended
        self._pass: int | None = None
        self._before: list[tuple[Tensor | None, int]] = []
        hook = Hook(self._gradient_comes)
        self._handles = [p.register_hook(hook) for p in parameters]  # type: ignore[no-untyped-call]

    def remove(self) -> None:
        """End it; harmless when called again."""
        for handle in self._handles:
            handle.remove()

    def _gradient_comes(self, _: Tensor) -> None:
        # The pass has a number: one that an exception broke off is not taken for the next.
        number = torch._C._current_graph_task_id()
        if number == self._pass:
            return
        self._pass = number
        self._before = self._gradients()
        self._begins()
        queue = torch.autograd.Variable._execution_engine.queue_callback
        queue(lambda: queue(self._pass_ended))

    def _pass_ended(self) -> None:
        pairs = zip(self._before, self._gradients(), strict=True)
        changed = any(old[0] is not new[0] or old[1] != new[1] for old, new in pairs)
        self._before = []
        if changed:
            self._ended()

    def _gradients(self) -> list[tuple[Tensor | None, int]]:
        found = [parameter.grad for parameter in self._parameters]
        return [(gradient, -1 if gradient is None else gradient._version) for gradient in found]
