"""Each fault of the optimisation fires on a made case, and stays silent on its near misses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from throughtime.diagnosis import clipping, gradients, learning_rates, non_finite, overfitting, plateau, unmoved
from throughtime.diagnosis.case import Case, Missing
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.finding import Finding
from throughtime.diagnosis.optimisation import RULES
from throughtime.diagnosis.rates import settled
from throughtime.measurement import watch

LENGTH, BATCH, CLASSES = 8, 32, 4
ADAM = partial(torch.optim.Adam, lr=3e-3)
SGD = partial(torch.optim.SGD, lr=0.3)


class Recall(nn.Module):
    """Which symbol came first?"""

    def __init__(self, hidden: int = 24) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CLASSES, 8)
        self.rnn = nn.GRU(8, hidden, batch_first=True)
        self.out = nn.Linear(hidden, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.rnn(self.embedding(x))[0][:, -1])
        return y


def batches(seed: int, size: int = BATCH) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        x = torch.randint(CLASSES, (size, LENGTH), generator=generator)
        yield x, x[:, 0]


def case(
    optimizer: Callable[..., torch.optim.Optimizer] | None = ADAM, model: nn.Module | None = None, **rest: Any
) -> Case:
    if model is None:
        torch.manual_seed(0)
        model = Recall()
    x, y = next(batches(1))
    optimizers = () if optimizer is None else (optimizer(model.parameters()),)
    return Case(model=model, optimizers=optimizers, **{"inputs": x, "targets": y, "loss": F.cross_entropy} | rest)


def trained(
    patient: Case,
    steps: int,
    *,
    stream: Iterator[tuple[Tensor, Tensor]] | None = None,
    clip: float | None = None,
    reset: bool = True,
    passes: int = 1,
    rate: Callable[[int], float] | None = None,
    sample_every: int = 1,
) -> Case:
    """The case after a loop of the user's own, watched."""
    stream = batches(2) if stream is None else stream
    (optimizer,) = patient.optimizers
    with watch(patient.model, optimizer, sample_every=sample_every, every=10**6) as watched:
        for step in range(steps):
            if rate is not None:
                optimizer.param_groups[0]["lr"] = rate(step)
            if reset:
                optimizer.zero_grad()
            for _ in range(passes):
                x, y = next(stream)
                loss = patient.loss(patient.model(x), y)
                (loss / passes).backward()
                watched.loss(loss)
            if clip is not None:
                nn.utils.clip_grad_norm_(patient.model.parameters(), clip)
            optimizer.step()
    return replace(patient, history=watched.record)


def serious(find: Callable[[Evidence], Finding | None], patient: Case) -> Finding:
    found = find(Evidence(patient))
    assert found is not None
    assert found.severity == "error", found
    return found


def harmless(find: Callable[[Evidence], Finding | None], patient: Case) -> None:
    try:
        found = find(Evidence(patient))
    except Missing:
        return
    assert found is None or found.severity != "error", found


def silent(patient: Case) -> None:
    """No rule at all fires."""
    evidence = Evidence(patient)
    for rule in RULES:
        try:
            found = rule.find(evidence)
        except Missing:
            continue
        assert found is None, found


def test_every_code_of_the_family_has_a_rule() -> None:
    assert len({rule.code for rule in RULES}) == len(RULES) == 9


# Healthy ones, however odd, are told nothing.


@pytest.mark.parametrize(
    "patient",
    [
        case(),
        case(partial(torch.optim.Adam, lr=3e-2)),
        case(partial(torch.optim.SGD, lr=1.0)),
        case(partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.5)),
        case(partial(torch.optim.LBFGS, lr=0.5, max_iter=4)),
        case(ADAM, loss=nn.CrossEntropyLoss(reduction="sum")),
        case(ADAM, Recall(3)),
    ],
    ids=["plain", "adam-3e-2", "sgd-1", "weight-decay", "lbfgs", "sum", "tiny"],
)
def test_healthy_before_training(patient: Case) -> None:
    silent(patient)


def test_healthy_during_training() -> None:
    silent(trained(case(), 60, clip=5.0))
    silent(trained(case(), 20, passes=3))


def test_a_model_that_has_converged_is_healthy() -> None:
    patient = trained(case(partial(torch.optim.Adam, lr=1e-2)), 250, sample_every=5)
    assert Evidence(patient).batch_loss < 0.05
    slow = replace(patient, history=None)
    slow.optimizers[0].param_groups[0]["lr"] = 1e-6
    silent(slow)
    silent(patient)


def test_a_warm_up_is_healthy() -> None:
    def warming(step: int) -> float:
        return 1e-6 * (step + 1)

    harmless(learning_rates.find_too_low, trained(case(), 30, rate=warming))
    patient = case(partial(torch.optim.Adam, lr=3e-3))
    torch.optim.lr_scheduler.LinearLR(patient.optimizers[0], start_factor=1e-4, total_iters=1000)
    with pytest.raises(Missing, match="schedule"):
        learning_rates.find_too_low(Evidence(patient))


# Learning rates.


@pytest.mark.parametrize("optimizer", [partial(torch.optim.Adam, lr=0.5), partial(torch.optim.SGD, lr=200.0)])
def test_rate_too_high(optimizer: Callable[..., torch.optim.Optimizer]) -> None:
    found = serious(learning_rates.find_too_high, case(optimizer))
    assert found.evidence["better_rate"] < found.evidence["learning_rate"]
    assert f"{found.evidence['learning_rate']:.2g}" in found.summary


def test_rate_too_high_as_watched() -> None:
    serious(learning_rates.find_too_high, trained(case(partial(torch.optim.Adam, lr=0.5)), 40))


class Adder(nn.Module):
    """Numbers and marks (B, T, 2) -> (B,), from the last state of rectified units that begin as identity."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(2, 32, nonlinearity="relu", batch_first=True)
        self.out = nn.Linear(32, 1)
        nn.init.eye_(self.rnn.weight_hh_l0)
        nn.init.normal_(self.rnn.weight_ih_l0, std=0.05)
        nn.init.zeros_(self.rnn.bias_ih_l0)
        nn.init.zeros_(self.rnn.bias_hh_l0)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.rnn(x)[0][:, -1])[:, 0]
        return y


def adding(rate: float, seed: int = 11) -> Case:
    """A watched loop with momentum: two marked numbers of each sequence are to be added up."""

    def stream(number: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(number)
        while True:
            x = torch.rand(BATCH, 20, 2, generator=generator)
            marks = torch.rand(BATCH, 2, 10, generator=generator).argmax(-1) + torch.tensor([0, 10])
            x[..., 1] = torch.zeros(BATCH, 20).scatter_(1, marks, 1.0)
            yield x, x.prod(-1).sum(1)

    torch.manual_seed(seed)
    x, y = next(stream(1))
    optimizer = partial(torch.optim.SGD, lr=rate, momentum=0.9)
    return trained(case(optimizer, Adder(), inputs=x, targets=y, loss=F.mse_loss), 60, stream=stream(2), clip=1.0)


def test_a_passing_climb_is_no_rate_too_high() -> None:
    """Momentum overshoots, and the loss has fallen far since; at ten times the rate it is thrown about."""
    patient = adding(0.02)
    climb = learning_rates._climbed(Evidence(patient))
    assert climb is not None
    assert climb.peak > 1.4 * climb.first
    harmless(learning_rates.find_too_high, patient)
    serious(learning_rates.find_too_high, adding(0.2))


def test_a_loop_that_stays_far_above_chance_after_its_first_update() -> None:
    patient = trained(forecaster(partial(torch.optim.RMSprop, lr=0.3)), 60, stream=series(1.0, 0))
    found = serious(learning_rates.find_too_high, patient)
    assert found.evidence["update_ratio"] > 1
    harmless(learning_rates.find_too_high, trained(forecaster(ADAM), 60, stream=series(1.0, 0)))


def test_a_rate_that_a_schedule_has_taken_away() -> None:
    def halved(step: int) -> float:
        return 3e-3 * 0.5**step

    found = serious(learning_rates.find_too_low, trained(case(), 40, rate=halved))
    assert found.evidence["better_rate"] == pytest.approx(3e-3)
    harmless(learning_rates.find_too_low, trained(case(), 300, rate=lambda step: 2e-2 * 0.98**step))  # it has learned


def test_a_rate_that_clipping_makes_good_is_no_error() -> None:
    found = learning_rates.find_too_high(Evidence(case(partial(torch.optim.SGD, lr=4.0))))
    assert found is not None
    assert found.severity == "warning"
    assert found.evidence["healed_by_clip"] == 0.25
    harmless(learning_rates.find_too_high, trained(case(partial(torch.optim.SGD, lr=4.0)), 20, clip=0.25))


def test_a_climb_of_the_first_steps_that_is_made_good_is_none() -> None:
    torch.manual_seed(9)
    bits = (torch.rand(25, 32, 3) > 0.5).float()
    rnn, head = nn.RNN(3, 40, nonlinearity="relu"), nn.Linear(40, 3)
    for name, weight in rnn.named_parameters():
        nn.init.eye_(weight) if name == "weight_hh_l0" else nn.init.zeros_(weight)
    nn.init.normal_(rnn.weight_ih_l0, std=0.3)

    class Echo(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = rnn, head

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.head(self.rnn(x)[0])
            return y

    data = {"inputs": bits, "targets": bits.roll(3, 0), "loss": F.binary_cross_entropy_with_logits}
    slow = Evidence(case(partial(torch.optim.RMSprop, lr=1e-3), Echo(), **data))
    losses = slow.rehearsal.losses
    assert max(losses) > losses[0] + 0.2  # it does climb
    assert learning_rates.find_too_high(slow) is None
    serious(learning_rates.find_too_high, case(partial(torch.optim.RMSprop, lr=0.3), Echo(), **data))


@pytest.mark.parametrize(
    "optimizer",
    [
        partial(torch.optim.Adam, lr=3e-6),
        partial(torch.optim.Adam, lr=1e-7),  # of which a thousand times is too little to show in 20 steps
        partial(torch.optim.SGD, lr=1e-5),
    ],
)
def test_rate_too_low(optimizer: Callable[..., torch.optim.Optimizer]) -> None:
    found = serious(learning_rates.find_too_low, case(optimizer))
    assert found.evidence["share_gained"] < learning_rates.SLOW
    serious(learning_rates.find_too_low, trained(case(optimizer), 40))


class Rhythm(nn.Module):
    """Which of three periods? The mean over time of an orthogonal network: its loss is bumpy."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(3, 32, batch_first=True)
        nn.init.orthogonal_(self.rnn.weight_hh_l0)
        self.out = nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.rnn(x)[0].mean(1))
        return y


def test_a_loss_that_fell_and_came_up_again_is_not_slow() -> None:
    torch.manual_seed(22)
    model, y = Rhythm(), torch.randint(0, 3, (128,))
    period = torch.tensor([7.0, 11.0, 17.0])[y][:, None]
    tone = torch.sin(6.2832 * torch.arange(250)[None] / period + 6.28 * torch.rand(128, 1))
    x = torch.stack([tone, torch.randn(128, 250) * 0.5, torch.randn(128, 250) * 0.5], -1)
    x[..., 0] += 0.3 * torch.randn(128, 250)
    given = {"inputs": x, "targets": y, "loss": F.cross_entropy}
    bumpy = Evidence(Case(model=model, optimizers=(torch.optim.Adam(model.parameters(), lr=3e-3),), **given))
    losses = bumpy.rehearsal.losses
    assert min(losses) < losses[0] - 0.1
    assert settled(losses) > losses[0] - 0.05
    assert learning_rates.find_too_low(bumpy) is None


def test_a_loss_without_a_floor_tells_nothing_of_rates() -> None:
    """The gradient of a policy: what was done is made ever likelier, and what was not ever less likely."""
    patient = case(partial(torch.optim.Adam, lr=0.1), loss=lambda o, y: 2 - (o[:, 0] * (1.5 - y)).mean())
    evidence = Evidence(patient)
    assert settled(evidence.rates.losses(1000.0)) < 30 * settled(evidence.rehearsal.losses) < 0
    assert learning_rates.find_too_low(evidence) is None


def test_a_slow_rate_is_not_too_low() -> None:
    harmless(learning_rates.find_too_low, case(partial(torch.optim.Adam, lr=3e-4)))
    harmless(learning_rates.find_too_low, case(partial(torch.optim.SGD, lr=0.1)))


def test_rates_want_an_optimizer() -> None:
    for find in (learning_rates.find_too_high, learning_rates.find_too_low):
        with pytest.raises(Missing, match="an optimizer"):
            find(Evidence(case(None)))


# Clipping.


def test_clipped_to_nothing() -> None:
    found = serious(clipping.find_over, trained(case(SGD), 40, clip=1e-4))
    assert found.evidence["clipped_share"] == 1.0
    assert found.evidence["effective_learning_rate"] == pytest.approx(0.3 * found.evidence["median_left"])
    harmless(learning_rates.find_too_low, trained(case(SGD), 40, clip=1e-4))


def test_clipping_hardly_matters_to_adam_and_a_usual_clip_to_none() -> None:
    found = clipping.find_over(Evidence(trained(case(ADAM), 40, clip=1e-3)))
    assert found is not None
    assert found.severity == "info"
    assert "Adam" in found.summary
    assert clipping.find_over(Evidence(trained(case(SGD), 40, clip=0.1))) is None
    with pytest.raises(Missing, match="a watch"):
        clipping.find_over(Evidence(case(SGD)))


class Echo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(1, 16, batch_first=True)
        self.out = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.rnn(x)[0]).squeeze(-1)
        return y


def series(size: float, at: int, scale: float = 1.0) -> Iterator[tuple[Tensor, Tensor]]:
    """A running mean, and one batch whose targets are `size` times too large."""
    generator = torch.Generator().manual_seed(4)
    step = 0
    while True:
        step += 1
        x = torch.randn(16, 12, 1, generator=generator)
        yield x, scale * x.squeeze(-1).cumsum(1) / 5 * (size if step == at else 1.0)


SLOW_SGD = partial(torch.optim.SGD, lr=0.05)


def forecaster(optimizer: Callable[..., torch.optim.Optimizer] = SLOW_SGD) -> Case:
    torch.manual_seed(0)
    x, y = next(series(1.0, 0))
    return case(optimizer, Echo(), inputs=x, targets=y, loss=F.mse_loss)


def test_a_spike_that_damaged_the_loss() -> None:
    patient = trained(forecaster(), 50, stream=series(1e4, 40))
    found = serious(clipping.find_missing, patient)
    assert found.evidence["step"] == 40
    assert found.evidence["times_median"] > 100
    harmless(learning_rates.find_too_high, patient)


def test_a_loss_that_falls_does_not_hide_what_a_spike_did() -> None:
    patient = trained(forecaster(), 30, stream=series(1.0, 0))
    assert patient.history is not None
    falling = [1.5 - 0.04 * step + 0.01 * (-1) ** step for step in range(16)]
    spiked = [*falling, 500.0, 1.3, 1.28, 1.26, 1.25]
    calm = [*falling, 500.0, 0.86, 0.82, 0.78, 0.74]
    for losses, found in ((spiked, True), (calm, False)):
        history = replace(patient.history, losses=tuple(losses), losses_every=1)
        assert (clipping.find_missing(Evidence(replace(patient, history=history))) is not None) is found


@pytest.mark.parametrize(("next_loss", "found"), [(27.0, True), (3.0, False)])
def test_weights_that_were_thrown_off_and_came_back_in_three_steps(next_loss: float, found: bool) -> None:
    patient = trained(forecaster(), 30, stream=series(1.0, 0))
    assert patient.history is not None
    calm = [0.6 + 0.1 * (-1) ** step for step in range(16)]
    history = replace(patient.history, losses=(*calm, 1e4, next_loss, 2.3, 0.6, 0.7, 0.5), losses_every=1)
    finding = clipping.find_missing(Evidence(replace(patient, history=history)))
    assert (finding is not None) is found
    if finding is not None:
        assert "to 27 in the step after it" in finding.summary


def test_a_spike_that_did_no_harm_or_was_clipped() -> None:
    assert clipping.find_missing(Evidence(trained(forecaster(), 50, stream=series(1e4, 40), clip=0.5))) is None
    assert clipping.find_missing(Evidence(trained(forecaster(), 50, stream=series(3.0, 40)))) is None
    assert clipping.find_missing(Evidence(trained(forecaster(ADAM), 50, stream=series(1e4, 40)))) is None


# Gradients that are not reset.


def test_gradients_not_reset() -> None:
    found = serious(gradients.find, trained(case(SGD), 20, reset=False))
    assert found.evidence["share"] == 1.0


def test_accumulation_is_healthy_and_only_a_loop_can_tell() -> None:
    assert gradients.find(Evidence(trained(case(SGD), 20, passes=4))) is None
    with pytest.raises(Missing, match="only the loop itself"):
        gradients.find(Evidence(case(SGD)))


# Parameters that never change.


def test_no_optimizer_holds_the_recurrence() -> None:
    patient = case()
    patient.model.rnn = nn.GRU(8, 24, batch_first=True)
    found = serious(unmoved.find, patient)
    assert set(found.evidence["names"]) == {f"rnn.{name}" for name, _ in patient.model.rnn.named_parameters()}
    assert "no optimizer holds them" in found.summary


class InList(nn.Module):
    def __init__(self, wrap: Callable[[list[nn.Module]], Any]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CLASSES, 8)
        self.layers = wrap([nn.GRU(8, 8, batch_first=True), nn.GRU(8, 8, batch_first=True)])
        self.out = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        y = self.embedding(x)
        for layer in self.layers.values() if isinstance(self.layers, dict) else self.layers:
            y = layer(y)[0]
        return self.out(y[:, -1])  # type: ignore[no-any-return]


@pytest.mark.parametrize("wrap", [list, tuple, lambda layers: dict(enumerate(layers))])
def test_layers_in_a_plain_container(wrap: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    found = serious(unmoved.find, case(ADAM, InList(wrap)))
    assert len(found.evidence["names"]) == 8
    assert "nn.ModuleList" in found.summary


def test_layers_in_a_plain_list_that_an_optimizer_holds_are_healthy() -> None:
    model = InList(list)
    patient = case(None, model)
    everything = [p for part in (model, *model.layers) for p in part.parameters()]
    assert unmoved.find(Evidence(replace(patient, optimizers=(torch.optim.Adam(everything),)))) is None
    assert unmoved.find(Evidence(case(ADAM, InList(nn.ModuleList)))) is None


@pytest.mark.parametrize("part", ["rnn", "out"])
def test_frozen_by_accident(part: str) -> None:
    patient = case()
    getattr(patient.model, part).requires_grad_(False)
    assert "frozen" in serious(unmoved.find, patient).summary


class Reservoir(nn.Module):
    """Numbers (B, T) -> (B, T), read from a recurrence that is as it was drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.read = nn.RNN(1, 64, batch_first=True), nn.Linear(64, 1)
        self.rnn.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.read(self.rnn(x.unsqueeze(-1))[0]).squeeze(-1)
        return y


@pytest.mark.parametrize(("learnable", "severity"), [(True, "warning"), (False, "error")])
def test_a_reservoir_is_frozen_on_purpose(learnable: bool, severity: str) -> None:
    torch.manual_seed(0)
    x = torch.rand(64, 30) - 0.5
    y = 0.6 * x + 0.4 * x.roll(1, 1) if learnable else torch.randn(64, 30)
    optimizer = partial(torch.optim.Adam, lr=2e-2)
    found = unmoved.find(Evidence(case(optimizer, Reservoir(), inputs=x, targets=y, loss=F.mse_loss, time_dim=1)))
    assert found is not None
    assert found.severity == severity
    assert found.evidence["names"] == ["rnn.weight_ih_l0", "rnn.weight_hh_l0"]


def test_a_recurrence_from_another_training_may_be_frozen() -> None:
    patient = case(SGD)
    with torch.no_grad():
        for bias in (patient.model.rnn.bias_ih_l0, patient.model.rnn.bias_hh_l0):
            bias.add_(0.3 * torch.randn(bias.shape, generator=torch.Generator().manual_seed(0)))
    patient.model.rnn.requires_grad_(False)
    found = unmoved.find(Evidence(patient))
    assert found is not None
    assert found.severity == "warning"
    patient.model.rnn = nn.GRU(8, 24, batch_first=True).requires_grad_(False)
    with torch.no_grad():
        patient.model.rnn.bias_ih_l0[24:48] = 2.0  # a gate set by hand, the others as they were drawn
    assert serious(unmoved.find, patient).severity == "error"


def test_a_frozen_embedding_and_an_unused_layer_are_healthy() -> None:
    patient = case()
    patient.model.embedding.requires_grad_(False)
    found = unmoved.find(Evidence(patient))
    assert found is not None
    assert found.severity == "info"
    patient = case()
    patient.model.unused = nn.Linear(3, 3)  # type: ignore[assignment]
    assert unmoved.find(Evidence(patient)) is None


def test_a_group_at_rest() -> None:
    patient = case(None)
    rest = [*patient.model.embedding.parameters(), *patient.model.out.parameters()]
    optimizer = torch.optim.Adam([{"params": rest}, {"params": patient.model.rnn.parameters(), "lr": 0.0}])
    assert "learning rate 0" in serious(unmoved.find, replace(patient, optimizers=(optimizer,))).summary


# Numbers that are not finite.


def formula(outputs: Tensor, targets: Tensor) -> Tensor:
    return -outputs.gather(-1, targets.unsqueeze(-1)).squeeze(-1).sub(0.5).log().mean()


def test_not_finite_by_the_loss_and_by_the_update() -> None:
    found = serious(non_finite.find, case(ADAM, loss=formula))
    assert found.evidence["where"] == "loss"
    assert found.evidence["step"] == 1
    found = serious(non_finite.find, trained(forecaster(partial(torch.optim.SGD, lr=1e4)), 60, stream=series(1.0, 0)))
    assert found.evidence["step"] > 1
    assert f"step {found.evidence['step']}" in found.summary


def test_a_formula_that_gives_way_is_no_missing_clip() -> None:
    class Rate(Recall):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).mean(-1)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return (0.5 - outputs).log().mean()  # falls without end, until its argument is below 0

    torch.manual_seed(0)
    patient = trained(case(partial(torch.optim.Adam, lr=0.03), Rate(), loss=loss), 60)
    history = patient.history
    assert history is not None
    assert history.non_finite is not None
    assert history.non_finite["where"] in ("loss", "gradient")
    assert clipping.find_missing(Evidence(patient)) is None
    serious(non_finite.find, patient)


def test_the_rate_of_a_loop_that_ended_in_nan_is_told_by_its_updates() -> None:
    """Weights that are NaN leave no other rate to be tried; what spoiled them was seen."""
    patient = trained(forecaster(partial(torch.optim.SGD, lr=1e3, momentum=0.9)), 60, stream=series(1.0, 0))
    assert patient.history is not None
    assert patient.history.non_finite is not None
    found = serious(learning_rates.find_too_high, patient)
    assert found.evidence["learning_rate"] == 1e3
    assert found.evidence["step"] < patient.history.non_finite["step"]
    assert found.evidence["sensitivity"] < 100 < 1000 * found.evidence["update_ratio"]
    assert "an ordinary one" in found.summary


def test_a_loop_that_ended_in_nan_by_the_formula_of_its_loss_had_no_rate_too_high() -> None:
    patient = trained(case(partial(torch.optim.Adam, lr=3.0), loss=formula), 4)
    assert patient.history is not None
    assert patient.history.non_finite is not None
    harmless(learning_rates.find_too_high, patient)


def test_the_chance_level_of_a_loss_that_is_nan_everywhere_is_unknown() -> None:
    patient = case(loss=lambda outputs, targets: (-outputs.square().mean() - 1).log())
    with pytest.raises(Missing, match="an output which is the same everywhere"):
        _ = Evidence(patient).chance_loss


def test_finite_ones_are_silent_and_what_clipping_heals_is_a_warning() -> None:
    assert non_finite.find(Evidence(case())) is None
    found = non_finite.find(Evidence(forecaster(partial(torch.optim.SGD, lr=30.0))))
    assert found is not None
    assert found.severity == "warning"
    with pytest.raises(Missing, match="an optimizer"):
        non_finite.find(Evidence(case(None)))


# Plateaus.


def constant(model: nn.Module, value: float) -> nn.Module:
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    return model


@pytest.mark.parametrize("value", [0.0, 0.05])
def test_units_that_are_copies(value: float) -> None:
    found = serious(plateau.find, case(ADAM, constant(Recall(), value)))
    assert list(found.evidence["symmetric"]) == ["rnn"]
    assert found.evidence["num_units"] == 24


def test_zeros_that_training_tells_apart_are_no_plateau() -> None:
    torch.manual_seed(0)
    model = Recall()
    nn.init.zeros_(model.rnn.weight_hh_l0)
    nn.init.zeros_(model.rnn.weight_ih_l0)
    nn.init.zeros_(model.rnn.bias_ih_l0)
    nn.init.zeros_(model.rnn.bias_hh_l0)
    harmless(plateau.find, case(partial(torch.optim.Adam, lr=1e-2), model))


class Cut(Recall):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(torch.zeros_like(self.rnn(self.embedding(x))[0][:, -1]))
        return y


def test_a_batch_of_which_nothing_can_be_learned() -> None:
    torch.manual_seed(0)
    patient = case(partial(torch.optim.Adam, lr=1e-2), Cut())
    with torch.no_grad():
        patient.model.out.bias.copy_(torch.bincount(patient.targets, minlength=CLASSES).log())
    assert "not even one batch" in serious(plateau.find, patient).summary


def test_a_long_history_at_chance() -> None:
    def noise(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        for x, y in batches(seed):
            yield x, y[torch.randperm(len(y), generator=generator)]

    patient = trained(case(), 520, stream=noise(5), sample_every=50)
    assert "520 steps" in serious(plateau.find, patient).summary
    harmless(plateau.find, trained(case(), 60, stream=noise(5)))


# Overfitting.


def test_learned_by_heart() -> None:
    x = torch.randint(CLASSES, (8, LENGTH), generator=torch.Generator().manual_seed(6))
    y = torch.arange(8) % CLASSES
    other = torch.randint(CLASSES, (64, LENGTH), generator=torch.Generator().manual_seed(7))
    patient = case(partial(torch.optim.Adam, lr=1e-2), inputs=x, targets=y, validation=(other, other[:, 0]))
    with pytest.raises(Missing, match="a model that has learned the batch at hand, or a watch of its training"):
        overfitting.find(Evidence(patient))

    def same() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield x, y

    found = serious(overfitting.find, trained(patient, 120, stream=same()))
    assert found.evidence["train_loss"] < 0.1 < 1.3 < found.evidence["validation_loss"]


def test_what_holds_for_others_is_not_overfitted() -> None:
    patient = trained(case(partial(torch.optim.Adam, lr=1e-2), validation=next(batches(8, 64))), 200)
    assert overfitting.find(Evidence(patient)) is None
    with pytest.raises(Missing, match="validation"):
        overfitting.find(Evidence(case()))
