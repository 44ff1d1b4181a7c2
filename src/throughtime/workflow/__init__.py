"""What joins the layers: train a run, ask it, evaluate it, compare several, treat one, look at the machine."""

from throughtime.workflow.bench_run import Bench, Row, bench
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
from throughtime.workflow.explanation import Explanation, explain
from throughtime.workflow.exporting import Export, export
from throughtime.workflow.horizons import horizons_of_run, measure_run
from throughtime.workflow.prediction import Prediction, predict_sentence
from throughtime.workflow.predictor import Predictor, SentenceScore, load
from throughtime.workflow.reports import report
from throughtime.workflow.run import Run, train
from throughtime.workflow.script import diagnose_script
from throughtime.workflow.text_report import measure_text
from throughtime.workflow.treatment import treat_factory, treat_run
from throughtime.workflow.why_measured import why
from throughtime.workflow.why_page import as_markdown, write_why
from throughtime.workflow.why_record import Answer, Chart, Curve, WhyRecord
from throughtime.workflow.why_words import question_of, sentence_of, shown

__all__ = [
    "Answer",
    "Bench",
    "Chart",
    "Comparison",
    "Curve",
    "Examined",
    "Explanation",
    "Export",
    "Prediction",
    "Predictor",
    "Row",
    "Run",
    "SentenceScore",
    "TextEvaluation",
    "WhyRecord",
    "as_markdown",
    "bench",
    "compare",
    "diagnose_factory",
    "diagnose_run",
    "diagnose_script",
    "doctor",
    "evaluate",
    "explain",
    "examine_factory",
    "examine_run",
    "examined_after_training",
    "export",
    "horizons_of_run",
    "is_factory",
    "load",
    "measure_run",
    "measure_text",
    "predict_sentence",
    "report",
    "question_of",
    "sentence_of",
    "shown",
    "train",
    "why",
    "write_why",
    "treat_factory",
    "treat_run",
]
