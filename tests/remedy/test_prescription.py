"""Every finding has a remedy that fits, with its reason; what only the writer can change is shown as code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import throughtime
from throughtime.diagnosis import CODES, Diagnosis, Finding
from throughtime.remedy import (
    REASONS,
    REMEDIES,
    PatientEvidence,
    PatientFacts,
    Prescription,
    RecurrenceFacts,
    TreatmentPlan,
    facts_of,
    last_resorts,
)
from throughtime.remedy.of_code import CODE_CHANGES
from throughtime.remedy.registry import table

WIRING = {
    "batch-mixing",
    "target-leak",
    "future-leak",
    "targets-shifted",
    "state-carried-wrongly",
    "padding-read",
    "probabilities-into-cross-entropy",
    "unused-input",
}
DATA = {"non-finite-data", "constant-feature", "sequence-too-short", "no-signal"}
NUMBERS: dict[str, Any] = {
    "need": 40,
    "reach": 7,
    "decay_per_step": 0.5,
    "learning_rate": 0.1,
    "better_rate": 0.001,
    "influence_of_older_inputs": 1e-4,
    "median_norm": 3.0,
    "usual_gradient_norm": 0.7,
    "window": 10,
    "where": "loss",
}


def found(*codes: str, severity: str = "error", **numbers: Any) -> Diagnosis:
    findings = [Finding(code, severity, 0.9, "A sentence.", {**NUMBERS, **numbers}) for code in codes]
    return Diagnosis.of(findings, not_checked={}, ignored=(), horizons={}, notes=())


def patient(**more: Any) -> PatientFacts:
    recurrence = RecurrenceFacts(name="rnn", kind="lstm", input_size=4, hidden_size=16, input_square=4.0)
    known: dict[str, Any] = {
        "recurrences": (recurrence,),
        "learning_rate": 0.1,
        "optimizer": "SGD",
        "window": 10,
        "num_steps": 100,
    }
    return PatientFacts(**{**known, "input_mean": (5.0,), "input_deviation": (20.0,), **more})


@pytest.mark.parametrize("code", CODES)
def test_every_finding_has_something_to_do(code: str) -> None:
    prescription = throughtime.prescribe(found(code), patient())
    assert bool(prescription.automatic) == (code not in WIRING | DATA or code == "non-finite-data")
    assert any(not step.is_automatic for step in prescription.steps) == (code in CODE_CHANGES)
    assert code in CODE_CHANGES or code not in WIRING | DATA
    for step in prescription.steps:
        assert step.code == code
        assert step.why
        assert step.is_automatic or step.line_before != step.line_after


def test_the_map_and_the_remedies_agree_on_what_is_treated() -> None:
    for code, reasons in REASONS.items():
        assert {name for name, _ in reasons} == {name for name, each in REMEDIES.items() if code in each.treats}, code
    treated = {code for each in REMEDIES.values() for code in each.treats}
    assert treated == set(CODES) - WIRING - DATA | {"non-finite-data"}


@pytest.mark.parametrize("name", REMEDIES)
def test_every_remedy_says_what_it_is_and_gives_a_plan(name: str) -> None:
    each = REMEDIES[name]
    for text in (each.title, each.cost, each.paper, each.does_not_help):
        assert len(text) > 3
    loud = RecurrenceFacts(name="rnn", kind="lstm", input_size=4, hidden_size=16, input_square=400.0)
    evidence = PatientEvidence(found(*each.treats), patient(recurrences=(loud,)))
    plan = each.apply(TreatmentPlan(dropout=0.1), evidence)
    assert plan.changes.keys() > {"dropout"} or name.startswith("dropout")
    assert TreatmentPlan.from_json(plan.to_json()) == plan
    compile(plan.code, name, "exec")


@pytest.mark.parametrize("name", REMEDIES)
def test_what_fits_can_be_applied(name: str) -> None:
    """To a model that holds the module which the facts speak of."""
    each = REMEDIES[name]
    for kind, layer in (("rnn", nn.RNN), ("gru", nn.GRU), ("lstm", nn.LSTM)):
        torch.manual_seed(0)
        model = layer(4, 16)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        facts = facts_of(model, torch.randn(100, 3, 4), optimizer=optimizer, window=10)
        assert facts.recurrences[0].kind == kind
        if each.applies_to(facts):
            plan = each.apply(TreatmentPlan(), PatientEvidence(found(*each.treats), facts))
            model, optimizer = plan.apply(model, optimizer)
            y, state = model(torch.randn(7, 3, 4))
            assert y.shape == (7, 3, 16)
            assert (state[0] if kind == "lstm" else state).shape == (1, 3, 16)
            y.square().mean().backward()
            optimizer.step()


def test_causes_come_first_and_nothing_twice() -> None:
    prescription = throughtime.prescribe(found("vanishing-gradient", "saturated-units"), patient())
    names = [step.remedy for step in prescription.steps]
    assert len(names) == len(set(names))
    assert prescription.steps[0].code == "vanishing-gradient"
    assert prescription.plan == prescription.steps[0].treatment


def test_the_need_and_the_sizes_go_into_the_plan_and_into_what_is_promised() -> None:
    prescription = throughtime.prescribe(found("closed-gates"), patient())
    first = prescription.steps[0]
    assert first.plan == {"start": "chrono", "start_steps": 41}
    assert first.reach_before == 7
    assert first.reach_after is not None
    assert 80 < first.reach_after <= 99
    assert "from 7 to" in str(first)


def test_without_facts_everything_that_may_fit_is_prescribed() -> None:
    names = {step.remedy for step in throughtime.prescribe(found("vanishing-gradient")).steps}
    assert {"critical-start", "chrono-start"} <= names
    fitting = {step.remedy for step in throughtime.prescribe(found("vanishing-gradient"), patient()).steps}
    assert "critical-start" not in fitting
    assert "chrono-start" in fitting


def test_a_healthy_one_needs_nothing(tmp_path: Path) -> None:
    nothing = throughtime.prescribe(found())
    assert nothing.steps == ()
    assert nothing.short() == ""
    assert nothing.plan == TreatmentPlan()
    assert str(nothing) == "nothing to do"
    assert throughtime.prescribe(found("plateau", severity="info")).steps == ()


def test_a_mean_far_above_its_deviation_keeps_the_digits_that_count() -> None:
    facts = patient(input_mean=(1_234_567.8912, 0.0, 3.0), input_deviation=(0.5, 1e6, 10.0))
    steps = throughtime.prescribe(found("unscaled-input"), facts).steps
    plan = next(step.treatment for step in steps if step.remedy == "standardise")
    assert plan.input_mean is not None
    assert abs(plan.input_mean[0] - 1_234_567.8912) < 0.001 * 0.5
    assert plan.input_mean[1:] == (0.0, 3.0)
    assert plan.input_deviation == (0.5, 1e6, 10.0)


def test_a_number_for_each_of_many_features_is_not_printed_in_full() -> None:
    facts = patient(input_mean=(100.0,) * 64, input_deviation=(20.0,) * 64)
    step = next(s for s in throughtime.prescribe(found("unscaled-input"), facts).steps if s.remedy == "standardise")
    assert "input_mean=(100.0, 100.0, ... 64 numbers), input_deviation=(20.0, 20.0, ... 64 numbers)" in str(step)
    assert len(step.plan["input_mean"]) == 64


def test_a_prescription_is_a_record(tmp_path: Path) -> None:
    others = (("device", (100.0, 3.0), (20.0, 1.0)), ("hours", (0.0,), (1.0,)))
    prescription = throughtime.prescribe(found("saturated-units", "no-signal"), patient(other_inputs=others))
    prescription.save(tmp_path / "prescription.json")
    loaded = Prescription.load(tmp_path / "prescription.json")
    assert loaded.steps == prescription.steps
    plans = {step.treatment for each in (prescription, loaded) for step in each.steps if step.remedy == "standardise"}
    assert [plan.other_inputs for plan in plans] == [others[:1]]


def test_the_documentation_has_the_table_of_the_code() -> None:
    page = Path(__file__).parents[2] / "docs" / "remedies.md"
    assert table() in page.read_text(encoding="utf-8")


def test_what_does_not_reach_by_its_own_formula_comes_last() -> None:
    plain = RecurrenceFacts(name="rnn", kind="rnn", input_size=4, hidden_size=32, input_square=4.0)
    facts = patient(recurrences=(plain,), input_mean=None, num_steps=200)
    steps = throughtime.prescribe(found("chaotic-dynamics"), facts).automatic
    names = [step.remedy for step in steps]
    assert names[0] == "critical-start"
    assert steps[0].reach_after is not None
    assert steps[0].reach_after >= 2 * 41
    assert names[-2:] == ["orthogonal-start", "orthogonal-cell"]
    assert all(step.reach_after is not None and step.reach_after < 40 for step in steps[-2:])


def test_a_new_cell_goes_with_an_optimizer_that_suits_it_where_the_present_one_is_sgd() -> None:
    plain = RecurrenceFacts(name="rnn", kind="rnn", input_size=8, hidden_size=32)
    diagnosis = found("exploding-gradient")
    for optimizer, expected in (("SGD", True), ("Adam", False)):
        steps = throughtime.prescribe(diagnosis, PatientFacts(recurrences=(plain,), optimizer=optimizer)).steps
        plans = [step.treatment for step in steps if step.remedy == "lstm-chrono-adam"]
        assert bool(plans) == expected
        assert all((plan.cell, plan.start, plan.adam, plan.clip) == ("lstm", "chrono", True, 1.0) for plan in plans)


def test_what_overfits_gets_a_simpler_cell_first_and_noise_where_inputs_are_numbers() -> None:
    for optimizer, usual, more in (("Adam", 1e-3, 3e-3), ("AdamW", 0.1, 0.3)):
        tokens = throughtime.prescribe(found("overfitting"), patient(optimizer=optimizer, input_mean=None))
        assert tokens.plan == TreatmentPlan(cell="mingru", weight_decay=more)
        assert "noisy-inputs" not in {step.remedy for step in tokens.steps}
        numbers = throughtime.prescribe(found("overfitting"), patient(optimizer=optimizer))
        linear = TreatmentPlan(cell="lru", start="ring", start_steps=41)
        assert numbers.plan == linear.changed(input_noise=1.0, weight_decay=usual)
        assert numbers.steps[0].reach_after is not None
        assert "input-gates" in {step.remedy for step in numbers.steps}
        gates = next(step for step in tokens.steps if step.remedy == "chrono-decay")
        assert gates.treatment == TreatmentPlan(start="chrono", start_steps=100, weight_decay=more)
    by_hand = throughtime.prescribe(found("overfitting"), patient(recurrences=()))
    assert by_hand.plan.cell is None
    assert by_hand.plan.changes


def test_last_resorts_are_named_by_their_rates_where_no_finding_told_one() -> None:
    found = last_resorts(Diagnosis.of([], not_checked={}, ignored=(), horizons={}, notes=()), patient())
    rates = {step.remedy: (step.title, step.plan["learning_rate"]) for step in found.steps if "rate" in step.remedy}
    assert rates == {
        "gentler-rate": ("a learning rate of 0.00333, with a warm-up", 0.00333),
        "bolder-rate": ("a learning rate of 1, with a warm-up", 1.0),
    }


@pytest.mark.parametrize(("by_formula", "line"), [(True, "torch.log_softmax"), (False, "clip_grad_norm_")])
def test_a_loss_that_had_grown_before_it_overflowed_is_not_the_fault_of_its_formula(
    by_formula: bool, line: str
) -> None:
    finding = Finding("non-finite", "error", 1.0, "-", {"where": "loss", "by_formula": by_formula})
    steps = throughtime.prescribe(Diagnosis.of([finding], not_checked={}, ignored=(), horizons={}, notes=())).steps
    assert line in next(step.line_after for step in steps if not step.is_automatic)
