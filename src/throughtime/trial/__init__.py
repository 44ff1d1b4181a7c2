"""Trials: treatments beside the patient as it is, at equal compute and on the same seeds, proven on fresh ones."""

from throughtime.trial.conduct import Confirmation, Trial
from throughtime.trial.course import Course, CourseResult, run_course
from throughtime.trial.halving import Arm, Standing
from throughtime.trial.looks import Look
from throughtime.trial.patient import Patient
from throughtime.trial.procedure import CODE_FILE, LEDGER_FILE, TREATMENT_FILE, WEIGHTS_FILE, treat
from throughtime.trial.search import random_arms, random_plan
from throughtime.trial.treatment import ArmRecord, Treatment

__all__ = [
    "CODE_FILE",
    "LEDGER_FILE",
    "TREATMENT_FILE",
    "WEIGHTS_FILE",
    "Arm",
    "ArmRecord",
    "Confirmation",
    "Course",
    "CourseResult",
    "Look",
    "Patient",
    "Standing",
    "Treatment",
    "Trial",
    "random_arms",
    "random_plan",
    "run_course",
    "treat",
]
