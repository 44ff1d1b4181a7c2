"""What is wrong with a model that does not learn, and why: findings with their evidence in numbers."""

from throughtime.diagnosis.finding import CODES, Diagnosis, Finding
from throughtime.diagnosis.joined import joined
from throughtime.diagnosis.panel import diagnose

__all__ = ["CODES", "Diagnosis", "Finding", "diagnose", "joined"]
