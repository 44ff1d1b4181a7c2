"""The words of `why`: for each step of the argument a question, one sentence with the measured numbers, and the reason.

A sentence is made from numbers alone, and says what they say: where a measurement turns out otherwise than expected,
so does its sentence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from throughtime.workflow.why_record import Answer, WhyRecord

__all__ = ["TITLE", "WORDS", "Words", "origin_of", "question_of", "sentence_of", "shown"]

TITLE = "Why are recurrent networks hard to train?"

Numbers = Mapping[str, float]


@dataclass(frozen=True)
class Words:
    """What is said of one step of the argument.

    Attributes:
        question: that it answers.
        sentence: from the numbers of its `Answer`.
        reason: why it is so, and how it was measured.
    """

    question: str
    sentence: Callable[[Numbers], str]
    reason: str


def question_of(answer: Answer) -> str:
    """What is asked."""
    return WORDS[answer.key].question


def origin_of(record: WhyRecord) -> str:
    """Where the numbers come from."""
    torch_version = record.torch_version.split("+")[0]
    return (
        f"Every number here was measured by `throughtime why` (seed {record.seed}, torch {torch_version}), which "
        "measures it again on your machine in about a minute."
    )


def sentence_of(answer: Answer) -> str:
    """The one sentence that answers it, with the numbers that were measured."""
    return WORDS[answer.key].sentence(answer.numbers)


def shown(value: float | int | str | None) -> str:
    """A number as it is printed: three digits, no trailing zeros; "0" for a gradient of which nothing is left."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.1e}"
    return f"{value:,.3f}".rstrip("0").rstrip(".") if abs(value) < 100 else f"{value:,.0f}"


def _window(n: Numbers) -> str:
    learned = f"after {n['updates']:.0f} updates" if n["trained"] else f"not even after {n['updates']:.0f} updates"
    return (
        f"A net of five inputs, with no loop, says {n['inside']:.0%} of what happened up to four steps ago "
        f"({learned}), and {n['outside']:.0%} of anything older, which is guessing ({n['chance']:.0%}): its gradient "
        f"goes {n['gradient_steps']:.0f} steps into the past and ends there."
    )


def _loop(n: Numbers) -> str:
    return (
        f"The same net with a loop, reading one input at a time, says {n['outside']:.0%} of what happened five to ten "
        f"steps ago; the price is that its gradient now has to travel back through every step, all "
        f"{n['gradient_steps']:.0f} that were measured."
    )


def _way_back(n: Numbers) -> str:
    agrees = (
        "it is scale^k to within rounding"
        if n["agrees"]
        else f"it departs from scale^k by up to 10^{n['worst_difference']:.2g}"
    )
    return (
        f"The way back is a product of as many matrices as there are steps, and so linear: for weights of scale "
        f"{n['least_scale']:g} a gradient is 10^{n['log10_least']:.0f} of itself after {n['deepest']:,.0f} steps, for "
        f"{n['largest_scale']:g} it is 10^{n['log10_largest']:.0f}; {agrees} in a linear loop, and with tanh even "
        f"scale 1 leaves 10^{n['log10_tanh_at_one']:.0f}."
    )


def _lengths(n: Numbers) -> str:
    solved = (
        f"every one of {n['num_seeds']:.0f} seeds learns it at {n['longest_solved']:.0f} steps"
        if n["longest_solved"]
        else "not every seed learns it at any length"
    )
    lost = (
        f"none does at {n['shortest_lost']:.0f}"
        if n["shortest_lost"]
        else f"at {n['longest']:.0f} the mean accuracy is {n['score_longest']:.0%}"
    )
    return (
        f"Told a class at the first step and asked for it at the last, the same plain net fails as the sequence grows: "
        f"within {n['num_updates']:.0f} updates {solved}, and {lost}."
    )


def _drift(n: Numbers) -> str:
    return (
        f"A start decides how far the gradient reaches at first, and training moves it: of {n['num_networks']:.0f} "
        f"networks {n['num_moved']:.0f} changed their reach by more than a fifth, {n['num_shorter']:.0f} to a shorter "
        f"one and {n['num_longer']:.0f} to a longer one, and seeds of one start ended up to {n['widest']:.0f} steps "
        "apart."
    )


def _gates(n: Numbers) -> str:
    return (
        f"A gate changes the exponent, not the law: what a plain loop keeps of a gradient in a step is a factor of "
        f"{n['plain_decay']:.3f} (it reaches {n['plain_reach']:.0f} steps), what an LSTM keeps whose forget gates "
        f"start for {n['num_steps']:.0f} steps is {n['gated_decay']:.4f} ({n['gated_reach']:.0f} of "
        f"{n['num_steps'] - 1:.0f} steps)."
    )


def _sensitivity(n: Numbers) -> str:
    return (
        f"Long memory is hard even where nothing explodes: as a linear unit's memory grows from "
        f"{n['shortest_memory']:.0f} to {n['longest_memory']:,.0f} steps, the loss bends {_power(n['growth'])} times "
        f"more sharply along its weight (memory to the power {n['exponent']:.1f}), so that the largest stable learning "
        f"rate falls from {n['safe_rate_short']:.2g} to {n['safe_rate_long']:.1g}; with the input scaled down and the "
        f"weight written as in an LRU, it changes by a factor of {n['written_growth']:.1f}."
    )


def _outcomes(n: Numbers) -> str:
    def share(hits: float, total: float) -> str:
        return f"{hits:.0f} of {total:.0f}"

    return (
        f"One seed proves nothing: {n['num_mixed']:.0f} of {n['num_starts']:.0f} starts learned the same task with "
        f"some of {n['num_seeds']:.0f} seeds and not with others; of the networks whose gradient reached the "
        f"{n['need']:.0f} steps needed before training {share(n['far_solved'], n['far'])} learned it, of the others "
        f"{share(n['short_solved'], n['short'])}."
    )


def _power(value: float) -> str:
    return f"{value:,.0f}" if value < 1e4 else f"10^{math.log10(value):.1f}"


WORDS: Mapping[str, Words] = {
    "window": Words(
        "What can a net remember that has no loop?",
        _window,
        "Signals in a feedforward net move one way, from inputs to outputs, and so does its gradient, back again: a "
        "step or two, however long the sequence is. That is easy to train. But what lies outside its window does not "
        "exist for it. Asked is which of four symbols came 0 to 10 steps ago.",
    ),
    "loop": Words(
        "What does a loop in time change?",
        _loop,
        "A state that is handed from each step to the next can hold anything that ever came in. Unrolled, it is a net "
        "as deep as the sequence is long, with the same weights in every layer.",
    ),
    "way-back": Words(
        "Why do gradients vanish, or explode?",
        _way_back,
        "On the way forward a tanh keeps the state within bounds. On the way back nothing does: backpropagation "
        "multiplies by the same matrix, and by slopes that are at most 1, once a step. So weights a little too small "
        "shrink the gradient exponentially, and weights a little too large blow it up. The recurrent matrix here is "
        "orthogonal, times a scale; norms are measured in log units, rescaled on the way, so that nothing underflows.",
    ),
    "lengths": Words(
        "Does a longer sequence make it worse?",
        _lengths,
        "Nothing changes but the number of steps between cause and effect (`throughtime.tasks`, delayed recall; "
        "torch's usual start, Adam). Where the gradient of the first step is a millionth of that of the "
        "last one, an update hardly knows of the cause.",
    ),
    "drift": Words(
        "Does a good start solve it?",
        _drift,
        "Orthogonal, identity, critical and chrono starts set the product of the first pass to about 1. No start is a "
        "constraint: each update moves the weights, and with them the exponent.",
    ),
    "gates": Words(
        "What do gates change?",
        _gates,
        "In an LSTM the gradient of the memory is multiplied by the forget gate, a number that each unit learns and "
        "that can be nearly 1, in place of a matrix and a slope. It is still a product over all steps: a gate that "
        "starts at one half forgets as fast as a plain loop.",
    ),
    "sensitivity": Words(
        "If nothing vanishes and nothing explodes, is long memory easy?",
        _sensitivity,
        "For h = lambda h + x no gradient is ever larger than 1. But a weight that is used at every step changes the "
        "state by the sum of all its uses, and the sum grows with the memory: the closer the eigenvalue comes to 1, "
        "the narrower the valley of the loss. Measured is the second difference of the loss at its optimum, over white "
        "noise, with lambda learned as it is; with the input scaled by sqrt(1 - lambda^2); and with lambda = "
        "exp(-exp(nu)) besides, nu being learned, as in an LRU. Theory: (1 + lambda^2) / (1 - lambda^2)^3, and "
        "2 over the curvature for the rate (Zucchet & Orvieto 2024, arXiv:2405.21064).",
    ),
    "outcomes": Words(
        "How predictable is it?",
        _outcomes,
        "Each start is trained over the same seeds, on the class told 99 steps before it is asked for. The intervals "
        "are Wilson's: a few seeds leave a wide one. The gradient's reach before training tells much, and not all.",
    ),
}
