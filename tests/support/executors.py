"""Executors that run in this process, and die where a test says so."""

import contextlib
from concurrent.futures import Future

from tests.support.sweeps import Killed


class Here:
    """Runs what is submitted at once, in this process.

    Args:
        around: called with the number of the submission, from 0; a context in which it runs. What
            it raises is the exception of the future, as if the worker had ended.
    """

    def __init__(self, around=lambda n: contextlib.nullcontext()):
        self.around, self.count, self.works = around, 0, []

    def submit(self, f, work):
        future = Future()
        self.works.append(work)
        self.count += 1
        try:
            with self.around(self.count - 1):
                future.set_result(f(work))
        except Exception as error:
            future.set_exception(error)
        except Killed:
            future.set_exception(RuntimeError("a worker has ended"))
        return future


class Never:
    """Accepts everything, and runs nothing."""

    def submit(self, f, *args):
        return Future()
