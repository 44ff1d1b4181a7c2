"""Training: one update, the loop around it, and what keeps a run exact and whole."""

from throughtime.training.compute import Settled, settle
from throughtime.training.dynamic import DynamicRule, dynamic_rule, score_dynamically
from throughtime.training.evaluation import (
    Evaluation,
    ScoredPart,
    ScoredText,
    contexts,
    evaluate,
    scored_parts,
    scored_text,
)
from throughtime.training.events import (
    Evaluated,
    Event,
    GradientSeen,
    Measuring,
    Observer,
    Saved,
    Started,
    Stepped,
    Stopped,
)
from throughtime.training.loop import Outcome, train
from throughtime.training.processes import Processes
from throughtime.training.schedule import Schedule, learning_rate
from throughtime.training.snapshot import load_weights

__all__ = [
    "DynamicRule",
    "Evaluated",
    "Evaluation",
    "Event",
    "GradientSeen",
    "Measuring",
    "Observer",
    "Outcome",
    "Processes",
    "Saved",
    "ScoredPart",
    "ScoredText",
    "Schedule",
    "Settled",
    "Started",
    "Stepped",
    "Stopped",
    "contexts",
    "dynamic_rule",
    "evaluate",
    "learning_rate",
    "load_weights",
    "score_dynamically",
    "scored_parts",
    "scored_text",
    "settle",
    "train",
]
