"""``NoEffectHook``: says when a distillation loss does nothing."""
from __future__ import annotations

import logging
from collections import defaultdict
from typing import Any, Optional

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor, nn

from ...distillers.feature_loss import FeatureLoss
from ...registry import HOOKS
from .distill_hook import distiller_of

STEPS = 100
"""Steps that are looked at, once the learning rate has reached a tenth of its initial value."""
ENDS = 20
"""Steps at both ends of them whose means are compared."""
STILL = 1e-3
"""Relative change of a projector's weights below which it has hardly moved; SGD in a warm-up moves it more."""
ALIKE = 0.95
"""Alignment that is not expected to move."""


@HOOKS.register_module()
class NoEffectHook(Hook):
    """Looks at the first steps with distillation, and warns once for each loss that seems to have no effect.

    That is a loss that is constant, an alignment that does not move, a projector without a gradient, and a balance of
    zero at all levels (a factor that has hit its limit is a warning of :class:`mmsrd.distillers.balance.Balance`).
    What the steps have logged stays on the device, and is read once at the end. A resumed run is not looked at.
    """

    priority = 'LOW'

    def __init__(self) -> None:
        self._logged: dict[str, list[Tensor]] = defaultdict(list)
        self._first: dict[nn.Parameter, Tensor] = {}
        self._gradients: dict[nn.Parameter, Tensor] = {}
        self._handles: list[Any] = []
        self._looking = False

    def before_train(self, runner: Runner) -> None:
        """Watch the projectors' gradients from the first step on."""
        self._looking = runner.iter == 0
        for parameter in distiller_of(runner).parameters() if self._looking else ():
            if parameter.requires_grad:
                self._handles.append(parameter.register_hook(self._watch(parameter)))  # type: ignore[no-untyped-call]

    def _watch(self, parameter: nn.Parameter) -> Any:
        def look(gradient: Tensor) -> None:
            largest = gradient.detach().abs().max()
            known = self._gradients.get(parameter)
            self._gradients[parameter] = largest if known is None else torch.maximum(known, largest)
        return look

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Optional[Any] = None,
                         outputs: Optional[Any] = None) -> None:
        """Keep what the step has logged; after the last of them, look at it."""
        distiller = distiller_of(runner)
        distilled = any('srd_' in key for key in outputs or {})
        in_window = distiller.progress.schedule.active(runner.iter, runner.epoch)
        if not (self._looking and in_window and distilled) or _warms_up(runner):
            return
        if not self._first:
            self._first = {p: p.detach().clone() for p in distiller.parameters()}
        for key, value in (outputs or {}).items():
            if 'srd_' in key and isinstance(value, Tensor):
                self._logged[key].append(value.detach())
        if max(map(len, self._logged.values()), default=0) >= STEPS:
            for loss in distiller.feature_losses:
                if loss.config.weight > 0:
                    self._judge(loss)
            self._stop()

    def after_train(self, runner: Runner) -> None:
        """Look no longer, also where there were too few steps to judge."""
        self._stop()

    def _stop(self) -> None:
        self._looking = False
        for handle in self._handles:
            handle.remove()
        for kept in (self._handles, self._logged, self._gradients, self._first):
            kept.clear()

    def _judge(self, loss: FeatureLoss) -> None:
        name = loss.config.name
        values, alignment, balance = (torch.stack(self._logged[key]).float().cpu() if key in self._logged else None
                                      for key in (f'loss_srd_{name}', f'srd_alignment_{name}', f'srd_balance_{name}'))
        if values is not None and values.max() - values.min() <= 1e-6 * values.abs().max():
            _warn(loss, f'the loss was {float(values[0]):.6g} in all {len(values)} steps')
        if alignment is not None and alignment[-1] < ALIKE and self._has_hardly_moved(loss):
            ends = alignment[:ENDS], alignment[-ENDS:]
            noise = sum(float(end.var()) / len(end) for end in ends) ** 0.5  # one batch is not like another
            if abs(float(ends[1].mean() - ends[0].mean())) <= 2 * noise:
                _warn(loss, f'the alignment stayed at {float(alignment[-1]):.3f} for {len(alignment)} steps, and the '
                      'projector hardly changed. Is its learning rate zero?')
        if balance is not None and not balance[-ENDS:].any():
            _warn(loss, "the balance is zero at all levels: the student's own losses send no gradient to "
                  f'{loss.config.student!r}, so this loss sends none either')
        idle = [path for path, parameter in loss.projectors.named_parameters()
                if parameter not in self._gradients or not self._gradients[parameter].any()]
        if idle:
            _warn(loss, f'the projector gets no gradient ({", ".join(idle[:3])}{" ..." if len(idle) > 3 else ""})')

    def _has_hardly_moved(self, loss: FeatureLoss) -> bool:
        changes = [float((parameter.detach() - first).norm() / first.norm().clamp(min=1e-12))
                   for parameter in loss.projectors.parameters() if (first := self._first.get(parameter)) is not None]
        return bool(changes) and max(changes) < STILL


def _warms_up(runner: Runner) -> bool:
    """Return whether all learning rates are still below a tenth of their initial values."""
    optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
    groups = getattr(optimizer, 'param_groups', [])
    return bool(groups) and all(group['lr'] < 0.1 * group.get('initial_lr', group['lr']) for group in groups)


def _warn(loss: FeatureLoss, what: str) -> None:
    config = loss.config
    print_log(f'{config.key} (student {config.student!r}, teacher {config.teacher!r}) seems to have no effect: {what}',
              logger='current', level=logging.WARNING)
