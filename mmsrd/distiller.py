"""``ProjectorDistiller``: taps and teacher around the comparisons, acting through hooks of the student."""
from __future__ import annotations

from typing import Any, Sequence

import torch
from torch import Tensor, nn

from .calls import Batch, arguments_of, batches_of
from .comparison import Comparisons, mean
from .config_losses import LossConfig
from .eager import eager
from .ema_teacher import EmaTeacher
from .errors import ConfigError, FeatureMismatchError
from .finite import FiniteCheck
from .inference import autocast_dtype
from .matching import LevelPair
from .schedule import Schedule
from .taps import TapSet
from .teacher import Teacher

FP16_PATIENCE = 20
"""Steps in a row that may overflow under fp16: the loss scaler skips them and halves the scale."""
CHILD = 'distiller'
"""Name of the distiller in the student."""
Features = dict[str, dict[str, list[Tensor]]]
"""What the teachers say of one batch: name of the teacher → path → levels."""


class ProjectorDistiller(Comparisons):
    """Adds distillation losses to what a student returns in ``mode='loss'``.

    A child of the student that acts through forward hooks only. Its parameters
    are the projectors'; the teacher is held outside of the module tree.

    Args:
        losses: What is compared.
        pairs: Level pairs of each loss, by name.
        teachers: The tapped teachers, by name.
        taps: Taps of the student.
        schedule: When distillation acts.
        calls: How often each tap of the student fires in a forward pass, by path.
        channels: Channels of the images.
    """

    def __init__(self, losses: list[LossConfig], pairs: dict[str, list[LevelPair]], teachers: dict[str, Teacher],
                 taps: TapSet, schedule: Schedule, calls: dict[str, int], channels: int = 3) -> None:
        super().__init__(losses, pairs)
        self.teachers = teachers
        self.taps = taps
        self.schedule = schedule
        self.calls = calls
        self.channels = channels
        self.iteration = 0
        self.epoch = 0
        self.iterations_per_epoch: int | None = None
        self.finite = FiniteCheck()
        self._seen: list[Any] = []
        self._batch: Batch | None = None
        self._taught: Features | None = None
        self._autocast: torch.dtype | None = None
        self._original = id(self)

    @property
    def teacher(self) -> Teacher:
        """The teacher, where there is one only.

        Raises:
            LookupError: There are several; they are in :attr:`teachers`.
        """
        if len(self.teachers) > 1:
            raise LookupError(f'there are {len(self.teachers)} teachers; they are in `teachers` by name')
        return next(iter(self.teachers.values()))

    def follow(self, student: nn.Module) -> None:
        """Let teachers that average the student take its new weights; called after each training iteration."""
        for teacher in self.teachers.values():
            if isinstance(teacher, EmaTeacher):
                teacher.update(student)

    def set_progress(self, iteration: int, epoch: int, iterations_per_epoch: int | None = None) -> None:
        """Tell where training is (both count from 0). A loop without a runner need not: loss passes
        with gradients count."""
        self.iteration, self.epoch, self.iterations_per_epoch = iteration, epoch, iterations_per_epoch

    @eager
    def before_student(self, student: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forward pre-hook of the student: record its taps in ``mode='loss'`` while distillation acts."""
        arguments = arguments_of(student, args, kwargs)
        if arguments.get('mode') == 'loss' and self.schedule.active(self.iteration, self.epoch):
            self._forget()
            self.taps.arm()
            inputs = arguments['inputs']
            if isinstance(inputs, Tensor):
                self._batch = inputs, arguments.get('data_samples')
                self._autocast = autocast_dtype(inputs.device)

    def _forget(self) -> None:
        """Let go of the step, so that no graph outlives it."""
        for teacher in self.teachers.values():
            teacher.join()  # before what they read is let go of
        self.taps.disarm()
        self._seen.clear()
        self._batch = self._taught = None

    @eager
    def after_tap(self, module: nn.Module, args: Any, output: Any) -> None:
        """Forward hook of tapped modules: start the teachers once all taps have fired.

        The student's head comes next: many small kernels that leave the device idle, beside which a teacher runs for
        little.
        """
        if self.taps.armed and self._batch is not None and self._taught is None and self.taps.calls() == self.calls:
            self._taught = self._teach(self._batch)

    def _teach(self, batch: Batch) -> Features:
        dtype = self._autocast if batch is self._batch else autocast_dtype(batch[0].device)
        return {name: teacher.start(*batch, dtype) for name, teacher in self.teachers.items()}

    @eager
    def before_backbone(self, backbone: nn.Module, args: tuple[Any, ...]) -> None:
        """Forward pre-hook of the backbone that is trained: remember which images it sees."""
        if self.taps.armed:
            self._seen.append(args[0] if args else None)

    @eager
    def after_student(self, student: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any],
                      output: Any) -> dict[str, Any] | None:
        """Forward hook of the student, called also after an exception: add the ``loss_srd_*`` entries.

        Returns:
            dict: The student's losses and the distiller's in ``mode='loss'``; None (output unchanged) otherwise.
        """
        arguments = arguments_of(student, args, kwargs)
        try:
            if output is None or arguments.get('mode') != 'loss':
                return None
            if not isinstance(output, dict):
                raise ConfigError(f'{type(student).__name__} returns a {type(output).__name__} in mode=\'loss\'; '
                                  'distillation needs a dict of losses')
            inputs, samples = arguments['inputs'], arguments.get('data_samples')
            acts = self.schedule.active(self.iteration, self.epoch)
            added = self.losses(batches_of(student, inputs, samples, self._seen)) if acts \
                else self.no_losses(next(student.parameters()).device)
            if torch.is_grad_enabled():  # a validation loss is no step
                self._release_if_over()
                self.iteration += 1
            return {**output, **added}
        finally:
            self._forget()

    def _release_if_over(self) -> None:
        """Give the teachers' memory back after the end; a copy of the student shares them, and lets them be."""
        if self._original == id(self) and self.schedule.over(self.iteration, self.epoch):
            for teacher in self.teachers.values():
                teacher.release()

    def no_losses(self, device: torch.device) -> dict[str, Tensor]:
        """Zeros in place of the losses, before distillation starts and after it has ended."""
        self.finite.settle()
        return {f'loss_srd_{name}': self.nothing(name, device) for name in self.configs}

    def losses(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Weighted losses and diagnostics for the student's recorded features.

        Args:
            batches: What the student has seen, in the order of its calls: a normalised batch (N, C, H, W) and its
                data samples; several of them for a semi-supervised detector, whose losses are averaged.

        Returns:
            dict: ``loss_srd_<name>`` (scalar with gradient) and ``srd_<log>/<name>`` (scalar).

        Raises:
            FeatureMismatchError: A tapped module was not called equally often for each batch.
            NonFiniteError: A loss is NaN or infinite; on an accelerator one step later.
        """
        device = batches[0][0].device
        student = {path: self._by_batch(path, levels, batches) for path, levels in self.taps.take().items()}
        teachers = [self._taught] if self._taught is not None else [self._teach(batch) for batch in batches]
        for each in self.teachers.values():
            each.join()
        factor = self.schedule.factor(self.iteration, self.epoch, self.iterations_per_epoch)
        entries: dict[str, Tensor] = {}
        seen: dict[str, Tensor] = {}
        for name, config in self.configs.items():
            weight = config.weight * factor
            # At weight 0 the student's graph is not touched at all: it trains bit for bit as without a teacher.
            with torch.set_grad_enabled(weight > 0 and torch.is_grad_enabled()):
                compared = [self.compare(name, student[config.student][i], teacher[config.source][config.teacher],
                                         (batches[i][0].size(-2), batches[i][0].size(-1)))
                            for i, teacher in enumerate(teachers)]
            loss, logs = mean(compared)
            if weight > 0:
                features = [teacher[config.source][config.teacher] for teacher in teachers]
                what = self.account(name, student[config.student], features, loss)
                seen[f'iteration {self.iteration}: {what}'] = loss
            entries[f'loss_srd_{name}'] = loss * weight if weight > 0 else self.nothing(name, device)
            entries.update({f'srd_{log}/{name}': value for log, value in logs.items()})
        fp16 = torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type) == torch.float16
        self.finite.watch(seen, FP16_PATIENCE if fp16 else 0)
        return entries

    def _by_batch(self, path: str, levels: list[Tensor], batches: Sequence[Batch]) -> list[list[Tensor]]:
        """Recorded levels of each batch."""
        each, rest = divmod(len(levels), len(batches))
        split = [levels[i * each:(i + 1) * each] for i in range(len(batches))]
        if rest or (len(batches) > 1 and any(level.size(0) != batch[0].size(0) for own, batch in zip(
                split, batches, strict=True) for level in own)):
            raise FeatureMismatchError(f'{self.taps.taps[path].key} = {path!r}: gave {len(levels)} levels for '
                                       f'{len(batches)} batches; tap a module that is called once for each')
        return split
