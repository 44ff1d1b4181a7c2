"""The Lightning callback, in real training: the numbers that Lightning itself sees, before clipping and after."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import throughtime
from throughtime.errors import InputError, RecipeError

pl = pytest.importorskip("pytorch_lightning", reason="pytorch-lightning is not installed: extra 'lightning'")
from throughtime.integrations.json_lines import JsonLines  # noqa: E402
from throughtime.integrations.lightning import LightningWatch  # noqa: E402

pytestmark = [
    # What Lightning says of a laptop-sized training, and what it imports, is no matter of ours.
    pytest.mark.filterwarnings("ignore::UserWarning:pytorch_lightning"),
    pytest.mark.filterwarnings("ignore::UserWarning:lightning_fabric"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:pytorch_lightning"),
    pytest.mark.filterwarnings("ignore:.*treespec:FutureWarning"),
]
T, B, CLIP = 12, 4, 0.01


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


class Memory(pl.LightningModule):
    """Gives back the first number of a sequence; remembers what Lightning shows of gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(1, 8, batch_first=True)
        self.readout = nn.Linear(8, 1)
        self.seen: list[float] = []
        self.losses: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.rnn(x)[0])

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        loss = nn.functional.mse_loss(self(batch[0])[:, -1], batch[1])
        self.losses.append(loss.item())
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        squares = [p.grad.square().sum() for p in self.parameters() if p.grad is not None]
        self.seen.append(torch.stack(squares).sum().sqrt().item())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


class Inner(Memory):
    """Calls a submodule instead of itself."""

    forward = pl.LightningModule.forward

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        return self.rnn(batch[0])[0].square().mean()


def data() -> torch.utils.data.DataLoader[tuple[Tensor, ...]]:
    x = torch.randn(6 * B, T, 1, generator=torch.Generator().manual_seed(1))
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, x[:, 0]), batch_size=B)


def fit(module: pl.LightningModule, folder: Path, *callbacks: Any, **choices: Any) -> Any:
    choices = {"max_epochs": 1, "gradient_clip_val": CLIP, "logger": False} | choices
    trainer = pl.Trainer(
        accelerator="cpu",
        callbacks=list(callbacks),
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **choices,
    )
    trainer.fit(module, data())
    return trainer


def test_it_sees_what_lightning_sees(tmp_path: Path) -> None:
    module, callback = Memory(), LightningWatch(every=3, max_overhead=None)
    fit(module, tmp_path, callback)
    record = callback.record
    assert record.num_steps == 6
    assert list(record.records) == [3, 6]
    assert [sample["gradient_norm"] for sample in record.samples] == pytest.approx(module.seen, rel=1e-5)
    assert [sample["clipped_norm"] for sample in record.samples] == pytest.approx([CLIP] * 6, rel=1e-3)
    assert [sample["loss"] for sample in record.samples] == pytest.approx(module.losses)
    assert record.records[6].profile.module.startswith("rnn")
    assert not record.notes


def test_losses_and_gradients_of_accumulated_batches(tmp_path: Path) -> None:
    module, callback = Memory(), LightningWatch(max_overhead=None)
    fit(module, tmp_path, callback, accumulate_grad_batches=2)
    record = callback.record
    assert record.num_steps == 3
    means = [(first + second) / 2 for first, second in zip(module.losses[::2], module.losses[1::2], strict=True)]
    assert [sample["loss"] for sample in record.samples] == pytest.approx(means)
    assert [sample["gradient_norm"] for sample in record.samples] == pytest.approx(module.seen, rel=1e-5)
    assert record.backward_passes_per_step == 2


def test_training_gives_the_same_bits(tmp_path: Path) -> None:
    weights = []
    for callbacks in ((), (LightningWatch(every=2, max_overhead=None),)):
        torch.manual_seed(3)
        module = Memory()
        fit(module, tmp_path, *callbacks)
        weights.append(module.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_numbers_go_to_loggers_and_writers(tmp_path: Path) -> None:
    logger = pl.loggers.CSVLogger(tmp_path)
    callback = LightningWatch(every=3, max_overhead=None, log_every=2, writers=[JsonLines(tmp_path / "watch.jsonl")])
    fit(Memory(), tmp_path, callback, logger=logger)
    lines = Path(logger.log_dir, "metrics.csv").read_text().splitlines()
    assert "throughtime/gradient_norm" in lines[0]
    assert "throughtime/reach_steps" in lines[0]
    assert len((tmp_path / "watch.jsonl").read_text().splitlines()) == 6 + 2


def test_tensorboard_gets_the_heat_map(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed: extra 'tensorboard'")
    from integrations.event_files import written

    logger = pl.loggers.TensorBoardLogger(tmp_path)
    fit(Memory(), tmp_path, LightningWatch(every=3, max_overhead=None), logger=logger)
    found = written(Path(logger.log_dir))
    assert [step for step, _ in found["throughtime/gradient_through_time"]] == [3, 6]
    assert len(found["throughtime/gradient_norm"]) == 6


def test_a_scale_is_taken_out_of_losses_and_gradients(tmp_path: Path) -> None:
    class Scaled(Memory):
        """Its loss and gradient are computed in float32, and scaled all the same."""

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            with torch.autocast("cpu", enabled=False):
                return super().training_step(batch, index)

    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    precision = pl.plugins.MixedPrecision("16-mixed", "cpu", scaler=scaler)
    module, callback = Scaled(), LightningWatch(max_overhead=None)
    fit(module, tmp_path, callback, plugins=[precision])
    record = callback.record
    assert [sample["loss"] for sample in record.samples] == pytest.approx(module.losses)
    assert [sample["gradient_norm"] for sample in record.samples] == pytest.approx(module.seen, rel=1e-5)


def test_a_submodule_is_watched_by_name(tmp_path: Path) -> None:
    callback = LightningWatch("rnn", every=3, max_overhead=None)
    fit(Inner(), tmp_path, callback)
    assert list(callback.record.records) == [3, 6]


def test_a_module_that_is_never_called_is_told(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"never called readout itself.*LightningWatch\('NAME'\)"):
        fit(Inner(), tmp_path, LightningWatch("readout"))


def test_what_to_watch_has_to_be_clear(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"2 children with parameters \(rnn, readout\)"):
        fit(Inner(), tmp_path, LightningWatch())
    with pytest.raises(InputError, match="no submodule 'rmn': did you mean 'rnn'"):
        fit(Inner(), tmp_path, LightningWatch("rmn"))
    with pytest.raises(InputError, match="call fit first"):
        _ = LightningWatch().record


def test_choices_are_checked_at_once() -> None:
    with pytest.raises(RecipeError, match="no choice 'evry': did you mean 'every'"):
        LightningWatch(evry=3)  # type: ignore[call-arg]


def test_a_loop_of_fabric_is_watched_as_any_other(tmp_path: Path) -> None:
    """Fabric has no callbacks before an update: its loop is its user's own, and `watch` goes around that."""
    fabric_of = pytest.importorskip("lightning_fabric", reason="lightning-fabric is not installed")
    fabric = fabric_of.Fabric(accelerator="cpu", devices=1, callbacks=[])
    fabric.launch()
    inner = nn.GRU(1, 8)
    model, optimizer = fabric.setup(inner, torch.optim.SGD(inner.parameters(), lr=0.1))
    norms = []
    with throughtime.watch(inner, optimizer, every=2, sample_every=1, max_overhead=None) as watch:
        for _ in range(4):
            optimizer.zero_grad()
            loss = model(torch.randn(T, B, 1))[0].square().mean()
            watch.loss(loss)
            fabric.backward(loss)
            norms.append(torch.stack([p.grad.square().sum() for p in inner.parameters()]).sum().sqrt().item())
            fabric.clip_gradients(model, optimizer, max_norm=CLIP)
            optimizer.step()
    assert [sample["gradient_norm"] for sample in watch.record.samples] == pytest.approx(norms, rel=1e-5)
    assert [sample["clipped_norm"] for sample in watch.record.samples] == pytest.approx([CLIP] * 4, rel=1e-3)
    assert list(watch.records) == [2, 4]


def test_a_training_that_fails_leaves_no_hook(tmp_path: Path) -> None:
    class Failing(Memory):
        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            if index == 3:
                raise ValueError("on purpose")
            return super().training_step(batch, index)

    module, callback = Failing(), LightningWatch(max_overhead=None)
    with pytest.raises(ValueError, match="on purpose"):
        fit(module, tmp_path, callback)
    assert callback.record.num_steps == 3
    assert not module._forward_pre_hooks
