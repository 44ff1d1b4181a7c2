"""What joins the layers: train a run, ask it, evaluate it, compare several, look at the machine."""

from throughtime.workflow.comparison import Comparison, compare
from throughtime.workflow.diagnosis import diagnose_factory, diagnose_run, diagnosis_of_trained, is_factory
from throughtime.workflow.environment import doctor
from throughtime.workflow.evaluation import TextEvaluation, evaluate
from throughtime.workflow.horizons import horizons_of_run, measure_run
from throughtime.workflow.prediction import Prediction, predict_sentence
from throughtime.workflow.predictor import Predictor, SentenceScore, load
from throughtime.workflow.reports import report
from throughtime.workflow.run import Run, train
from throughtime.workflow.script import diagnose_script
from throughtime.workflow.text_report import measure_text
from throughtime.workflow.why import Why, explain

__all__ = [
    "Comparison",
    "Prediction",
    "Predictor",
    "Run",
    "SentenceScore",
    "TextEvaluation",
    "Why",
    "compare",
    "diagnose_factory",
    "diagnose_run",
    "diagnose_script",
    "diagnosis_of_trained",
    "doctor",
    "evaluate",
    "explain",
    "horizons_of_run",
    "is_factory",
    "load",
    "measure_run",
    "measure_text",
    "predict_sentence",
    "report",
    "train",
]
