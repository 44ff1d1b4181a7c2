"""Each code of wiring: patients that must get it, and near ones that must not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from diagnosis.patients import Reader, Tagger, cross_entropy, evidence, mse, text
from throughtime.diagnosis.case import Missing
from throughtime.diagnosis.evidence import Evidence
from throughtime.diagnosis.finding import Finding
from throughtime.diagnosis.wiring import RULES
from throughtime.measurement import watch

FIND: dict[str, Callable[[Evidence], Finding | None]] = {rule.code: rule.find for rule in RULES}


def errors(given: Evidence) -> set[str]:
    """All codes of wiring that are errors of their own, of every rule that can tell."""
    found = set()
    for code, find in FIND.items():
        try:
            finding = find(given)
        except Missing:
            continue
        if finding is not None and finding.severity == "error" and finding.follows is None:
            assert finding.code == code
            found.add(code)
    return found


def numbers(batch: int = 12, num_steps: int = 20, num_features: int = 3) -> Tensor:
    return torch.randn(batch, num_steps, num_features, generator=torch.Generator().manual_seed(1))


# --- healthy patients that look odd: no rule of wiring may find an error ---


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.embed = nn.Embedding(10, 8)
        self.out = nn.Linear(8, 10)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        mask = torch.ones(ids.size(1), ids.size(1), dtype=torch.bool).triu(1)
        return self.out(x + self.attention(x, x, x, attn_mask=mask)[0])


class Normalised(nn.Module):
    """Batch norm over features, dropout, and a state returned."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.rnn = nn.GRU(3, 8, num_layers=2, dropout=0.5)
        self.out = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h, state = self.rnn(self.norm(x.flatten(0, 1)).view(x.shape))
        return self.out(h[-1]), state


class Packed(nn.Module):
    def __init__(self, *, pack: bool = True, bidirectional: bool = True) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 8, padding_idx=0)
        self.rnn = nn.LSTM(8, 8, batch_first=True, bidirectional=bidirectional)
        self.out = nn.Linear(16 if bidirectional else 8, 4)
        self.pack = pack

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        x = self.embed(ids)
        if self.pack:
            x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            return self.out(pad_packed_sequence(self.rnn(x)[0], batch_first=True, total_length=ids.size(1))[0])
        return self.out(self.rnn(x)[0])


def padded(batch: int = 12, num_steps: int = 20) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, lengths, and tags that are -100 beyond them."""
    g = torch.Generator().manual_seed(2)
    lengths = torch.randint(5, num_steps + 1, (batch,), generator=g)
    lengths[0] = num_steps
    ids = torch.randint(1, 10, (batch, num_steps), generator=g)
    padding = torch.arange(num_steps) >= lengths.unsqueeze(1)
    return ids.masked_fill(padding, 0), lengths, (ids % 4).masked_fill(padding, -100)


class Stateful(nn.Module):
    """Carries its state from call to call."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 8, batch_first=True)
        self.out = nn.Linear(8, 1)
        self.state: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        h, state = self.rnn(x, self.state)
        self.state = state.detach()
        return self.out(h)


class Forgetful(Stateful):
    def forget(self) -> None:
        self.state = None

    reset_state = forget


class Autoencoder(nn.Module):
    """Its target is its input, through a bottleneck."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.GRU(3, 8, batch_first=True)
        self.decode = nn.GRU(8, 8, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        code = self.encode(x)[1][0]
        return self.out(self.decode(code.unsqueeze(1).expand(-1, x.size(1), -1))[0])


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Reader(3)

    def forward(self, *, series: Tensor, mask: Tensor) -> dict[str, Tensor]:
        return {"value": self.inner(series * mask.unsqueeze(-1))}


def healthy() -> dict[str, Callable[[], Evidence]]:
    ids = text()
    x = numbers()
    words, lengths, tags = padded()
    y = x.sum((1, 2))

    def shifted_loss(logits: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(logits[:, :-1], targets[:, 1:])

    def log_probabilities(logits: Tensor, targets: Tensor) -> Tensor:
        return F.nll_loss(logits.log_softmax(-1).flatten(0, 1), targets.flatten())

    return {
        "language model": lambda: evidence(Tagger(), ids[:, :-1], ids[:, 1:], cross_entropy),
        "a loss that shifts": lambda: evidence(Tagger(), ids, ids, shifted_loss),
        "log-softmax into nll": lambda: evidence(Tagger(), ids[:, :-1], ids[:, 1:], log_probabilities),
        "causal attention": lambda: evidence(Attention(), ids[:, :-1], ids[:, 1:], cross_entropy, time_dim=1),
        "a tagger that reads both ways": lambda: evidence(
            Tagger(bidirectional=True), ids[:, :-1], ids[:, :-1] % 7, cross_entropy
        ),
        "masked words": lambda: evidence(*masked_words()),
        "batch norm, dropout and a state returned": lambda: evidence(Normalised(), x.transpose(0, 1), y, mse),
        "packed": lambda: evidence(Packed(), (words, lengths), tags, cross_entropy, time_dim=1),
        "causal, padded at the end, ignored by the loss": lambda: evidence(
            Packed(pack=False, bidirectional=False), (words, lengths), tags, cross_entropy, time_dim=1
        ),
        "stateful with a window": lambda: evidence(Stateful(), x, x.cumsum(1)[..., 0].roll(1, 0), mse, window=20),
        "stateful, with a method that resets": lambda: evidence(Forgetful(), x, x.cumsum(1)[..., 0].roll(1, 0), mse),
        "an autoencoder": lambda: evidence(Autoencoder(), x, x, lambda o, t: (o - t).square()),
        "an echo of independent inputs": lambda: evidence(Steps(), x, x[..., 0].roll(1, 1), mse),
        "recall of the first input": lambda: evidence(Reader(), x, x[:, 0, 0], mse),
        "a forecast": lambda: evidence(Steps(), *waves(1), mse),
        "named inputs and outputs": lambda: evidence(
            Named(), {"series": x, "mask": torch.ones(12, 20, dtype=torch.bool)}, y, mse, time_dim=1
        ),
        "one-hot next": lambda: evidence(Steps(10, 10), F.one_hot(ids[:, :-1], 10).float(), ids[:, 1:], cross_entropy),
        "small numbers out": lambda: evidence(
            Reader(),
            x,
            (y > 0).float(),
            lambda o, t: F.binary_cross_entropy_with_logits(0.5 + 0 * o[:, 0] + o[:, 0] / 9, t),
        ),
        "probabilities into their own loss": lambda: evidence(
            nn.Sequential(Reader(), nn.Sigmoid()), x, (y > 0).float(), lambda o, t: F.binary_cross_entropy(o[:, 0], t)
        ),
        "probabilities into squares": lambda: evidence(
            nn.Sequential(Reader(3, 4), nn.Softmax(-1)),
            x,
            F.one_hot(torch.arange(12) % 4, 4).float(),
            lambda o, t: (o - t).square(),
        ),
        "a series of another length": lambda: evidence(Apart(0.1), (x, torch.randn(12, 31, 2)), y, mse),
        "a teacher, in training alone": lambda: evidence(Apart(0.1, teaches=True), (x, torch.randn(12, 31, 2)), y, mse),
        "a long fading memory": lambda: evidence(Faded(), numbers(6, 300), torch.randn(6), mse),
        "tied weights": lambda: evidence(tied(), ids[:, :-1], ids[:, 1:], cross_entropy),
    }


class Steps(nn.Module):
    """Numbers (B, T, F) -> (B, T, C)."""

    def __init__(self, num_features: int = 3, classes: int = 1, *, bidirectional: bool = False) -> None:
        super().__init__()
        self.rnn = nn.GRU(num_features, 12, batch_first=True, bidirectional=bidirectional)
        self.out = nn.Linear(24 if bidirectional else 12, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0])


class Faded(nn.Module):
    """A contracting network: early inputs leave nothing in float32, though nothing is cut off."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(3, 8, batch_first=True)
        self.out = nn.Linear(8, 1)
        with torch.no_grad():
            self.rnn.weight_hh_l0.mul_(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[1][0])


def tied() -> Tagger:
    model = Tagger()
    model.out = nn.Linear(12, 10)
    model.rnn = nn.GRU(12, 12, batch_first=True)
    model.embed = nn.Embedding(10, 12)
    model.out.weight = model.embed.weight
    return model


def masked_words() -> tuple[nn.Module, Tensor, Tensor, Callable[[Tensor, Tensor], Tensor]]:
    ids = text(kinds=9)[:, :-1]
    chosen = torch.rand(ids.shape, generator=torch.Generator().manual_seed(3)) < 0.2
    return Tagger(bidirectional=True), ids.masked_fill(chosen, 9), ids.masked_fill(~chosen, -100), cross_entropy


def waves(ahead: int) -> tuple[Tensor, Tensor]:
    """Three series, and the first of them `ahead` steps later."""
    phases = torch.rand(12, 1, 3, generator=torch.Generator().manual_seed(4)) * 6
    t = torch.arange(24.0).view(1, -1, 1)
    series = torch.sin(t * torch.tensor([0.5, 0.9, 1.3]) + phases) + 0.1 * numbers(12, 24)
    return series[:, :20], series[:, ahead : ahead + 20, 0]


@pytest.mark.parametrize("name", list(healthy()))
def test_a_healthy_patient_gets_no_error(name: str) -> None:
    assert errors(healthy()[name]()) == set()


# --- broken ones ---


class Mixed(Reader):
    """A time-first LSTM that is given batch-first inputs."""

    def __init__(self) -> None:
        super().__init__(batch_first=False)


class Viewed(nn.Module):
    """`view` where a transpose was meant."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 8)
        self.out = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, num_steps, _ = x.shape
        return self.out(self.rnn(x.reshape(num_steps, batch, 3))[0].reshape(batch, num_steps, 8))


class NormalisedState(nn.Module):
    """The state is normalised over the batch, by its own statistics in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(3, 8)
        self.norm = nn.BatchNorm1d(8, track_running_stats=False)
        self.out = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.size(0), 8)
        for t in range(x.size(1)):
            h = self.norm(self.cell(x[:, t], h))
        return self.out(h)


class NormalisedInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Reader()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner((x - x.mean((0, 1))) / x.std((0, 1)))


class LastOfPadding(Packed):
    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        return super().forward(ids, lengths)[:, -1]


class Beginning(nn.Module):
    """A tagger that hears the next word and hardly more, or the mean of all; padding has a vector as words have."""

    def __init__(self, *, mean: bool) -> None:
        super().__init__()
        self.embed, self.out, self.mean = nn.Embedding(10, 8), nn.Linear(8, 4), mean

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        x = self.embed(ids)
        heard = x.mean(1, keepdim=True) if self.mean else nn.functional.pad(x[:, 1:], (0, 0, 0, 1))
        return self.out(x + 3 * heard)


class Cut(nn.Module):
    """Reads from step `first`, and the first `features` of the features."""

    def __init__(self, first: int = 0, features: int = 3) -> None:
        super().__init__()
        self.inner = Reader(features)
        self.first, self.features = first, features

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x[:, self.first :, : self.features])


class Two(nn.Module):
    def __init__(self, weight: float) -> None:
        super().__init__()
        self.inner = Reader()
        self.weight = weight

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        return self.inner(x + self.weight * other)


class Apart(nn.Module):
    """Takes a series of another length as well, which counts for so much; or in training alone, as a teacher does."""

    def __init__(self, weight: float, *, teaches: bool = False) -> None:
        super().__init__()
        self.inner, self.other, self.weight, self.teaches = Reader(), Reader(2), weight, teaches

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        return self.inner(x) + (0.0 if self.teaches and not self.training else self.weight) * self.other(other)


class Begun(nn.Module):
    """Begins anew every eight steps."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Steps()

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.inner(piece) for piece in x.split(8, dim=1)], dim=1)


class Rolled(Stateful):
    """Hands the state of one row to the next."""

    def forward(self, x: Tensor) -> Tensor:
        if self.state is not None:
            self.state = self.state.roll(1, 1)
        return super().forward(x)


class Pairs(nn.Module):
    """(B, T, 3) -> (B, B): the score of every sequence with every other one, for a contrastive loss."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.GRU(3, 8, batch_first=True), nn.GRU(3, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x)[0][:, -1] @ self.other(x)[0][:, -1].T


class MixedPairs(Pairs):
    """The same of what was softened over the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(0)


class Halves(nn.Module):
    """Both directions' last states put side by side by `reshape`: halves of two sequences each."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(3, 8, batch_first=True, bidirectional=True), nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[1].reshape(len(x), 16).tanh())


def test_equal_outputs_are_no_loss_that_looks_away() -> None:
    """Of weights that are all the same every class gets the same: whatever sequence it is, the loss is log C."""
    model = Tagger(8)
    for parameter in [*model.rnn.parameters(), *model.out.parameters()]:
        nn.init.constant_(parameter, 0.05)
    ids = text(kinds=8)
    found = FIND["unused-input"](evidence(model, ids[:, :-1], ids[:, 1:], cross_entropy))
    assert found is None or "whatever the outputs are" not in found.summary


def test_scores_of_each_with_each_are_no_mixing() -> None:
    x, rows = numbers(), torch.arange(12)
    assert FIND["batch-mixing"](evidence(Pairs(), x, rows, cross_entropy, time_dim=1)) is None
    for model, targets, loss in ((MixedPairs(), rows, cross_entropy), (Halves(), x.sum((1, 2)), mse)):
        found = FIND["batch-mixing"](evidence(model, x, targets, loss, time_dim=1))
        assert found is not None
        assert found.severity == "error"


def label_among_features() -> tuple[Tensor, Tensor]:
    x = numbers()
    y = (x[..., :2].sum((1, 2)) > 0).float()
    x[..., 2] = y.unsqueeze(1)
    return x, y


def broken() -> list[tuple[str, str, Callable[[], Evidence]]]:
    ids, x = text(), numbers()
    words, lengths, tags = padded()
    y = x.sum((1, 2))
    leaked, label = label_among_features()
    softmax = nn.Softmax(-1)

    def step_labels() -> Evidence:
        given = numbers()
        wanted = (given[..., 0] > given[..., 1]).long()
        given[..., 2] = wanted
        return evidence(Steps(3, 2), given, wanted, cross_entropy)

    return [
        ("batch-mixing", "batch_first forgotten", lambda: evidence(Mixed(), x, y, mse)),
        ("batch-mixing", "view for a transpose", lambda: evidence(Viewed(), x, x[..., 0].roll(2, 1), mse, time_dim=1)),
        ("batch-mixing", "a state normalised over the batch", lambda: evidence(NormalisedState(), x, y, mse)),
        ("future-leak", "both ways", lambda: evidence(
            Tagger(bidirectional=True), ids[:, :-1], ids[:, 1:], cross_entropy
        )),
        ("future-leak", "a forecast both ways", lambda: evidence(Steps(bidirectional=True), *waves(1), mse)),
        ("target-leak", "the word itself", lambda: evidence(Tagger(bidirectional=True), ids, ids, cross_entropy)),
        ("target-leak", "the label as a feature", lambda: evidence(Reader(), leaked, label, mse)),
        ("target-leak", "the label of each step", step_labels),
        ("targets-shifted", "words", lambda: evidence(Tagger(), ids, ids, cross_entropy)),
        ("targets-shifted", "the word before", lambda: evidence(Tagger(), ids[:, 1:], ids[:, :-1], cross_entropy)),
        ("targets-shifted", "a forecast", lambda: evidence(Steps(), *waves(0), mse)),
        ("targets-shifted", "the last value", lambda: evidence(Reader(1), x[..., :1], x[:, -1, 0], mse)),
        ("state-carried-wrongly", "no window", lambda: evidence(Stateful(), x, x[..., 0].roll(2, 1), mse)),
        ("state-carried-wrongly", "rows", lambda: evidence(Rolled(), x, x[..., 0].roll(2, 1), mse, window=20)),
        ("state-carried-wrongly", "reset", lambda: evidence(Begun(), x, x[..., 0].roll(2, 1), mse)),
        ("padding-read", "the last step", lambda: evidence(
            LastOfPadding(pack=False, bidirectional=False), (words, lengths), torch.arange(12) % 4, cross_entropy,
            time_dim=1,
        )),
        ("padding-read", "in the loss", lambda: evidence(
            Packed(), (words, lengths), tags.clamp(min=0), cross_entropy, time_dim=1
        )),
        ("probabilities-into-cross-entropy", "softmax", lambda: evidence(
            nn.Sequential(Tagger(), softmax), ids[:, :-1], ids[:, 1:], cross_entropy, time_dim=1
        )),
        ("probabilities-into-cross-entropy", "sigmoid", lambda: evidence(
            nn.Sequential(Reader(), nn.Sigmoid()), x, (y > 0).float(),
            lambda o, t: F.binary_cross_entropy_with_logits(o[:, 0], t),
        )),
        ("unused-input", "steps", lambda: evidence(Cut(first=10), x, y, mse)),
        ("unused-input", "features", lambda: evidence(Cut(features=2), x, y, mse)),
        ("unused-input", "a tensor", lambda: evidence(Two(0.0), (x, x.flip(1)), y, mse)),
        ("unused-input", "a longer tensor", lambda: evidence(Apart(0.0), (x, torch.randn(12, 31, 2)), y, mse)),
        ("unused-input", "all", lambda: evidence(nn.Sequential(Reader(), nn.Threshold(99, 0.5)), x, y, mse)),
    ]  # fmt: skip


@pytest.mark.parametrize(("code", "name"), [(code, name) for code, name, _ in broken()])
def test_a_broken_patient_gets_its_code_first(code: str, name: str) -> None:
    make = next(make for a, b, make in broken() if (a, b) == (code, name))
    found = FIND[code](make())
    assert found is not None
    assert found.severity == "error"
    assert found.evidence
    assert any(character.isdigit() for character in found.summary) or code == "unused-input"
    assert errors(make()) == {code}


# --- the rest ---


def random_walks() -> tuple[Tensor, Tensor]:
    """(B, T, 3) with an order along time alone, and a target of each step."""
    x = numbers(24, 20).cumsum(1) * 0.3
    return x, x.roll(1, 1)[..., 0]


class TimeFirst(Steps):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 12)


def test_data_tell_that_modules_take_the_sequences_for_time() -> None:
    found = FIND["batch-mixing"](evidence(TimeFirst(), *random_walks(), mse))
    assert found is not None
    assert (found.severity, found.evidence["mode"]) == ("error", "data")


def test_data_whose_order_agrees_with_the_modules_are_left_alone() -> None:
    x, y = random_walks()
    assert FIND["batch-mixing"](evidence(TimeFirst(), x.transpose(0, 1), y.t(), mse)) is None
    assert FIND["batch-mixing"](evidence(Steps(), x, y, mse)) is None
    assert FIND["batch-mixing"](evidence(TimeFirst(), numbers(24, 20), numbers(24, 20)[..., 0], mse)) is None


@pytest.mark.parametrize(("mean", "severity"), [(False, "warning"), (True, "error")])
def test_padding_that_is_heard_next_to_it_alone_is_a_warning(mean: bool, severity: str) -> None:
    torch.manual_seed(0)
    ids, lengths, tags = padded()
    found = FIND["padding-read"](evidence(Beginning(mean=mean), (ids, lengths), tags, cross_entropy, time_dim=1))
    assert found is not None
    assert found.severity == severity
    assert found.evidence["output_effect"] > 0.1


class Deaf(Packed):
    """Hears the first word, and hardly what stands at the last step."""

    def __init__(self) -> None:
        super().__init__(pack=False, bidirectional=False)
        self.late = nn.Linear(8, 4)
        with torch.no_grad():
            self.late.weight.mul_(1e-3)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        h = self.rnn(self.embed(ids))[0]
        return self.out(h[:, 0]) + self.late(h[:, -1])


@pytest.mark.parametrize(("watched", "severity"), [(False, "warning"), (True, "error")])
def test_a_loop_that_turned_deaf_to_its_padding_reads_it_all_the_same(watched: bool, severity: str) -> None:
    torch.manual_seed(0)
    model, (ids, lengths, _), labels = Deaf(), padded(), torch.arange(12) % 4
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    with watch(model, optimizer) as seen:
        for _ in range(3):
            loss = cross_entropy(model(ids, lengths), labels).mean()
            loss.backward()
            seen.loss(loss)
            optimizer.step()
    given = {"history": seen.record} if watched else {}
    found = FIND["padding-read"](evidence(model, (ids, lengths), labels, cross_entropy, time_dim=1, **given))
    assert found is not None
    assert found.severity == severity
    assert found.evidence["output_effect"] < 0.1
    assert (found.evidence["wired_effect"] is not None) is watched


def test_statistics_of_the_inputs_over_the_batch_are_a_warning() -> None:
    x = numbers()
    found = FIND["batch-mixing"](evidence(NormalisedInput(), x, x.sum((1, 2)), mse, time_dim=1))
    assert found is not None
    assert found.severity == "warning"


def test_ordinary_batch_norm_is_worth_knowing_and_no_more() -> None:
    x = numbers()
    found = FIND["batch-mixing"](evidence(Normalised(), x.transpose(0, 1), x.sum((1, 2)), mse))
    assert found is not None
    assert found.severity == "info"


@pytest.mark.parametrize("part", ["zero", "dead"])
def test_weights_that_hide_an_input_are_no_matter_of_wiring(part: str) -> None:
    model, x = nn.Sequential(Reader(3, 8), nn.ReLU(), nn.Linear(8, 1)), numbers()
    with torch.no_grad():
        if part == "zero":
            model[2].weight.zero_()
        else:
            model[0].out.bias.fill_(-100)
    assert errors(evidence(model, x, x.sum((1, 2)), mse)) == set()


def test_steps_with_the_same_id_in_all_sequences_are_not_unused_for_that() -> None:
    ids = text()[:, :-1].clone()
    ids[:, 8:18] = 3
    assert FIND["unused-input"](evidence(Tagger(), ids, ids.roll(3, 1), cross_entropy)) is None


def test_a_loop_that_alone_can_tell_is_asked_for() -> None:
    x = numbers()
    with pytest.raises(Missing, match="loop"):
        FIND["state-carried-wrongly"](evidence(Stateful(), x, x[..., 0].roll(2, 1), mse, window=20))
    with pytest.raises(Missing, match="lengths="):
        FIND["padding-read"](evidence(Reader(), x, x.sum((1, 2)), mse))


@pytest.mark.parametrize("make", [Stateful, Normalised, lambda: Reader().eval()])
def test_the_model_and_the_random_state_stay_as_they_are(make: Callable[[], nn.Module]) -> None:
    model = make()
    x = numbers()
    given = x.transpose(0, 1) if isinstance(model, Normalised) else x
    before = {name: value.clone() for name, value in model.state_dict().items()}
    training, state, copy = model.training, torch.get_rng_state(), given.clone()
    y = x[..., 0].roll(2, 1) if isinstance(model, Stateful) else x.sum((1, 2))
    errors(evidence(model, given, y, mse))
    assert model.training == training
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(given, copy)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not isinstance(model, Stateful) or model.state is None


def test_outputs_that_are_nan_tell_nothing_of_the_inputs() -> None:
    class Log(Reader):
        def forward(self, x: Tensor) -> Tensor:
            return -(super().forward(x).square() + 1).neg().log()

    with pytest.raises(Missing, match="NaN stays NaN"):
        FIND["unused-input"](evidence(Log(), numbers(), torch.zeros(12), mse))


def table(*, smooth: bool) -> tuple[Tensor, Tensor]:
    """Two series (B, T, 2), the second of which is to be foretold, and its next values (B, T)."""
    g = torch.Generator().manual_seed(2)
    rows = [torch.randn(24, 2, generator=g)]
    for _ in range(20):
        new = torch.randn(24, 2, generator=g)
        rows.append(rows[-1] + 0.05 * new if smooth else 0.5 * rows[-1].flip(1) + new)
    series = torch.stack(rows, 1)
    return series[:, :-1], series[:, 1:, 1]


class EachStep(Reader):
    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0])


@pytest.mark.parametrize("smooth", [True, False])
def test_a_column_that_is_nearly_the_target_of_a_forecast(smooth: bool) -> None:
    x, y = table(smooth=smooth)
    noise = torch.randn(y.shape, generator=torch.Generator().manual_seed(3))
    joined = torch.cat([x, (y + 0.002 * noise).unsqueeze(-1)], -1)
    assert errors(evidence(EachStep(3), joined, y, mse, time_dim=1)) == {"target-leak"}
    vague = torch.cat([x, (y + 0.5 * noise).unsqueeze(-1)], -1)  # another's forecast is a good feature
    assert errors(evidence(EachStep(3), vague, y, mse, time_dim=1)) == set()
    assert errors(evidence(EachStep(2), x, y, mse, time_dim=1)) == set()  # neighbours are alike in a smooth series
