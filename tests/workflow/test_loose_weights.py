"""Scripts whose weights are tensors of their own, in no module: how they are found, named and diagnosed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from throughtime.cli.main import run
from throughtime.workflow.caught_step import as_replay
from throughtime.workflow.loose_weights import LooseWeights, names_in_scope, with_embeddings
from throughtime.workflow.replay import replayed
from throughtime.workflow.script import ScriptDiagnosis, diagnose_script
from throughtime.workflow.step_tape import StepTape

SCRATCH = """
import torch
from torch.nn import functional as F

torch.manual_seed(0)
B, T, H, K = 64, 12, 32, 4

def made(*shape):
    return (torch.randn(*shape) * 0.2).requires_grad_()

p = {{"W_" + g: made(K + 1 + H, H) for g in "zrn"}} | {{"b_" + g: torch.zeros(H).requires_grad_() for g in "zrn"}}
p["b_z"].data += {update_gate}
W_out = torch.nn.Parameter(0.2 * torch.randn(H, K))

def step(x, h):
    both = torch.cat([x, h], 1)
    z, r = (torch.sigmoid(both @ p["W_" + g] + p["b_" + g]) for g in "zr")
    n = torch.tanh(torch.cat([x, r * h], 1) @ p["W_n"] + p["b_n"])
    return z * h + (1 - z) * n

def batch():
    y = torch.randint(K, (B,))
    x = 0.05 * torch.randn(B, T, K + 1)
    x[torch.arange(B), 0, y] += 1
    x[:, 1:, K] += 1
    return x, y

{made}
for number in range(1000):
    x, y = batch()
    h = torch.zeros(B, H)
    for t in range(T):
        h = step(x[:, t], h)
    loss = F.cross_entropy(h @ W_out, y)
    {reset}
    loss.backward()
    {update}
"""
CHOICES = {
    "update_gate": "3.0",
    "made": "optimizer = torch.optim.Adam([*p.values(), W_out], lr=5e-3)",
    "reset": "optimizer.zero_grad()",
    "update": "optimizer.step()",
}


def diagnosed(folder: Path, **choices: str) -> ScriptDiagnosis:
    (folder / "scratch.py").write_text(SCRATCH.format(**CHOICES | choices), encoding="utf-8")
    return diagnose_script(folder / "scratch.py")


def errors(found: ScriptDiagnosis) -> dict[str, str]:
    assert found.diagnosis is not None
    return {each.code: each.summary for each in found.diagnosis.findings if each.severity == "error"}


def test_a_healthy_cell_written_with_tensors(tmp_path: Path) -> None:
    found = diagnosed(tmp_path)
    assert errors(found) == {}
    assert found.diagnosis is not None
    assert found.diagnosis.horizons["need"] == 11
    assert found.diagnosis.horizons["reach"] == 11


@pytest.mark.parametrize(
    ("code", "choices"),
    [
        ("closed-gates", {"update_gate": "-6.0"}),
        ("learning-rate-too-high", {"made": "optimizer = torch.optim.Adam([*p.values(), W_out], lr=3.0)"}),
        ("gradient-not-reset", {"reset": "pass"}),
        ("non-finite", {"reset": "optimizer.zero_grad(); loss = loss + (h.sum() * 0.0).sqrt().log() * 0.0"}),
    ],
)
def test_a_broken_one_gets_its_code(code: str, choices: dict[str, str], tmp_path: Path) -> None:
    assert next(iter(errors(diagnosed(tmp_path, **choices)))) == code


def test_weights_that_the_optimizer_was_not_handed_are_named(tmp_path: Path) -> None:
    found = errors(diagnosed(tmp_path, made="optimizer = torch.optim.Adam([W_out, *list(p.values())[:3]])"))
    assert list(found) == ["optimizer-misses-parameters"]
    assert "in p[b_z], p[b_r], p[b_n]: " in found["optimizer-misses-parameters"]


@pytest.mark.parametrize(
    "update",
    [
        "for w in (*p.values(), W_out): w.data -= 0.5 * w.grad; w.grad = None",
        "p = {k: (w - 0.5 * w.grad).detach().requires_grad_() for k, w in p.items()}",
    ],
    ids=["in place", "new ones"],
)
def test_a_script_that_changes_them_itself(update: str, tmp_path: Path) -> None:
    found = diagnosed(tmp_path, made="", reset="", update=update)
    assert errors(found) == {}
    assert found.diagnosis is not None
    assert found.diagnosis.horizons["reach"] == 11
    assert "an optimizer" in found.diagnosis.not_checked["learning-rate-too-high"]


FROM_SCRATCH = """
import torch
from torch.nn import functional as F

torch.manual_seed(0)
ids = torch.randint(8, (5000,))
ids[3:] = torch.where(torch.rand(4997) < 0.9, ids[:-3], ids[3:])
U, W, V, b = [(0.3 * torch.randn(*shape)).requires_grad_() for shape in ((8, 16), (16, 16), (16, 8), (16,))]
optimizer = torch.optim.Adam([U, W, V, b], lr=3e-3)
h = torch.zeros({rows}16)
for number in range(500):
    i = number * 20 % 4000
    steps, outputs = {steps}, []
    h = h.detach()
    for x in steps:
        h = torch.tanh({read} + h @ W + b)
        outputs.append(h @ V)
    loss = F.cross_entropy(torch.{put}(outputs), {targets})
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_([U, W, V, b], 1.0)
    optimizer.step()
"""


@pytest.mark.parametrize(
    "choices",
    [
        {"rows": "", "steps": "ids[i : i + 20]", "read": "U[x]", "put": "stack", "targets": "ids[i + 1 : i + 21]"},
        {
            "rows": "5, ",
            "steps": "F.one_hot(ids.view(5, -1)[:, number % 40 * 20 :][:, :20].T, 8).float()",
            "read": "x @ U",
            "put": "cat",
            "targets": "ids.view(5, -1)[:, number % 40 * 20 + 1 :][:, :20].T.reshape(-1)",
        },
    ],
    ids=["one sequence of ids", "a batch of one-hot vectors"],
)
def test_forms_in_which_such_scripts_are_written(choices: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "scratch.py").write_text(FROM_SCRATCH.format(**choices), encoding="utf-8")
    found = diagnose_script(tmp_path / "scratch.py")
    assert errors(found) == {}
    assert found.diagnosis is not None
    reach = found.diagnosis.horizons["reach"]
    assert isinstance(reach, int)
    assert 2 <= reach < 20


BESIDE = """
import torch
from torch import nn

torch.manual_seed(0)
B, T, H, K = 64, 12, 32, 4
U, W = (0.3 * torch.randn(K + 1, H)).requires_grad_(), ({scale} * torch.randn(H, H)).requires_grad_()
head, spread = nn.Linear(H, K), nn.Parameter(torch.zeros(1))
optimizer = torch.optim.Adam([U, W, spread, *head.parameters()], lr=3e-3)
for number in range(1000):
    y = torch.randint(K, (B,))
    x = 0.05 * torch.randn(B, T, K + 1)
    x[torch.arange(B), 0, y] += 1
    x[:, 1:, K] += 1
    h = torch.zeros(B, H)
    for t in range(T):
        h = torch.tanh(x[:, t] @ U + h @ W)
    loss = nn.functional.cross_entropy(head(h), y) * torch.exp(-spread[0]) + spread[0]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize(("scale", "codes"), [(0.177, []), (0.02, ["vanishing-gradient"])])
def test_weights_before_a_module(scale: float, codes: list[str], tmp_path: Path) -> None:
    (tmp_path / "scratch.py").write_text(BESIDE.format(scale=scale), encoding="utf-8")
    found = diagnose_script(tmp_path / "scratch.py")
    assert list(errors(found)) == codes
    assert found.diagnosis is not None
    assert found.diagnosis.horizons["need"] == 11
    reach = found.diagnosis.horizons["reach"]
    assert isinstance(reach, int)
    assert (reach == 11) is not bool(codes)


def test_a_learned_number_in_the_loss_leaves_the_model_what_it_is(tmp_path: Path) -> None:
    text = """
import torch
from torch import nn
torch.manual_seed(0)
model, spread = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 2)), nn.Parameter(torch.zeros(1))
optimizer = torch.optim.Adam([*model.parameters(), spread])
for _ in range(9):
    outputs = model(torch.randn(16, 5, 3))
    loss = nn.functional.mse_loss(outputs, torch.randn(16, 5, 2)) * torch.exp(-spread[0]) + spread[0]
    optimizer.zero_grad(); loss.backward(); optimizer.step()
"""
    (tmp_path / "scratch.py").write_text(text, encoding="utf-8")
    found = diagnose_script(tmp_path / "scratch.py")
    assert found.diagnosis is not None
    assert "Replay" not in str(found.diagnosis)


def test_a_script_that_computes_with_nothing_that_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "import torch\nw = torch.ones(3, requires_grad=True)\noptimizer = torch.optim.SGD([w], 0.1)\n"
    text += "v = torch.ones(3, requires_grad=True)\n(v * 2).sum().backward()\noptimizer.step()\n"
    (tmp_path / "none.py").write_text(text, encoding="utf-8")
    assert run(["diagnose", str(tmp_path / "none.py")]) == 2
    assert "no call of a model that its optimizer trains was seen" in capsys.readouterr().err


# --- the tape, the names, the replay ---


def step_of(tape: StepTape, x: Tensor, table: Tensor, recurrent: Tensor) -> tuple[Tensor, Tensor]:
    """(T,) ids -> the last state and a loss, noted on the tape."""
    with tape:
        h = torch.zeros(4)
        for each in x:
            h = torch.tanh(table[each] + h @ recurrent)
        loss = h.square().sum()
    tape.end_step()
    tape.end_update()
    return h, loss


def test_the_tape_knows_the_leaves_of_each_step_and_those_of_all() -> None:
    table, recurrent = torch.randn(5, 4, requires_grad=True), torch.eye(4, requires_grad=True)
    tape = StepTape()
    step_of(tape, torch.tensor([1, 2, 0]), table, recurrent)
    assert len(tape.loose) == 2
    assert tape.lasting == []
    other = torch.eye(4, requires_grad=True)
    step_of(tape, torch.tensor([1, 2, 0]), table, other)
    assert all(one is two for one, two in zip(tape.loose, (table, other), strict=True))
    assert all(one is two for one, two in zip(tape.lasting, (table,), strict=True))
    num_calls = len(tape.calls)
    head = nn.Linear(4, 2)
    tape.of_module(head, (torch.ones(4),), {}, head(torch.ones(4)))
    assert (len(tape.calls), tape.loose) == (1, [])
    assert num_calls > 6


def test_what_has_no_gradient_is_no_computation_with_leaves() -> None:
    weight = torch.ones(3, requires_grad=True)
    tape = StepTape()
    with tape:
        _ = weight.data + 1
        _ = weight.shape
        nn.init.ones_(weight)
        with torch.no_grad():
            weight += 1
            _ = weight * 2
    assert (tape.calls, tape.loose) == ([], [])


def test_a_step_made_again_has_the_numbers_and_the_gradients_of_the_first() -> None:
    torch.manual_seed(0)
    table, recurrent = torch.randn(5, 4, requires_grad=True), torch.randn(4, 4, requires_grad=True)
    ids = torch.tensor([1, 2, 0, 4, 4, 3])
    tape = StepTape()
    h, loss = step_of(tape, ids, table, recurrent)
    wanted = torch.autograd.grad(loss, [table, recurrent])
    weights = LooseWeights([table, recurrent], names_in_scope([table, recurrent]))
    assert list(weights.held) == ["table", "recurrent"]
    assert isinstance(table, nn.Parameter)
    for calls in (tape.calls, with_embeddings(tape.calls, weights.held)):
        again = replayed(calls, [h], weights.held)
        assert again is not None
        assert torch.equal(again.inputs, ids)
        assert dict(again.model.named_parameters()) == weights.held
        for x in (ids, ids[:, None]):  # with an axis of one sequence too
            outputs = again.model(x)
            assert torch.equal(outputs, h)
            found = torch.autograd.grad(outputs.square().sum(), [table, recurrent])
            torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)
        assert not torch.equal(again.model(ids.flip(0)), h)


def test_a_step_without_a_loss_function_gives_its_own_loss() -> None:
    table, recurrent = torch.randn(5, 4, requires_grad=True), torch.randn(4, 4, requires_grad=True)
    tape = StepTape()
    _, loss = step_of(tape, torch.tensor([1, 2, 0]), table, recurrent)
    weights = LooseWeights([table, recurrent], names_in_scope([]) | {table: "a.b", recurrent: "forward"})
    assert list(weights.held) == ["a_b", "forward_1"]
    given = as_replay(tape.calls, [], loss, weights.held)
    assert given is not None
    assert torch.equal(given["model"](given["inputs"]), loss)
    assert given["targets"] is None


def test_names_of_variables_come_before_places_in_lists() -> None:
    one, two = torch.ones(1), torch.ones(2)
    both = [one, two]
    nested = {"a": one, "b": torch.ones(3)}
    assert names_in_scope(both) == {one: "one", two: "two"}
    assert names_in_scope(list(nested.values()))[nested["b"]] == "nested[b]"
    unnamed = names_in_scope([nn.Linear(3, 2).weight])
    assert list(unnamed.values()) == ["weight"]


def test_rows_looked_up_in_several_ways_are_those_of_an_embedding() -> None:
    table = nn.Parameter(torch.randn(5, 4))
    ids = torch.tensor([1, 2])
    tape = StepTape()
    with tape:
        _ = table[ids], F.embedding(ids, table), table[1:3], table[ids, 0], F.embedding(ids, table, padding_idx=0)
    made = with_embeddings(tape.calls, {"table": table})
    assert [call.is_module for call in made] == [True, True, False, False, False]
    for call in made[:2]:
        assert torch.equal(call.function(*call.args), table[ids])
        assert call.function.weight is table  # type: ignore[attr-defined]
