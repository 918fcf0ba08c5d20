"""``FeatureLoss``: one configured loss with its level pairs, projectors and criterion."""
from __future__ import annotations

import contextlib
import logging
from inspect import signature
from typing import Any, Callable, Iterator, Mapping, Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..config import LossConfig
from ..config.loss_config import OWN_KEYS
from ..errors import ConfigTypeError, FeatureMismatchError, TapError
from ..models.loss_and_projector_builder import build_loss, build_projector, check_projector
from ..models.losses.base_loss import BaseDistillLoss, LossAndLogs, LossTypeError, loss_and_logs, mean_of
from ..recorders import DryRun
from ..utils.random_state import preserved_random_state
from ..utils.tensors import channel_dim, num_rows
from .balance import Balance, GradientWatch
from .level_matching import LevelPair, match_levels, match_shapes


class FeatureLoss(nn.Module):
    """``distill.losses.<name>`` at work: compares levels of a student and a teacher feature.

    Builds its criterion, then a projector for each pair, whose initial weights it draws from the current random state.

    Args:
        config: The loss's part of the ``distill`` block.
        pairs: Which levels are compared (:meth:`match`).

    Attributes:
        config: As given.
        pairs: As given.
        criterion: The loss module.
        projectors: One for each pair.
        balance: Factors of its gradient at the student's levels; None for a loss of constant weight.
        class_order: Channels (C,) of the teacher in the order of the student's classes; None where it is the same.
        inspect: Where set, is called once with the loss and the levels that it is about to compare.
        watch: Where set, measures the gradient norms of a loss of constant weight in the next step.

    Raises:
        ConfigError: The loss or its projector is none, or an argument is not accepted.
        FeatureMismatchError: The loss cannot compare such features; or there is to be no projector, and the channels
            of a pair differ.
    """

    class_order: Tensor | None

    def __init__(self, config: LossConfig, pairs: Sequence[LevelPair]) -> None:
        super().__init__()
        self.config = config
        self.criterion = build_loss(config.key, config.module, OWN_KEYS)
        self.pairs = list(pairs)
        self.projectors = nn.ModuleList([self._projector(pair) for pair in self.pairs])
        self.balance: Balance | None = None if config.balance is None else \
            Balance(config.key, config.balance, self.student_levels)
        self.watch: GradientWatch | None = None
        self.inspect: Callable[[FeatureLoss, Sequence[tuple[Tensor, Tensor]]], None] | None = None
        self._said: set[str] = set()
        self.register_buffer('class_order', None, persistent=False)

    @classmethod
    def check(cls, config: LossConfig) -> None:
        """Check the arguments of a loss and its projector, as far as possible without levels.

        Raises:
            ConfigError: The loss or its projector is none, or an argument is not accepted.
        """
        with preserved_random_state():  # losses may have weights of their own
            options = cls(config, []).projector_config
        if options is not None:
            check_projector(f'{config.key}.projector', options)

    @staticmethod
    def match(config: LossConfig, student: DryRun, teacher: DryRun,
              teacher_size: tuple[int, int] | None = None) -> list[LevelPair]:
        """Pair the levels that the dry runs have shown.

        Args:
            config: The loss's part of the ``distill`` block.
            student: Dry run of the student.
            teacher: Dry run of the teacher.
            teacher_size: Size (H, W) of the teacher's images where it is always the same.

        Raises:
            TapError: A module was not called, or its output cannot be used.
            FeatureMismatchError: The levels cannot be compared as configured.
        """
        return match_levels(config, student.shapes(config.student, f'{config.key}.student'),
                            teacher.shapes(config.teacher, f'{config.key}.teacher'), (student.image, teacher.image),
                            teacher_size)

    @property
    def compares_logits(self) -> bool:
        """Return whether channels have a meaning of their own, such as classes."""
        return bool(getattr(self.criterion, 'compares_logits', False))

    @property
    def projector_config(self) -> Mapping[str, Any] | None:
        """``type`` and arguments of the projectors; None where there are none."""
        if isinstance(self.config.projector, str):
            return None if self.compares_logits else dict(type='LinearProjector')
        return self.config.projector

    @property
    def student_levels(self) -> list[int]:
        """Indices of the student's levels that are compared."""
        return sorted({pair.student for pair in self.pairs})

    def work_together(self, together: bool) -> None:
        """Say whether all processes compute the next loss (:attr:`BaseDistillLoss.shares`), if only to log it."""
        if isinstance(self.criterion, BaseDistillLoss):
            self.criterion.together = together

    @property
    def measured(self) -> Balance | GradientWatch | None:
        """Return what measures the gradients of a step, where they are balanced or watched."""
        return self.balance or self.watch

    def _projector(self, pair: LevelPair) -> nn.Module:
        options, key = self.projector_config, self.config.key
        if isinstance(self.criterion, BaseDistillLoss):
            pooled = pair.teacher_shape[0], pair.channels[1]
            projected = torch.empty(pooled if self.config.pool else pair.teacher_shape, device='meta')
            with self._named(pair):
                self.criterion.check(projected, projected)
        if options is not None:
            return build_projector(f'{key}.projector', options, *pair.channels)
        if pair.channels[0] == pair.channels[1]:
            return nn.Identity()
        if self.compares_classes:
            raise FeatureMismatchError(
                f'{key}: the student has {pair.channels[0]} classes and the teacher {pair.channels[1]}; logits can '
                'only be compared where the classes are the same. Features can still be distilled')
        where = key if self.compares_logits else f'{key}.projector = None'
        raise FeatureMismatchError(
            f'{where}: student level {pair.student} {pair.student_shape} and teacher level '
            f'{pair.teacher} {pair.teacher_shape} have different channels'
            + (f', which {type(self.criterion).__name__} compares one by one' if self.compares_logits else
               '; leave `projector` out for a LinearProjector'))

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor],
                image_size: tuple[int, int] | None = None) -> LossAndLogs:
        """Loss without its weight, and its logs, averaged over the level pairs.

        Args:
            student: Levels of the student's module.
            teacher: Levels of the teacher's module.
            image_size: Size (H, W) of the images, by which tokens become maps; None for square ones.

        Raises:
            FeatureMismatchError: There are other levels than in the dry run, or shapes differ.
            TapError: No compared level carries a gradient although one is wanted.
            ConfigTypeError: The criterion returns something that is no loss.
        """
        config = self.config
        self._check_gradients(student)
        compared: list[LossAndLogs] = []
        levels: list[tuple[Tensor, Tensor]] = []
        skipped = 0
        for pair, projector in zip(self.pairs, self.projectors):
            if pair.counts != (len(student), len(teacher)):
                raise FeatureMismatchError(
                    f'{config.key}: {config.student!r} gave {len(student)} and {config.teacher!r} {len(teacher)} '
                    f'levels in this step, but {pair.counts[0]} and {pair.counts[1]} in the dry run, so the '
                    'level pairs are unknown; tap modules that always return the same number of levels')
            with self._named(pair):
                s, t = match_shapes(student[pair.student], teacher[pair.teacher], pair, config, image_size)
                if self.class_order is not None:
                    t = t.index_select(channel_dim(t), self.class_order)
                if self._has_too_few_rows(s, pair):
                    skipped += 1
                    continue
                levels.append((projector(s), t))
                if isinstance(self.criterion, BaseDistillLoss):
                    self.criterion.check(*levels[-1])
                else:
                    compared.append(self._compare(*levels[-1]))
        if self.inspect is not None:
            inspect, self.inspect = self.inspect, None
            inspect(self, [(s.detach(), t) for s, t in levels])
        if not levels:
            return self.zero(student[0].device), {}
        value, logs = mean_of(compared) if compared else self._compare(*zip(*levels))
        if skipped:  # they are part of the mean, with zero
            value = value * (len(levels) / len(self.pairs)) + self.zero(value.device)
        return value, {key: log.mean() for key, log in logs.items()}

    @contextlib.contextmanager
    def _named(self, pair: LevelPair) -> Iterator[None]:
        """Name the loss and the levels of ``pair`` in what is raised inside of the block."""
        try:
            yield
        except FeatureMismatchError as e:
            raise FeatureMismatchError(f'{self.config.key}, levels ({pair.student}, {pair.teacher}): {e}') from e

    def _check_gradients(self, student: Sequence[Tensor]) -> None:
        """Notice compared levels that train nothing.

        Raises:
            TapError: No compared level carries a gradient although one is wanted. If only some do not, it warns once.
        """
        config = self.config
        frozen = [pair.student for pair in self.pairs
                  if pair.student < len(student) and not student[pair.student].requires_grad]
        if not frozen or not torch.is_grad_enabled():
            return
        if len(frozen) == len(self.pairs):
            raise TapError.at(f'{config.key}.student', config.student, 'the feature carries no gradient, so this loss '
                              'would train no part of the student; choose a module after the frozen stages and '
                              'not inside a block with activation checkpointing (with_cp)')
        levels = ', '.join(map(str, frozen))
        self._say('frozen', f'{config.key}.student = {config.student!r}: level(s) {levels} come from frozen layers and '
                  'carry no gradient, so comparing them trains no part of the student; leave them out with `levels`',
                  logging.WARNING)

    def _has_too_few_rows(self, student: Tensor, pair: LevelPair) -> bool:
        """Return whether a level cannot be compared in this step, as far as this process can tell; said once."""
        base = self.criterion if isinstance(self.criterion, BaseDistillLoss) else None
        rows, needed = (num_rows(student), 1) if base is None else (base.rows_of(student), base.min_rows)
        if rows >= needed:
            return False
        shared = base is not None and base.shares_rows
        here, everywhere = ('this process in ', ' in all processes together') if shared else ('', '')
        self._say('rows', f'{self.config.key}: level {pair.student} of the student has {rows} row(s) (images times '
                  f'positions) in {here}this step. {type(self.criterion).__name__} needs {needed}{everywhere}; with '
                  'fewer, the loss of this level is zero')
        return not shared

    def _say(self, what: str, text: str, level: int = logging.INFO) -> None:
        """Log something that may happen in any step, the first time."""
        if what not in self._said:
            self._said.add(what)
            print_log(text, logger='current', level=level)

    def _compare(self, student: Tensor | Sequence[Tensor], teacher: Tensor | Sequence[Tensor]) -> LossAndLogs:
        try:
            return loss_and_logs(self.criterion(student, teacher))
        except LossTypeError as e:
            raise ConfigTypeError.at(f'{self.config.key}.type', self.config.module['type'], str(e)) from e

    def over_batches(self, student: Sequence[Sequence[Tensor]], teacher: Sequence[Sequence[Tensor]],
                     image_sizes: Sequence[tuple[int, int]]) -> LossAndLogs:
        """Return loss and logs, averaged over several batches of images.

        Args:
            student: Levels of the student's module, for each batch.
            teacher: Levels of the teacher's module, for each batch.
            image_sizes: Size (H, W) of the images of each batch.
        """
        value, logs = mean_of([self(*levels) for levels in zip(student, teacher, image_sizes)])
        return value, {key: log.mean() for key, log in logs.items()}

    def zero(self, device: torch.device) -> Tensor:
        """A zero that depends on all parameters, so that DDP finds their gradients whether or not they are used."""
        first = [parameter.flatten()[:1].float() for parameter in self.parameters()]
        return torch.cat(first).sum() * 0 if first else torch.zeros((), device=device)

    def describe_non_finite(self, student: Sequence[Sequence[Tensor]], teacher: Sequence[Sequence[Tensor]],
                            loss: Tensor) -> str:
        """Return what to say of ``loss`` if it turns out not to be finite.

        Args:
            student: Levels of the student's module, for each batch.
            teacher: Levels of the teacher's module, for each batch.
            loss: The loss; its value and the features are read here only on the CPU, where that does not wait.
        """
        config = self.config
        text = f'loss {config.key} is not finite (student {config.student!r}, teacher {config.teacher!r})'
        if loss.device.type == 'cpu' and not loss.isfinite():
            bad = [f'the {side}\'s feature {path!r}' for side, path, batches in (
                ('student', config.student, student), ('teacher', config.teacher, teacher))
                if not all(level.isfinite().all() for levels in batches for level in levels)]
            text += f'; {" and ".join(bad) or "the features are finite"}'
            text += ('', ' is not finite', ' are not finite')[len(bad)]
        return text

    @property
    def compares_classes(self) -> bool:
        """Return whether channels of both are classes, one by one: no projector maps them."""
        return self.compares_logits and getattr(self.criterion, 'channels_are_classes', True) \
            and self.projector_config is None

    def reorder_classes(self, order: Sequence[int], anchors: int, device: torch.device) -> bool:
        """Put the teacher's channels into the order of the student's classes.

        Args:
            order: For each class of the student, its index in the teacher.
            anchors: Anchors of the head at each position.
            device: Device of the student.

        Returns:
            bool: Whether that can be done: there is a channel for each class, and perhaps one for the background, or
                a channel for each class of each anchor.
        """
        count, widths = len(order), {pair.channels[1] for pair in self.pairs}
        if widths not in ({count * anchors}, {count + 1}):
            return False
        width = widths.pop()
        repeats = anchors if width == count * anchors else 1
        channels = [anchor * count + own for anchor in range(repeats) for own in order]
        channels += range(len(channels), width)  # the background comes last
        self.register_buffer('class_order', torch.tensor(channels, device=device), persistent=False)
        return True

    def fingerprint(self) -> dict[str, Any]:
        """Everything of the configuration that a resume compares, defaults of the loss included."""
        config = self.config
        return dict(
            student=config.student, teacher=config.teacher, from_teacher=config.teacher_name, pool=config.pool,
            levels=[[pair.student, pair.teacher] for pair in self.pairs], resize=config.resize, tokens=config.tokens,
            projector=self.projector_config, weight=config.weight,
            **({} if config.balance is None else dict(balance=config.balance)), **self._arguments())

    def _arguments(self) -> dict[str, Any]:
        kind = type(self.criterion)
        defaults = {name: parameter.default for name, parameter in signature(kind).parameters.items()
                    if parameter.default is not parameter.empty}
        return {**defaults, **self.config.module, 'type': kind.__name__}

    def rows(self) -> list[tuple[str, ...]]:
        """Return a row of the table (:data:`mmsrd.distillers.plan.HEADER`) for each pair, with its projector's size."""
        sizes = [sum(parameter.numel() for parameter in projector.parameters()) for projector in self.projectors]
        return [(*row[:-1], f'{size / 1e3:.1f} k' if size else 'none')
                for row, size in zip(self.rows_of(self.config, self.pairs), sizes)]

    @staticmethod
    def rows_of(config: LossConfig, pairs: Sequence[LevelPair]) -> list[tuple[str, ...]]:
        """Return a row of the table for each pair, with the projectors' type."""
        rows = []
        paths = config.student, f'{config.teacher_name}:{config.teacher}'.lstrip(':')
        for pair in pairs:
            cells = [config.name, f'{config.weight:g}' if config.balance is None else f'balance {config.balance:g}']
            for path, level, stride, shape in zip(paths, (pair.student, pair.teacher), pair.strides,
                                                  (pair.student_shape, pair.teacher_shape)):
                cells += [f'{path}[{level}]', '-' if stride is None else f'{stride:g}', 'x'.join(map(str, shape[1:]))]
            rows.append((*cells, config.projector_text))
        return rows

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if self.balance is None:  # a checkpoint of a run with balance
            state_dict.pop(f'{prefix}balance.norms', None)
        super()._load_from_state_dict(state_dict, prefix, *args)

