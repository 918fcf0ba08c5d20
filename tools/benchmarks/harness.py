"""Each variant in a process of its own, in turns with the plain step, so that machine load affects both."""
from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any, Callable, Dict, List, Sequence

from pairs import CONTROL, Case

WORKER = Path(__file__).with_name('worker.py')


_ALLOCATOR = dict(MALLOC_MMAP_THRESHOLD_=str(2**30), MALLOC_TRIM_THRESHOLD_=str(2**32))
"""glibc gives freed memory back to the system or keeps it, by what a process has freed before: variants would differ by
up to a tenth in page faults alone. With these all of them keep it."""


Turn = Dict[str, Any]
"""What a worker measures in a turn: milliseconds, MiB, and the name of the backend of the loss."""


class Process:
    """A worker; see ``worker.py`` for what it says."""

    def __init__(self, case: Case, variant: str) -> None:
        self.variant = variant
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  as long as the process
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps(case.to_dict()), variant], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.errors, text=True, env={**os.environ, **_ALLOCATOR})

    def answer(self) -> Turn | None:
        """The next line that is for us; None where the process has died."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith('@'):
                return dict(json.loads(line[1:]))
        self.process.wait()
        return None

    def ask(self, steps: int) -> Turn | None:
        """One turn of ``steps`` steps."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f'{steps}\n')
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        return self.answer()

    def ended(self) -> bool:
        """Return whether the process has ended."""
        return self.process.poll() is not None

    def reason(self) -> str:
        """Last line that the process wrote to its standard error."""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors='replace').strip().splitlines()
        return lines[-1] if lines else f'ended with status {self.process.returncode}'

    def stop(self) -> None:
        """Let it end."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it has ended by itself
                self.process.stdin.close()
        self.process.wait()


Rows = List[Dict[str, Any]]


def measure(case: Case, variants: Sequence[str], repeats: int, steps: int, minutes: float | None = None,
            save: Callable[[Rows], None] = lambda rows: None) -> Rows:
    """Medians over ``repeats`` turns of ``steps`` steps for each variant, each beside a turn of the plain step.

    Two processes live at once, the plain one and that of a variant: more would not fit on a GPU. Variants whose process
    fails (a package that is not installed), or that have not begun in ``minutes`` or could not end by the time that the
    one before took, get an ``error``. ``save`` is called with the rows so far after every turn, so that what stops the
    benchmark does not lose them: the plain step first, medians, all step times, ratios to the plain step turn by turn.
    """
    started, longest = time.monotonic(), 0.0
    plain = Process(case, 'plain')
    if plain.answer() is None:
        failed = [summary_row('plain', [], [], plain.reason())]
        save(failed)
        return failed
    plain_turns: list[Turn] = []
    rows: dict[str, dict[str, Any]] = {}

    def so_far() -> Rows:
        return [summary_row('plain', plain_turns, plain_turns, None), *rows.values()]

    for variant in [name for name in variants if name != 'plain'] or [CONTROL]:
        began = time.monotonic()
        if minutes is not None and began + longest - started > 60 * minutes:
            rows[variant] = summary_row(variant, [], [], f'no time left of {minutes:g} minutes')
            continue
        process = Process(case, variant)
        error = None if process.answer() is not None else process.reason()
        turns: list[tuple[Turn, Turn]] = []
        while error is None and len(turns) < repeats:
            own, other = plain.ask(steps), process.ask(steps)
            if own is None:
                error = f'the plain step beside it: {plain.reason()}'
            elif other is None:
                error = process.reason()
            else:
                turns.append((other, own))
                plain_turns.append(own)
                rows[variant] = summary_row(variant, *map(list, zip(*turns)), None)
                save(so_far())
        if error is not None:
            rows[variant] = summary_row(variant, [], [], error)
        process.stop()
        if plain.ended():  # out of memory, beside a variant that takes too much
            plain = Process(case, 'plain')
            if plain.answer() is None:
                break
        longest = max(longest, time.monotonic() - began)
        print(f'{variant}: ' + (error or f'{rows[variant]["step_ms"]:.1f} ms'), flush=True)
    plain.stop()
    save(so_far())
    return so_far()


def summary_row(variant: str, turns: list[Turn], plain: list[Turn], error: str | None) -> dict[str, Any]:
    """Medians of a variant's turns, and ratios to those of the plain step; or why there are none."""
    if error is not None or not turns:
        return dict(variant=variant, error=error or 'no turn')
    row: dict[str, Any] = {key: value if isinstance(value, str) else round(
        statistics.median(turn[key] for turn in turns), 3) for key, value in turns[0].items()}
    row['steps_ms'] = [round(turn['step_ms'], 3) for turn in turns]
    if plain:
        # Turn by turn, so that a slow minute of the machine counts on both sides.
        ratios = [own['step_ms'] / other['step_ms'] for own, other in zip(turns, plain)]
        row['step_ratio'] = round(statistics.median(ratios), 4)
        row['step_ratio_range'] = [round(min(ratios), 4), round(max(ratios), 4)]
        row['memory_ratio'] = round(max(t['peak_mib'] for t in turns) / max(t['peak_mib'] for t in plain), 4)
    return dict(variant=variant, **row)
