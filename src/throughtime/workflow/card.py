"""The model card of an exported network: what it is, what it was trained on, how good it is, and what it cannot do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from throughtime.recipe import Recipe
from throughtime.storage import RunFolder, read_json
from throughtime.version import __version__

if TYPE_CHECKING:
    from throughtime.workflow.predictor import Predictor

__all__ = ["model_card"]

_NUM_LISTED = 20
"""Words of the vocabulary that the card itself names."""
HEADS = {"next": "next word", "blank": "blank"}


def model_card(run: RunFolder, predictor: Predictor) -> str:
    """The card of a run's best network, Markdown with the YAML head that model hubs read."""
    recipe = Recipe.read(run.recipe_path)
    outcome = read_json(run.outcome_path) if run.outcome_path.exists() else {}
    origin = read_json(run.path / "origin.json")
    num_parameters = sum(parameter.numel() for parameter in predictor.model.parameters())
    kind = recipe.model if recipe.model == "window" else f"{recipe.model}, {recipe.plan.cell}"
    # Names alone: where a text lies on its owner's disk is nobody's business.
    texts = ", ".join(Path(path).name for path in recipe.text.paths) or "the built-in corpus"
    words = len(predictor.vocabulary)
    question = 'fill("the old man ___ his pipe")' if recipe.model == "cloze" else 'next("the old man sat down and")'
    return f"""---
library_name: throughtime
pipeline_tag: {"fill-mask" if recipe.model == "cloze" else "text-generation"}
tags: [recurrent-neural-network, word-prediction]
---

# A word predictor ({kind})

{num_parameters:,} parameters, {words:,} words, trained by throughtime {origin.get("throughtime", __version__)}.

## Use

```python
import throughtime

predictor = throughtime.load("this/folder")
predictor.{question}
```

`throughtime predict this/folder "..."` does the same. Weights: `model.safetensors`; all choices: `recipe.toml`.

{_vocabulary(predictor)}

## Training

- Text: {texts} (SHA-256 {origin["corpus_hash"]}).
- {_length(outcome)} on {origin.get("machine", "a machine that is not known")}, torch {origin.get("torch", "unknown")}.
- Seed {recipe.seed}.

## How good it is

{_table(outcome)}

## What it cannot do

It knows the words of its vocabulary and the text it was trained on, and repeats what stands there, right or wrong. It
predicts words within a sentence; it does not answer questions or follow instructions.
"""


def _vocabulary(predictor: Predictor) -> str:
    """What its numbers mean, and the words that it knows best."""
    vocabulary = predictor.vocabulary
    ends = "`1` the end of a sentence" + (", `2` that of a paragraph" if len(vocabulary.end_ids) > 1 else "")
    case = "all in lower case" if predictor.lower else "upper and lower case apart"
    tokens = "what spaces separate" if predictor.tokenised else "words, and punctuation by itself"
    first = len(vocabulary.end_ids) + 1
    listed = json.dumps(vocabulary.words[first : first + _NUM_LISTED], ensure_ascii=False)
    return f"""## Vocabulary

The word of each of the {len(vocabulary):,} ids is in `vocabulary.json`: `0` stands for every word that is not there,
{ends}; then come the words from the most to the least frequent of the training text, {case}. A word is one of
{tokens}. The most frequent are:

```json
{listed}
```"""


def _length(outcome: dict[str, Any]) -> str:
    if not outcome:
        return "Training had not ended; these are the best weights so far"
    return f"{outcome['seconds'] / 60:.1f} minutes, best weights at step {outcome['best_step']}"


def _table(outcome: dict[str, Any]) -> str:
    if not outcome.get("test"):
        return "Training had not ended, so the test text was not read."
    lines = ["| test text | perplexity | top-1 | top-5 |", "| --- | --- | --- | --- |"]
    for head, found in outcome["test"].items():
        lines.append(f"| {HEADS[head]} | {found['perplexity']:.2f} | {found['top1']:.1%} | {found['top5']:.1%} |")
    unknown = outcome["unknown_rate"]["test"]
    return "\n".join([*lines, "", f"{unknown:.1%} of the test text's words are not in the vocabulary."])
