"""Folds side by side: workers of one thread each, with one progress bar for all."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.sharedctypes import SynchronizedArray
from typing import Any, Protocol

from pruning.errors import PruningError
from stages.engine import parallel, slots
from stages.engine.orphans import die_with_parent

LINE_EVERY = 15.0
"""Seconds between two lines of progress where there is no terminal."""


WATCH_EVERY = 5.0
"""Seconds between two looks at how the folds' training goes."""


class Report(Protocol):
    """Tells how far a fold is."""

    def __call__(self, done: int, total: int) -> None:
        """Say that `done` of `total` steps are done."""


_shared: "SynchronizedArray[int] | None" = None


def each_fold(
    task: Callable[[int, Report], None],
    folds: Sequence[int],
    *,
    label: str,
    device: str = "cpu",
    meanwhile: Callable[[], None] | None = None,
    watch: Callable[[], None] | None = None,
) -> None:
    """Run `task(fold, report)` for every fold and raise the first error once all have stopped.

    `meanwhile` is called in this process as soon as the workers are at work, and `watch` every few
    seconds from then on. Where several processes train one network, and on an accelerator unless
    `stages.run --jobs` says how many folds it takes at once, the folds run one after the other in
    this process: after `meanwhile`.
    """
    look = _now_and_then(watch)
    workers = min(len(folds), slots.count((os.cpu_count() or 1) if device == "cpu" else 1))
    alone = parallel.processes() > 1 or "fork" not in _start_methods()
    if alone or (device != "cpu" and (workers < 2 or not _can_fork(device))):
        if meanwhile:
            meanwhile()
        for fold in folds:
            _run_here(task, fold, f"{label} fold {fold}", look)
        return
    context = get_context("fork")
    counters = context.Array("q", 2 * len(folds))
    with ProcessPoolExecutor(workers, context, _start_worker, (counters,)) as pool:
        futures = [pool.submit(_run, task, fold, index) for index, fold in enumerate(folds)]
        if meanwhile:
            meanwhile()
        _follow(futures, counters, label, look)
    try:
        for future in futures:
            future.result()
    except BrokenProcessPool:
        raise PruningError(
            f"{label}: the process of a fold was killed, perhaps for want of memory"
        ) from None


def _start_methods() -> list[str]:
    import multiprocessing

    return multiprocessing.get_all_start_methods()


def _can_fork(device: str) -> bool:
    """Tell whether forked processes can use the accelerator: CUDA, if this one has not begun to."""
    torch = sys.modules.get("torch")
    return device.startswith("cuda") and not (torch and torch.cuda.is_initialized())


def _start_worker(counters: "SynchronizedArray[int]") -> None:
    global _shared
    die_with_parent()
    _shared = counters
    # Two threads on a small network are ten times slower than one beside another worker. The
    # variable is for a torch that is still to be imported, the call for one that is there.
    os.environ["OMP_NUM_THREADS"] = "1"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _run(task: Callable[[int, Report], None], fold: int, index: int) -> None:
    def report(done: int, total: int) -> None:
        if _shared is not None:
            _shared[2 * index], _shared[2 * index + 1] = done, total

    with slots.slot():
        task(fold, report)


def _follow(
    futures: "list[Future[None]]",
    counters: "SynchronizedArray[int]",
    label: str,
    look: Callable[[], None],
) -> None:
    show = _display(label)
    pending = set(futures)
    while pending:
        _, pending = wait(pending, timeout=0.2)
        values = list(counters)
        known = [total for total in values[1::2] if total]
        # Folds that have not begun are taken to be as long as those that have.
        total = sum(known) + (len(futures) - len(known)) * (max(known) if known else 0)
        show(sum(values[::2]), total)
        look()
    show(-1, -1)


def _run_here(
    task: Callable[[int, Report], None], fold: int, label: str, look: Callable[[], None]
) -> None:
    show = _display(label)

    def report(done: int, total: int) -> None:
        show(done, total)
        look()

    try:
        with slots.slot():
            task(fold, report)
    finally:
        show(-1, -1)


def _now_and_then(watch: Callable[[], None] | None) -> Callable[[], None]:
    """Return what calls `watch` if the last time, or the beginning, is long enough ago."""
    watched = time.monotonic()

    def look() -> None:
        nonlocal watched
        if watch and time.monotonic() - watched >= WATCH_EVERY:
            watch()
            watched = time.monotonic()

    return look


def _display(label: str) -> Callable[[int, int], None]:
    """Return what shows progress: a bar with rate and time left on a terminal, lines elsewhere."""
    return _bar(label) if sys.stderr.isatty() else _lines(label)


def _bar(label: str) -> Callable[[int, int], None]:
    from tqdm import tqdm

    bar: Any = tqdm(desc=label, unit="step", leave=False, dynamic_ncols=True)

    def show(done: int, total: int) -> None:
        if total < 0:
            bar.close()
            return
        bar.total = total
        bar.update(done - bar.n)

    return show


def _lines(label: str) -> Callable[[int, int], None]:
    # The rate is that since the first report: folds may wait for a core before it, or go on where
    # a killed stage was.
    begun: tuple[float, int] | None = None
    last = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal begun, last
        now = time.monotonic()
        if total <= 0 or done <= 0:
            return
        began, first = begun = begun or (now, done)
        if done == first or now - last < LINE_EVERY:
            return
        last = now
        rate = (done - first) / (now - began)
        left = (total - done) / rate
        print(f"{label}: {done}/{total} steps, {rate:.3g} a second, {left:.0f} s left", flush=True)

    return show
