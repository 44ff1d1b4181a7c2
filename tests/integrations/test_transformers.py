"""The Hugging Face callback, in a real Trainer: gradients before clipping, which the Trainer's own hook cannot show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from throughtime.errors import InputError, RecipeError

transformers = pytest.importorskip("transformers", reason="transformers is not installed: extra 'transformers'")
pytest.importorskip("accelerate", reason="accelerate is not installed: extra 'transformers'")
from throughtime.integrations.json_lines import JsonLines  # noqa: E402
from throughtime.integrations.transformers import TrainerWatch  # noqa: E402

CLIP, NUM_SEQUENCES, BATCH, WORDS = 0.01, 24, 4, 11


class WordModel(nn.Module):
    """A GRU that predicts the next word, as a Trainer takes models."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 6)
        self.rnn = nn.GRU(6, 8, batch_first=True)
        self.readout = nn.Linear(8, WORDS)
        self.losses: list[float] = []

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.readout(self.rnn(self.embedding(input_ids))[0])
        if labels is None:
            return {"logits": logits}
        loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return {"loss": loss, "logits": logits}


class Shares(WordModel):
    """Is told the number of items of a whole step, and gives its share of the step's loss."""

    def forward(  # type: ignore[override]
        self, input_ids: Tensor, labels: Tensor, num_items_in_batch: Tensor | None = None, **_: Any
    ) -> dict[str, Tensor]:
        logits = self.readout(self.rnn(self.embedding(input_ids))[0])
        total = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
        num_items = labels.numel() if num_items_in_batch is None else num_items_in_batch
        return {"loss": total / num_items, "logits": logits}


def train(model: nn.Module, folder: Path, *callbacks: Any, **choices: Any) -> Any:
    ids = torch.randint(WORDS, (NUM_SEQUENCES, 10), generator=torch.Generator().manual_seed(2))
    rows = [{"input_ids": row, "labels": row} for row in ids]
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        max_grad_norm=CLIP,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        seed=5,
        **choices,
    )
    trainer = transformers.Trainer(model, arguments, train_dataset=rows, callbacks=list(callbacks))
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return trainer


def logged(trainer: Any, name: str) -> list[float]:
    return [float(entry[name]) for entry in trainer.state.log_history if name in entry]


def test_gradients_are_seen_before_clipping(tmp_path: Path) -> None:
    callback = TrainerWatch(every=3, max_overhead=None)
    trainer = train(WordModel(), tmp_path, callback)
    record = callback.record
    assert record.num_steps == 6
    assert list(record.records) == [3, 6]
    assert [sample["gradient_norm"] for sample in record.samples] == pytest.approx(
        logged(trainer, "grad_norm"), rel=1e-4
    )
    assert [sample["clipped_norm"] for sample in record.samples] == pytest.approx([CLIP] * 6, rel=1e-2)
    assert [sample["loss"] for sample in record.samples] == pytest.approx(logged(trainer, "loss")[:6], abs=1e-4)
    assert record.records[6].profile.module.startswith("rnn")


@pytest.mark.parametrize("kind", [WordModel, Shares])
def test_losses_of_accumulated_batches(kind: type[nn.Module], tmp_path: Path) -> None:
    callback = TrainerWatch(max_overhead=None)
    trainer = train(kind(), tmp_path, callback, gradient_accumulation_steps=2)
    record = callback.record
    assert record.num_steps == 3
    assert [sample["loss"] for sample in record.samples] == pytest.approx(logged(trainer, "loss")[:3], abs=1e-4)
    assert [sample["gradient_norm"] for sample in record.samples] == pytest.approx(
        logged(trainer, "grad_norm"), rel=1e-4
    )


def test_training_gives_the_same_bits(tmp_path: Path) -> None:
    weights = []
    for callbacks in ((), (TrainerWatch(every=2, max_overhead=None),)):
        torch.manual_seed(3)
        model = WordModel()
        train(model, tmp_path, *callbacks)
        weights.append(model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_it_writes_and_leaves_no_hook(tmp_path: Path) -> None:
    model = WordModel()
    callback = TrainerWatch(every=3, max_overhead=None, log_every=2, writers=[JsonLines(tmp_path / "watch.jsonl")])
    train(model, tmp_path, callback)
    assert len((tmp_path / "watch.jsonl").read_text().splitlines()) == 6 + 2
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def test_a_training_that_fails_can_be_stopped_watching(tmp_path: Path) -> None:
    class Failing(WordModel):
        def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
            self.losses.append(0.0)
            if len(self.losses) == 4:
                raise ValueError("on purpose")
            return super().forward(input_ids, labels)

    model, callback = Failing(), TrainerWatch(max_overhead=None)
    with pytest.raises(ValueError, match="on purpose"):
        train(model, tmp_path, callback)
    callback.stop()
    assert callback.record.num_steps == 3
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def test_mistakes_are_told() -> None:
    with pytest.raises(InputError, match="call train first"):
        _ = TrainerWatch().record
    with pytest.raises(RecipeError, match="no choice 'time_dimension': did you mean 'time_dim'"):
        TrainerWatch(time_dimension=1)  # type: ignore[call-arg]
