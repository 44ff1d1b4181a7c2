"""The errors that a user can meet: each says what was expected, what came and what to do, in one line."""

__all__ = ["InputError", "Interrupted", "NonFiniteError", "RecipeError", "RunError", "ThroughtimeError"]


class ThroughtimeError(Exception):
    """Base of every error that throughtime raises on purpose.

    Attributes:
        exit_code: what the command line exits with.
    """

    exit_code: int = 2


class InputError(ThroughtimeError, ValueError):
    """The user's text, sentence or tensor is not what it has to be."""


class RecipeError(ThroughtimeError, ValueError):
    """A choice in a recipe (an option of the command line) is unknown or does not fit the others."""


class RunError(ThroughtimeError):
    """A run folder cannot be used: absent, locked, damaged, not writable, or of another recipe."""


class NonFiniteError(ThroughtimeError, ArithmeticError):
    """Training met NaN or infinity; the last good checkpoint stands."""

    exit_code = 3


class Interrupted(ThroughtimeError):
    """Training was asked to stop by a signal, and saved before it did.

    Attributes:
        signal_number: the signal that asked.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number
