"""What only its writer can change: the line of code, as it usually stands, and as it has to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["CODE_CHANGES", "CodeChange"]

_Evidence = Mapping[str, Any]


@dataclass(frozen=True)
class CodeChange:
    """A line to change.

    Attributes:
        before: the line as it usually stands where this is found.
        after: what to write instead.
        why: one sentence; it may take numbers of the evidence.
    """

    before: str
    after: str
    why: str


def _mixing(evidence: _Evidence) -> CodeChange:
    if "time_of_modules" in evidence or evidence.get("conflicting_axes"):
        return CodeChange(
            "self.rnn = nn.LSTM(input_size, hidden_size)",
            "self.rnn = nn.LSTM(input_size, hidden_size, batch_first=True)",
            "the batch stands in the first axis of the inputs, and the module takes that one for time",
        )
    return CodeChange(
        "h = (h - h.mean(0)) / h.std(0)    # or nn.BatchNorm1d, x.view(T, B, ...), softmax(dim=0)",
        "h = (h - h.mean(-1, keepdim=True)) / h.std(-1, keepdim=True)    # nn.LayerNorm, x.transpose(0, 1), dim=-1",
        "an operation runs over the axis of the examples: run it over features or time",
    )


def _leak(evidence: _Evidence) -> CodeChange:
    if evidence.get("two_sided"):
        return CodeChange(
            "nn.LSTM(I, H, bidirectional=True)",
            "nn.LSTM(I, H)    # or, to guess a blank, the forward state before it and the backward state behind it",
            "the backward direction has read the target on its way",
        )
    return CodeChange(
        "outputs = model(x); loss = criterion(outputs, x)",
        "outputs = model(x[:, :-1]); loss = criterion(outputs, x[:, 1:])",
        "the word to be guessed is among the inputs that the output is made from",
    )


def _future(evidence: _Evidence) -> CodeChange:
    if evidence.get("two_sided"):
        return _leak(evidence)
    return CodeChange(
        "weights = softmax(scores)    # or nn.Conv1d(C, C, 3, padding=1)",
        "scores = scores.masked_fill(torch.ones(T, T).triu(1).bool(), -torch.inf)    # or F.pad(x, (2, 0)) first",
        "an output at step t reads inputs of later steps",
    )


def _state(evidence: _Evidence) -> CodeChange:
    if "reset_at" in evidence or "need" in evidence:
        return CodeChange(
            "outputs, _ = model(window)",
            "outputs, state = model(window, state); state = tuple(s.detach() for s in state)    # one: state.detach()",
            "the windows of a stream follow one another, and the state is thrown away between them",
        )
    return CodeChange(
        "outputs, state = model(x, state)",
        "outputs, state = model(x)    # where a new sequence begins: state = None",
        "the state of one sequence enters another that has nothing to do with it",
    )


def _padding(_: _Evidence) -> CodeChange:
    return CodeChange(
        "out, h = self.rnn(x); last = out[:, -1]; loss = criterion(logits, targets)",
        "last = out[torch.arange(len(x)), lengths - 1]    # or pack_padded_sequence; and ignore_index=PAD in the loss",
        "the last step of a short sequence is padding",
    )


def _probabilities(evidence: _Evidence) -> CodeChange:
    if evidence.get("activation") == "sigmoid":
        return CodeChange(
            "F.binary_cross_entropy_with_logits(torch.sigmoid(self.out(h)), y)",
            "F.binary_cross_entropy_with_logits(self.out(h), y)",
            "the loss applies the sigmoid itself, so that it is applied twice",
        )
    return CodeChange(
        "return torch.softmax(self.out(h), dim=-1)    # into nn.CrossEntropyLoss",
        "return self.out(h)",
        "the loss applies the softmax itself, so that it is applied twice",
    )


def _shifted(_: _Evidence) -> CodeChange:
    return CodeChange(
        "y = x[:, :-1]",
        "y = x[:, 1:]",
        "the target of a step is an input that the model has read by then",
    )


def _unused(evidence: _Evidence) -> CodeChange:
    part = evidence.get("part")
    if part == "steps":
        return CodeChange(
            "for t in range(x.size(1) - k):    # or x[:, :n]",
            "for t in range(x.size(1)):",
            f"steps {evidence.get('first')} to {evidence.get('last')} are not read",
        )
    if part == "ids":
        return CodeChange(
            "tokens = tokens.clamp(max=...)    # or % n, or one row for all",
            "nn.Embedding(vocabulary_size, E), and tokens as they are",
            "different ids are read as the same",
        )
    features = evidence.get("features")
    which = f"features {features}" if features else f"argument {evidence.get('index', 0)}"
    return CodeChange(
        "def forward(self, x, extra): return self.rnn(x[..., :k])",
        "def forward(self, x, extra): return self.rnn(torch.cat([x, extra], dim=-1))",
        f"{which} of the inputs changes no output",
    )


def _non_finite_data(_: _Evidence) -> CodeChange:
    return CodeChange(
        "x = torch.tensor(table.values)",
        "x = torch.tensor(table.interpolate().fillna(0.0).values)    # and a column that says where it was missing",
        "the inputs or targets hold NaN or infinity",
    )


def _constant(evidence: _Evidence) -> CodeChange:
    return CodeChange(
        "x = torch.cat([signal, flags], dim=-1)",
        "x = signal    # or the column that was meant",
        f"features {evidence.get('features')} never change: a wrong column, or one that was filled in",
    )


def _too_short(evidence: _Evidence) -> CodeChange:
    need = evidence.get("need")
    return CodeChange(
        f"length = {evidence.get('longest')}",
        f"length = {2 * int(need) if need else 'more than the need'}",
        f"the target needs {need} steps, and no sequence is as long",
    )


def _no_signal(_: _Evidence) -> CodeChange:
    return CodeChange(
        "x = x[torch.randperm(len(x))]",
        "order = torch.randperm(len(x)); x, y = x[order], y[order]",
        "inputs tell nothing about targets: see that rows belong together before anything else",
    )


def _missed(evidence: _Evidence) -> CodeChange:
    names = ", ".join(map(str, evidence.get("names", [])[:3]))
    return CodeChange(
        "optimizer = Adam(model.fc.parameters()); self.layers = [nn.GRU(...), ...]",
        "optimizer = Adam(model.parameters())    # made last; layers in nn.ModuleList; requires_grad=True",
        f"{names or 'some parameters'} never change",
    )


def _not_reset(_: _Evidence) -> CodeChange:
    return CodeChange(
        "loss.backward(); optimizer.step()",
        "optimizer.zero_grad(); loss.backward(); optimizer.step()",
        "every update adds up all gradients since the start",
    )


def _cut(evidence: _Evidence) -> CodeChange:
    if "cut_at_lag" in evidence:
        return CodeChange(
            "h = h.detach()",
            "# left out; between windows only",
            f"the gradient is exactly zero from {evidence['cut_at_lag']} steps back on",
        )
    need = evidence.get("need")
    return CodeChange(
        f"window = {evidence.get('window')}",
        f"window = {2 * (int(need) + 1) if need else 'longer'}",
        "no gradient reaches back beyond a window",
    )


def _formula(evidence: _Evidence) -> CodeChange:
    if evidence.get("where") in ("loss", "gradient") and evidence.get("by_formula", True):
        return CodeChange(
            "torch.log(torch.softmax(x, -1));  torch.sqrt(e);  error / target",
            "torch.log_softmax(x, -1);  torch.sqrt(e + 1e-8);  error / target.abs().clamp_min(1e-3)",
            f"numbers stop being finite in {evidence.get('began', 'the loss')}, by the formula",
        )
    return CodeChange(
        "optimizer.step()",
        "nn.utils.clip_grad_norm_(model.parameters(), 1.0); optimizer.step()",
        f"numbers stop being finite in {evidence.get('began', 'training')}",
    )


CODE_CHANGES: Final[Mapping[str, Callable[[_Evidence], CodeChange]]] = {
    "batch-mixing": _mixing,
    "target-leak": _leak,
    "future-leak": _future,
    "targets-shifted": _shifted,
    "state-carried-wrongly": _state,
    "padding-read": _padding,
    "probabilities-into-cross-entropy": _probabilities,
    "unused-input": _unused,
    "non-finite-data": _non_finite_data,
    "non-finite": _formula,
    "constant-feature": _constant,
    "sequence-too-short": _too_short,
    "no-signal": _no_signal,
    "optimizer-misses-parameters": _missed,
    "gradient-not-reset": _not_reset,
    "truncated-window": _cut,
}
"""By code: the change, from the finding's evidence."""
