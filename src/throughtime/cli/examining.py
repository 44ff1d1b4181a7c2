"""The commands that measure, diagnose and treat a network; as in `commands`, what is heavy is imported late."""

from __future__ import annotations

import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from throughtime.cli.options import Json, MachineOptions, machine, named
from throughtime.errors import InputError

__all__ = ["diagnose", "horizons", "measure", "treat"]


def measure(
    run: Path,
    *,
    steps: int | None = None,
    sequences: int = 8,
    json: Json = False,
    compute: MachineOptions | None = None,
) -> None:
    """How far the gradient reaches through time in a run's network, on its validation text.

    Args:
        run: The folder of a run with a recurrent model.
        steps: Words in a stretch of text; 200, or as many as there are, unless given.
        sequences: How many stretches.
        json: Print JSON.
        compute: The machine.
    """
    from throughtime.cli import show
    from throughtime.workflow import measure_run

    found = measure_run(run, steps=steps, sequences=sequences, **machine(compute, "seed", "device", "threads"))
    show.as_json(found.to_json()) if json else show.record(found)


def horizons(
    run: Path,
    *,
    steps: int | None = None,
    sequences: int = 64,
    json: Json = False,
    compute: MachineOptions | None = None,
) -> None:
    """What the text needs, how far the gradient reaches and how much the network uses, in steps.

    Args:
        run: The folder of a run with a recurrent model.
        steps: Words in a stretch of text; 200, or as many as there are, unless given.
        sequences: How many stretches.
        json: Print JSON.
        compute: The machine.
    """
    from throughtime.cli import show
    from throughtime.workflow import horizons_of_run

    found = horizons_of_run(run, steps=steps, sequences=sequences, **machine(compute, "seed", "device", "threads"))
    show.as_json(found.to_json()) if json else show.record(found)


def diagnose(
    what: str,
    *arguments: Annotated[str, Parameter(allow_leading_hyphen=True)],
    ignore: Annotated[list[str] | None, Parameter(negative=())] = None,
    json: Json = False,
    compute: MachineOptions | None = None,
) -> int:
    """What is wrong with a network that does not learn, and what to do first.

    The exit code is 0 if it is healthy, 1 if not, 2 if that is unknown.

    Args:
        what: The folder of a run, package.module:factory, or a training script (.py), which is run and watched.
        arguments: Of the script: all that stands behind it but --json and --ignore CODE, and all behind --.
        ignore: A code that is not wanted; may be given several times.
        json: Print JSON; what a script prints goes to standard error then.
        compute: The machine.
    """
    from throughtime.cli import show
    from throughtime.workflow import Examined, diagnose_script, examine_factory, examine_run, is_factory

    chosen: dict[str, Any] = {"ignore": ignore or ()}
    of_yours = what.endswith(".py") or is_factory(what)
    # A model of the user's own is where the user's code puts it.
    chosen |= machine(compute, "seed", "threads", *(() if of_yours else ("device",)))
    if what.endswith(".py"):
        with redirect_stdout(sys.stderr) if json else nullcontext():  # so that nothing but JSON is in the output
            of_script = diagnose_script(Path(what), named(arguments), **chosen)
        code = of_script.exit_code
        if of_script.diagnosis is None or of_script.prescription is None:
            return code
        found = Examined(of_script.diagnosis, of_script.prescription)
    elif arguments:
        raise InputError(f"only a script (.py) takes arguments, and {what} is none: leave out {' '.join(arguments)}")
    else:
        found = examine_factory(what, **chosen) if of_yours else examine_run(what, **chosen)
        code = 0 if found.diagnosis.healthy else 1
    if json:
        show.as_json(found.to_json())
    else:
        show.record(found.diagnosis)
        show.prescription(found.prescription)
    return code


def treat(
    what: str,
    *,
    seeds: int = 5,
    budget_seconds: float | None = None,
    steps: int | None = None,
    remedy: Annotated[list[str] | None, Parameter(negative=())] = None,
    jobs: int | None = None,
    out: Path | None = None,
    json: Json = False,
    compute: MachineOptions | None = None,
) -> int:
    """Try what may treat a network that does not learn, and prove on fresh seeds what cures it.

    The exit code is 0 if something does, or if there is nothing to treat, 1 if nothing is proven. The same command goes
    on where one that was interrupted was.

    Args:
        what: The folder of a run, or package.module:factory that returns a patient, or is one.
        seeds: Seeds that treatments are selected with; five at least.
        budget_seconds: Time for all of it, by the measured time of a step.
        steps: Updates of each training of a run; as many as it had if not given.
        remedy: A remedy to be tried in place of those prescribed; may be given several times.
        jobs: Processes, each of one thread, so that --threads says the same; one a core unless given.
        out: The folder of the trial; RUN/treatment, or runs/treat-MODULE-FACTORY, if not given.
        json: Print JSON.
        compute: The machine; --seed is the first of the seeds.
    """
    from throughtime.cli import show
    from throughtime.workflow import is_factory, treat_factory, treat_run

    here = machine(compute, "seed", "threads")
    if jobs is not None and "threads" in here:
        raise InputError("--jobs and --threads both say how many processes of one thread there are: leave one out")
    first = here.get("seed", 0)
    chosen: dict[str, Any] = {
        "seeds": range(first, first + seeds),
        "budget_seconds": budget_seconds,
        "remedies": remedy,
        "jobs": here.get("threads", 0) if jobs is None else jobs,
    }
    folder = out or (Path("runs") / f"treat-{what.replace(':', '-')}" if is_factory(what) else Path(what) / "treatment")

    def tell(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    try:
        if is_factory(what):
            if steps is not None:
                raise InputError("steps are those of a run: a patient of your own has its own")
            found = treat_factory(what, out=folder, progress=tell, **chosen)
        else:
            found = treat_run(what, steps=steps, out=folder, progress=tell, **chosen)
    except KeyboardInterrupt:
        tell(f"what is done is in {folder}; the same command goes on from there")
        raise
    if json:
        show.as_json(found.to_json())
    else:
        show.treatment(found, folder)
    return 0 if found.proven or found.nothing_to_treat else 1
