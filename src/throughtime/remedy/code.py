"""A plan as text to be pasted: the very functions that `TreatmentPlan.apply` calls, and the calls."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from throughtime.remedy import (
    auxiliary,
    clipping,
    finiteness,
    flossing,
    hand_written,
    hooking,
    noising,
    omega,
    optimizing,
    starting,
)
from throughtime.remedy.application import starts_itself

if TYPE_CHECKING:
    from throughtime.remedy.plan import TreatmentPlan

__all__ = ["code_of"]

_PLAIN = (starting, hand_written, hooking, noising, optimizing, auxiliary, clipping, finiteness, omega, flossing)
"""Modules that need nothing but torch and the standard library."""


def code_of(plan: TreatmentPlan) -> str:
    """See `TreatmentPlan.code`."""
    if not plan.changes:
        return "# nothing is changed\n"
    names, calls = _model_part(plan)
    more, loop = _loop_part(plan)
    sources = _with_what_they_need([*names, *more])
    parts = [_imports(plan, sources), *(_source(each) for each in sources), "\n".join([*calls, *loop])]
    return "\n\n\n".join(part for part in parts if part) + "\n"


def _model_part(plan: TreatmentPlan) -> tuple[list[Any], list[str]]:
    """The functions needed, and the lines that change model and optimizer, in the order of `applied`."""
    needed: list[Any] = []
    lines: list[str] = []

    def line(function: Any, text: str) -> None:
        needed.append(function)
        lines.append(text)

    if plan.all_parameters:
        line(optimizing.add_missing_parameters, "add_missing_parameters(model, optimizer)")
    if plan.fresh:
        line(starting.fresh_start, "fresh_start(model)")
    of_cells = _of_cells(plan)
    if of_cells:
        chosen = ", ".join(f"{name}={value!r}" for name, value in of_cells.items())
        lines.append("# this line needs the package: the cell, or what is put around it, is one of throughtime")
        lines.append(f"model, optimizer = TreatmentPlan({chosen}).apply(model, optimizer)")
    if plan.start is not None and "start" not in of_cells:
        for function, text in _start_lines(plan):
            line(function, text)
    if plan.keep_graph:
        line(hooking.KeepGraph, "KeepGraph(model)")
    if plan.dropout is not None:
        line(hooking.raise_dropout, f"raise_dropout(model, {plan.dropout!r})")
    if plan.recurrent_gain is not None or plan.recurrent_input_gain is not None:
        gains = f"{plan.recurrent_gain or 1.0!r}, {plan.recurrent_input_gain or 1.0!r}"
        needed += [hooking.outer_recurrences, hooking.ScaleRecurrence]
        lines += ["for module in list(outer_recurrences(model)):", f"    ScaleRecurrence(module, {gains})"]
        if any(part.startswith("reader ") for part in plan.hand_written):
            readers = tuple(part for part in plan.hand_written if part.startswith("reader "))
            line(hand_written.scale_hand_written, f"scale_hand_written(model, {readers!r}, {plan.recurrent_gain!r})")
    if plan.input_mean is not None or plan.input_deviation is not None:
        mean, deviation = plan.input_mean or (0.0,), plan.input_deviation or (1.0,)
        made = f"StandardiseInputs({mean!r}, {deviation!r}, {plan.clip_outliers!r})"
        line(hooking.StandardiseInputs, f"model.register_forward_pre_hook({made}, with_kwargs=True)")
    for name, mean, deviation in plan.other_inputs:
        made = f"StandardiseInputs({mean!r}, {deviation!r}, {plan.clip_outliers!r}, {name!r})"
        line(hooking.StandardiseInputs, f"model.register_forward_pre_hook({made}, with_kwargs=True)")
    if plan.input_noise is not None:
        made = f"NoisyInputs({plan.input_noise!r})"
        line(noising.NoisyInputs, f"model.register_forward_pre_hook({made}, with_kwargs=True)")
    if plan.auxiliary is not None:
        numbers = f"{plan.auxiliary!r}, {plan.auxiliary_steps or 1}"
        line(auxiliary.attach_auxiliary_loss, f"attach_auxiliary_loss(model, optimizer, {numbers})")
    if plan.adam:
        line(optimizing.adam_for, "optimizer = adam_for(optimizer)")
    if plan.learning_rate is not None:
        line(optimizing.set_learning_rate, f"set_learning_rate(optimizer, {plan.learning_rate!r})")
    if plan.weight_decay is not None:
        line(optimizing.set_weight_decay, f"set_weight_decay(optimizer, {plan.weight_decay!r})")
    if plan.reset_gradients:
        line(optimizing.reset_after_step, "reset_after_step(optimizer)")
    return needed, lines


def _of_cells(plan: TreatmentPlan) -> dict[str, Any]:
    """The fields that change which cells there are, and the start where that is the cells' own."""
    if plan.cell is None and not plan.layer_norm and plan.skip is None:
        return {"start": plan.start, "start_steps": plan.start_steps} if plan.start == "ring" else {}
    own = plan.start is not None and (plan.start == "ring" or starts_itself(plan.cell or "", plan.start))
    fields = ["cell", "layer_norm", "skip", "start_steps", *(["start"] if own else [])]
    return {name: plan.changes[name] for name in fields if name in plan.changes}


def _start_lines(plan: TreatmentPlan) -> list[tuple[Any, str]]:
    named: dict[str, Callable[..., int]] = {
        "orthogonal": starting.orthogonal_start,
        "identity": starting.identity_start,
        "critical": starting.critical_start,
    }
    if plan.start in named:
        function: Any = named[plan.start]
        own = f"{function.__name__}(model, {plan.start_gain!r})"
    else:
        function, own = (
            starting.forget_gate_start,
            f"forget_gate_start(model, {plan.start!r}, {plan.start_steps or 100})",
        )
    lines: list[tuple[Any, str]] = [(function, own)]
    parts = tuple(part for part in plan.hand_written if not part.startswith("reader "))
    if parts:
        options = f"{plan.start!r}, {plan.start_gain!r}, {plan.start_steps or 100}"
        lines.append((hand_written.redraw_hand_written, f"redraw_hand_written(model, {parts!r}, {options})"))
    return lines


def _loop_part(plan: TreatmentPlan) -> tuple[list[Any], list[str]]:
    """The functions needed, and what the loop has to do, as comments at the place where it has to be done."""
    needed: list[Any] = []
    lines: list[str] = []
    if plan.flossing is not None:
        needed.append(flossing.floss)
        lines.append("# before training, with the inputs of a batch:")
        lines.append(f"#     floss(model, inputs, num_steps={plan.flossing})")
    if plan.warmup_share is not None:
        lines.append("# for step, of num_steps in all, times the learning rate:")
        lines.append(f"#     min(1.0, (step + 1) / max(1, {plan.warmup_share!r} * num_steps))")
    if plan.window is not None:
        lines.append(f"# cut the sequences into windows of {plan.window} steps")
    if plan.carry is not None:
        hand = "hand the state on, detached," if plan.carry else "begin with a fresh state"
        lines.append(f"# {hand} from window to window")
    if plan.curriculum is not None:
        lines.append(
            f"# let the length grow from an eighth to the whole over the first {plan.curriculum:.0%} of the steps"
        )
    if plan.batch_factor is not None:
        lines.append(
            f"# add up the gradients of {plan.batch_factor} batches, each loss divided by as many, for one step"
        )
    if plan.omega is not None:
        needed.append(omega.Omega)
        lines.append(f"omega_regulariser = Omega(model, {plan.omega!r})")
        lines.append("# after loss.backward():  omega_regulariser()")
    if plan.clip is not None:
        needed.append(clipping.Clipper)
        lines.append(f"clip = Clipper({plan.clip_kind or 'norm'!r}, {plan.clip!r})")
        lines.append("# between loss.backward() and optimizer.step():  clip(model.parameters())")
    if plan.drop_non_finite:
        needed += [finiteness.finite_rows, finiteness.all_finite]
        lines.append("# of each batch keep the sequences (here along axis 1) that are finite, targets likewise:")
        lines.append("#     rows = finite_rows(inputs, 1); inputs = inputs.index_select(1, rows)")
        lines.append("# if all_finite(model.parameters()):  optimizer.step()")
    if plan.patience is not None:
        lines.append(
            f"# keep the weights of the best validation loss; stop after {plan.patience} evaluations without one"
        )
    return needed, lines


def _with_what_they_need(wanted: list[Any]) -> list[Any]:
    """With the functions and classes of the plain modules that these call, each once, before it is called."""
    known = {name: value for module in _PLAIN for name, value in vars(module).items() if _is_of(value, module)}
    ordered: list[Any] = []

    def add(value: Any) -> None:
        if value in ordered:
            return
        for node in ast.walk(ast.parse(inspect.getsource(value))):
            if isinstance(node, ast.Name) and node.id in known and known[node.id] is not value:
                add(known[node.id])
        ordered.append(value)

    for value in wanted:
        add(value)
    return ordered


def _is_of(value: Any, module: Any) -> bool:
    return (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__ == module.__name__


def _source(value: Any) -> str:
    return inspect.getsource(value).rstrip()


def _imports(plan: TreatmentPlan, sources: list[Any]) -> str:
    """The imports that the functions use, and no others."""
    text = "\n".join(map(_source, sources))
    used = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    found: set[str] = set()
    for module in {inspect.getmodule(value) for value in sources}:
        assert module is not None
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.Import):
                found |= {f"import {alias.name}" for alias in node.names if alias.name in used}
            elif isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] not in (
                "__future__",
                "throughtime",
            ):
                found |= {f"from {node.module} import {alias.name}" for alias in node.names if alias.name in used}
    own = ["from throughtime.remedy import TreatmentPlan"] if _of_cells(plan) else []
    first = ["from __future__ import annotations", ""] if sources else []
    return "\n".join([*first, *sorted(found, key=lambda line: (line.split()[1], line)), *own])
