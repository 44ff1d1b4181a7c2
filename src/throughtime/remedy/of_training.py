"""Remedies that change the optimizer and the loop."""

from __future__ import annotations

from typing import Any, Final

from throughtime.remedy.base import PatientEvidence, Remedy
from throughtime.remedy.facts import PatientFacts
from throughtime.remedy.of_gradient import ADAM, has_sgd
from throughtime.remedy.of_start import critical, has_anything, has_matrices

__all__ = ["REMEDIES", "decay"]

_LOWER = 0.1
_SAFE_RATIO = 1e-2
"""Update / weights at which training is quick and safe; a hundredth to a thousandth is usual."""
_WINDOW_TIMES = 2


def _rate(evidence: PatientEvidence) -> dict[str, Any]:
    """What the diagnosis tried and found better, or what brings the update to a hundredth of the weights."""
    better = evidence.number("better_rate", "learning-rate-too-high", "learning-rate-too-low")
    now = evidence.number("learning_rate") or evidence.facts.learning_rate
    ratio = evidence.number("update_ratio", "learning-rate-too-high", "learning-rate-too-low", "exploding-gradient")
    if better is None and now is not None:
        better = now * (min(1.0, _SAFE_RATIO / ratio) if ratio else _LOWER)
    elif better is not None and now is not None and ratio and evidence.has_found("learning-rate-too-low"):
        better = max(better, now * _SAFE_RATIO / ratio)
    return {} if better is None else {"learning_rate": float(f"{better:.3g}")}


def _gentler(evidence: PatientEvidence) -> dict[str, Any]:
    """A third of the better rate: where a rate is too high, a tenth of it may still be near the edge."""
    found = _rate(evidence)
    return {name: float(f"{value / 3:.3g}") for name, value in found.items()} | {"warmup_share": 0.1}


def _bolder(evidence: PatientEvidence) -> dict[str, Any]:
    """Ten times as much: of rates that are too low, a hundred times one may be too low too; of the present one else."""
    now = evidence.facts.learning_rate
    none_found = now is not None and not evidence.has_found("learning-rate-too-low")
    found = {"learning_rate": now} if now is not None and none_found else _rate(evidence)
    return {name: float(f"{value * 10:.3g}") for name, value in found.items()} | {"warmup_share": 0.1}


def _adam(evidence: PatientEvidence) -> dict[str, Any]:
    """Where the gradient explodes, from a start that does not have it so."""
    explodes = evidence.has_found("exploding-gradient") and has_matrices(evidence.facts)
    start = critical(evidence) if explodes else {}
    return {**start, **ADAM}


def _has_rate(facts: PatientFacts) -> bool:
    return facts.learning_rate is not None


def _has_window(facts: PatientFacts) -> bool:
    return facts.window is not None


def has_layers(facts: PatientFacts) -> bool:
    """Whether there is a recurrent module that runs whole sequences."""
    return any(not r.one_step for r in facts.recurrences)


def decay(evidence: PatientEvidence) -> float:
    """Weight decay that is usual: AdamW multiplies it by the learning rate alone, others add it to the gradient."""
    return 0.1 if evidence.facts.optimizer == "AdamW" else 1e-3


def _window(evidence: PatientEvidence) -> dict[str, Any]:
    now = evidence.facts.window or int(evidence.number("window", "truncated-window") or 1)
    wanted = _WINDOW_TIMES * (evidence.lag if evidence.need else 4 * now)
    return {"window": max(wanted, now + 1)}


REMEDIES: Final = (
    Remedy(
        name="learning-rate",
        title="the learning rate that the diagnosis found better",
        treats=("learning-rate-too-high", "learning-rate-too-low", "non-finite", "exploding-gradient"),
        fits=_has_rate,
        change=_rate,
        cost="none",
        paper="Smith 2017, arXiv:1506.01186: rates are told apart by short runs",
        does_not_help="where the loss is wrong or the gradient does not reach: any rate learns the wrong thing",
    ),
    Remedy(
        name="adam",
        title="Adam in place of SGD, clipped",
        treats=(
            "exploding-gradient",
            "over-clipping",
            "clipping-missing",
            "learning-rate-too-low",
            "learning-rate-too-high",
        ),
        fits=has_sgd,
        change=_adam,
        cost="two numbers more for each weight",
        paper="Kingma & Ba 2015, arXiv:1412.6980",
        does_not_help="where the gradient is wrong, and not only of the wrong size",
    ),
    Remedy(
        name="gentler-rate",
        title="a third of that rate, with a warm-up",
        treats=("learning-rate-too-high", "non-finite"),
        fits=_has_rate,
        change=_gentler,
        cost="slower at first",
        paper="Goyal et al. 2017, arXiv:1706.02677, section 2.2",
        does_not_help="runs too short for the lower rate",
    ),
    Remedy(
        name="bolder-rate",
        title="ten times that rate, with a warm-up",
        treats=("learning-rate-too-low",),
        fits=_has_rate,
        change=_bolder,
        cost="none",
        paper="Smith 2017, arXiv:1506.01186; Goyal et al. 2017, arXiv:1706.02677, section 2.2",
        does_not_help="where the better rate is near the edge already",
    ),
    Remedy(
        name="warm-up",
        title="warm-up over the first tenth",
        treats=("learning-rate-too-high", "exploding-gradient"),
        fits=has_anything,
        change=lambda _: {"warmup_share": 0.1},
        cost="a twentieth of the progress",
        paper="Goyal et al. 2017, arXiv:1706.02677, section 2.2",
        does_not_help="a rate that is too high for the rest of training too",
    ),
    Remedy(
        name="longer-window",
        title="a window of twice the need",
        treats=("truncated-window",),
        fits=_has_window,
        change=_window,
        reaches=lambda evidence: _window(evidence)["window"] - 1,
        predicts="no gradient reaches beyond the window; below it the cell decides",
        cost="memory as the window; fewer updates for the same data",
        paper="Williams & Peng 1990, doi:10.1162/neco.1990.2.4.490; Aicher, Foti & Fox 2019, arXiv:1905.07473",
        does_not_help="where the gradient fades within the window",
    ),
    Remedy(
        name="carry-state",
        title="the state carried from window to window",
        treats=("truncated-window",),
        fits=_has_window,
        change=lambda _: {"carry": True},
        cost="none; the windows of a stream have to follow one another",
        paper="Mikolov et al. 2010, INTERSPEECH",
        does_not_help="unrelated sequences; learning what lies beyond the window",
    ),
    Remedy(
        name="larger-batch",
        title="four batches an update",
        treats=("plateau", "clipping-missing"),
        fits=has_anything,
        change=lambda _: {"batch_factor": 4},
        cost="a step takes four times as long",
        paper="McCandlish et al. 2018, arXiv:1812.06162",
        does_not_help="where the gradient is not noisy, or is zero",
    ),
    Remedy(
        name="weight-decay",
        title="weight decay",
        treats=("overfitting",),
        fits=has_anything,
        change=lambda evidence: {"weight_decay": decay(evidence)},
        cost="none",
        paper="Krogh & Hertz 1992, NIPS; Loshchilov & Hutter 2019, arXiv:1711.05101",
        does_not_help="data too few to tell the rule from chance; it shortens the memory of plain cells",
    ),
    Remedy(
        name="dropout",
        title="dropout behind the recurrence",
        treats=("overfitting",),
        fits=has_anything,
        change=lambda _: {"dropout": 0.5},
        cost="slower learning",
        paper="Zaremba, Sutskever & Vinyals 2014, arXiv:1409.2329; Gal & Ghahramani 2016, arXiv:1512.05287",
        does_not_help="small layers, and data too few to tell the rule from chance",
    ),
    Remedy(
        name="early-stopping",
        title="stop when validation stops improving",
        treats=("overfitting",),
        fits=has_anything,
        change=lambda _: {"patience": 3},
        cost="an evaluation now and then; saves time",
        paper="Prechelt 1998, doi:10.1007/3-540-49430-8_3",
        does_not_help="where even the best moment is bad",
    ),
    Remedy(
        name="dropout-decay-stop",
        title="dropout, decay and early stopping together",
        treats=("overfitting",),
        fits=has_anything,
        change=lambda evidence: {"dropout": 0.5, "weight_decay": decay(evidence), "patience": 3},
        cost="slower learning",
        paper="Merity, Keskar & Socher 2018, arXiv:1708.02182",
        does_not_help="data too few to tell the rule from chance: collect more",
    ),
    Remedy(
        name="curriculum",
        title="short sequences first",
        treats=("vanishing-gradient", "plateau", "weak-recurrence"),
        fits=has_anything,
        change=lambda _: {"curriculum": 0.5},
        cost="none; the first half of training is cheaper",
        paper="Bengio, Louradour, Collobert & Weston 2009, ICML; Zaremba & Sutskever 2014, arXiv:1410.4615",
        does_not_help="targets that need a fixed long lag, which short sequences do not contain",
    ),
    Remedy(
        name="auxiliary-loss",
        title="a loss for telling earlier inputs",
        treats=("vanishing-gradient", "weak-recurrence"),
        fits=has_layers,
        change=lambda evidence: {"auxiliary": 0.3, "auxiliary_steps": max(1, min(evidence.lag // 2, 20))},
        cost="a linear layer beside the recurrence: a few % of a step",
        paper="Trinh, Dai, Luong & Le 2018, arXiv:1803.00144",
        does_not_help="packed sequences; small states, which it fills with what the target does not need",
    ),
    Remedy(
        name="all-parameters",
        title="the optimizer updates every parameter",
        treats=("optimizer-misses-parameters",),
        fits=has_anything,
        change=lambda _: {"all_parameters": True},
        cost="the update of these",
        paper="documentation of torch.optim: parameters have to be handed over",
        does_not_help="parameters that are frozen on purpose: name them in `ignore`",
    ),
    Remedy(
        name="reset-gradients",
        title="gradients forgotten after each step",
        treats=("gradient-not-reset",),
        fits=has_anything,
        change=lambda _: {"reset_gradients": True},
        cost="none",
        paper="documentation of torch.optim.Optimizer.zero_grad",
        does_not_help="loops that make several steps from one backward pass on purpose",
    ),
)
