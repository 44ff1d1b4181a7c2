"""What joins the layers: train a run, ask it, evaluate it, compare several, look at the machine."""

from throughtime.workflow.comparison import Comparison, compare
from throughtime.workflow.environment import doctor
from throughtime.workflow.evaluation import TextEvaluation, evaluate
from throughtime.workflow.horizons import horizons_of_run, measure_run
from throughtime.workflow.prediction import Prediction, predict_sentence
from throughtime.workflow.predictor import Predictor, SentenceScore, load
from throughtime.workflow.run import Run, train

__all__ = [
    "Comparison",
    "Prediction",
    "Predictor",
    "Run",
    "SentenceScore",
    "TextEvaluation",
    "compare",
    "doctor",
    "evaluate",
    "horizons_of_run",
    "load",
    "measure_run",
    "predict_sentence",
    "train",
]
