"""Classes of teacher and student, and how they differ."""
from __future__ import annotations

import logging
from typing import Any, Mapping, Sequence

from mmengine.logging import print_log
from torch import nn


def num_classes(model: nn.Module) -> int | None:
    """Classes that a model tells apart, as its head says; None where none does.

    Region proposals have no class; backbones and preprocessors of classifiers may have a number of their own.

    Example:
        >>> from torch import nn
        >>> from mmsrd.teachers.class_names import num_classes
        >>> model = nn.Module()
        >>> model.head = nn.Module()
        >>> model.head.num_classes = 10
        >>> num_classes(model)
        10
    """
    counts = {name: module.num_classes for name, module in model.named_modules()
              if isinstance(getattr(module, 'num_classes', None), int) and module.num_classes > 0}
    for others in (('rpn', 'preprocessor', 'backbone'), ('rpn', 'preprocessor')):  # VGG's backbone has the logits
        for name, count in counts.items():
            if name and not any(other in name for other in others):
                return int(count)
    return None


def saved_classes(checkpoint: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Names of the classes that a checkpoint of MMEngine or MMCV says it was trained for; None where it does not."""
    meta = checkpoint.get('meta')
    meta = meta if isinstance(meta, Mapping) else {}
    data = meta.get('dataset_meta')
    names = (data if isinstance(data, Mapping) else {}).get('classes') or meta.get('CLASSES')
    return tuple(map(str, names)) if isinstance(names, Sequence) and not isinstance(names, str) else None


def say_how_classes_differ(key: str, teacher: Sequence[str] | None, student: Sequence[str] | None,
                           counts: tuple[int | None, int | None] = (None, None)) -> bool:
    """Log how the classes differ; whether they are the same, as far as known.

    Features can teach across classes, so this is an error for no loss but those on logits. Another order of the same
    classes is a warning: it is hardly ever meant.

    Args:
        key: Config key of the teacher.
        teacher: Names of its classes; None where they are not known.
        student: Names of the student's.
        counts: How many teacher and student have, where that is known.
    """
    if (teacher is None or student is None) and None not in counts and counts[0] != counts[1]:
        print_log(f'{key}: the teacher has {counts[0]} classes, the student {counts[1]}', logger='current')
        return False
    if teacher is None or student is None or tuple(teacher) == tuple(student):
        return True
    if sorted(teacher) == sorted(student):
        i = next(i for i, (a, b) in enumerate(zip(teacher, student)) if a != b)
        print_log(f'{key}: the teacher has the student\'s classes in another order: class {i} is {teacher[i]!r} '
                  f'for the teacher and {student[i]!r} for the student', logger='current', level=logging.WARNING)
        return False
    parts = [f'only {side} has {len(names)}: {", ".join(names[:3])}{" ..." if len(names) > 3 else ""}'
             for side, names in (('the teacher', [name for name in teacher if name not in student]),
                                 ('the student', [name for name in student if name not in teacher])) if names]
    print_log(f'{key}: the teacher was trained on {len(teacher)} classes, the student has {len(student)} ('
              + '; '.join(parts) + ')', logger='current')
    return False
