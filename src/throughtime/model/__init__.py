"""Word predictors: a fixed window, a recurrent net, and a two-sided one for blanks."""

from throughtime.model.base import BLANK, NEXT, Head, Sizes, State, WordPredictor
from throughtime.model.cloze import ClozePredictor
from throughtime.model.output import OutputLayer, Scores
from throughtime.model.recurrent import RecurrentPredictor
from throughtime.model.window import WindowPredictor

__all__ = [
    "BLANK",
    "NEXT",
    "ClozePredictor",
    "Head",
    "OutputLayer",
    "RecurrentPredictor",
    "Scores",
    "Sizes",
    "State",
    "WindowPredictor",
    "WordPredictor",
]
