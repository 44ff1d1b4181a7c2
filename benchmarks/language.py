"""Perplexity and top-k on a folder of train/valid/test text: recurrent and cloze nets, the 5-gram, and a plain loop.

    python benchmarks/language.py FOLDER --out runs/language                 # everything; 30 minutes for each net
    python benchmarks/language.py FOLDER --out runs/language --part report   # the table again, from what is there

The minutes of a net are turned into steps before its first one, on a machine that should be otherwise idle then. All
figures are of the test part, tokenised as it comes; `context` says what each model reads of earlier sentences.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import throughtime
from throughtime.cli.progress import shown
from throughtime.model import BLANK, NEXT
from throughtime.ngram import UnigramCache, mixture_weights
from throughtime.storage import write_json
from throughtime.text import Corpus, TextChoices, open_corpus, prepare
from throughtime.text.batches import whole_text
from throughtime.training import Evaluation, scored_parts
from throughtime.training.evaluation import NUM_STREAMS, WINDOW
from throughtime.workflow.evaluation import WORDS_TO_FIT, TextEvaluation
from throughtime.workflow.positions import Hits, choose_positions, ngram_ranks, sentence_around
from throughtime.workflow.predictor import Predictor

PARTS = ("recurrent", "cloze", "plain", "report")
NUM_POSITIONS = 5000
HISTORY = 4000
"""Words of which a cache is told; an older one counts for less than a millionth."""
SHARED: dict[str, Any] = {"tokenised": True, "min_count": 1}
SETTINGS: dict[str, dict[str, Any]] = {
    "recurrent": {"model": "recurrent", "hidden_size": 1024, "dropout": 0.4, "sample_size": 2048},
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


@dataclass(frozen=True)
class Scored:
    """A net on a text, from one pass over it.

    Attributes:
        log_probability: (N,) natural log of what the net's head gave each word.
        rank: (N,) how many words it thought likelier.
        evaluation: both as means, summed as `throughtime.evaluate` sums them.
    """

    log_probability: np.ndarray
    rank: np.ndarray
    evaluation: Evaluation


def scored(predictor: Predictor, ids: np.ndarray) -> Scored:
    """Score every word once with the first head."""
    head = predictor.model.heads[0]
    log_probability, rank, nats = np.empty(len(ids)), np.empty(len(ids), dtype=np.int64), 0.0
    for part in scored_parts(predictor.model, ids, padding=predictor.vocabulary.end_ids[0]):
        log_probability[part.positions] = part.log_probability[head]
        rank[part.positions] = part.rank[head]
        nats -= float(part.log_probability[head].sum())
    evaluation = Evaluation(
        head=head,
        loss_nats=nats / len(ids),
        top1=float((rank < 1).mean()),
        top5=float((rank < 5).mean()),
        num_words=len(ids),
        context_carried=bool(predictor.model.initial_state(1)),
    )
    return Scored(log_probability, rank, evaluation)


def mixed(predictor: Predictor, corpus: Corpus, test: dict[str, np.ndarray], positions: np.ndarray) -> dict[str, Any]:
    """What `throughtime.evaluate(run, ngram=True, cache=True)` says of the mixture, from scores that are there.

    Args:
        predictor: the recurrent net.
        corpus: of which the validation part fits the weights.
        test: (N,) the log probability of each word of the test part, under the net and under the 5-gram.
        positions: at which the words that the mixture thinks likelier are counted.
    """
    fitted_on = corpus.valid[:WORDS_TO_FIT]
    cache = UnigramCache(len(predictor.vocabulary))
    held_out = {
        "network": np.exp(scored(predictor, fitted_on).log_probability),
        "ngram": np.exp(predictor.ngram.log_probabilities(fitted_on)),
        "cache": cache.target_probabilities(fitted_on),
    }
    weights = mixture_weights(list(held_out.values()))
    parts = [np.exp(test["network"]), np.exp(test["ngram"]), cache.target_probabilities(corpus.test)]
    probabilities = sum(weight * part for weight, part in zip(weights, parts, strict=True))
    named = dict(zip(held_out, map(float, weights), strict=True))
    return {
        "weights": named,
        "perplexity": math.exp(-float(np.log(probabilities).mean())),
        NEXT: vars(Hits.of(mixed_ranks(predictor, corpus, positions, named))),
    }


@torch.no_grad()
def mixed_ranks(predictor: Predictor, corpus: Corpus, positions: np.ndarray, weights: dict[str, float]) -> np.ndarray:
    """How many words the mixture thinks likelier than the right one, at each position, in no particular order."""
    model, vocabulary, ids = predictor.model.eval(), predictor.vocabulary, corpus.test
    cache = UnigramCache(len(vocabulary))
    wanted = np.zeros(len(ids), dtype=bool)
    wanted[positions] = True
    around = {"padding": vocabulary.end_ids[0], "before": model.before, "after": 2 * model.after}
    ranks, state = [], ()
    for stretch in whole_text(ids, num_streams=NUM_STREAMS, window=WINDOW, **around):
        rows = torch.from_numpy(np.ascontiguousarray(stretch.ids))
        state = model.initial_state(rows.shape[1]) if stretch.starts else state
        features, state = model.features(rows, stretch.first, stretch.last, state)
        places = stretch.positions.ravel()
        chosen = (places >= 0) & wanted[places]
        own = model.output.log_probabilities(features[NEXT].flatten(0, 1)[torch.from_numpy(chosen)]).exp().double()
        for place, network in zip(places[chosen].tolist(), own.numpy(), strict=True):
            sentence, at = sentence_around(ids, place, vocabulary)
            scores = weights["network"] * network
            scores += weights["ngram"] * predictor.ngram.distribution(sentence[:at], sentence_start=True)
            scores += weights["cache"] * cache.distribution(ids[max(0, place - HISTORY) : place])
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
        test = scored(predictor, ids)
        head = test.evaluation.head
        alone = TextEvaluation({head: test.evaluation}, corpus.unknown_rate["test"], num_words, 0)
        found[name] = {"alone": alone.to_json(), head: vars(Hits.of(test.rank[positions]))}
        if head == NEXT:
            ngram = predictor.ngram.log_probabilities(ids)
            of_words = {"network": test.log_probability, "ngram": ngram}
            found[name]["mixed"] = mixed(predictor, corpus, of_words, positions)
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
        line("  with cache and n-gram", net["mixed"]["perplexity"], net["mixed"][NEXT], "carried across sentences")
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
