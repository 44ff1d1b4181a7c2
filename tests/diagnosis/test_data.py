"""Each code of data: patients that must get it, and near ones that must not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diagnosis.patients import Reader, Tagger, cross_entropy, evidence, mse, text
from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.data import RULES
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.finding import Finding
from throughtime.measurement import watch

FIND: dict[str, Callable[[Evidence], Finding | None]] = {rule.code: rule.find for rule in RULES}


def numbers(num_features: int = 3) -> Tensor:
    return torch.randn(12, 20, num_features, generator=torch.Generator().manual_seed(1))


def severities(given: Evidence) -> dict[str, str]:
    """By code, of every rule that can tell."""
    found = {}
    for code, find in FIND.items():
        try:
            finding = find(given)
        except Missing:
            continue
        if finding is not None:
            assert finding.code == code
            found[code] = finding.severity
    return found


def but(x: Tensor, *where: int | slice, value: float) -> Tensor:
    x = x.clone()
    x[where] = value
    return x


class Scaled(nn.Module):
    """Normalises its inputs itself."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(3)
        self.inner = Reader()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.norm(x))


class Handmade(nn.Module):
    """A cell of one's own, that no hook on a recurrent module sees."""

    def __init__(self) -> None:
        super().__init__()
        self.state, self.given, self.out = nn.Linear(8, 8), nn.Linear(3, 8), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.size(0), 8)
        for step in x.unbind(1):
            h = torch.tanh(self.state(h) + self.given(step))
        return self.out(h)


def masked_mse(outputs: Tensor, targets: Tensor) -> Tensor:
    known = ~targets.isnan()
    return mse(outputs[known], targets[known]).mean()


def cases() -> list[tuple[str, dict[str, str], Callable[[], Evidence]]]:
    x = numbers()
    y = x.sum((1, 2))
    dull, biased = (but(x, slice(None), slice(None), 1, value=value) for value in (0.5, 1.0))
    holed = but(x, 3, 5, 1, value=torch.nan)
    one_hot = F.one_hot(text()[:, :-1], 16).float()
    images = numbers(8).relu() * (torch.arange(8) > 2)
    lengths = torch.tensor([20, *[12] * 11])

    return [
        ("ordinary", {}, lambda: evidence(Reader(), x, y, mse)),
        ("words", {}, lambda: evidence(Tagger(), text()[:, :-1], text()[:, 1:], cross_entropy)),
        ("NaN in an input", {"non-finite-data": "error"}, lambda: evidence(Reader(), holed, y, mse)),
        ("infinity in a target", {"non-finite-data": "error"}, lambda: evidence(
            Reader(), x, but(y, 3, value=torch.inf), mse
        )),
        (
            "NaN in validation",
            {"non-finite-data": "error"},
            lambda: evidence(Reader(), x, y, mse, validation=(x, but(y, 0, value=torch.nan))),
        ),
        (
            "targets that are missing, and a loss that knows",
            {"non-finite-data": "info"},
            lambda: evidence(Reader(), x, but(y, 3, value=torch.nan), masked_mse),
        ),
        ("large inputs", {"unscaled-input": "error"}, lambda: evidence(Reader(), 300 * x, y, mse)),
        ("an offset", {"unscaled-input": "error"}, lambda: evidence(Reader(), x + 300, y, mse)),
        ("large inputs of a cell of one's own", {"unscaled-input": "error"}, lambda: evidence(
            Handmade(), 300 * x, y, mse, time_dim=1
        )),
        ("somewhat large inputs", {}, lambda: evidence(Reader(), 6 * x, y, mse)),
        ("a model that normalises", {}, lambda: evidence(Scaled(), 300 * x, y, mse)),
        ("one of three constant", {"constant-feature": "error"}, lambda: evidence(Reader(), dull, y, mse)),
        ("all constant", {"constant-feature": "error"}, lambda: evidence(Reader(), torch.full_like(x, 0.5), y, mse)),
        ("a bias", {"constant-feature": "info"}, lambda: evidence(Reader(), biased, y, mse)),
        ("one-hot codes that are absent", {"constant-feature": "info"}, lambda: evidence(Reader(16), one_hot, y, mse)),
        ("dark borders", {"constant-feature": "info"}, lambda: evidence(Reader(8), images, y, mse)),
        ("constant here, not in validation", {}, lambda: evidence(
            Reader(), dull, y, mse, validation=(x, y)
        )),
        ("too short", {"sequence-too-short": "error"}, lambda: evidence(Reader(), x, y, mse, need=20)),
        ("just long enough", {}, lambda: evidence(Reader(), x, y, mse, need=19)),
        ("long enough but for padding", {"sequence-too-short": "error"}, lambda: evidence(
            Reader(), x, y, mse, need=15, lengths=lengths.clamp(max=12)
        )),
        ("windows of something longer", {}, lambda: evidence(Reader(), x, y, mse, need=50, window=20)),
    ]  # fmt: skip


@pytest.mark.parametrize("name", [name for name, _, _ in cases()])
def test_a_patient_gets_what_its_data_deserve(name: str) -> None:
    expected, make = next((expected, make) for own, expected, make in cases() if own == name)
    assert severities(make()) == expected


def test_the_place_of_what_is_not_finite_is_told() -> None:
    found = FIND["non-finite-data"](evidence(Reader(), but(numbers(), 3, 5, 1, value=torch.nan), torch.zeros(12), mse))
    assert found is not None
    assert list(found.evidence["position"]) == [3, 5, 1]
    assert found.evidence["counts"] == {"inputs": 1}
    assert "[3, 5, 1]" in found.summary


def test_saturation_is_told_of_both_scales() -> None:
    found = FIND["unscaled-input"](evidence(Reader(), 300 * numbers(), torch.zeros(12), mse))
    assert found is not None
    assert found.evidence["saturated"] > 0.5 > 0.1 > found.evidence["saturated_standardised"]


class Streams(nn.Module):
    """Two series (B, T, 3), each read by an LSTM of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LSTM(3, 8, batch_first=True), nn.LSTM(3, 8, batch_first=True)
        self.out = nn.Linear(16, 1)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return self.out(torch.cat([self.first(one)[0][:, -1], self.second(other)[0][:, -1]], 1))


@pytest.mark.parametrize("scales", [(300, 300), (1, 300)])
def test_all_streams_are_standardised(scales: tuple[int, int]) -> None:
    torch.manual_seed(0)
    inputs = tuple(scale * numbers() for scale in scales)
    found = FIND["unscaled-input"](evidence(Streams(), inputs, torch.zeros(12), mse))
    assert found is not None
    assert found.evidence["scale"] > 100
    assert found.evidence["saturated_standardised"] < 0.1


def test_a_need_that_is_not_known_is_asked_for() -> None:
    with pytest.raises(Missing, match="need="):
        FIND["sequence-too-short"](evidence(Reader(), numbers(), torch.zeros(12), mse))


@pytest.mark.parametrize("where", ["inputs", "targets"])
def test_a_batch_of_the_loop_that_was_not_finite(where: str) -> None:
    model, clean = Reader(), numbers()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, every=1000, sample_every=1) as watched:
        for step in range(1, 6):
            x, y = clean.clone(), torch.zeros(12)
            if step == 3:
                (x[2, 3] if where == "inputs" else y[2:3]).fill_(torch.nan)
            loss = mse(model(x), y).mean()
            watched.loss(loss, y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    found = FIND["non-finite-data"](evidence(model, clean, torch.zeros(12), mse, history=watched.record))
    assert found is not None
    assert (found.severity, found.evidence["first"], found.evidence["step"]) == ("error", where, 3)


class Router(nn.Module):
    """Ids (B, T) -> logits (B, 4); id 0 is padding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Embedding(12, 8, padding_idx=0), nn.GRU(8, 8, batch_first=True)
        self.out = nn.Linear(8, 4)

    def forward(self, ids: Tensor) -> Tensor:
        return self.out(self.rnn(self.embed(ids))[0][:, -1])


def test_texts_that_were_cut_before_what_tells() -> None:
    """An id for padding, no padded sequence, and nothing in them that tells: what told was left out."""
    torch.manual_seed(0)
    ids, y = torch.randint(1, 12, (400, 10)), torch.randint(4, (400,))
    loss = nn.CrossEntropyLoss()

    def found(ids: Tensor, y: Tensor) -> Finding | None:
        half = len(ids) // 2
        held_out = (ids[half:], y[half:])
        return FIND["sequence-too-short"](
            evidence(Router(), ids[:half], y[:half], loss, validation=held_out, time_dim=1)
        )

    cut = found(ids, y)
    assert cut is not None
    assert (cut.severity, cut.follows, cut.evidence["padding_id"]) == ("error", "no-signal", 0)
    assert "fill their 10 steps" in cut.summary
    padded = ids.clone()
    padded[3, 6:] = 0
    for others in ((padded, y), (ids, ids[:, 4] % 4)):
        with pytest.raises(Missing, match="data cannot show a need longer"):
            found(*others)
