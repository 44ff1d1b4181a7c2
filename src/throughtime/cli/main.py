"""The command `throughtime`: parse, call the workflow, show what came back; errors in one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from throughtime.cli import commands
from throughtime.errors import ThroughtimeError
from throughtime.version import __version__

__all__ = ["app", "main"]

app = App(
    name="throughtime",
    help="Recurrent neural networks that remember: train word predictors on your text, and ask them.",
    version=__version__,
    result_action="return_value",
)
for command in (
    commands.train,
    commands.predict,
    commands.evaluate,
    commands.compare,
    commands.score,
    commands.doctor,
):
    app.command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code: 0 done, 2 the user's mistake, 3 non-finite, 130/143 interrupted."""
    sys.exit(run(sys.argv[1:] if arguments is None else list(arguments)))


def run(arguments: list[str]) -> int:
    """The exit code of the command line with these arguments."""
    try:
        app(arguments, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        return _fail(" ".join(str(error).split()), 2)
    except ThroughtimeError as error:
        return _fail(" ".join(str(error).split()), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"throughtime: {message}\n")
    return code
