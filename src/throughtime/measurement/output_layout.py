"""Where time and the sequences lie in the outputs of a model: as told, as the inputs lie, or as a layer ran."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from throughtime.errors import InputError
from throughtime.measurement.probe import Axes, Probe
from throughtime.measurement.profile import Profiled

__all__ = ["Layout", "axes_of_flattened", "axes_of_sizes", "check_time", "laid_out", "on_shape", "output_axes"]


@dataclass(frozen=True)
class Layout:
    """Outputs and the gradient by them, and where time and the sequences lie there.

    Attributes:
        outputs: with an axis for the sequences; where they were flattened, apart from time.
        gradient: of the loss by the outputs, likewise.
        axes: None where there is no time.
        batch_axes: which axes may be that of the sequences, the likeliest first; None where these cannot be told apart.
    """

    outputs: Tensor
    gradient: Tensor
    axes: Axes | None
    batch_axes: tuple[int | None, ...]


def laid_out(
    outputs: Tensor, gradient: Tensor, probe: Probe, given: tuple[int, int] | None, ran: Iterable[int]
) -> Layout:
    """Find out where they lie.

    Args:
        outputs: of the model.
        gradient: of the loss by them.
        probe: what the model was called with.
        given: `output_dims` of the user.
        ran: numbers of steps that its layers ran.

    Raises:
        InputError: if it cannot be known.
    """
    outputs, gradient, axes = _apart(outputs, gradient, probe, given)
    if axes is None and given is None:
        others = sorted(set(ran) - {1, probe.num_steps}, reverse=True)  # a decoder, a stride
        found = (axes_of_sizes(outputs, num_steps, probe.num_sequences) for num_steps in others)
        axes = next((each for each in found if each is not None), None)
    if axes is not None:
        return Layout(outputs, gradient, axes, (axes.batch,))
    fit = tuple(axis for axis, size in enumerate(outputs.shape) if size == probe.num_sequences)
    return Layout(outputs, gradient, None, fit or (None,))


def output_axes(outputs: Tensor, probe: Probe, given: tuple[int, int] | None) -> Axes | None:
    """Where time and the sequences lie in the outputs; None where there is no time.

    Where they are given, the outputs may have another number of steps than the inputs.

    Raises:
        InputError: if that cannot be known.
    """
    sizes = (probe.num_steps, probe.num_sequences)
    if given is not None:
        time, batch = given
        if time < 0:
            return None
        if time == batch or max(given) >= outputs.dim() or outputs.size(batch) != sizes[1]:
            raise InputError(
                f"output_dims={given} do not fit outputs of shape {tuple(outputs.shape)}: expected two axes, of steps "
                f"and of {sizes[1]} sequences"
            )
        return Axes(time, batch)
    shape = outputs.shape
    fits = [
        Axes(time, batch)
        for time, batch in ((probe.axes.time, probe.axes.batch), (probe.axes.batch, probe.axes.time))
        if max(time, batch) < len(shape) and (shape[time], shape[batch]) == sizes
    ]
    if fits:
        return fits[0]
    if len(shape) == 3 and shape[0] == sizes[1] and shape[2] == sizes[0]:
        return Axes(2, 0)  # as torch.nn.CrossEntropyLoss and convolutions have it
    if shape and shape[0] == sizes[0] * sizes[1]:
        raise InputError(
            f"the outputs of shape {tuple(shape)} have time and sequences in one axis: give output_dims=(0, 0) if they "
            "lie there in the order of the inputs, or let the model return them apart"
        )
    if sizes[0] in shape[:-1]:
        axis = shape.index(sizes[0])
        raise InputError(
            f"the outputs of shape {tuple(shape)} have {sizes[0]} steps along axis {axis}, it seems, but not "
            f"{sizes[1]} sequences where they are in the inputs: give output_dims=(time, sequences), or (-1, 0) if "
            "there is no time"
        )
    return None


def axes_of_sizes(tensor: Tensor, num_steps: int, num_sequences: int, likely: Axes | None = None) -> Axes | None:
    """Where so many steps of so many sequences lie, in the likely way or in one of the two usual ones."""
    usual = [Axes(1, 0), Axes(0, 1)]
    for axes in usual if likely is None else [likely, *usual]:
        if tensor.dim() > max(axes.time, axes.batch) and (tensor.size(axes.time), tensor.size(axes.batch)) == (
            num_steps,
            num_sequences,
        ):
            return axes
    return None


def axes_of_flattened(outputs: Tensor, probe: Probe, axis: int) -> Axes:
    """Those of outputs with time and sequences in one axis, in the order of the inputs, once it is cut in two.

    Raises:
        InputError: if the axis does not hold them.
    """
    if axis >= outputs.dim() or outputs.size(axis) != probe.num_steps * probe.num_sequences:
        raise InputError(
            f"output_dims={(axis, axis)} do not fit outputs of shape {tuple(outputs.shape)}: axis {axis} does not hold "
            f"{probe.num_steps} steps of {probe.num_sequences} sequences"
        )
    return Axes(axis, axis + 1) if probe.axes.time < probe.axes.batch else Axes(axis + 1, axis)


def check_time(outputs: Tensor, axes: Axes, profiled: list[Profiled]) -> None:
    """Where the shape alone says little: if what is taken for a step depends on later ones, it may be no step.

    Raises:
        InputError: if so.
    """
    likely, num_steps = outputs.dim() > 2 and axes.time < 2, outputs.size(axes.time)
    forward = [each for each in profiled if not each.tap.backward and each.of_position.joint.size(0) == num_steps]
    if not likely and forward and all(each.hears_later_steps for each in forward):
        raise InputError(
            f"outputs of shape {tuple(outputs.shape)} depend on all steps wherever they lie along axis {axes.time}: "
            f"give output_dims=({axes.time}, {axes.batch}) if that is time, or (-1, {axes.batch}) if there is none"
        )


def on_shape(outputs: Tensor, probe: Probe) -> tuple[str, ...]:
    """What to say where the outputs have something more than features of each sequence, and it is no known time."""
    others = [size for size in outputs.shape[:-1] if size > 1]
    if probe.num_sequences in others:
        others.remove(probe.num_sequences)
    if not others:
        return ()
    return (
        f"outputs of shape {tuple(outputs.shape)} have no axis of {probe.num_steps} steps: all of the loss counts, "
        "from the last step that it depends on",
    )


def _apart(
    outputs: Tensor, gradient: Tensor, probe: Probe, given: tuple[int, int] | None
) -> tuple[Tensor, Tensor, Axes | None]:
    """Both with axes of their own for time and for the sequences, and where these lie.

    Raises:
        InputError: if that cannot be known.
    """
    if probe.alone or (outputs.dim() == 0 and probe.num_sequences == 1):
        told = given is not None and given[0] < 0
        with_time = not told and outputs.dim() > 0 and outputs.size(0) == probe.num_steps
        place = 1 if with_time else 0
        return outputs.unsqueeze(place), gradient.unsqueeze(place), Axes(0, 1) if with_time else None
    if outputs.dim() == 0:
        raise InputError(
            "the model returns one number for all sequences: let it return their outputs, or measure one sequence with "
            "num_sequences=1"
        )
    if given is not None and given[0] == given[1] >= 0:
        flat = axes_of_flattened(outputs, probe, given[0])
        return probe.unflattened(outputs, given[0]), probe.unflattened(gradient, given[0]), flat
    return outputs, gradient, output_axes(outputs, probe, given)
