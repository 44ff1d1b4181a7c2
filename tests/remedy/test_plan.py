"""A plan changes what it says and nothing else, in any model; its code does the same as `apply`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from throughtime import Recurrent
from throughtime.errors import RecipeError
from throughtime.recipe import Plan
from throughtime.remedy import TreatmentPlan


class Model(nn.Module):
    """What people write: an embedding of numbers, a recurrence, a readout of the last step."""

    def __init__(self, recurrence: nn.Module, width: int) -> None:
        super().__init__()
        self.inside = nn.Linear(3, 4)
        self.rnn = recurrence
        self.out = nn.Linear(width, 2)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        y, state = self.rnn(self.inside(x), state)
        return self.out(y), state


FORMS: dict[str, Callable[[], nn.Module]] = {
    "rnn": lambda: Model(nn.RNN(4, 6), 6),
    "relu": lambda: Model(nn.RNN(4, 6, nonlinearity="relu"), 6),
    "deep": lambda: Model(nn.RNN(4, 6, num_layers=3, batch_first=True), 6),
    "gru": lambda: Model(nn.GRU(4, 6, num_layers=2, bidirectional=True, batch_first=True), 12),
    "lstm": lambda: Model(nn.LSTM(4, 6, num_layers=2, dropout=0.5), 6),
    "no-bias": lambda: Model(nn.RNN(4, 6, bias=False), 6),
    "recurrent": lambda: Model(Recurrent("elman", 4, 6, num_layers=2), 6),
    "recurrent-lstm": lambda: Model(Recurrent("lstm", 4, 6, init="torch"), 6),
}


def made(form: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(1)
    model = FORMS[form]()
    groups = [{"params": model.rnn.parameters(), "lr": 1e-2}, {"params": model.out.parameters()}]
    return model, torch.optim.AdamW(groups, lr=1e-3, betas=(0.8, 0.9))


def matrices(model: nn.Module) -> list[Tensor]:
    return [p for name, p in model.named_parameters() if "weight_hh" in name]


@pytest.mark.parametrize("form", FORMS)
def test_an_orthogonal_start_keeps_the_norm_of_what_comes_back(form: str) -> None:
    model, optimizer = made(form)
    before = copy.deepcopy(model.state_dict())
    same, kept = TreatmentPlan(start="orthogonal").apply(model, optimizer)
    assert same is model
    assert kept is optimizer
    gain = 2.0 if form == "relu" else 1.0
    found = matrices(model)
    assert found
    for weight in found:
        for block in weight.split(6):
            torch.testing.assert_close(block @ block.t(), gain * torch.eye(6))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert all(name.startswith("rnn.") for name in changed)
    assert all(not bool(p.any()) for name, p in model.named_parameters() if name.startswith("rnn.") and "bias" in name)
    assert {p for group in optimizer.param_groups for p in group["params"]} == {
        *model.rnn.parameters(),
        *model.out.parameters(),
    }


def test_a_frozen_recurrence_is_left_as_it_is() -> None:
    model, optimizer = made("rnn")
    model.rnn.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RecipeError, match="fits nothing recurrent"):
        TreatmentPlan(start="orthogonal").apply(model, optimizer)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("form", ["gru", "lstm", "recurrent-lstm"])
def test_a_chrono_start_spreads_the_memories_up_to_the_lag(form: str) -> None:
    model, optimizer = made(form)
    TreatmentPlan(start="chrono", start_steps=50).apply(model, optimizer)
    biases = [p.detach() for name, p in model.named_parameters() if "bias_ih" in name]
    assert biases
    for bias in biases:
        keeps = bias.split(6)[1].exp()
        assert 1 <= float(keeps.min()) < float(keeps.max()) <= 49
        if len(bias) == 24:
            torch.testing.assert_close(bias[:6], -bias[6:12])


def test_a_start_of_gates_fits_no_plain_cell() -> None:
    with pytest.raises(RecipeError, match="fits nothing recurrent"):
        TreatmentPlan(start="chrono").apply(*made("rnn"))


PLANS = {
    "orthogonal": TreatmentPlan(start="orthogonal", start_gain=1.2),
    "identity": TreatmentPlan(start="identity"),
    "critical": TreatmentPlan(start="critical", start_gain=1.3),
    "fresh": TreatmentPlan(fresh=True, start="orthogonal"),
    "rates": TreatmentPlan(learning_rate=0.5, weight_decay=0.3, dropout=0.2, reset_gradients=True),
    "inputs": TreatmentPlan(input_mean=(1.0, 2.0, 3.0), input_deviation=(2.0,), clip_outliers=1.5, recurrent_gain=3.0),
    "argument": TreatmentPlan(other_inputs=(("x", (1.0, 2.0, 3.0), (2.0,)),), clip_outliers=0.5),
    "noise": TreatmentPlan(input_noise=0.3, weight_decay=0.1),
    "all": TreatmentPlan(all_parameters=True, recurrent_input_gain=0.1),
    "loop": TreatmentPlan(
        clip_kind="z-score",
        clip=2.5,
        omega=1.0,
        flossing=2,
        warmup_share=0.1,
        window=20,
        carry=True,
        batch_factor=2,
        curriculum=0.3,
        patience=3,
        drop_non_finite=True,
    ),
    "cell": TreatmentPlan(cell="lstm", start="chrono", start_steps=30),
    "cell-started": TreatmentPlan(cell="gru", start="orthogonal"),
    "ring": TreatmentPlan(cell="lru", start="ring", start_steps=30),
    "norm": TreatmentPlan(layer_norm=True),
    "adam": TreatmentPlan(adam=True, learning_rate=0.01),
    "auxiliary": TreatmentPlan(auxiliary=0.5, auxiliary_steps=2),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_the_code_does_what_apply_does(plan: TreatmentPlan) -> None:
    """Bit for bit, outputs in training and weights after two steps."""
    ends = []
    for by_code in (False, True):
        model, optimizer = made("rnn")
        torch.manual_seed(2)
        if by_code:
            names: dict[str, Any] = {"model": model, "optimizer": optimizer}
            exec(compile(plan.code, "plan", "exec"), names)
            model, optimizer = names["model"], names["optimizer"]
        else:
            model, optimizer = plan.apply(model, optimizer)
        x = torch.randn(7, 5, 3)
        for _ in range(2):
            model(x)[0].square().mean().backward()
            optimizer.step()
        ends.append([*(value.clone() for value in model.state_dict().values()), model(x)[0].detach()])
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))
    assert ("from throughtime" in plan.code) == bool(plan.cell or plan.layer_norm)


def test_a_run_gets_what_it_has_a_choice_for() -> None:
    old = Plan(cell="gru", start="orthogonal", num_streams=10)
    new = TreatmentPlan(cell="lstm", start="chrono", start_steps=20, clip=0, learning_rate=0.1).applied_to(old)
    assert (new.cell, new.start, new.clip, new.learning_rate, new.num_streams) == ("lstm", "chrono", math.inf, 0.1, 10)
    assert TreatmentPlan(cell="elman").applied_to(old).start == ""
    for plan, message in (
        (TreatmentPlan(start="identity"), "unknown start of gru 'identity'"),
        (TreatmentPlan(clip_kind="value", clip=1.0), "a run clips by norm alone"),
        (TreatmentPlan(omega=1.0), "a run has no choice of omega"),
    ):
        with pytest.raises(RecipeError, match=message):
            plan.applied_to(old)


def test_json_gives_the_plan_back() -> None:
    for plan in PLANS.values():
        assert TreatmentPlan.from_json(plan.to_json()) == plan
    with pytest.raises(RecipeError, match="did you mean 'clip'"):
        TreatmentPlan.from_json({"clipp": 1.0})
    with pytest.raises(RecipeError, match=r"plan.dropout must lie in \[0, 1\)"):
        TreatmentPlan(dropout=1.0)
