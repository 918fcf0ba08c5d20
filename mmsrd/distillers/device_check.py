"""``DeviceCheck``: the first distilled step on an accelerator, compared with what it should be."""
from __future__ import annotations

import contextlib
import copy
import importlib
import logging
import statistics
import time
from typing import Any, ContextManager, Iterator, Sequence

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.logging import print_log
from torch import Tensor

from ..models.losses import BaseDistillLoss
from ..models.losses.base_loss import LossAndLogs
from ..ops import has_triton
from ..teachers import TeacherGroup
from ..teachers.speedup_check import SpeedupCheck, check_speedups
from ..utils.random_state import preserved_random_state
from .feature_loss import FeatureLoss
from .student_batches import Batch

TOLERANCES = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 5e-3, torch.bfloat16: 2e-2}
"""Relative error of a gradient by the dtype of the features. Backends compute in float32, whose rounding makes less
than 1e-4; the gradient itself is rounded to 2^-11 and 2^-8 of its elements in the two last."""
VALUE_TOLERANCE = 1e-3
"""Error of a loss, relative to its value or to 1."""


class DeviceCheck:
    """Compares losses and teachers with plain ones in the first distilled step, and switches off what is wrong.

    All processes decide together, so that no two train differently. What is random afterwards is as if nothing had
    been checked.

    Args:
        everywhere: Whether a CPU is checked, too.

    Attributes:
        done: Whether there is nothing to check any more.
        times: Times of the steps after the check; None once they are read.
        findings: What had to be switched off: config key → what was found.
    """

    def __init__(self, everywhere: bool = False) -> None:
        self.everywhere = everywhere
        self.done = False
        self.has_checked_teachers = False
        self.findings: dict[str, str] = {}
        self._seconds = 0.0
        self._said: list[str] = []
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
            with preserved_random_state():
                found: SpeedupCheck = check_speedups(teacher, batch, student_dtype, lambda x: _agree(x, 'min'))
            teacher.forget_original()
            for name, what in found.switched_off:
                self._warn(f'{teacher.key}.inference.{name}', what, 'is switched off for this run')
            self._said.append(f'{teacher.key}: ' + (
                f'not checked ({found.failure})' if found.alignment is None else f'alignment {found.alignment:.4f}'))
        self._seconds += time.perf_counter() - started

    def check_loss(self, loss: FeatureLoss, student: Sequence[Tensor], teacher: Sequence[Tensor],
                   image_size: tuple[int, int]) -> None:
        """Check value and gradients of a loss that has backends against PyTorch's autograd.

        Args:
            loss: The loss.
            student: Levels of the student's module.
            teacher: Levels of the teacher's module.
            image_size: Size (H, W) of the images.
        """
        started, criterion = time.perf_counter(), loss.criterion
        if isinstance(criterion, BaseDistillLoss) and criterion.with_backend('autograd') is not None:
            name, asked = loss.config.key, str(getattr(criterion, 'backend', ''))
            pairs = _compared(loss, student, teacher, image_size)
            said, worst = self._compare(criterion, pairs)
            for other in ('torch', 'autograd'):
                if not said:
                    break
                self._warn(name, said, f'backend={other!r} is used for this run instead of {asked!r}')
                loss.criterion = criterion = criterion.with_backend(other) or criterion
                said, worst = self._compare(criterion, pairs) if other != 'autograd' else ('', worst)
            self._said.append(f'{name}: largest error {worst:.1e}')
        self._seconds += time.perf_counter() - started

    def _compare(self, criterion: BaseDistillLoss, pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[str, float]:
        """Return what is wrong, the same in all processes, or nothing; and the largest error."""
        reference = criterion.with_backend('autograd')
        assert reference is not None, 'it has backends'
        with preserved_random_state():
            try:
                (value, gradients), (expected, right) = (_run(loss, pairs) for loss in (criterion, reference))
                error = abs(value - expected) / max(abs(expected), 1.0)
                errors = [error / VALUE_TOLERANCE, *(_relative(g, r) / TOLERANCES.get(g.dtype, 1e-3)
                                                     for g, r in zip(gradients, right))]
                said = [f'value {value:.6g} instead of {expected:.6g}', *(
                    f'level {i} ({str(g.dtype).rpartition(".")[2]}): gradient of norm {float(g.float().norm()):.4g} '
                    f'instead of {float(r.float().norm()):.4g}' for i, (g, r) in enumerate(zip(gradients, right)))]
            except Exception as e:  # a kernel that fails on this device
                errors, said = [float('inf')], [f'{type(e).__name__}: {e}']
        errors = [e if e == e else float('inf') for e in errors]
        i = max(range(len(errors)), key=errors.__getitem__)
        worst = _agree(errors[i], 'max')
        if worst <= 1:
            return '', worst * TOLERANCES[torch.float32]
        return (said[i] if errors[i] > 1 else 'another process has found a wrong result'), worst

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
        print_log(f'Device check on {device_name(device)} ({self._seconds:.1f} s): {"; ".join(self._said)}; '
                  f'switched off: {", ".join(self.findings) or "nothing"}', logger='current')


class StepTimes:
    """Milliseconds of some distilled steps and of their parts, by device events, read once without waiting.

    Args:
        steps: Steps that are measured.

    Example:
        >>> import torch
        >>> from mmsrd.distillers.device_check import StepTimes
        >>> times, cpu = StepTimes(steps=1), torch.device('cpu')
        >>> for _ in range(2):
        ...     times.begin_step(cpu)
        ...     with times.part('teacher', cpu):
        ...         pass
        >>> times.text()
        'a distilled step takes 0 ms; of it teacher 0.0 ms'
    """

    def __init__(self, steps: int = 8) -> None:
        self.steps = steps
        self._begun: list[Any] = []
        self._parts: dict[str, list[tuple[Any, Any]]] = {}

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
        """Measure a part of each step."""
        started = _now(device)
        yield
        if not self.is_full and self._begun:
            self._parts.setdefault(name, []).append((started, _now(device)))

    def text(self) -> str | None:
        """Return the medians for people; None while steps are missing or the device has not come so far."""
        marks = [*self._begun, *(mark for pairs in self._parts.values() for pair in pairs for mark in pair)]
        if not self.is_full or not all(isinstance(mark, float) or mark.query() for mark in marks):
            return None
        step = statistics.median(_milliseconds(a, b) for a, b in zip(self._begun, self._begun[1:]))
        parts = [f'{name} {statistics.median(_milliseconds(a, b) for a, b in pairs):.1f} ms'
                 for name, pairs in self._parts.items()]
        return f'a distilled step takes {step:.0f} ms; of it {", ".join(parts)}'


def _now(device: torch.device) -> Any:
    if device.type != 'cuda':
        return time.perf_counter()
    make: Any = torch.cuda.Event
    event = make(enable_timing=True)
    event.record()
    return event


def _milliseconds(begin: Any, end: Any) -> float:
    return 1000.0 * (end - begin) if isinstance(begin, float) else float(begin.elapsed_time(end))


def device_name(device: torch.device) -> str:
    """Return the name of a device, with the versions of what computes on it."""
    triton = f', Triton {importlib.import_module("triton").__version__}' if has_triton() else ''
    if device.type != 'cuda':
        return f'{device.type}, PyTorch {torch.__version__}{triton}'
    return (f'{torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}, '
            f"cuDNN {torch.backends.cudnn.version()}{triton}")  # type: ignore[no-untyped-call]


def _run(loss: BaseDistillLoss, pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[float, list[Tensor]]:
    """Return value and gradients of a loss, the gradients large enough for half precision."""
    with torch.enable_grad():
        students = [s.detach().requires_grad_() for s, _ in pairs]
        value, _ = loss(students, [t for _, t in pairs])
        scale = max(s.numel() for s in students) / 64
        gradients = torch.autograd.grad(value * scale, students)
    return float(value.detach()), list(gradients)


def _relative(found: Tensor, expected: Tensor) -> float:
    difference = (found.double() - expected.double()).norm()
    return float(difference / expected.double().norm().clamp_min(1e-30))


def _agree(value: float, op: str) -> float:
    """Return the lowest (``'min'``) or highest (``'max'``) value of all processes."""
    if get_world_size() == 1:
        return value
    device: Any = torch.device('cuda', torch.cuda.current_device()) if torch.cuda.is_available() else None
    agreed = torch.tensor(value, dtype=torch.float64, device=device)
    all_reduce(agreed, op)
    return float(agreed)


class _Catcher(BaseDistillLoss):
    """A loss that keeps what it is to compare."""

    def __init__(self) -> None:
        super().__init__(sync=False)
        self.levels: list[tuple[Tensor, Tensor]] = []

    def forward(self, student: Any, teacher: Any) -> LossAndLogs:
        self.levels = list(zip(student, teacher))
        return torch.zeros(()), {}


@torch.no_grad()
def _compared(loss: FeatureLoss, student: Sequence[Tensor], teacher: Sequence[Tensor],
              image_size: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
    """Return the levels that a loss compares, through copies of its projectors: statistics do not change."""
    catcher, other = _Catcher(), copy.copy(loss)
    other._modules = {**loss._modules, 'projectors': copy.deepcopy(loss.projectors), 'criterion': catcher}
    other(student, teacher, image_size)
    return catcher.levels
