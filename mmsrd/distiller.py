"""``ProjectorDistiller``: taps, teacher, projectors and losses, acting through hooks of the student."""
from __future__ import annotations

from typing import Any, Sequence, cast

import torch
from torch import Tensor, nn

from .calls import Batch, arguments_of, batches_of
from .config_losses import LossConfig, build_module
from .eager import eager
from .ema_teacher import EmaTeacher
from .errors import ConfigError, FeatureMismatchError, TapError
from .finite import FiniteCheck
from .inference import autocast_dtype
from .matching import LevelPair, conform
from .schedule import Schedule
from .taps import TapSet
from .teacher import Teacher

FP16_PATIENCE = 20
"""Steps in a row that may overflow under fp16: the loss scaler skips them and halves the scale."""
CHILD = 'distiller'
"""Name of the distiller in the student."""
Features = dict[str, dict[str, list[Tensor]]]
"""What the teachers say of one batch: name of the teacher → path → levels."""


class ProjectorDistiller(nn.Module):
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
        super().__init__()
        self.configs = {loss.name: loss for loss in losses}
        self.pairs = pairs
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
        self.criteria = nn.ModuleDict({loss.name: build_module(loss.key, loss.module) for loss in losses})
        self.projectors = nn.ModuleDict({
            loss.name: nn.ModuleList([_projector(loss, pair) for pair in pairs[loss.name]]) for loss in losses})

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
        return {f'loss_srd_{name}': self._nothing(name, device) for name in self.configs}

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
            loss, logs = _mean(compared)
            if weight > 0:
                features = [teacher[config.source][config.teacher] for teacher in teachers]
                seen[self._account(name, student[config.student], features, loss)] = loss
            entries[f'loss_srd_{name}'] = loss * weight if weight > 0 else self._nothing(name, device)
            entries.update({f'srd_{log}/{name}': value for log, value in logs.items()})
        fp16 = torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type) == torch.float16
        self.finite.watch(seen, FP16_PATIENCE if fp16 else 0)
        return entries

    def _account(self, name: str, student: list[list[Tensor]], teacher: list[list[Tensor]], loss: Tensor) -> str:
        """What to say of a loss if it turns out not to be finite."""
        config = self.configs[name]
        text = f'iteration {self.iteration}: loss {config.key} is not finite (student {config.student!r}, teacher ' \
            f'{config.teacher!r})'
        if loss.device.type == 'cpu' and not loss.isfinite():
            bad = [f'the {side}\'s feature {path!r}' for side, path, batches in (
                ('student', config.student, student), ('teacher', config.teacher, teacher))
                if not all(level.isfinite().all() for levels in batches for level in levels)]
            text += f'; {" and ".join(bad) or "the features are finite"}' + (' is not finite' if bad else '')
        return text

    def _by_batch(self, path: str, levels: list[Tensor], batches: Sequence[Batch]) -> list[list[Tensor]]:
        """Recorded levels of each batch."""
        each, rest = divmod(len(levels), len(batches))
        split = [levels[i * each:(i + 1) * each] for i in range(len(batches))]
        if rest or (len(batches) > 1 and any(level.size(0) != batch[0].size(0) for own, batch in zip(
                split, batches, strict=True) for level in own)):
            raise FeatureMismatchError(f'{self.taps.taps[path].key} = {path!r}: gave {len(levels)} levels for '
                                       f'{len(batches)} batches; tap a module that is called once for each')
        return split

    def compare(self, name: str, student: list[Tensor], teacher: list[Tensor],
                image: tuple[int, int] | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Unweighted loss ``name``, and its logs, averaged over the level pairs.

        Args:
            name: Name of the loss.
            student: The student's levels at this loss's tap.
            teacher: The teacher's levels at this loss's tap.
            image: Size (H, W) of the images, by which tokens become maps; None for square ones.

        Raises:
            FeatureMismatchError: There are other levels than in the dry run, or shapes differ.
            TapError: The student's feature carries no gradient although one is wanted.
        """
        config, criterion = self.configs[name], self.criteria[name]
        if torch.is_grad_enabled() and not any(level.requires_grad for level in student):
            raise TapError.at(f'{config.key}.student', config.student, 'the feature carries no gradient, so nothing of '
                              'the student would be trained by this loss; choose a module after the frozen stages and '
                              'not inside a block with activation checkpointing (with_cp)')
        compared = []
        for pair, projector in zip(self.pairs[name], cast(nn.ModuleList, self.projectors[name]), strict=True):
            if pair.counts != (len(student), len(teacher)):
                raise FeatureMismatchError(
                    f'{config.key}: {config.student!r} gave {len(student)} and {config.teacher!r} {len(teacher)} '
                    f'levels in this step, but {pair.counts[0]} and {pair.counts[1]} in the dry run, so it is not '
                    'known which are to be compared; tap modules that always return the same')
            try:
                s, t = conform(student[pair.student], teacher[pair.teacher], pair, config.pool, config.resize, image)
                compared.append(criterion(projector(s), t))
            except FeatureMismatchError as e:
                raise FeatureMismatchError(f'{config.key}, levels ({pair.student}, {pair.teacher}): {e}') from e
        return _mean(compared)

    def _nothing(self, name: str, device: torch.device) -> Tensor:
        """A zero that depends on the projectors, so that DDP finds their gradients whether or not they are used."""
        first = [parameter.flatten()[:1].float() for parameter in self.projectors[name].parameters()]
        return torch.cat(first).sum() * 0 if first else torch.zeros((), device=device)


def _projector(loss: LossConfig, pair: LevelPair) -> nn.Module:
    if loss.projector is not None:
        return build_module(f'{loss.key}.projector', loss.projector,
                            in_channels=pair.channels[0], out_channels=pair.channels[1])
    if pair.channels[0] != pair.channels[1] and loss.compares_logits:
        raise FeatureMismatchError(
            f'{loss.key}: the student has {pair.channels[0]} classes and the teacher {pair.channels[1]}; logits can '
            'only be compared where the classes are the same. Features can be distilled all the same')
    if pair.channels[0] != pair.channels[1]:
        raise FeatureMismatchError(
            f'{loss.key}.projector = None: student level {pair.student} {pair.student_shape} and teacher level '
            f'{pair.teacher} {pair.teacher_shape} have different channels; leave `projector` out for a LinearProjector')
    return nn.Identity()


def _mean(compared: Sequence[tuple[Tensor, dict[str, Tensor]]]) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean of several losses, and of their logs."""
    losses, logs = zip(*compared, strict=True)
    return torch.stack(losses).mean(), {key: torch.stack([log[key] for log in logs]).mean() for key in logs[0]}
