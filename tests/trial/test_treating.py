"""A whole trial: cured, not cured, nothing to treat; continued after a kill; in processes; within a budget."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from throughtime.diagnosis import Diagnosis, Finding
from throughtime.errors import InputError, RecipeError, RunError
from throughtime.remedy import TreatmentPlan
from throughtime.trial import Treatment, treat
from throughtime.trial.examination import examined
from throughtime.trial.timing import StepTimes
from trial.toys import Reader, Toy

CURE = {"a clip": TreatmentPlan(clip=0.1), "a rate of 0.05": TreatmentPlan(learning_rate=0.05)}


@pytest.fixture(scope="module")
def cured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Treatment, Path]:
    folder = tmp_path_factory.mktemp("trial") / "toy"
    return treat(Toy(), remedies=CURE, jobs=1, out=folder), folder


def without_times(found: Treatment) -> dict[str, Any]:
    """All but what a clock had told."""
    return {**found.to_json(), "step_seconds": 0, "prescribed_seconds": 0, "random_seconds": 0}


def test_a_cure_is_proven_on_fresh_seeds(cured: tuple[Treatment, Path]) -> None:
    found, _ = cured
    assert found.cured
    assert found.best_name == "a rate of 0.05"
    assert found.p == 0.5**10
    assert not set(found.seeds) & set(found.fresh_seeds)
    assert (found.best.num_learned, found.best.num_seeds, found.best.num_fresh_learned) == (5, 5, 10)
    assert (found.baseline.num_learned, found.baseline.num_fresh_learned) == (0, 0)


def test_random_search_had_as_many_trainings(cured: tuple[Treatment, Path]) -> None:
    found, _ = cured
    counts = {source: sum(a.num_seeds for a in found.arms if a.source == source) for source in ("prescribed", "random")}
    assert counts == {"prescribed": 6, "random": 6}
    assert found.random_seconds == pytest.approx(found.prescribed_seconds, rel=0.2)


def test_the_table_says_what_an_issue_would_quote(cured: tuple[Treatment, Path]) -> None:
    lines = cured[0].table.splitlines()
    assert lines[0].split() == ["baseline", "0/5", "seeds", "learn,", "fresh", "seeds", "0/10", "reach", "5"]
    assert lines[2].startswith("a rate of 0.05")
    assert "5/5 seeds learn, fresh seeds 10/10" in lines[2]
    assert lines[2].endswith("<- cured (p = 0.00098)")
    assert lines[3].startswith("random search, same compute (2 plans)")


def test_the_record_comes_back(cured: tuple[Treatment, Path]) -> None:
    found, folder = cured
    again = Treatment.load(folder / "treatment.json")
    assert again == found
    assert again.best.plan == CURE["a rate of 0.05"]


def test_the_cure_goes_into_ones_own_code(cured: tuple[Treatment, Path]) -> None:
    found, folder = cured
    _, optimizer = found.best.plan.apply(*Toy().build(0))
    assert optimizer.param_groups[0]["lr"] == 0.05
    assert (folder / "treatment.py").read_text() == found.code
    weights = Reader()
    weights.load_state_dict(load_file(folder / "treated.safetensors"))
    assert Toy().score(weights) == found.best.fresh_scores[0]


def test_selection_corrects_for_the_number_of_arms(cured: tuple[Treatment, Path]) -> None:
    best = cured[0].best
    assert best.p == pytest.approx(0.5**5)
    assert best.p_corrected == pytest.approx(4 * 0.5**5)


def begun(folder: Path, kept: int, into: Path) -> int:
    """The ledger of a trial that was killed while it wrote a line; returns how many trainings are in it.

    The times of steps are those of the other trial, since everything follows from them and from the seeds.
    """
    lines = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    head = [line for line in lines if json.loads(line)["event"] != "training"]
    trainings = [line for line in lines if json.loads(line)["event"] == "training"]
    torn = trainings[kept][: len(trainings[kept]) // 2]
    into.mkdir(exist_ok=True)
    if any(json.loads(line)["seed"] == 5 for line in trainings[:kept]):
        shutil.copy(folder / "treated.safetensors", into / "treated-5.safetensors")
    (into / "ledger.jsonl").write_bytes(b"".join([*head, *trainings[:kept], torn]))
    return len(trainings)


@pytest.mark.parametrize("kept", [0, 7, 21])
def test_a_trial_goes_on_where_it_was_killed(
    cured: tuple[Treatment, Path], kept: int, tmp_path: Path, trained: list[int]
) -> None:
    found, folder = cured
    num_trainings = begun(folder, kept, tmp_path)
    again = treat(Toy(), remedies=CURE, jobs=1, out=tmp_path)
    assert without_times(again) == without_times(found)
    assert len(trained) == num_trainings - kept


def test_processes_give_the_same_outcome(cured: tuple[Treatment, Path], tmp_path: Path) -> None:
    begun(cured[1], 0, tmp_path)
    assert without_times(treat(Toy(), remedies=CURE, jobs=2, out=tmp_path)) == without_times(cured[0])


def test_a_backend_that_gives_nothing_before_all_is_done(cured: tuple[Treatment, Path], tmp_path: Path) -> None:
    """As Ray's."""
    begun(cured[1], 20, tmp_path)
    with joblib.parallel_config("sequential"):
        assert without_times(treat(Toy(), remedies=CURE, jobs=2, out=tmp_path)) == without_times(cured[0])


def test_a_dask_cluster_gives_the_same_outcome(cured: tuple[Treatment, Path], tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    begun(cured[1], 20, tmp_path)
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config("dask"),
    ):
        assert without_times(treat(Toy(), remedies=CURE, jobs=0, out=tmp_path)) == without_times(cured[0])


def test_ray_gives_the_same_outcome(cured: tuple[Treatment, Path], tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'throughtime[ray]'")
    pytest.importorskip("ray.util.joblib").register_ray()
    begun(cured[1], 20, tmp_path)
    importable = {"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}}
    ray.init(num_cpus=2, include_dashboard=False, runtime_env=importable)
    try:
        with joblib.parallel_config("ray"):
            assert without_times(treat(Toy(), remedies=CURE, jobs=0, out=tmp_path)) == without_times(cured[0])
    finally:
        ray.shutdown()


def test_threads_are_refused() -> None:
    with (
        joblib.parallel_config("threading"),
        pytest.raises(InputError, match=r"threads share \(ThreadingBackend\): enter joblib.parallel_config"),
    ):
        treat(Toy(), remedies=CURE, jobs=2)


def test_another_patient_is_refused_its_ledger(cured: tuple[Treatment, Path]) -> None:
    with pytest.raises(RunError, match="of another patient"):
        treat(Toy(length=9), remedies=CURE, jobs=1, out=cured[1])


def test_what_learns_needs_no_treatment() -> None:
    found = treat(Toy(rate=0.05), remedies=CURE, jobs=1)
    assert found.nothing_to_treat
    assert (found.cured, found.best_name, len(found.arms)) == (False, None, 1)
    assert "there is nothing to treat" in str(found)


def test_what_no_plan_heals_is_not_cured(tmp_path: Path) -> None:
    scaled = TreatmentPlan(input_mean=(0.0, 0.0), input_deviation=(1.0, 2.0))
    found = treat(Toy(), remedies={"scaled": scaled}, jobs=1, out=tmp_path)
    assert not found.cured
    assert Treatment.load(tmp_path / "treatment.json") == found
    assert found.arms[1].plan == scaled
    assert found.best_name is None or found.best.source == "random"


def test_the_best_two_are_tried_together() -> None:
    class Slow(Toy):
        """Only a higher rate for longer than one window of the budget would do; halves of it are not enough."""

        target = 2.0

    found = treat(Slow(), remedies=CURE, jobs=1)
    pair = next(arm for arm in found.arms if arm.source == "pair")
    assert pair.plan == TreatmentPlan(learning_rate=0.05, clip=0.1)
    assert pair.num_seeds == 5
    assert found.best_name is None
    assert f"none of {len(found.arms) - 1} treatments reached the target of 2 with any seed; the best" in found.verdict


class Aimless(Toy):
    target = None


def test_a_verdict_names_what_mattered(cured: tuple[Treatment, Path]) -> None:
    """Whatever was noticed last."""
    found = replace(cured[0], best_name=None, cured=False, better=False, p=None, notes=("the patient printed 3 lines",))
    baseline, *rest = found.values
    failed = [{**arm, "scores": (None,), "num_learned": 0, "failures": ("the score is nan",)} for arm in rest]
    for values, wanted in (
        ((baseline,), "nothing was tried: no plan changes what was found"),
        ((baseline, *failed), "none of 4 treatments gave a score (the score is nan)"),
        (({**baseline, "num_learned": 5}, *rest), "there is nothing to treat"),
    ):
        assert wanted in replace(found, values=values).verdict
    assert "no treatment gave a score with all of its seeds" in replace(found, target=None).verdict


def test_losses_of_nan_are_said() -> None:
    class Undefined(Toy):
        def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return super().loss(outputs, targets) * float("nan")

    plans = {"a clip": TreatmentPlan(clip=0.1), "none of them": TreatmentPlan(drop_non_finite=True)}
    found = treat(Undefined(), remedies=plans, jobs=1)
    assert found.baseline.scores == (None,) * 5
    assert "the weights are not finite after the training" in found.table.splitlines()[0]
    assert any("the weights are not finite" in note and "5 of 5 seeds" in note for note in found.notes)
    assert "updates was finite" in found.arms[2].failures[0]
    assert not found.cured


def test_the_weights_of_the_first_fresh_seed_that_learned_are_kept(tmp_path: Path) -> None:
    class Unlucky(Toy):
        def build(self, seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
            model, optimizer = super().build(seed)
            if seed in (5, 6):
                optimizer.param_groups[0]["params"] = [model.head.bias]
            return model, optimizer

    found = treat(Unlucky(), remedies=CURE, jobs=1, out=tmp_path)
    assert found.cured
    assert "treated.safetensors holds the weights of the fresh seed 7, the first that learned" in found.notes
    weights = Reader()
    weights.load_state_dict(load_file(tmp_path / "treated.safetensors"))
    assert Toy().score(weights) == found.best.fresh_scores[2]
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == ["treated.safetensors"]


def test_without_a_target_only_better_is_claimed() -> None:
    found = treat(Aimless(), remedies=CURE, jobs=1)
    assert found.better
    assert found.proven
    assert not found.cured
    assert "no target is known" in found.verdict
    assert "seeds learn" not in found.table


def test_a_patient_is_diagnosed_and_prescribed_for() -> None:
    found = treat(Toy(), jobs=1)
    assert "learning-rate-too-low" in found.codes
    assert found.cured
    assert found.best.source == "prescribed"
    assert "learning-rate" in found.best.reason


class FewAtATime(Toy):
    """The first of forty numbers, of eight sequences a batch, by a network whose gradient does not come so far."""

    def build(self, seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = Reader()
        nn.init.orthogonal_(model.rnn.weight_hh_l0, gain=0.5)
        return model, torch.optim.Adam(model.parameters(), lr=1e-3)

    def batches(self, seed: int) -> Iterator[tuple[Any, Any]]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            x = torch.randn(40, 8, 2, generator=generator)
            yield x, (x[0, :, 0] > 0).long()


@pytest.mark.parametrize("in_training", [False, True])
def test_a_need_that_one_batch_cannot_tell_is_told_by_more(in_training: bool) -> None:
    found, _ = examined(FewAtATime(), 0, 25, in_training=in_training)
    assert found.horizons["need"] == 39
    assert "vanishing-gradient" in [finding.code for finding in found.findings if finding.severity == "error"]


def found_before(*findings: Finding) -> Diagnosis:
    return Diagnosis.of(list(findings), not_checked={}, ignored=(), horizons={}, notes=())


def test_what_helps_most_often_is_tried_where_nothing_was_found() -> None:
    found = treat(Toy(rate=2e-3), diagnosis=found_before(), jobs=1)
    assert found.codes == ()
    assert found.cured
    assert any(arm.reason.startswith("not-learning: ") for arm in found.arms)


def test_what_only_its_writer_can_heal_gets_no_last_resorts() -> None:
    mixed = Finding("batch-mixing", "error", 1.0, "Examples are mixed.")
    found = treat(Toy(rate=2e-3), diagnosis=found_before(mixed), jobs=1)
    assert {arm.source for arm in found.arms} == {"baseline", "random"}
    assert found.by_hand


def test_where_a_plan_can_do_what_a_hand_can_last_resorts_are_tried() -> None:
    missed = Finding("optimizer-misses-parameters", "error", 1.0, "A weight never changes.")
    found = treat(Toy(), diagnosis=found_before(missed), jobs=1)
    assert found.by_hand
    assert any(arm.reason.startswith("not-learning: ") for arm in found.arms)


def test_what_does_not_fit_is_said_and_left_out() -> None:
    found = treat(Toy(), remedies={"a ring": TreatmentPlan(start="ring"), **CURE}, jobs=1)
    assert any(note.startswith("'a ring' does not fit: ") for note in found.notes)
    assert "a ring" not in [arm.name for arm in found.arms]
    assert found.cured


def test_an_arm_that_fails_is_shown_and_does_no_harm() -> None:
    found = treat(Toy(), remedies={"a curriculum": TreatmentPlan(curriculum=0.5), **CURE}, jobs=1)
    failed = next(arm for arm in found.arms if arm.name == "a curriculum")
    assert "share no axis of time" in failed.failures[0]
    assert failed.scores == (None,)
    assert found.cured


def test_flossing_takes_its_compute_from_the_training() -> None:
    plans = {"flossing": TreatmentPlan(flossing=4), "endless flossing": TreatmentPlan(flossing=10_000), **CURE}
    found = treat(Toy(), remedies=plans, jobs=1)
    assert any(note.startswith("'endless flossing' would take longer") for note in found.notes)
    flossed = [arm for arm in found.arms if arm.name == "flossing"]
    assert all(arm.num_steps < found.baseline.num_steps for arm in flossed)
    assert found.cured


def test_a_loop_of_ones_own_gets_no_plan_that_it_does_not_honour() -> None:
    class OwnLoop(Toy):
        def train(self, model: nn.Module, optimizer: Any, batches: Any, num_steps: int, plan: TreatmentPlan) -> None:
            for _ in range(num_steps):
                x, y = next(batches)
                optimizer.zero_grad()
                torch.autograd.backward(self.loss(model(x), y))
                optimizer.step()

    found = treat(OwnLoop(), remedies={"batches": TreatmentPlan(batch_factor=2), **CURE}, jobs=1)
    assert any("own loop does not honour batch_factor" in note for note in found.notes)
    assert found.cured


def test_a_patient_that_fails_with_some_seeds_has_not_learned_with_them() -> None:
    class Fragile(Toy):
        def score(self, model: nn.Module) -> float:
            if self.fails:
                raise MemoryError("too much")
            return super().score(model)

        fails = False

        def build(self, seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
            self.fails = seed == 3
            return super().build(seed)

    found = treat(Fragile(), remedies=CURE, jobs=1)
    assert found.baseline.scores[3] is None
    assert found.best.num_learned == 4
    assert any("failed with 1 of 5 seeds: MemoryError: too much" in note for note in found.notes)


def test_a_patient_that_cannot_be_built_with_some_seeds_is_treated() -> None:
    class Fragile(Toy):
        def build(self, seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
            if seed in (0, 8):
                raise MemoryError("too much")
            return super().build(seed)

        def batches(self, seed: int) -> Iterator[tuple[Any, Any]]:
            return iter(()) if seed == 9 else super().batches(seed)

    found = treat(Fragile(), remedies=CURE, jobs=1)
    assert found.seeds == (1, 0, 2, 3, 4)
    assert [score is None for score in found.baseline.scores] == [False, True, False, False, False]
    assert found.best.num_learned == 4
    assert found.best.num_fresh_learned == 8
    assert found.cured
    assert any("build(0) fails before any training" in note for note in found.notes)


def test_a_patient_that_always_fails_is_refused() -> None:
    class Broken(Toy):
        def loss(self, outputs: Any, targets: Any) -> torch.Tensor:
            raise ValueError("no loss")

    with pytest.raises(InputError, match="fails with every seed, untreated: ValueError: no loss"):
        treat(Broken(), remedies=CURE, jobs=1)


def test_what_cannot_be_sent_to_processes_says_so() -> None:
    patient = Toy()
    patient.stream = (number for number in range(3))  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"cannot be sent to another process .* use jobs=1"):
        treat(patient, remedies=CURE, jobs=2)


def test_a_budget_too_small_says_what_it_takes() -> None:
    with pytest.raises(InputError, match=r"too small for one arm: 5 seeds .* take [\d.e-]+ s"):
        treat(Toy(), remedies=CURE, jobs=1, budget_seconds=1e-4)


def test_a_patient_without_steps_needs_a_budget() -> None:
    patient = Toy()
    patient.steps = None
    with pytest.raises(InputError, match="how long is a training"):
        treat(patient, remedies=CURE, jobs=1)


def test_fewer_than_five_seeds_are_refused() -> None:
    with pytest.raises(RecipeError, match="seeds must be at least 5"):
        treat(Toy(), seeds=3, jobs=1)


def test_what_is_no_treatment_is_refused() -> None:
    with pytest.raises(InputError, match="int is no treatment"):
        treat(Toy(), remedies=[3], jobs=1)  # type: ignore[list-item]
    with pytest.raises(RecipeError, match="did you mean 'clip-norm'"):
        treat(Toy(), remedies="clip-nrm", jobs=1, progress=_never)


def _never(line: str) -> None:
    raise AssertionError(f"something was done before: {line}")


def test_a_verdict_needs_eight_of_ten(cured: tuple[Treatment, Path]) -> None:
    found = cured[0]
    assert replace(found, cured=False, better=False, p=0.2).verdict.startswith("not proven")
    assert replace(found, cured=False, better=True, p=0.01).verdict.endswith("not cured")


class Frozen(Toy):
    """All but the last bias are frozen by mistake; what is left of a step is cheap."""

    def build(self, seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = Reader()
        for parameter in model.parameters():
            parameter.requires_grad_(parameter is model.head.bias)
        return model, torch.optim.Adam([model.head.bias], lr=0.05)


@pytest.fixture
def whole_steps_are_dearer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which a step that updates everything takes four times as long."""
    monkeypatch.setattr(StepTimes, "seconds", lambda _, plan: 4e-3 if plan.all_parameters else 1e-3)


@pytest.mark.usefixtures("whole_steps_are_dearer")
def test_a_frozen_network_sets_no_bound_to_the_training_of_the_whole_one(tmp_path: Path) -> None:
    found = treat(Frozen(), jobs=1, out=tmp_path)
    assert "optimizer-misses-parameters" in found.codes
    assert (found.cured, found.best.plan) == (True, TreatmentPlan(all_parameters=True))
    assert (found.best.num_steps, found.baseline.num_steps) == (25, 100)
    assert any("takes 4 times as long as one of the patient as it is" in note for note in found.notes)
    assert treat(Frozen(), jobs=1, out=tmp_path).to_json() == found.to_json()
    drawn = [arm for arm in found.arms if arm.source == "random"]
    assert {arm.num_steps for arm in drawn} == {25 if arm.plan.all_parameters else 100 for arm in drawn}


@pytest.mark.usefixtures("whole_steps_are_dearer")
def test_a_budget_is_counted_in_whole_steps() -> None:
    seconds = 0.025 * (2 * 15 + 25)  # of 25 cheap steps: fifteen trainings of either side, the baseline and the proof
    found = treat(Frozen(), remedies=["all-parameters"], jobs=1, budget_seconds=4 * seconds)
    assert (found.best.num_steps, found.baseline.num_steps) == (25, 100)
    with pytest.raises(InputError, match="too small for one arm"):
        treat(Frozen(), remedies=["all-parameters"], jobs=1, budget_seconds=seconds)

    class Endless(Frozen):
        steps = None

    found = treat(Endless(), remedies=["all-parameters"], jobs=1, budget_seconds=seconds)
    assert found.baseline.num_steps == pytest.approx(4 * found.best.num_steps, abs=2)


@pytest.mark.usefixtures("whole_steps_are_dearer")
def test_a_frozen_network_may_learn_in_as_much_compute() -> None:
    class Slow(Frozen):
        """Its bias would have to move further than 25 updates take it."""

        def score(self, model: nn.Module) -> float:
            return float(model.head.bias.abs().max() > 2)  # type: ignore[union-attr,operator]

        def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return -outputs[:, 0].mean()

    found = treat(Slow(), remedies=["all-parameters"], jobs=1)
    assert found.nothing_to_treat
    assert found.baseline.num_steps == 100
    assert any("takes 4 times as long" in note for note in found.notes)
