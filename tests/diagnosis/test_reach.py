"""Each code of reach: patients that must get it, and near ones that must not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diagnosis.patients import LastStep, Tagger, cross_entropy, evidence, first_input, mse, orthogonal
from throughtime.diagnosis import diagnose
from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.finding import Finding
from throughtime.diagnosis.reach import RULES, shortfall
from throughtime.measurement import watch

FIND: dict[str, Callable[[Evidence], Finding | None]] = {rule.code: rule.find for rule in RULES}


def recalling(model: nn.Module, need: int | None = 39, **options: object) -> Evidence:
    """Of a model that is to say the first of 40 inputs."""
    x, y = first_input()
    return evidence(model, x, y, mse, need=need, time_dim=0, **options)


def codes(given: Evidence) -> list[str]:
    """All errors of reach, of every rule that can tell."""
    found = []
    for code, find in FIND.items():
        try:
            finding = find(given)
        except Missing:
            continue
        if finding is not None and finding.severity == "error":
            assert finding.code == code
            found.append(code)
    return found


def solution(x: Tensor) -> tuple[nn.Module, Tensor]:
    """A model that has learned a target, which it gives itself, and that target."""
    model = LastStep(orthogonal(0.5))
    with torch.no_grad():
        return model, model(x)[:, 0]


# --- vanishing-gradient ---


def test_weights_that_contract() -> None:
    given = recalling(LastStep(orthogonal(0.5)))
    assert codes(given) == ["vanishing-gradient"]
    found = FIND["vanishing-gradient"](given)
    assert found is not None
    assert found.summary.startswith("The gradient shrinks by 0.50 a step and reaches 6 of the 39 steps")
    assert "spectral radius 0.50" in found.summary
    assert found.summary.endswith("so the weights contract.")
    assert (found.evidence["need"], found.evidence["reach"], found.evidence["module"]) == (39, 6, "rnn")
    assert found.evidence["decay_per_step"] == pytest.approx(0.5, abs=0.02)
    assert found.evidence["log10_at_need"] == pytest.approx(39 * -0.304, abs=0.5)
    assert found.evidence["spectral_radius"] == {"rnn.l0.h": pytest.approx(0.5, abs=1e-6)}


def test_the_need_that_the_data_show_is_enough() -> None:
    x, y = first_input(400, 20)
    found = FIND["vanishing-gradient"](evidence(LastStep(orthogonal(0.3)), x, y, mse, time_dim=0))
    assert found is not None
    assert found.evidence["need"] == 19
    assert "of the 19 steps that the data needs" in found.summary


@pytest.mark.parametrize(
    ("gain", "need"),
    [
        (1.0, 39),
        (0.9, 39),  # reaches 36, and at 39 steps nearly 1 % is left
        (0.5, 6),  # just enough
    ],
)
def test_a_gradient_that_reaches_or_nearly_does(gain: float, need: int) -> None:
    given = recalling(LastStep(orthogonal(gain)), need)
    assert shortfall(given) is None
    assert codes(given) == []


def test_a_model_that_learns_in_spite_of_a_short_reach_gets_a_warning() -> None:
    x, _ = first_input()
    model, y = solution(x)
    short = shortfall(evidence(model, x, y, mse, need=39, time_dim=0, validation=(x, y)))
    assert short is not None
    assert (short.learns, short.severity) == (True, "warning")
    found = FIND["vanishing-gradient"](evidence(model, x, y, mse, need=39, time_dim=0, validation=(x, y)))
    assert found is not None
    assert found.severity == "warning"


@pytest.mark.parametrize(("old", "severity"), [(0.5, "warning"), (2.0, "error")])
def test_a_gradient_that_is_faint_only_where_little_is_told(old: float, severity: str) -> None:
    """Much of the target stands three steps back, and less or more of it where the gradient is faint."""
    x = torch.randn(20, 400, 3, generator=torch.Generator().manual_seed(4))
    y = 1.2 * x[-4, :, 0] + old * x[-15, :, 0]
    given = evidence(LastStep(orthogonal(0.5)), x, y, mse, time_dim=0)
    found = FIND["vanishing-gradient"](given)
    assert found is not None
    assert (found.evidence["need"], found.severity) == (14, severity)
    assert (found.evidence["told_before_faint"] > 0.5) == (severity == "warning")


def test_a_reach_in_steps_of_its_own_is_not_compared_with_the_need() -> None:
    class Strided(LastStep):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x[::2])

    given = recalling(Strided(orthogonal(0.5)))
    with pytest.raises(Missing, match="rnn has steps of its own"):
        shortfall(given)
    assert given.gradient.profile.own_steps
    near = recalling(Strided(orthogonal(0.5)), need=9)  # of the inputs, which are 5 of its own, and it reaches 6
    assert codes(near) == codes(given)


def test_without_a_need_it_cannot_be_told() -> None:
    x, _ = first_input()
    with pytest.raises(Missing, match="need=, the steps of memory"):
        FIND["vanishing-gradient"](evidence(LastStep(orthogonal(0.5)), x, torch.randn(64), mse, time_dim=0))


class Handmade(nn.Module):
    """A cell of matrices, which no hook on a module sees; (T, B, 3) -> (B, 1)."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.inward = nn.Parameter(0.3 * torch.randn(3, 16))
        self.recurrent = nn.Parameter(orthogonal(gain).weight_hh_l0.detach().clone())
        self.out = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.size(1), 16)
        for x_t in x:
            h = torch.tanh(x_t @ self.inward + h @ self.recurrent.t())
        return self.out(h)


def test_a_cell_of_matrices_is_measured_by_its_inputs() -> None:
    torch.manual_seed(0)
    assert codes(recalling(Handmade(0.5))) == ["vanishing-gradient"]
    assert codes(recalling(Handmade(1.0))) == []


def test_a_series_that_is_learned_at_a_sane_rate_is_not_called_out_of_reach() -> None:
    class Forecast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.out = nn.GRU(1, 32, batch_first=True), nn.Linear(32, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.rnn(x)[0])

    for rate in (0.3, 3.0):  # the second diverges, and a tenth of it is tried
        torch.manual_seed(18)
        model = Forecast()
        series = torch.sin(0.3 * (torch.arange(31.0) + 50 * torch.rand(64, 1))).unsqueeze(-1)
        optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
        given = evidence(model, series[:, :-1], series[:, 1:], F.mse_loss, time_dim=1, need=20, optimizers=(optimizer,))
        assert shortfall(given) is not None  # by its own numbers it would be
        assert given.batch_progress > 0.5
        assert codes(given) == []


class Each(nn.Module):
    """Numbers (T, B, 3) -> (T, B), of a network whose gradient shrinks by half a step."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = orthogonal(0.5), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0]).squeeze(-1)


@pytest.mark.parametrize(("far", "severity"), [(0.0, "warning"), (1.0, "error")])
def test_a_loop_whose_loss_is_near_its_floor_has_nothing_left_to_reach_for(far: float, severity: str) -> None:
    torch.manual_seed(0)
    x = 0.3 * torch.randn(30, 32, 3)
    y = x[..., 0] + far * x[..., 1].roll(20, 0)
    model = Each()
    model.rnn.weight_hh_l0.requires_grad_(False)  # so that it contracts to the end
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.02)
    with watch(model, optimizer, every=1 << 30) as seen:
        for _ in range(80):
            loss = F.mse_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            seen.loss(loss)
            optimizer.step()
    given = evidence(model, x, y, F.mse_loss, need=20, time_dim=0, history=seen.record, optimizers=(optimizer,))
    found = FIND["vanishing-gradient"](given)
    assert found is not None
    assert found.severity == severity


def test_two_values_of_a_sine_are_no_need_beyond_the_reach() -> None:
    wave = torch.sin(0.4 * torch.arange(41.0).unsqueeze(1) + 6.28 * torch.rand(24)).unsqueeze(-1).repeat(1, 1, 3)
    given = evidence(Each(), wave[:-1], wave[1:, :, 0], F.mse_loss, time_dim=0)
    assert given.need == 1
    assert shortfall(given) is None
    noise = torch.randn(16, 60, 1).repeat(4, 1, 3)  # comes again after 16 steps, and nothing newer tells what
    given = evidence(Each(), noise[:-1], noise[1:, :, 0], F.mse_loss, time_dim=0)
    assert given.need == 15
    assert codes(given) == ["vanishing-gradient"]


def test_without_a_recurrence_it_cannot_be_told() -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(x.mean(0))

    with pytest.raises(Missing, match="a recurrence; the model has none"):
        FIND["vanishing-gradient"](recalling(Mean()))


# --- saturated-units ---


def saturated() -> nn.Module:
    model = LastStep(orthogonal(1.0))
    with torch.no_grad():
        model.rnn.weight_ih_l0.mul_(100)
    return model


def test_units_in_their_flat_part() -> None:
    given = recalling(saturated())
    assert codes(given) == ["saturated-units", "vanishing-gradient"]
    found = FIND["saturated-units"](given)
    assert found is not None
    assert found.evidence["share_flat"] > 0.5
    assert found.evidence["units"] == "rnn.l0.h"
    assert f"{found.evidence['share_flat']:.0%} of the activations of rnn.l0.h" in found.summary
    assert f"reaches {found.evidence['reach']} of the 39 steps" in found.summary
    vanishing = FIND["vanishing-gradient"](given)
    assert vanishing is not None
    assert "spectral radius 1.00" in vanishing.summary
    assert "so the weights contract" not in vanishing.summary


def test_saturated_units_where_the_gradient_reaches_all_the_same() -> None:
    assert codes(recalling(saturated(), need=1)) == []


def test_saturated_units_in_a_loop_of_ones_own() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.again, self.out = nn.Linear(3, 16), nn.Linear(16, 16), nn.Linear(16, 1)

        def step(self, x: Tensor, h: Tensor) -> Tensor:
            return torch.tanh(100 * self.first(x) + self.again(h))

        def forward(self, x: Tensor) -> Tensor:
            h = x.new_zeros(x.size(1), 16)
            for now in x:
                h = self.step(now, h)
            return self.out(h)

    class Cell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.again = nn.Linear(3, 16), nn.Linear(16, 16)

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return torch.tanh(100 * self.first(x) + self.again(h))

    class Loop(Own):
        def __init__(self) -> None:
            super().__init__()
            self.cell = Cell()

        def step(self, x: Tensor, h: Tensor) -> Tensor:
            return self.cell(x, h)

    found = FIND["saturated-units"](recalling(Loop()))
    assert found is not None
    assert found.severity == "error"
    assert found.evidence["units"] == "tanh of 16"
    assert codes(recalling(Own()))[:1] == ["saturated-units"]  # no module runs once a step: by the inputs


# --- closed-gates ---


def gated(kind: type[nn.RNNBase], bias: float) -> nn.Module:
    """With the bias of the gates that keep the state."""
    model = LastStep(kind(3, 16))
    with torch.no_grad():
        model.rnn.bias_ih_l0[16:32] = bias
        model.rnn.bias_hh_l0[16:32] = 0
    return model


@pytest.mark.parametrize(("kind", "gate"), [(nn.LSTM, "rnn.l0.f"), (nn.GRU, "rnn.l0.z")])
def test_gates_that_wipe_out_the_state(kind: type[nn.RNNBase], gate: str) -> None:
    given = recalling(gated(kind, -4))
    assert codes(given) == ["closed-gates", "vanishing-gradient"]
    found = FIND["closed-gates"](given)
    assert found is not None
    assert found.evidence["gate"] == gate
    assert found.evidence["share_kept"] == pytest.approx(0.018, abs=0.005)
    assert f"only {found.evidence['share_kept']:.3f} of the state is kept" in found.summary
    assert f"reaches {found.evidence['reach']} of the 39 steps" in found.summary


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_gates_that_keep_the_state(kind: type[nn.RNNBase]) -> None:
    assert codes(recalling(gated(kind, 3))) == []


def test_closed_gates_are_no_matter_where_two_steps_are_enough() -> None:
    assert codes(recalling(gated(nn.LSTM, -4), need=2)) == []


def test_a_network_without_gates_is_not_asked() -> None:
    with pytest.raises(Missing, match="a recurrence with gates"):
        FIND["closed-gates"](recalling(LastStep(orthogonal(0.5))))


# --- truncated-window ---


class Loop(nn.Module):
    """A cell in a loop of its own, cut off every so many steps."""

    def __init__(self, every: int | None) -> None:
        super().__init__()
        self.cell, self.out, self.every = nn.RNNCell(3, 16), nn.Linear(16, 1), every
        nn.init.orthogonal_(self.cell.weight_hh)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.size(1), 16)
        for t, now in enumerate(x):
            if self.every and t % self.every == 0:
                h = h.detach()
            h = self.cell(now, h)
        return self.out(h)


def test_a_window_that_is_shorter_than_the_need() -> None:
    found = FIND["truncated-window"](recalling(LastStep(orthogonal(1.0)), window=39))
    assert found is not None
    assert (found.severity, found.evidence) == ("error", {"window": 39, "need": 39})
    assert "has 39 steps and the data needs 39" in found.summary


def test_a_window_that_is_just_long_enough() -> None:
    assert codes(recalling(LastStep(orthogonal(1.0)), window=40)) == []


def test_a_detach_in_the_model() -> None:
    found = FIND["truncated-window"](recalling(Loop(10)))
    assert found is not None
    assert (found.severity, found.confidence) == ("error", 0.95)
    assert found.evidence == {"cut_at_lag": 10, "need": 39, "module": "cell"}
    assert "exactly zero from 10 steps back on" in found.summary
    assert "the data needs 39 steps" in found.summary


def test_a_detach_is_told_without_a_need_but_less_surely() -> None:
    x, _ = first_input()
    found = FIND["truncated-window"](evidence(Loop(10), x, torch.randn(64), mse, time_dim=0))
    assert found is not None
    assert (found.severity, found.confidence, found.evidence["need"]) == ("error", 0.7, None)


@pytest.mark.parametrize(("every", "need"), [(10, 9), (None, 39)])
def test_a_detach_beyond_the_need_or_none(every: int | None, need: int) -> None:
    assert "truncated-window" not in codes(recalling(Loop(every), need))


def test_a_gradient_of_zero_behind_units_that_are_off_was_not_cut() -> None:
    model = LastStep(orthogonal(1.0, "relu"))
    with torch.no_grad():
        model.rnn.bias_ih_l0.fill_(-20)
    given = recalling(model)
    assert given.gradient.log10_gradient[:3] == (0, None, None)
    assert "truncated-window" not in codes(given)


# --- weak-recurrence ---


class Bypassed(nn.Module):
    """The present input, and a little of what the recurrence says."""

    def __init__(self, heard: float) -> None:
        super().__init__()
        self.recurrent, self.now, self.heard = LastStep(orthogonal(1.0)), nn.Linear(3, 1), heard

    def forward(self, x: Tensor) -> Tensor:
        return 10 * self.now(x[-1]) + self.heard * self.recurrent(x)


def test_a_state_that_is_not_heard() -> None:
    given = recalling(Bypassed(0.01))
    assert codes(given) == ["weak-recurrence"]
    found = FIND["weak-recurrence"](given)
    assert found is not None
    assert (found.evidence["need"], found.evidence["reach"]) == (39, 39)
    assert found.evidence["influence_of_older_inputs"] < 0.01
    assert "The data needs 39 steps and the gradient reaches 39" in found.summary


@pytest.mark.parametrize(("heard", "need"), [(3.0, 39), (0.01, 0)])
def test_a_state_that_is_heard_or_not_needed(heard: float, need: int) -> None:
    assert codes(recalling(Bypassed(heard), need)) == []


@pytest.mark.parametrize(("heard", "wanted"), [(0.001, ["weak-recurrence"]), (1.0, [])])
def test_a_state_that_is_not_heard_though_present_inputs_are_turned_down(heard: float, wanted: list[str]) -> None:
    model = Bypassed(heard)
    with torch.no_grad():
        model.now.weight *= 1e-4  # as a training leaves what says nothing
    given = recalling(model)
    assert given.influence > 0.05
    assert codes(given) == wanted


@pytest.mark.parametrize(("heard", "wanted"), [(1e-4, "weak-recurrence"), (1.0, "saturated-units")])
def test_a_state_that_is_not_heard_and_that_training_has_saturated(heard: float, wanted: str) -> None:
    model = Bypassed(heard)
    with torch.no_grad():
        model.recurrent.rnn.weight_ih_l0.mul_(100)
    x, y = first_input()
    assert "saturated-units" in codes(recalling(model))
    found = diagnose(model, x, y, mse, need=39, time_dim=0).findings
    assert (found[0].code, found[0].follows) == (wanted, None)


# --- no-signal ---


def noise(num_sequences: int, seed: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(20, num_sequences, 3, generator=draw), torch.randn(num_sequences, generator=draw)


def told(target: Callable[[Tensor], Tensor] | None, num_sequences: int = 200) -> Evidence:
    (x, y), (held_out, z) = noise(num_sequences, 1), noise(num_sequences, 2)
    if target is not None:
        y, z = target(x), target(held_out)
    return evidence(LastStep(orthogonal(1.0)), x, y, mse, validation=(held_out, z), time_dim=0)


def test_targets_that_the_inputs_say_nothing_about() -> None:
    found = FIND["no-signal"](told(None))
    assert found is not None
    assert found.severity == "error"
    assert found.evidence["num_rows"] == 400
    assert 0 < found.evidence["detectable"] < 0.2
    assert found.evidence["progress"] < 0.02
    assert "in 400 examples" in found.summary


@pytest.mark.parametrize("target", [lambda x: x[7, :, 1], lambda x: x.sum((0, 2))])
def test_a_signal_at_one_lag_or_pooled_over_all(target: Callable[[Tensor], Tensor]) -> None:
    assert FIND["no-signal"](told(target)) is None


def test_a_signal_that_no_lag_and_no_block_shows_may_still_be_learned() -> None:
    (x, _), (held_out, _) = noise(200, 1), noise(200, 2)
    model = LastStep(orthogonal(1.0))
    with torch.no_grad():
        y, z = (model(part).squeeze(1).mul(1e3).sin() for part in (x, held_out))

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.squeeze(1).mul(1e3).sin() - targets).square()

    given = evidence(model, x, y, loss, validation=(held_out, z), time_dim=0)
    assert given.need_record.need is None
    assert given.block_need is None
    assert FIND["no-signal"](given) is None


class Beside(nn.Module):
    """(T, B, 3), and whatever else -> (B, 1), from the first alone."""

    def __init__(self) -> None:
        super().__init__()
        self.last = LastStep(orthogonal(1.0))

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        return self.last(x) + 0 * other.sum()


@pytest.mark.parametrize("shape", [(25, 200, 2), (200, 4), (200,)], ids=["longer", "a table", "one column"])
def test_a_signal_in_another_input_is_one(shape: tuple[int, ...]) -> None:
    draw = torch.Generator().manual_seed(5)
    other, more = (torch.randn(shape, generator=draw) for _ in range(2))
    (x, y), (held_out, z) = noise(200, 1), noise(200, 2)
    told_by = (lambda part: part[3, :, 0]) if len(shape) == 3 else (lambda part: part.reshape(200, -1)[:, 0])
    for targets, expected in (((y, z), True), ((told_by(other), told_by(more)), False)):
        validation = ((held_out, more), targets[1])
        given = evidence(Beside(), (x, other), targets[0], mse, validation=validation, time_dim=0)
        assert (FIND["no-signal"](given) is not None) is expected


def test_without_validation_data_half_of_the_batch_is_held_out() -> None:
    ids = torch.randint(8, (64, 25), generator=torch.Generator().manual_seed(3))
    for targets, expected in ((ids[:, 1:], True), (ids.roll(2, 1)[:, :-1], False)):
        torch.manual_seed(0)
        model = Tagger(8)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        options = {"time_dim": 1, "optimizers": (optimizer,)}
        found = FIND["no-signal"](evidence(model, ids[:, :-1], targets, cross_entropy, **options))
        assert (found is not None and found.severity == "error") is expected
        assert found is None or "half of the batch" in found.summary
    for more in ((), [(ids[10:, :-1], ids[10:, 1:])]):  # of five it learns nothing, whatever lies behind
        with pytest.raises(Missing, match="at least 100 examples"):
            FIND["no-signal"](evidence(model, ids[:10, :-1], ids[:10, 1:], cross_entropy, more=more, **options))


def test_counts_of_words_are_a_signal() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.last = nn.Embedding(50, 3), LastStep(orthogonal(1.0), 2)

        def forward(self, ids: Tensor) -> Tensor:
            return self.last(self.embed(ids))

    draw = torch.Generator().manual_seed(0)
    ids, held_out = (torch.randint(50, (20, 200), generator=draw) for _ in range(2))
    kinds = [((part < 10).sum(0) > 4).long() for part in (ids, held_out)]
    given = evidence(Words(), ids, kinds[0], F.cross_entropy, validation=(held_out, kinds[1]), time_dim=0)
    assert FIND["no-signal"](given) is None
    nothing = [torch.randint(2, (200,), generator=draw) for _ in range(2)]
    given = evidence(Words(), ids, nothing[0], F.cross_entropy, validation=(held_out, nothing[1]), time_dim=0)
    assert FIND["no-signal"](given) is not None


def test_a_model_that_a_loop_has_ruined_says_nothing_of_the_data() -> None:
    """A constant has been found by any training of data without a signal."""
    given = told(None)
    model, optimizer = given.case.model, torch.optim.SGD(given.case.model.parameters(), lr=0.1)
    for size, ruined in ((1.0, False), (30.0, True)):
        with watch(model, optimizer, sample_every=1, max_overhead=None) as seen:
            for _ in range(12):
                loss = mse(size * model(given.case.inputs), given.case.targets).mean()
                seen.loss(size * loss.detach())
                optimizer.zero_grad()
                optimizer.step()
        after = Evidence(replace(given.case, history=seen.record))
        if ruined:
            with pytest.raises(Missing, match="comes down to what a constant output has"):
                FIND["no-signal"](after)
        else:
            assert FIND["no-signal"](after) is not None


def test_two_inputs_that_tell_the_target_together_are_a_signal() -> None:
    ids = torch.randint(6, (80, 20), generator=torch.Generator().manual_seed(0))
    given = evidence(Tagger(6), ids, (ids + ids.roll(3, 1)) % 6, cross_entropy, time_dim=1)
    assert given.need == 3
    assert FIND["no-signal"](given) is None


def test_of_several_ids_a_step_nobody_sees_which_tell_something() -> None:
    ids = torch.randint(9, (200, 6, 3), generator=torch.Generator().manual_seed(0))
    loss = nn.CrossEntropyLoss()
    with pytest.raises(Missing, match="one id a step"):
        FIND["no-signal"](evidence(Bag(), ids, torch.randint(2, (200,)), loss, time_dim=1))


class Bag(nn.Module):
    """Ids (B, T, W) -> logits (B, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn, self.out = nn.Embedding(9, 8), nn.GRU(8, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.rnn(self.embed(ids).mean(2))[0][:, -1])


class Deaf(LastStep):
    """A last layer of two factors that both begin at zero, so that no gradient gets through."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 0.0


def test_a_model_that_hears_nothing_says_nothing_of_the_data() -> None:
    told_nothing = told(None)
    case = told_nothing.case
    deaf = Deaf(nn.RNN(3, 16))
    optimizer = torch.optim.Adam(deaf.parameters())
    with pytest.raises(Missing, match="outputs depend on its inputs"):
        FIND["no-signal"](Evidence(replace(case, model=deaf, optimizers=(optimizer,))))


def test_what_is_missing_for_no_signal() -> None:
    with pytest.raises(Missing, match="at least 100 examples; there are 80"):
        FIND["no-signal"](told(None, 40))
    x, y = noise(200, 1)
    with pytest.raises(Missing, match="validation="):
        FIND["no-signal"](evidence(LastStep(orthogonal(1.0)), x, y, mse, time_dim=0))
    assert FIND["no-signal"](evidence(LastStep(orthogonal(1.0)), x, y, mse, time_dim=0, need=5)) is None
