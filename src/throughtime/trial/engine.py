"""Trainings side by side, in processes of this machine or of a cluster, each written down as soon as it is done."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from threading import current_thread, main_thread
from typing import Any

import joblib

from throughtime.check import at_least
from throughtime.errors import InputError
from throughtime.trial.course import Course, CourseResult, run_course
from throughtime.trial.ledger import Ledger
from throughtime.trial.patient import Patient

__all__ = ["Engine"]

Progress = Callable[[str], None]


class Engine:
    """Runs trainings that the ledger does not have.

    The processes are joblib's: loky's of this machine, unless the caller has entered `joblib.parallel_config` with
    another backend (Dask, Ray). What comes out does not depend on how many there are.

    Args:
        patient: to be trained.
        ledger: of what is done.
        jobs: processes; 1 for none beside this one, 0 for one a core, of the machine or of the backend's cluster.
        progress: is told of each training that is done.
    """

    def __init__(self, patient: Patient, ledger: Ledger, *, jobs: int = 1, progress: Progress | None = None) -> None:
        at_least("jobs", jobs, 0)
        self.patient, self.ledger = patient, ledger
        self.jobs = jobs or joblib.effective_n_jobs(-1)
        self.progress = progress

    def run(self, courses: Sequence[Course]) -> list[CourseResult]:
        """The results of some trainings, in their order.

        Raises:
            InputError: if the patient cannot be sent to another process, or the backend computes in threads.
        """
        missing = {course.key: course for course in courses if course.key not in self.ledger.results}
        if self.jobs == 1 or len(missing) <= 1:
            for course in missing.values():
                self._done(course, run_course(self.patient, course))
        else:
            self._side_by_side(list(missing.values()))
        return [self.ledger.results[course.key] for course in courses]

    def _side_by_side(self, courses: list[Course]) -> None:
        calls = [joblib.delayed(_numbered)(number, self.patient, course) for number, course in enumerate(courses)]
        try:
            for number, result in self._results(calls):
                self._done(courses[number], result)
        except (joblib.externals.loky.process_executor.TerminatedWorkerError, MemoryError) as error:
            raise InputError(f"a training was killed, for lack of memory perhaps ({error}): use fewer jobs") from error
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            cause = str(error.__cause__ or error).strip('\n"').splitlines()[-1]  # a traceback, as text
            raise InputError(f"the patient cannot be sent to another process ({cause}): use jobs=1") from error

    def _results(self, calls: list[Any]) -> Iterator[tuple[int, CourseResult]]:
        """As they come; where a backend gives nothing before all is done (Ray), of as many at a time as it has jobs."""
        backend, _ = joblib.parallel.get_active_backend()
        if getattr(backend, "uses_threads", False) and backend.effective_n_jobs(self.jobs) > 1:
            raise InputError(
                f"trainings have random states of their own, which threads share ({type(backend).__name__}): enter "
                "joblib.parallel_config with a backend of processes (loky, dask, ray), or use jobs=1"
            )
        if backend.supports_return_generator:
            yield from joblib.Parallel(n_jobs=self.jobs, return_as="generator_unordered")(calls)
            return
        for begin in range(0, len(calls), self.jobs):
            yield from joblib.Parallel(n_jobs=self.jobs)(calls[begin : begin + self.jobs])

    def _done(self, course: Course, result: CourseResult) -> None:
        self.ledger.add(course, result)
        if self.progress is not None:
            self.progress(_line(course, result))


def _numbered(number: int, patient: Patient, course: Course) -> tuple[int, CourseResult]:
    if multiprocessing.current_process().name != "MainProcess" and current_thread() is main_thread():
        # A terminal tells all of a group: the one that asked ends this process, which must not complain if it is idle.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return number, run_course(patient, course)


def _line(course: Course, result: CourseResult) -> str:
    what = ", ".join(f"{name} {value}" for name, value in course.plan.changes.items()) or "as it is"
    score = result.failed or f"score {result.score:.4g}"
    return f"seed {course.seed}, {what}: {score}{', learned' if result.learned else ''}"
