"""Fits that are watched, ended and interrupted, and processes that fork."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from typing import Any

import numpy as np
import pytest
from conftest import smooth

import tilefit


def test_progress_is_told_in_the_callers_thread() -> None:
    seen: list[tilefit.Progress] = []
    threads = set()

    def progress(p: tilefit.Progress) -> None:
        threads.add(threading.get_ident())
        seen.append(p)

    tilefit.encode(smooth(160, 160, 3), effort=1, model="pyramid", progress=progress)
    assert threads == {threading.get_ident()}
    assert seen and all(a.step < b.step for a, b in zip(seen, seen[1:]))
    assert all(0 < p.step <= p.steps and p.lambda_ > 0 for p in seen)
    assert seen[-1].psnr is not None and seen[-1].psnr > 20


def test_false_ends_the_fit_with_the_best_file() -> None:
    steps = []

    def progress(p: tilefit.Progress) -> bool:
        steps.append((p.step, p.steps))
        return False

    picture = smooth(160, 160, 3)
    data = tilefit.encode(picture, effort=9, progress=progress)
    assert tilefit.decode(data).shape == picture.shape
    assert steps[-1][0] < steps[-1][1] / 2


def test_an_exception_of_the_callback_ends_the_fit() -> None:
    class Enough(Exception):
        pass

    calls = []

    def progress(p: tilefit.Progress) -> None:
        calls.append(p)
        raise Enough(p.step)

    with pytest.raises(Enough) as e:
        tilefit.encode(smooth(300, 300, 3), effort=9, progress=progress)
    assert len(calls) == 1 and e.value.args[0] == calls[0].step < calls[0].steps / 2


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_ends_a_fit() -> None:
    main = threading.main_thread().ident
    assert main is not None
    # At effort 9 it would take minutes.
    picture = smooth(500, 500, 3)
    timer = threading.Timer(0.5, lambda: signal.pthread_kill(main, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        timer.start()
        tilefit.encode(picture, effort=9)
    timer.join()

    # The same where a callback looks on: it sees the fit end early.
    seen: list[tilefit.Progress] = []
    timer = threading.Timer(0.2, lambda: signal.pthread_kill(main, signal.SIGINT))

    def progress(p: tilefit.Progress) -> None:
        if not seen:
            timer.start()
        seen.append(p)

    with pytest.raises(KeyboardInterrupt):
        tilefit.encode(picture, effort=9, progress=progress)
    timer.join()
    assert seen[-1].step < seen[-1].steps / 2


def test_other_threads_run_during_a_fit() -> None:
    ended = threading.Event()
    count = 0

    def work() -> None:
        nonlocal count
        while not ended.is_set():
            count += 1
            time.sleep(0.001)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        tilefit.encode(smooth(160, 160, 3), effort=1, model="pyramid")
    finally:
        ended.set()
        thread.join()
    # With the GIL held the thread would come to its turn hardly more than once.
    assert count > 5


def test_fits_run_beside_each_other() -> None:
    pictures = [smooth(40, 40, 3, seed=i) for i in range(3)]
    alone = [tilefit.encode(p, effort=1, threads=1) for p in pictures]
    together: list[bytes | None] = [None] * 3

    def work(i: int) -> None:
        together[i] = tilefit.encode(pictures[i], effort=1, threads=1)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert together == alone


def _in_child(picture: np.ndarray[Any, Any], queue: Any) -> None:
    queue.put(tilefit.encode(picture, effort=1))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_encodes() -> None:
    picture = smooth(48, 48)
    data = tilefit.encode(picture, effort=1)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(picture, queue))
    child.start()
    assert queue.get(timeout=120) == data
    child.join()


def test_a_time_limit_may_be_a_timedelta() -> None:
    import datetime

    picture = smooth(48, 48)
    for limit in (0.5, datetime.timedelta(milliseconds=500)):
        assert tilefit.decode(tilefit.encode(picture, effort=9, time_limit=limit)).shape == picture.shape
