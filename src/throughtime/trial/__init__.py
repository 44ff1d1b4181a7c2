"""Trials: treatments beside the patient as it is, at equal compute and on the same seeds, proven on fresh ones."""

from throughtime.trial.conduct import Trial
from throughtime.trial.course import Course, CourseResult, run_course
from throughtime.trial.halving import Arm, Standing
from throughtime.trial.looks import Look
from throughtime.trial.patient import Patient
from throughtime.trial.procedure import CODE_FILE, LEDGER_FILE, TREATMENT_FILE, WEIGHTS_FILE, treat
from throughtime.trial.proof import Proof
from throughtime.trial.search import random_arms, random_plan
from throughtime.trial.treatment import ArmRecord, ProofRecord, Treatment

__all__ = [
    "CODE_FILE",
    "LEDGER_FILE",
    "TREATMENT_FILE",
    "WEIGHTS_FILE",
    "Arm",
    "ArmRecord",
    "Course",
    "CourseResult",
    "Look",
    "Patient",
    "Proof",
    "ProofRecord",
    "Standing",
    "Treatment",
    "Trial",
    "random_arms",
    "random_plan",
    "run_course",
    "treat",
]
