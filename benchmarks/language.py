"""Perplexity and top-k on a folder of train/valid/test text: recurrent and cloze nets, the 5-gram, and a plain loop.

    python benchmarks/language.py FOLDER --out runs/language                 # everything; 30 minutes for each net
    python benchmarks/language.py FOLDER --out runs/language --part report   # the table again, from what is there

The minutes of a net are turned into steps before its first one, on a machine that should be otherwise idle then. All
figures are of the test part, tokenised as it comes; `context` says what each model reads of earlier sentences. The row
"learning on" is dynamic evaluation: the network, without cache or n-gram, learns from the words that it has predicted.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

import throughtime
from throughtime.cli.progress import shown
from throughtime.model import BLANK, NEXT
from throughtime.ngram import ContinuousCache, UnigramCache
from throughtime.storage import write_json
from throughtime.text import Corpus, TextChoices, open_corpus, prepare
from throughtime.training import Evaluation, ScoredPart, contexts, dynamic_rule, score_dynamically, scored_parts
from throughtime.workflow.evaluation import TextEvaluation
from throughtime.workflow.mixture import CACHE, CONTINUOUS, NETWORK, NGRAM, Fitted, fit
from throughtime.workflow.positions import Hits, choose_positions, ngram_ranks, sentence_around
from throughtime.workflow.predictor import Predictor

PARTS = ("recurrent", "cloze", "plain", "report")
NUM_POSITIONS = 5000
HISTORY = 4000
"""Words of which the caches are told: in the one an older one counts for less than a millionth, the other has 2,000."""
SHARED: dict[str, Any] = {"tokenised": True, "min_count": 1}
SETTINGS: dict[str, dict[str, Any]] = {
    "recurrent": {
        "model": "recurrent",
        "hidden_size": 768,
        "embedding_size": 384,
        "dropout": 0.45,
        "learning_rate": 0.002,
        "weight_decay": 0.3,
        "sample_size": 2048,
    },
    "cloze": {"model": "cloze", "hidden_size": 512, "dropout": 0.3, "sample_size": 2048},
}


def trained(folder: Path, out: Path, name: str, minutes: float) -> None:
    """Train a net, or go on with it."""
    path = out / name
    with shown() as observer:
        throughtime.train(
            folder,
            out=path,
            resume=path.exists(),
            observers=[observer],
            corpus=out / "corpus",
            minutes=minutes,
            **SHARED,
            **SETTINGS[name],
        )


def plain(out: Path, minutes: float) -> None:
    """Train the plain loop and keep what came out."""
    import plain_loop

    corpus = open_corpus(out / "corpus")
    found = plain_loop.run(corpus.train, corpus.valid, corpus.test, len(corpus.vocabulary), minutes)
    write_json(out / "plain.json", found)


def scored(predictor: Predictor, ids: np.ndarray) -> ScoredPart:
    """Score every word once with the first head, all in one part."""
    head = predictor.model.heads[0]
    rank, log_probability = np.empty(len(ids), dtype=np.int64), np.empty(len(ids))
    for part in scored_parts(predictor.model, ids, padding=predictor.vocabulary.end_ids[0]):
        rank[part.positions], log_probability[part.positions] = part.rank[head], part.log_probability[head]
    return ScoredPart(np.arange(len(ids)), {head: log_probability}, {head: rank})


def followed(predictor: Predictor, corpus: Corpus, positions: np.ndarray) -> dict[str, Any]:
    """What `throughtime.evaluate` says of the network that goes on learning, and how it guesses at `positions`."""
    padding = predictor.vocabulary.end_ids[0]
    rule = dynamic_rule(predictor.model, corpus.train, corpus.valid, padding=padding)
    part = score_dynamically(predictor.model, corpus.test, rule, padding=padding)
    found = Evaluation.of(part, NEXT, context_carried=bool(predictor.model.initial_state(1)))
    return found.to_json() | {"rate": rule.rate, NEXT: vars(Hits.of(part.rank[NEXT][positions]))}


def mixed(predictor: Predictor, corpus: Corpus, positions: np.ndarray) -> dict[str, Any]:
    """What `throughtime.evaluate` says of all parts mixed, and how it guesses at `positions` of the test part."""
    fitted = fit(predictor, corpus.valid, [NGRAM, CACHE, CONTINUOUS])
    ranks = mixed_ranks(predictor, corpus.test, positions, fitted)
    return fitted.on(corpus.test).to_json() | {NEXT: vars(Hits.of(ranks))}


@torch.no_grad()
def mixed_ranks(predictor: Predictor, ids: np.ndarray, positions: np.ndarray, fitted: Fitted) -> np.ndarray:
    """How many words the mixture thinks likelier than the right one, at each position."""
    vocabulary, weights, output = predictor.vocabulary, fitted.weights, predictor.model.output
    vectors = contexts(predictor.model, ids, padding=vocabulary.end_ids[0])
    cache, continuous = UnigramCache(len(vocabulary)), ContinuousCache(len(vocabulary), fitted.theta or 0.0)
    ranks = []
    for place in positions.tolist():
        sentence, at = sentence_around(ids, place, vocabulary)
        network = output.log_probabilities(torch.from_numpy(vectors[place : place + 1])).exp().double().numpy()[0]
        recent = slice(max(0, place - HISTORY), place)
        scores = weights[NETWORK] * network
        scores += weights[NGRAM] * predictor.ngram.distribution(sentence[:at], sentence_start=True)
        scores += weights[CACHE] * cache.distribution(ids[recent])
        scores += weights[CONTINUOUS] * continuous.distribution(vectors[recent], ids[recent], vectors[place])
        ranks.append(int((scores > scores[ids[place]]).sum()))
    return np.array(ranks)


def report(out: Path) -> dict[str, Any]:
    """Everything that can be said of the nets that are there; each scores the test part once."""
    corpus = open_corpus(out / "corpus")
    ids, vocabulary = corpus.test, corpus.vocabulary
    positions = choose_positions(ids, vocabulary, NUM_POSITIONS, seed=0)
    num_words = len(ids) - int(np.isin(ids, vocabulary.end_ids).sum())
    found: dict[str, Any] = {"unknown_rate": corpus.unknown_rate["test"], "positions": len(positions)}
    for name in ("recurrent", "cloze"):
        path = out / name
        if not (path / "outcome.json").exists():
            continue
        predictor = throughtime.load(path)
        part, head = scored(predictor, ids), predictor.model.heads[0]
        evaluation = Evaluation.of(part, head, context_carried=bool(predictor.model.initial_state(1)))
        alone = TextEvaluation({head: evaluation}, corpus.unknown_rate["test"], num_words, 0)
        found[name] = {"alone": alone.to_json(), head: vars(Hits.of(part.rank[head][positions]))}
        if head == NEXT:
            ngram = predictor.ngram.log_probabilities(ids)
            found[name]["mixed"] = mixed(predictor, corpus, positions)
            found[name]["dynamic"] = followed(predictor, corpus, positions)
            found["5-gram"] = {
                "perplexity": float(np.exp(-ngram.mean())),
                NEXT: vars(Hits.of(ngram_ranks(predictor.ngram, ids, positions, vocabulary, NEXT))),
                BLANK: vars(Hits.of(ngram_ranks(predictor.ngram, ids, positions, vocabulary, BLANK))),
            }
    if (out / "plain.json").exists():
        found["plain loop"] = json.loads((out / "plain.json").read_text(encoding="utf-8"))
    write_json(out / "language.json", found)
    return found


def show(found: dict[str, Any]) -> None:
    """The table."""
    print(
        f"{100 * found['unknown_rate']:.2f} % of the test words are <unk>, scored as a word; "
        f"{found['positions']} positions"
    )
    print(f"{'':24}{'perplexity':>11}{'top-1':>8}{'top-5':>8}  context")
    if gram := found.get("5-gram"):
        line("5-gram, next word", gram["perplexity"], gram[NEXT], "the sentence")
        line("5-gram, blank", None, gram[BLANK], "four words on either side")
    if net := found.get("recurrent"):
        line("recurrent, next word", net["alone"]["heads"][NEXT]["perplexity"], net[NEXT], "carried across sentences")
        line("  with caches and n-gram", net["mixed"]["perplexity"], net["mixed"][NEXT], "carried across sentences")
        line("  learning on", net["dynamic"]["perplexity"], net["dynamic"][NEXT], "carried, and learned from")
    if net := found.get("cloze"):
        line("cloze, blank", None, net[BLANK], "carried across sentences, and to the right")
    if loop := found.get("plain loop"):
        line("plain PyTorch loop", loop["test"], None, "carried across sentences")
        if net := found.get("recurrent"):
            print(f"recurrent / plain loop: {net['alone']['heads'][NEXT]['perplexity'] / loop['test']:.3f}")


def line(name: str, perplexity: float | None, hits: dict[str, Any] | None, context: str) -> None:
    """One row."""
    first = "-" if perplexity is None else f"{perplexity:.2f}"
    shares = ("-", "-") if hits is None else (f"{100 * hits['top1']:.1f} %", f"{100 * hits['top5']:.1f} %")
    print(f"{name:24}{first:>11}{shares[0]:>8}{shares[1]:>8}  {context}")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds train.tok, valid.tok and test.tok, compressed or not")
    parser.add_argument("--out", type=Path, default=Path("runs/language"))
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--part", choices=PARTS, action="append", help="some parts only")
    parser.add_argument("--threads", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    parts = arguments.part or PARTS
    arguments.out.mkdir(parents=True, exist_ok=True)
    if not (arguments.out / "corpus").exists():
        prepare(TextChoices(paths=(str(arguments.folder),), **SHARED), arguments.out / "corpus")
    for name in ("recurrent", "cloze"):
        if name in parts:
            trained(arguments.folder, arguments.out, name, arguments.minutes)
    if "plain" in parts:
        plain(arguments.out, arguments.minutes)
    if "report" in parts:
        show(report(arguments.out))


if __name__ == "__main__":
    main()
