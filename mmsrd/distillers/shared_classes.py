"""Logits and classifiers of student and teacher: compared and taken over where their classes are the same."""
from __future__ import annotations

import logging
from typing import Sequence

from mmengine.logging import print_log
from torch import nn

from ..config.checks import ROOT
from ..errors import ConfigError, FeatureMismatchError
from ..utils.dist import num_processes
from .distiller import ProjectorDistiller
from .feature_loss import FeatureLoss


def take_classes(distiller: ProjectorDistiller, student: nn.Module, names: Sequence[str] | None) -> None:
    """Compare logits only where the classes are the same; call it once weights and the student's data are known.

    Logits of the same classes in another order are put in order. Those of other classes are left out by a preset,
    and the student starts with classifiers of its own.

    Args:
        distiller: The student's distiller.
        student: The student.
        names: Names of its classes; None where they are not known.

    Raises:
        FeatureMismatchError: A loss of the config compares logits of other classes.
        ConfigError: A preset compares logits alone, and they are of other classes.
    """
    for name, teacher in list(distiller.teachers.items()):
        match = teacher.match_classes(student, names)
        logits = [loss for loss in distiller.feature_losses
                  if loss.compares_classes and loss.config.teacher_name == name]
        init = teacher.student_init
        if match.text and (match.known or not match.same or logits or (init and init.classifiers)):
            print_log(f'{teacher.key}: {match.text}', logger='current',
                      level=logging.INFO if match.order is None else logging.WARNING)
        if match.same:
            continue
        device = next(student.parameters()).device
        for loss in logits:
            if match.order is None or not loss.reorder_classes(match.order, _anchors(student, loss), device):
                _leave_out(distiller, loss, match.text)
        if init is not None and name not in distiller.teachers:
            print_log(f'{teacher.key}: the student does not start with its layers, because nothing else of it is '
                      'compared', logger='current', level=logging.WARNING)
        elif init is not None and init.classifiers:
            print_log(f'{teacher.key}: the student keeps its own {", ".join(init.classifiers)}, because its '
                      'classes are not those of the teacher in the same order', logger='current')
            init.leave_out_classifiers()


def _anchors(student: nn.Module, loss: FeatureLoss) -> int:
    """Return at how many anchors the head predicts classes at each position."""
    head = loss.config.student.rpartition('.')[0]
    count = getattr(student.get_submodule(head), 'num_base_priors', 1) if head else 1
    return count if isinstance(count, int) else 1


def _leave_out(distiller: ProjectorDistiller, loss: FeatureLoss, why: str) -> None:
    """Take out a loss on logits that a preset has chosen."""
    config = loss.config
    if not config.preset:
        raise FeatureMismatchError(
            f'{config.key}: {why}. Logits can only be compared where the classes are the same. If only the names '
            'differ, set `classes` of the teacher to the names of the student')
    print_log(f'Preset {config.preset}: the logits are not distilled, because {why}', logger='current',
              level=logging.WARNING)
    if distiller.plan.untrained is not None and num_processes(True) > 1:
        # DistributedDataParallel waits already for the gradients of what this loss would have trained.
        raise ConfigError.at(f'{ROOT}.labels', False, f'the preset compares logits, and {why}; write '
                             f'`{ROOT}.losses` without them')
    if len(distiller.feature_losses) == 1:
        raise ConfigError.at(f'{ROOT}.preset', config.preset, 'finds nothing to distil: only the logits could be, '
                             f'and {why}; write `{ROOT}.losses`')
    distiller.leave_out(loss)
