"""What joins the layers: train a run, ask it, evaluate it, compare several, look at the machine."""

from throughtime.workflow.comparison import Comparison, compare
from throughtime.workflow.diagnosis import (
    Examined,
    diagnose_factory,
    diagnose_run,
    examine_factory,
    examine_run,
    examined_after_training,
    is_factory,
)
from throughtime.workflow.environment import doctor
from throughtime.workflow.evaluation import TextEvaluation, evaluate
from throughtime.workflow.exporting import Export, export
from throughtime.workflow.horizons import horizons_of_run, measure_run
from throughtime.workflow.prediction import Prediction, predict_sentence
from throughtime.workflow.predictor import Predictor, SentenceScore, load
from throughtime.workflow.reports import report
from throughtime.workflow.run import Run, train
from throughtime.workflow.script import diagnose_script

__all__ = [
    "Comparison",
    "Examined",
    "Export",
    "Prediction",
    "Predictor",
    "Run",
    "SentenceScore",
    "TextEvaluation",
    "compare",
    "diagnose_factory",
    "diagnose_run",
    "diagnose_script",
    "doctor",
    "evaluate",
    "examine_factory",
    "examine_run",
    "examined_after_training",
    "export",
    "horizons_of_run",
    "is_factory",
    "load",
    "measure_run",
    "predict_sentence",
    "report",
    "train",
]
