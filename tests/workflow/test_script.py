"""Training scripts as users write them, run and watched: what is found, what they get, and what is left behind."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks

from throughtime.cli.main import run
from throughtime.errors import InputError, RecipeError
from throughtime.measurement import Watch, watch
from throughtime.workflow.script import ScriptDiagnosis, diagnose_script

SCRIPT = """
import sys
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
BATCH, STEPS, KINDS = 32, 12, 4

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(KINDS, 8)
        self.rnn = nn.{rnn}(8, 24, batch_first={batch_first})
        self.out = nn.Linear(24, {classes})

    def forward(self, ids):
        return {returned}

def batch():
    ids = torch.randint(KINDS, (BATCH, STEPS) if {batch_first} else (STEPS, BATCH))
    y = {targets}
    return ids, y

model = Model()
{prepare}
optimizer = torch.optim.{optimizer}
for step in range({num_steps}):
    ids, y = batch()
    optimizer.zero_grad()
    output = model({call})
    loss = {loss}
    loss.backward()
    optimizer.step()
{after}
"""

CHOICES = {
    "rnn": "GRU",
    "batch_first": "True",
    "classes": "KINDS",
    "returned": "self.out(self.rnn(self.embed(ids))[0])",
    "targets": "ids.roll(2, 1)",
    "prepare": "",
    "optimizer": "Adam(model.parameters(), lr=3e-3)",
    "num_steps": "10_000",
    "call": "ids",
    "loss": "F.cross_entropy(output.reshape(-1, KINDS), y.reshape(-1))",
    "after": "",
}


def write(folder: Path, **choices: str) -> Path:
    path = folder / "train.py"
    path.write_text(SCRIPT.format(**CHOICES | choices), encoding="utf-8")
    return path


def diagnosed(
    folder: Path, *arguments: str, steps: int = 20, ignore: tuple[str, ...] = (), **choices: str
) -> ScriptDiagnosis:
    return diagnose_script(write(folder, **choices), arguments, steps=steps, ignore=ignore)


def codes(found: ScriptDiagnosis) -> list[str]:
    assert found.diagnosis is not None
    return [finding.code for finding in found.diagnosis.findings if finding.severity == "error"]


# --- forms of scripts ---

FORMS = {
    "each step, joined": {},
    "each step, a module's loss": {"loss": "nn.CrossEntropyLoss()(output.view(BATCH * STEPS, KINDS), y.view(-1))"},
    "each step, classes second": {"loss": "F.cross_entropy(output.transpose(1, 2), y)"},
    "each step, time first": {"batch_first": "False", "targets": "ids.roll(2, 0)"},
    "each step, time first, turned": {
        "batch_first": "False",
        "targets": "ids.roll(2, 0)",
        "loss": "F.cross_entropy(output.permute(1, 2, 0), y.t())",
    },
    "last step": {"targets": "ids[:, -2]", "loss": "F.cross_entropy(output[:, -1], y)"},
    "last step, time first": {
        "batch_first": "False",
        "targets": "ids[-2]",
        "loss": "nn.CrossEntropyLoss()(output[-1], y)",
    },
    "last step, in the model": {
        "returned": "self.out(self.rnn(self.embed(ids))[0][:, -1])",
        "targets": "ids[:, -2]",
        "loss": "F.cross_entropy(output, y)",
    },
    "a state returned too": {
        "returned": "(lambda y, h: (self.out(y), h))(*self.rnn(self.embed(ids)))",
        "loss": "F.cross_entropy(output[0].flatten(0, 1), y.flatten())",
    },
    "a number": {
        "classes": "1",
        "targets": "ids[:, -2].float()",
        "loss": "F.mse_loss(output[:, -1].squeeze(-1), y)",
    },
    "a number of each sequence, squeezed in the model": {
        "classes": "1",
        "returned": "self.out(self.rnn(self.embed(ids))[0][:, -1]).squeeze(-1)",
        "targets": "ids[:, -2].float()",
        "loss": "F.mse_loss(output, y)",
    },
    "a number of each step, squeezed in the model": {
        "classes": "1",
        "returned": "self.out(self.rnn(self.embed(ids))[0]).squeeze(-1)",
        "targets": "ids.roll(2, 1).float()",
        "loss": "nn.MSELoss()(output, y)",
    },
    "the largest of all steps": {
        "targets": "(ids[:, :4] == 0).any(1).long()",
        "loss": "F.cross_entropy(output.max(1).values, y)",
    },
    "an LSTM": {"rnn": "LSTM"},
    "called with a dict": {
        "returned": "self.out(self.rnn(self.embed(ids['ids']))[0])",
        "call": "{'ids': ids, 'name': 'batch'}",
    },
    "called with a list": {"returned": "self.out(self.rnn(self.embed(ids[0]))[0])", "call": "[ids, 3]"},
    "called with one argument by its name": {
        "prepare": "forward = Model.forward; Model.forward = lambda self, ids, scale: forward(self, ids) * scale",
        "call": "ids, scale=1.5",
    },
    "the loss in the model, which views": {
        "returned": "self.out(self.rnn(self.embed(ids))[0])",
        "prepare": """
forward = Model.forward
def taught(self, ids, y):
    output = forward(self, ids)
    return output, F.cross_entropy(output.view(-1, KINDS), y.view(-1))
Model.forward = taught
""",
        "call": "ids, y.contiguous()",
        "loss": "output[1]",
    },
    "log probabilities made by the script": {
        "loss": "F.nll_loss(F.log_softmax(output, -1).reshape(-1, KINDS), y.reshape(-1))",
    },
    "a probability made by the script": {
        "classes": "1",
        "targets": "(ids[:, -2] > 1).float()",
        "loss": "nn.BCELoss()(torch.sigmoid(output[:, -1]).squeeze(1), y)",
    },
}


@pytest.mark.parametrize("name", FORMS)
def test_healthy_scripts_in_every_form(name: str, tmp_path: Path) -> None:
    found = diagnosed(tmp_path, **FORMS[name])
    assert codes(found) == []
    assert found.exit_code == 0
    assert found.diagnosis is not None
    assert found.diagnosis.horizons["reach"] is not None
    missing = {code: why for code, why in found.diagnosis.not_checked.items() if "fails" in why}
    assert missing == {}


def test_the_watch_sees_every_step_the_first_one_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watches: list[Watch] = []

    def watched(*arguments: Any, **choices: Any) -> Watch:
        watches.append(watch(*arguments, **choices))
        return watches[-1]

    monkeypatch.setattr("throughtime.workflow.script.watch", watched)
    diagnosed(tmp_path, steps=12)
    (seen,) = watches
    assert [sample["step"] for sample in seen.record.samples] == list(range(1, 13))
    assert len(seen.record.losses) == 12
    for name in ("loss", "gradient_norm", "clipped_norm", "update_norm", "weight_norm"):
        assert all(sample[name] is not None for sample in seen.record.samples), name


def test_two_optimizers_of_one_model(tmp_path: Path) -> None:
    text = write(tmp_path, optimizer="Adam(model.rnn.parameters(), lr=3e-3)").read_text(encoding="utf-8")
    second = "second = torch.optim.Adam([*model.embed.parameters(), *model.out.parameters()], lr=3e-3)\nfor step in"
    text = text.replace("for step in", second).replace(
        "    optimizer.step()", "    optimizer.step()\n    second.step()"
    )
    text = text.replace("    optimizer.zero_grad()", "    model.zero_grad()")
    (tmp_path / "train.py").write_text(text, encoding="utf-8")
    found = diagnose_script(tmp_path / "train.py", steps=10)
    assert codes(found) == []


def test_the_scale_of_mixed_precision_is_no_clipping(tmp_path: Path) -> None:
    text = write(tmp_path, optimizer="SGD(model.parameters(), lr=1.0)").read_text(encoding="utf-8")
    text = text.replace("for step in", "scaler = torch.amp.GradScaler('cpu', init_scale=2.0**12)\nfor step in")
    text = text.replace("loss.backward()", "scaler.scale(loss).backward()")
    text = text.replace("    optimizer.step()", "    scaler.step(optimizer)\n    scaler.update()")
    (tmp_path / "train.py").write_text(text, encoding="utf-8")
    found = diagnose_script(tmp_path / "train.py", steps=20)
    assert found.diagnosis is not None
    assert "over-clipping" not in [finding.code for finding in found.diagnosis.findings]


# --- broken scripts ---


@pytest.mark.parametrize(
    ("code", "choices"),
    [
        ("unused-input", {"returned": "self.out(self.rnn(self.embed(ids) * 0)[0])"}),
        ("optimizer-misses-parameters", {"optimizer": "Adam(model.out.parameters(), lr=3e-3)"}),
        ("batch-mixing", {"prepare": "model.rnn.batch_first = False", "targets": "ids.roll(2, 1)"}),
        ("learning-rate-too-low", {"optimizer": "SGD(model.parameters(), lr=1e-4)"}),
        ("non-finite", {"optimizer": "SGD(model.parameters(), lr=1e38)"}),
        ("learning-rate-too-high", {"optimizer": "SGD(model.parameters(), lr=300.0)"}),
        (
            "probabilities-into-cross-entropy",
            {"returned": "self.out(self.rnn(self.embed(ids))[0]).softmax(-1)"},
        ),
        (
            "probabilities-into-cross-entropy",
            {"loss": "F.cross_entropy(F.softmax(output, -1).view(-1, KINDS), y.reshape(-1))"},
        ),
        (
            "gradient-not-reset",
            {"prepare": "reset, torch.optim.Adam.zero_grad = torch.optim.Adam.zero_grad, lambda o: None"},
        ),
    ],
)
def test_broken_scripts_get_their_code(
    code: str, choices: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.optim.Adam, "zero_grad", torch.optim.Adam.zero_grad)  # put back what a script changes
    found = diagnosed(tmp_path, **choices)
    assert code in codes(found)
    assert found.exit_code == 1


def test_a_code_may_be_ignored(tmp_path: Path) -> None:
    found = diagnosed(
        tmp_path, optimizer="Adam(model.out.parameters(), lr=3e-3)", ignore=("optimizer-misses-parameters",)
    )
    assert found.diagnosis is not None
    assert found.diagnosis.ignored == ("optimizer-misses-parameters",)
    assert "optimizer-misses-parameters" not in codes(found)


# --- what a script gets, and how it ends ---


def test_it_gets_its_arguments_and_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "beside_it.py").write_text("NAME = 'beside'\n", encoding="utf-8")
    prepare = "import beside_it\nprint(sys.argv[1:], beside_it.NAME, __name__, sys.argv[0] == __file__)"
    before = sys.argv, list(sys.path)
    found = diagnosed(tmp_path, "--rate", "3", "-v", steps=3, prepare=prepare)
    assert found.exit_code in (0, 1)
    assert "['--rate', '3', '-v'] beside __main__ True" in capsys.readouterr().out
    assert (sys.argv, list(sys.path)) == before


def test_it_is_stopped_after_the_steps_that_were_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = diagnosed(
        tmp_path, steps=5, loss="(print('step', step), " + CHOICES["loss"] + ")[1]", after="print('done')"
    )
    assert found.diagnosis is not None
    out = capsys.readouterr().out
    assert out.count("step ") == 5
    assert "done" not in out


def test_it_may_end_before_that(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = diagnosed(tmp_path, num_steps="6", after="print('done')\nsys.exit()")
    assert found.diagnosis is not None
    assert found.exit_code == 0
    assert "done" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("after", "exit_code", "message"),
    [
        ("sys.exit(7)", 7, ""),
        ("sys.exit('no more disk')", 1, "no more disk"),
        ("raise ValueError('of its own')", 1, "ValueError: of its own"),
    ],
)
def test_an_end_of_its_own_is_handed_on(
    after: str, exit_code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = diagnosed(tmp_path, num_steps="3", after=after)
    assert (found.diagnosis, found.exit_code) == (None, exit_code)
    assert message in capsys.readouterr().err


def test_handlers_of_the_script_do_not_keep_it_going(tmp_path: Path) -> None:
    text = write(tmp_path).read_text(encoding="utf-8")
    text = text.replace(
        "    optimizer.step()", "    try:\n        optimizer.step()\n    except Exception:\n        pass"
    )
    (tmp_path / "train.py").write_text(text, encoding="utf-8")
    assert diagnose_script(tmp_path / "train.py", steps=4).diagnosis is not None


def test_a_forward_pass_that_fails_and_is_caught_hides_nothing(tmp_path: Path) -> None:
    prepare = """
for ids in (torch.full((2, 3), KINDS), torch.zeros(2, 3, 4, 5, dtype=torch.long)):
    try:
        model(ids)
    except (IndexError, ValueError, RuntimeError):
        print("too much")
"""
    assert diagnosed(tmp_path, prepare=prepare).exit_code == 0


def test_an_optimizer_that_could_not_be_made_is_passed_over(tmp_path: Path) -> None:
    prepare = """
try:
    torch.optim.Adam(model.parameters(), lr=-1.0)
except ValueError as error:
    kept = error
"""
    assert diagnosed(tmp_path, steps=4, prepare=prepare).exit_code == 0


def test_evaluation_between_the_steps_is_not_taken_for_training(tmp_path: Path) -> None:
    loss = "(evaluate(), " + CHOICES["loss"] + ")[1]"
    prepare = """
def evaluate():
    with torch.no_grad():
        F.cross_entropy(model(torch.zeros(1, 3, dtype=torch.long))[:, -1], torch.zeros(1, dtype=torch.long))
"""
    found = diagnosed(tmp_path, prepare=prepare, loss=loss)
    assert codes(found) == []


# --- what is left behind ---


def hooks() -> list[dict]:
    module = torch.nn.modules.module
    return [
        dict(each)
        for each in (
            module._global_forward_hooks,
            module._global_forward_pre_hooks,
            module._global_forward_hooks_always_called,
            module._global_forward_hooks_with_kwargs,
            _global_optimizer_post_hooks,
        )
    ]


@pytest.mark.parametrize("after", ["", "sys.exit(3)", "raise ValueError", "raise KeyboardInterrupt"])
def test_all_hooks_are_gone_afterwards(after: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[object] = []
    monkeypatch.setattr(sys, "kept_by_a_test", kept, raising=False)
    before = hooks()
    choices = {"prepare": "sys.kept_by_a_test.append(model)", "num_steps": "5", "after": after}
    choices["after"] = "sys.kept_by_a_test.append(optimizer)\n" + after
    if after.endswith("Interrupt"):
        with pytest.raises(KeyboardInterrupt):
            diagnosed(tmp_path, **choices)
    else:
        diagnosed(tmp_path, **choices)
    assert hooks() == before
    model, optimizer = kept
    assert isinstance(model, nn.Module)
    assert isinstance(optimizer, torch.optim.Optimizer)
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert not any(p._backward_hooks for p in model.parameters())
    assert not optimizer._optimizer_step_post_hooks
    assert not optimizer._optimizer_step_pre_hooks


# --- what cannot be diagnosed ---


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"num_steps": "0"}, "train.py ended, and no training was seen: diagnose a factory instead"),
        (
            {"loss": "F.mse_loss(torch.zeros(3, requires_grad=True), torch.ones(3))"},
            "it was not seen how the loss comes from what the model returns",
        ),
        (
            {"optimizer": "Adam([nn.Parameter(torch.zeros(3))], lr=0.1)"},
            "no call of a model that its optimizer trains was seen",
        ),
    ],
)
def test_what_was_not_seen_is_said_in_one_line(choices: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        diagnosed(tmp_path, steps=4, **choices)
    assert "\n" not in str(caught.value)


def test_no_script_no_steps_and_a_wrong_code(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no script"):
        diagnose_script(tmp_path / "absent.py")
    with pytest.raises(RecipeError, match="steps must be at least 1"):
        diagnose_script(write(tmp_path), steps=0)
    with pytest.raises(RecipeError, match="did you mean 'plateau'"):
        diagnose_script(write(tmp_path), ignore=["plateu"])


# --- the command ---


def test_the_command_runs_a_script_and_exits_with_what_came_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write(tmp_path, num_steps="4", prepare="print(sys.argv[1:])"))
    assert run(["diagnose", path, "--rate", "3"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("['--rate', '3']\nhealthy: no error was found")
    assert run(["diagnose", "--json", path, "--device", "cpu", "--seed", "5", "--json", "-", "-h"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "['--device', 'cpu', '--seed', '5', '--json', '-', '-h']\n"
    assert "prescription" in json.loads(captured.out)
    broken = str(write(tmp_path, num_steps="4", optimizer="Adam(model.out.parameters(), lr=3e-3)"))
    assert run(["diagnose", broken]) == 1
    assert "error: optimizer-misses-parameters" in capsys.readouterr().out
    assert run(["diagnose", str(write(tmp_path, num_steps="2", after="sys.exit(5)"))]) == 5
    assert run(["diagnose", str(tmp_path / "absent.py")]) == 2
    assert capsys.readouterr().err.startswith("throughtime: there is no script")


# --- what the script itself puts together ---

APART = """
import torch
from torch import nn

torch.manual_seed(0)
{made}
loss_of = nn.{criterion}()
optimizer = torch.optim.Adam({held}, lr=5e-3)
for step in range(1000):
    {batch}
    optimizer.zero_grad()
    {loss}
    loss.backward()
    optimizer.step()
"""
STACK = {
    "made": "embed, rnn, head = nn.Embedding(4, 8), nn.GRU(8, 24), nn.Linear(24, 4)",
    "criterion": "CrossEntropyLoss",
    "held": "[*embed.parameters(), *rnn.parameters(), *head.parameters()]",
    "batch": "ids = torch.randint(4, (12, 32))",
    "loss": "loss = loss_of(head(rnn(embed(ids))[0])[2:].flatten(0, 1), ids[:-2].flatten())",
}
LOOP = STACK | {
    "made": "embed, cell, head = nn.Embedding(4, 8), nn.GRUCell(8, 24), nn.Linear(24, 4)",
    "held": "[*embed.parameters(), *cell.parameters(), *head.parameters()]",
    "loss": """h, loss = torch.zeros(32, 24), 0
    for t in range(12):
        h = cell(embed(ids[t]), h)
        loss = loss + loss_of(head(h), ids[max(0, t - 1)])""",
}
BY_HAND = STACK | {
    "criterion": "Identity",
    "loss": "loss = -head(rnn(embed(ids))[0]).log_softmax(-1)[1:].gather(-1, ids[:-1, :, None]).mean()",
}
REINFORCE = STACK | {
    "made": """from torch.distributions import Categorical
class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.act = nn.GRUCell(4, 16), nn.Linear(16, 2)
    def forward(self, seen, h):
        h = self.cell(seen, h)
        return Categorical(logits=self.act(h)), h
policy = Policy()""",
    "held": "policy.parameters()",
    "loss": """h, said, seen = torch.zeros(32, 16), [], torch.randn(6, 32, 4)
    for t in range(6):
        choice, h = policy(seen[t], h)
        action = choice.sample()
        said.append(choice.log_prob(action))
    reward = (action == (seen[0, :, 0] > 0)).float()
    loss = -(torch.stack(said).sum(0) * (reward - 0.5)).mean()""",
}


def put_together(folder: Path, steps: int = 30, **choices: str) -> ScriptDiagnosis:
    (folder / "train.py").write_text(APART.format(**choices), encoding="utf-8")
    return diagnose_script(folder / "train.py", steps=steps)


@pytest.mark.parametrize(
    "choices",
    [STACK, LOOP, BY_HAND, REINFORCE],
    ids=["modules", "a loop over time", "a loss by hand", "episodes with drawn actions"],
)
def test_healthy_scripts_without_a_model_of_their_own(choices: dict[str, str], tmp_path: Path) -> None:
    found = put_together(tmp_path, **choices)
    assert codes(found) == []
    assert found.diagnosis is not None
    assert found.diagnosis.horizons["reach"] is not None


@pytest.mark.parametrize(
    ("code", "choices"),
    [
        ("optimizer-misses-parameters", STACK | {"held": "head.parameters()"}),
        ("optimizer-misses-parameters", LOOP | {"held": "head.parameters()"}),
        ("optimizer-misses-parameters", REINFORCE | {"held": "policy.act.parameters()"}),
        ("non-finite", BY_HAND | {"loss": "loss = head(rnn(embed(ids))[0]).mean().log()"}),
        (
            "closed-gates",
            LOOP
            | {
                "batch": "ids = torch.randint(2, (24, 64)); ids[0] += 2; cell.bias_ih.data[24:48] = -6.0",
                "loss": """h = torch.zeros(64, 24)
    for t in range(24):
        h = cell(embed(ids[t]), h)
    loss = loss_of(head(h), ids[0])""",
            },
        ),
    ],
)
def test_broken_scripts_without_a_model_of_their_own(code: str, choices: dict[str, str], tmp_path: Path) -> None:
    assert code in codes(put_together(tmp_path, **choices))


# --- a residual that the script writes itself ---

RESIDUAL = """
import torch
from torch import nn

torch.manual_seed(0)

class Delayed(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.GRU(2, 24, batch_first=True), nn.Linear(26, 1)

    def forward(self, x):
        return self.out(torch.cat([x, {heard} * self.rnn(x)[0]], -1)){shape}

model = Delayed()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(1000):
    x = torch.randn(32, 24, 2)
    y = {wanted}
    optimizer.zero_grad()
    loss = {loss}
    loss.backward()
    optimizer.step()
"""
DELAYED = {"heard": "1", "shape": "", "wanted": "x.roll(4, 1)[..., :1]", "loss": "((model(x) - y) ** 2)[:, 4:].mean()"}
NOISE = {"wanted": "torch.randn(32, 24, 1)"}


@pytest.mark.parametrize(
    ("choices", "wanted"),
    [
        ({}, []),
        ({"loss": "(y - model(x))[:, 4:].abs().mean()"}, []),
        (
            {
                "shape": "[..., 0]",
                "wanted": "x.roll(4, 1)[..., 0]",
                "loss": "(model(x)[:, 4:] - y[:, 4:]).pow(2).mean()",
            },
            [],
        ),
        ({"loss": "((model(x).squeeze(-1) - y[..., 0]) ** 2)[:, 4:].mean()"}, []),
        ({"loss": "(model(x)[:, 4:, 0] - y[:, 4:, 0]).square().mean()"}, []),
        ({"heard": "1e-3"}, ["weak-recurrence"]),
        (NOISE, ["no-signal"]),
    ],
    ids=[
        "a slice of squares",
        "absolute values",
        "a difference of slices",
        "without an axis of features",
        "slices without one",
        "a state that is not heard",
        "noise",
    ],
)
def test_what_is_subtracted_from_the_outputs_is_the_target(
    choices: dict[str, str], wanted: list[str], tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text(RESIDUAL.format(**DELAYED | choices), encoding="utf-8")
    found = diagnose_script(tmp_path / "train.py", steps=30)
    assert codes(found)[:1] == wanted
    assert found.diagnosis is not None
    if wanted != ["no-signal"]:
        assert found.diagnosis.horizons["need"] == 4


def test_a_spread_that_the_model_gives_too_leaves_no_plain_target(tmp_path: Path) -> None:
    """A likelihood of a mean and a spread, of which the difference alone is not enough: it is replayed as a whole."""
    choices = {
        "shape": ".repeat(1, 1, 2) * self.out.weight[0, :2]",
        "loss": "(lambda o: (((y - o[..., :1]) / o[..., 1:].exp()) ** 2 + 2 * o[..., 1:])[:, 4:].mean())(model(x))",
    }
    (tmp_path / "train.py").write_text(RESIDUAL.format(**DELAYED | choices), encoding="utf-8")
    found = diagnose_script(tmp_path / "train.py", steps=15)
    assert found.diagnosis is not None
    assert "targets that are a tensor" in found.diagnosis.not_checked["no-signal"]


# --- what earlier batches and earlier weights tell ---

STREAM = """
import torch
from torch import nn

torch.manual_seed(0)
ids = torch.randint(4, (16, 4000))
wanted = ids.roll({lag}, 1)
embed = nn.Embedding(4, 8)

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn, self.out = nn.Embedding(4, 8), nn.LSTM(8, 48, batch_first=True), nn.Linear(48, 4)

    def forward(self, ids, state):
        y, state = self.rnn(self.embed(ids), state)
        return self.out(y), state

model, state = Model(), None
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for begin in range(0, 4000, 10):
    optimizer.zero_grad()
    y, state = model(ids[:, begin : begin + 10], state)
    state = {state}
    nn.functional.cross_entropy(y.flatten(0, 1), wanted[:, begin : begin + 10].flatten()).backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("lag", "state", "wanted"),
    [
        (14, "[part.detach() for part in state]", ["truncated-window"]),
        (14, "None", ["truncated-window"]),
        (3, "[part.detach() for part in state]", []),
    ],
)
def test_windows_laid_end_to_end_show_a_need_beyond_one(
    lag: int, state: str, wanted: list[str], tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text(STREAM.format(lag=lag, state=state), encoding="utf-8")
    assert codes(diagnose_script(tmp_path / "train.py", steps=40)) == wanted


@pytest.mark.parametrize(("lag", "wanted"), [(14, ["truncated-window"]), (3, [])])
def test_a_script_that_changes_its_weights_itself(lag: int, wanted: list[str], tmp_path: Path) -> None:
    script = STREAM.format(lag=lag, state="[part.detach() for part in state]")
    script = script.replace("optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)\n", "")
    script = script.replace("optimizer.zero_grad()", "model.zero_grad()")
    script = script.replace("optimizer.step()", "[p.data.add_(p.grad, alpha=-0.5) for p in model.parameters()]")
    (tmp_path / "train.py").write_text(f"{script}raise SystemExit('not stopped')\n", encoding="utf-8")
    found = diagnose_script(tmp_path / "train.py", steps=40)
    assert codes(found) == wanted
    assert found.diagnosis is not None
    assert "an optimizer" in found.diagnosis.not_checked["learning-rate-too-low"]


def test_gradients_that_add_up_over_many_batches_are_not_the_end(tmp_path: Path) -> None:
    """An optimizer there is, only it steps later than after as many backward passes as steps were asked for."""
    script = STREAM.format(lag=3, state="[part.detach() for part in state]")
    script = script.replace("    optimizer.zero_grad()", "    if begin % 80 == 0: optimizer.zero_grad()")
    script = script.replace("    optimizer.step()", "    if begin % 80 == 70: optimizer.step()")
    (tmp_path / "train.py").write_text(script, encoding="utf-8")
    found = diagnose_script(tmp_path / "train.py", steps=4)
    assert found.diagnosis is not None
    assert "learning-rate-too-low" not in found.diagnosis.not_checked


CUSTOMERS = """
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
ids = torch.randint(20, ({num} + 200, 12))
y = ((ids % 5 == 0).sum(1) - (ids % 5 == 1).sum(1) + 0.5 * torch.randn(len(ids)) > 0).float()
train, other = (ids[:{num}], y[:{num}]), (ids[{num}:], y[{num}:])

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn, self.out = nn.Embedding(20, 32), nn.LSTM(32, 64, batch_first=True), nn.Linear(64, 1)

    def forward(self, ids):
        return self.out(self.rnn(self.embed(ids))[0].mean(1)).squeeze(1)

model = Model()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
while True:
    model.train()
    for rows in torch.randperm({num}).split(24):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(model(train[0][rows]), train[1][rows]).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        for part, wanted in zip(other[0].split(100), other[1].split(100)):
            F.binary_cross_entropy_with_logits(model(part), wanted)
"""


@pytest.mark.parametrize(("num", "wanted"), [(48, ["overfitting"]), (960, [])])
def test_what_a_script_evaluates_on_tells_what_it_has_learned_by_heart(
    num: int, wanted: list[str], tmp_path: Path
) -> None:
    """60 steps go 30 times over 48 examples, and once and a half over 960."""
    (tmp_path / "train.py").write_text(CUSTOMERS.format(num=num), encoding="utf-8")
    assert codes(diagnose_script(tmp_path / "train.py", steps=60)) == wanted


def test_a_need_of_which_the_window_holds_nearly_all_is_no_fault(tmp_path: Path) -> None:
    """A pattern of four steps under noise: each further repeat tells a little more of it, beyond any window too."""
    pattern = "torch.randint(4, (16, 4)).repeat(1, 1000)"
    noisy = f"torch.where(torch.rand(16, 4000) < 0.05, torch.randint(4, (16, 4000)), {pattern})"
    script = STREAM.replace("ids = torch.randint(4, (16, 4000))", f"ids = {noisy}")
    (tmp_path / "train.py").write_text(
        script.format(lag=-1, state="[part.detach() for part in state]"), encoding="utf-8"
    )
    assert codes(diagnose_script(tmp_path / "train.py", steps=40)) == []


@pytest.mark.parametrize(
    ("read", "beside"),
    [("self.embed(ids)", "torch.full((16,), 10)"), ("self.embed(ids) + beside", "torch.randn(16, 10, 8)")],
    ids=["lengths", "a second series"],
)
def test_what_lies_beside_the_data_is_no_state(read: str, beside: str, tmp_path: Path) -> None:
    """A model that is called with more than its data, none of it a state: its batches do not go on from one another."""
    script = STREAM.format(lag=14, state="None").replace("forward(self, ids, state)", "forward(self, ids, beside)")
    script = script.replace("self.rnn(self.embed(ids), state)", f"self.rnn({read})")
    script = script.replace("begin + 10], state)", f"begin + 10], {beside})")
    (tmp_path / "train.py").write_text(script, encoding="utf-8")
    assert "truncated-window" not in codes(diagnose_script(tmp_path / "train.py", steps=40))


def test_labels_that_have_nothing_to_do_with_the_inputs(tmp_path: Path) -> None:
    choices = {"targets": "torch.randint(KINDS, (BATCH,))", "loss": "F.cross_entropy(output[:, -1], y)"}
    assert codes(diagnosed(tmp_path, steps=30, **choices)) == ["no-signal"]


@pytest.mark.parametrize(("labels", "wanted"), [("torch.randint(2, (4000,))", ["no-signal"]), ("ids[:, 2] % 2", [])])
def test_batches_of_sentences_with_their_lengths_are_asked_together(
    labels: str, wanted: list[str], tmp_path: Path
) -> None:
    """Of 24 sentences alone nobody could tell."""
    script = f"""
import torch
from torch import nn

torch.manual_seed(0)
ids, lengths = torch.randint(1, 6, (4000, 12)), torch.randint(5, 13, (4000,))
ids[torch.arange(12) >= lengths.unsqueeze(1)] = 0
labels = {labels}

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn, self.out = nn.Embedding(6, 8), nn.LSTM(8, 24, batch_first=True), nn.Linear(24, 2)

    def forward(self, ids, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(self.embed(ids), lengths, batch_first=True, enforce_sorted=False)
        return self.out(self.rnn(packed)[1][0][-1])

model = Model()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for begin in range(0, 4000, 24):
    rows = slice(begin, begin + 24)
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(ids[rows], lengths[rows]), labels[rows]).backward()
    optimizer.step()
"""
    (tmp_path / "train.py").write_text(script, encoding="utf-8")
    assert codes(diagnose_script(tmp_path / "train.py")) == wanted


def test_nan_in_a_batch_that_is_not_the_last(tmp_path: Path) -> None:
    choices = {"classes": "1", "targets": "torch.where(torch.tensor(step == 6), torch.nan, ids[:, -2].float())"}
    found = diagnosed(tmp_path, loss="F.mse_loss(output[:, -1].squeeze(-1), y)", **choices)
    assert codes(found) == ["non-finite-data"]


def test_weights_that_are_nan_are_looked_at_as_they_were(tmp_path: Path) -> None:
    prepare = "model.rnn = nn.RNN(8, 24, nonlinearity='relu', batch_first=True)\n"
    prepare += "with torch.no_grad():\n    model.rnn.weight_hh_l0.copy_(900.0 * torch.eye(24))"
    found = diagnosed(tmp_path, prepare=prepare, optimizer="SGD(model.parameters(), lr=1e9)")
    assert codes(found)[:1] == ["exploding-gradient"]


def test_a_gradient_that_explodes_at_the_start_of_a_script_whose_loss_then_stands_still(tmp_path: Path) -> None:
    """Adam hides how large it is, and after some steps it is not so large any more."""
    prepare = "model.rnn = nn.RNN(8, 24, nonlinearity='relu', batch_first=True)\n"
    prepare += "with torch.no_grad():\n    model.rnn.weight_hh_l0.copy_(2.0 * torch.eye(24))\n"
    prepare += "    model.rnn.bias_ih_l0.fill_(1.0)"
    choices = {"targets": "ids[:, 0].float()", "classes": "1", "loss": "F.mse_loss(output[:, -1].squeeze(-1), y)"}
    found = diagnosed(tmp_path, steps=20, prepare=prepare, optimizer="Adam(model.parameters(), lr=1e-3)", **choices)
    assert codes(found)[:1] == ["exploding-gradient"]
