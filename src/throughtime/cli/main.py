"""The command `throughtime`: parse, call the workflow, show what came back; errors in one line."""

from __future__ import annotations

import io
import itertools
import os
import sys
import traceback
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from throughtime.cli import commands, examining, questions
from throughtime.cli.options import STANDARD_INPUT
from throughtime.errors import ThroughtimeError
from throughtime.version import __version__

__all__ = ["app", "main"]

app = App(
    name="throughtime",
    help="Recurrent neural networks that remember: train word predictors on your text, and ask them.",
    version=__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # said in one line, by `run`
)
for command in (
    commands.train,
    commands.predict,
    commands.evaluate,
    commands.compare,
    commands.score,
    examining.measure,
    examining.horizons,
    examining.diagnose,
    commands.report,
    commands.export,
    examining.treat,
    commands.doctor,
    questions.why,
    questions.bench,
):
    app.command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code.

    0 done, 1 a diagnosis that is not healthy or a treatment that is not proven, 2 it could not be done, 3 non-finite,
    130/143 interrupted.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A word that the terminal cannot show (and one that came in as bytes of no encoding) is told by its number.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        exit_code = run(sys.argv[1:] if arguments is None else list(arguments))
    except Exception:  # a defect of ours, for which Python's own 1 would say that something was found
        traceback.print_exc()
        exit_code = 2
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from throughtime.training.processes import leave

        leave(exit_code)
    sys.exit(exit_code)


def run(arguments: list[str]) -> int:
    """The exit code of the command line with these arguments."""
    try:
        code = app(_words(arguments), exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except CycloptsError as error:
        return _fail(" ".join(str(error).split()), 2)
    except ThroughtimeError as error:
        return _fail(" ".join(str(error).split()), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:
        _discard_output()
        return 0
    except (MemoryError, RuntimeError) as error:
        from throughtime.measurement.model_check import out_of_memory

        if not out_of_memory(error):
            raise
        smaller = "--hidden-size, --num-streams, --window or --max-words"
        return _fail(f"out of memory: choose a smaller network, batch or vocabulary ({smaller})", 2)
    except OSError as error:
        _discard_output()
        return _fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 2)
    return code if isinstance(code, int) else 0


def _words(arguments: list[str]) -> list[str]:
    """As cyclopts is to have them: what stands behind a script is its own, options too, but for two."""
    words = [STANDARD_INPUT if word == "-" else word for word in arguments]
    if words[:1] != ["diagnose"]:
        return words
    behind = next((at for at, word in enumerate(words, start=1) if word.endswith(".py")), len(words))
    if not words[behind:] or "--" in words[: behind + 1]:
        return words
    ours, its = _ours(words[behind:], json_given="--json" in words[:behind])
    return [*words[:1], *ours, *words[1:behind], "--", *its]


def _ours(behind: list[str], *, json_given: bool) -> tuple[list[str], list[str]]:
    """`--json` and `--ignore CODE`, which are hardly a script's, and its own arguments.

    A `--json` that was given before, and all behind `--`, are the script's.
    """
    ours: list[str] = []
    its: list[str] = []
    words = iter(behind)
    for word in words:
        if word == "--":
            return ours, [*its, *words]
        if (word == "--json" and not json_given) or word.startswith("--ignore="):
            ours.append(word)
            json_given = json_given or word == "--json"
        elif word == "--ignore":
            ours += [word, *itertools.islice(words, 1)]
        else:
            its.append(word)
    return ours, its


def _discard_output() -> None:
    """What is left to write has nowhere to go, and must not fail again when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"throughtime: {message}\n")
    return code
