"""``DeviceCheck``: the first distilled step on an accelerator, compared with what it should be."""
from __future__ import annotations

import contextlib
import copy
import importlib
import logging
import math
import statistics
import time
from dataclasses import dataclass
from typing import Any, ContextManager, Iterator, Sequence

import torch
from mmengine.dist import all_reduce
from mmengine.logging import print_log
from torch import Tensor

from ..models.losses import BaseDistillLoss
from ..ops import has_triton
from ..teachers import TeacherGroup
from ..teachers.speedup_check import SpeedupCheck, check_speedups
from ..utils.random_state import preserved_random_state
from .feature_loss import FeatureLoss
from .student_batches import Batch

TOLERANCES = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 5e-3, torch.bfloat16: 2e-2}
"""Accepted relative error of a gradient, by the dtype of the features. Backends compute in float32, with an error below
1e-4; rounding the gradient to float16 or bfloat16 adds up to 2^-11 or 2^-8 of each element."""
VALUE_TOLERANCE = 1e-3
"""Error of a loss, relative to its value or to 1."""


class DeviceCheck:
    """Compares losses and teachers with plain ones in the first distilled step, and switches off what is wrong.

    All processes decide together, so that no two train differently. Random states are left as they were.

    Args:
        everywhere: Whether a CPU is checked, too.

    Attributes:
        done: Whether there is nothing to check any more.
        times: Times of the steps after the check; None once they are read.
        found: What was measured, as text.
        findings: What had to be switched off: config key → what was found.
    """

    def __init__(self, everywhere: bool = False) -> None:
        self.everywhere = everywhere
        self.done = False
        self.has_checked_teachers = False
        self.findings: dict[str, str] = {}
        self._seconds = 0.0
        self.found: list[str] = []
        self.times: StepTimes | None = StepTimes()

    def applies(self, device: torch.device) -> bool:
        """Return whether there is something to check on ``device``."""
        return not self.done and (self.everywhere or device.type != 'cpu')

    @torch.no_grad()
    def check_teachers(self, teachers: TeacherGroup, batch: Batch, student_dtype: torch.dtype | None) -> None:
        """Check the teachers' speed-ups (:func:`mmsrd.teachers.speedup_check.check_speedups`).

        Args:
            teachers: The teachers, which have kept their originals.
            batch: The student's normalised batch (N, C, H, W) and its data samples.
            student_dtype: Autocast dtype of the student; None for none.
        """
        started = time.perf_counter()
        self.has_checked_teachers = True
        for teacher in teachers.values():
            teacher.measure = self.measure
            with preserved_random_state():
                found: SpeedupCheck = check_speedups(teacher, batch, student_dtype, lambda x: _agree(x, 'min'))
            teacher.forget_original()
            for name, what in found.switched_off:
                self._warn(f'{teacher.key}.{name}', what, 'is switched off for this run')
            self.found.append(f'{teacher.key}: ' + (
                f'not checked ({found.failure})' if found.alignment is None else f'alignment {found.alignment:.4f}'))
        self._seconds += time.perf_counter() - started

    def check_loss(self, loss: FeatureLoss, levels: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Check value and gradients of a loss that has backends against PyTorch's autograd.

        Args:
            loss: The loss, about to compare some levels.
            levels: Those of the projected student and the teacher; none where too few rows are there.
        """
        started, criterion = time.perf_counter(), loss.criterion
        if isinstance(criterion, BaseDistillLoss) and criterion.with_backend('autograd') is not None:
            name, asked = loss.config.key, str(getattr(criterion, 'backend', ''))
            result = compare_with_reference(criterion, levels)
            for other in ('torch', 'autograd'):
                if not result.wrong:
                    break
                self._warn(name, result.wrong, f'backend={other!r} is used for this run instead of {asked!r}')
                loss.criterion = criterion = criterion.with_backend(other) or criterion
                result = compare_with_reference(criterion, levels) if other != 'autograd' else Comparison()
            self.found.append(f'{name}: {result}')
        self._seconds += time.perf_counter() - started

    def _warn(self, key: str, what: str, consequence: str) -> None:
        self.findings[key] = what
        print_log(f'Device check: {key}: {what}; {consequence}. Please report this with the output of '
                  '`python -m mmsrd.env --check`', logger='current', level=logging.WARNING)

    def begin_step(self, device: torch.device) -> None:
        """Measure the steps after the check, and say once what they take."""
        if self.times is not None and self.done:
            self.times.begin_step(device)
            text = self.times.text()
            if text is not None:
                print_log(f'Device check: {text}', logger='current')
                self.times = None

    def measure(self, part: str, device: torch.device) -> ContextManager[None]:
        """Return a context that measures a part of a step."""
        return contextlib.nullcontext() if self.times is None or not self.done else self.times.part(part, device)

    def finish(self, device: torch.device) -> None:
        """Say what was found, in one line; nothing is checked from now on."""
        self.done = True
        print_log(f'Device check on {device_name(device)} ({self._seconds:.1f} s): {"; ".join(self.found)}; '
                  f'switched off: {", ".join(self.findings) or "nothing"}', logger='current')


class StepTimes:
    """Milliseconds of some steps and of their parts, by device events, read once without waiting.

    Args:
        steps: Steps that are measured; 8 by default.

    Example:
        >>> import torch
        >>> from mmsrd.distillers.device_check import StepTimes
        >>> times, cpu = StepTimes(steps=1), torch.device('cpu')
        >>> for _ in range(2):
        ...     times.begin_step(cpu)
        ...     with times.part('teacher', cpu):
        ...         pass
        >>> times.text()
        'a training step takes ... ms on average; when it distils: teacher ... ms'
    """

    def __init__(self, steps: int = 8) -> None:
        self.steps = steps
        self._begun: list[Any] = []
        self._parts: dict[str, list[tuple[Any, Any]]] = {}

    def __reduce__(self) -> tuple[type[StepTimes], tuple[int]]:
        return StepTimes, (self.steps,)  # events of a device cannot be copied

    @property
    def is_full(self) -> bool:
        """Return whether all steps have been measured."""
        return len(self._begun) > self.steps

    def begin_step(self, device: torch.device) -> None:
        """Note that a step begins."""
        if not self.is_full:
            self._begun.append(_now(device))

    @contextlib.contextmanager
    def part(self, name: str, device: torch.device) -> Iterator[None]:
        """Measure a part of a step."""
        started = _now(device)
        yield
        if not self.is_full and self._begun:
            self._parts.setdefault(name, []).append((started, _now(device)))

    def text(self) -> str | None:
        """Return means and medians as text; None until all steps are measured and the device has finished them."""
        marks = [*self._begun, *(mark for pairs in self._parts.values() for pair in pairs for mark in pair)]
        if not self.is_full or not all(isinstance(mark, float) or mark.query() for mark in marks):
            return None
        step = _milliseconds(self._begun[0], self._begun[-1]) / self.steps
        parts = [f'{name} {statistics.median(_milliseconds(a, b) for a, b in pairs):.1f} ms'
                 for name, pairs in self._parts.items()]
        return f'a training step takes {step:.0f} ms on average; when it distils: {", ".join(parts)}'


def _now(device: torch.device) -> Any:
    if device.type != 'cuda':
        return time.perf_counter()
    make: Any = torch.cuda.Event
    event = make(enable_timing=True)
    event.record()
    return event


def _milliseconds(begin: Any, end: Any) -> float:
    return 1000.0 * (end - begin) if isinstance(begin, float) else float(begin.elapsed_time(end))


@dataclass(frozen=True)
class Comparison:
    """Result of :func:`compare_with_reference`, the same in all processes.

    Attributes:
        error: Largest error, relative to what is tolerated.
        wrong: What is wrong, in any process; empty where nothing is.
        failure: Why nothing could be compared; empty where something was.
    """

    error: float = 0.0
    wrong: str = ''
    failure: str = ''

    def __str__(self) -> str:
        return f'not checked ({self.failure})' if self.failure else f'largest error {self.error:.1e} of the tolerance'


@torch.no_grad()
def compare_with_reference(criterion: BaseDistillLoss, levels: Sequence[tuple[Tensor, Tensor]]) -> Comparison:
    """Compare value and gradients of a loss with those of PyTorch's autograd; all processes must call it.

    Each process compares its own rows, so that one that fails does not leave the others waiting.

    Args:
        criterion: A loss with backends.
        levels: Levels of the projected student and the teacher.
    """
    own = copy.copy(criterion)
    own.sync = False
    reference = own.with_backend('autograd')
    assert reference is not None, 'it has backends'
    failure, errors, said = '', [0.0], ['']
    with preserved_random_state():
        try:  # the reference needs the most memory; where it fails, nothing is known of the loss
            expected, right = _run(reference, levels)
            if not all(math.isfinite(float(x)) for x in (expected, *(g.norm() for g in right))):
                failure = 'the reference is not finite'
        except Exception as e:
            failure, expected, right = f'{type(e).__name__}: {e}', 0.0, []
        if not failure:
            try:
                value, gradients = _run(own, levels)
                errors = [abs(value - expected) / max(abs(expected), 1.0) / VALUE_TOLERANCE, *(
                    _relative(g, r) / TOLERANCES.get(g.dtype, 1e-3) for g, r in zip(gradients, right))]
                said = [f'value {value:.6g} instead of {expected:.6g}', *(
                    f'level {i} ({str(g.dtype).rpartition(".")[2]}): gradient of norm {float(g.float().norm()):.4g} '
                    f'instead of {float(r.float().norm()):.4g}' for i, (g, r) in enumerate(zip(gradients, right)))]
            except Exception as e:  # a kernel that fails on this device
                errors, said = [math.inf], [f'{type(e).__name__}: {e}']
    errors = [math.inf if math.isnan(error) else error for error in errors]
    i = max(range(len(errors)), key=errors.__getitem__)
    known, worst = _agree(float(not failure), 'min'), _agree(errors[i], 'max')
    if not known:
        return Comparison(failure=failure or 'see another process')
    return Comparison(worst, '' if worst <= 1 else said[i] if errors[i] > 1 else 'wrong in another process')


def _run(loss: BaseDistillLoss, levels: Sequence[tuple[Tensor, Tensor]]) -> tuple[float, list[Tensor]]:
    """Return value and gradients of a loss; the gradients are scaled, so that half precision can hold them."""
    if not levels:
        return 0.0, []
    with torch.enable_grad():
        students = [s.detach().requires_grad_() for s, _ in levels]
        value, _ = loss(students, [t for _, t in levels])
        scale = max(s.numel() for s in students) / 64
        gradients = torch.autograd.grad(value * scale, students)
    return float(value.detach()), list(gradients)


def _relative(found: Tensor, expected: Tensor) -> float:
    """Return the relative difference of scaled gradients; elements of 1e-5 are noise."""
    least = 1e-5 * expected.numel() ** 0.5
    return float((found.float() - expected.float()).norm() / expected.float().norm().clamp_min(least))


def device_name(device: torch.device) -> str:
    """Return the name of a device, with the versions of what computes on it."""
    triton = f', Triton {importlib.import_module("triton").__version__}' if has_triton() else ''
    if device.type != 'cuda':
        return f'{device.type}, PyTorch {torch.__version__}{triton}'
    return (f'{torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}, '
            f"cuDNN {torch.backends.cudnn.version()}{triton}")  # type: ignore[no-untyped-call]


def _agree(value: float, op: str) -> float:
    """Return the lowest (``'min'``) or highest (``'max'``) value of all processes."""
    agreed = torch.tensor(value, dtype=torch.float64)
    all_reduce(agreed, op)
    return float(agreed)
