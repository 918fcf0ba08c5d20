"""Variants in processes of their own, taking turns, so that what the machine does meanwhile hits all alike."""
from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any, Sequence

from pairs import Case

WORKER = Path(__file__).with_name('worker.py')


_ALLOCATOR = dict(MALLOC_MMAP_THRESHOLD_=str(2**30), MALLOC_TRIM_THRESHOLD_=str(2**32))
"""glibc gives freed memory back to the system or keeps it, by what a process has freed before: variants would differ by
up to a tenth in page faults alone. With these all of them keep it."""


class Process:
    """A worker; see ``worker.py`` for what it says."""

    def __init__(self, case: Case, variant: str) -> None:
        self.variant = variant
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  as long as the process
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps(case.to_dict()), variant], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self.errors, text=True, env={**os.environ, **_ALLOCATOR})

    def answer(self) -> dict[str, float] | None:
        """The next line that is for us; None where the process has died."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith('@'):
                return dict(json.loads(line[1:]))
        self.process.wait()
        return None

    def ask(self, steps: int) -> dict[str, float] | None:
        """One turn of ``steps`` steps."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f'{steps}\n')
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        return self.answer()

    def reason(self) -> str:
        """Last line that the process wrote to its standard error."""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors='replace').strip().splitlines()
        return lines[-1] if lines else f'ended with status {self.process.returncode}'

    def stop(self) -> None:
        """Let it end."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()


def measure(case: Case, variants: Sequence[str], repeats: int, steps: int) -> list[dict[str, Any]]:
    """Medians over ``repeats`` interleaved turns of ``steps`` steps each.

    Args:
        case: The setting.
        variants: Which; those whose process fails (a package that is not installed) get an ``error``.
        repeats: Turns of each.
        steps: Training steps in a turn.

    Returns:
        list: One row for each variant: medians, all step times, and ratios to ``'plain'`` turn by turn.
    """
    processes = []
    turns: dict[str, list[dict[str, float]]] = {variant: [] for variant in variants}
    errors: dict[str, str] = {}
    for variant in variants:
        process = Process(case, variant)  # one after the other: building them together would not be faster
        if process.answer() is None:
            errors[variant] = process.reason()
        else:
            processes.append(process)
        print(f'{variant}: {errors.get(variant, "ready")}', flush=True)
    for repeat in range(repeats):
        for process in processes[repeat % len(processes):] + processes[:repeat % len(processes)] if processes else []:
            if process.variant in errors:
                continue
            answer = process.ask(steps)
            if answer is None:
                errors[process.variant] = process.reason()
            else:
                turns[process.variant].append(answer)
        print(f'round {repeat + 1} of {repeats}: ' + ', '.join(
            f'{variant} {own[-1]["step_ms"]:.1f} ms' for variant, own in turns.items() if own), flush=True)
    for process in processes:
        process.stop()
    return [summary_row(variant, own, turns.get('plain', []), errors.get(variant)) for variant, own in turns.items()]


def summary_row(variant: str, turns: list[dict[str, float]], plain: list[dict[str, float]],
                error: str | None) -> dict[str, Any]:
    """Medians of a variant's turns, and ratios to those of the plain step; or why there are none."""
    if error is not None or not turns:
        return dict(variant=variant, error=error or 'no turn')
    row: dict[str, Any] = {key: round(statistics.median(turn[key] for turn in turns), 3) for key in turns[0]}
    row['steps_ms'] = [round(turn['step_ms'], 3) for turn in turns]
    if plain:
        # Turn by turn, so that a slow minute of the machine counts on both sides.
        ratios = [own['step_ms'] / other['step_ms'] for own, other in zip(turns, plain)]
        row['step_ratio'] = round(statistics.median(ratios), 4)
        row['step_ratio_range'] = [round(min(ratios), 4), round(max(ratios), 4)]
        row['memory_ratio'] = round(max(t['peak_mib'] for t in turns) / max(t['peak_mib'] for t in plain), 4)
    return dict(variant=variant, **row)
