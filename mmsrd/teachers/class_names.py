"""Classes of teacher and student, and how they differ."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from torch import nn


def num_classes(model: nn.Module) -> int | None:
    """Classes that a model tells apart, as its head says; None where none does.

    Region proposals have no class; backbones and preprocessors of classifiers may have a number of their own. Tasks of
    one model may differ, and a loss says which of them it is on.

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
    if len({count for name, count in counts.items() if '.task_heads.' in name}) > 1:
        return None
    for others in (('rpn', 'preprocessor', 'backbone'), ('rpn', 'preprocessor')):  # VGG's backbone has the logits
        for name, count in counts.items():
            if name and not any(other in name for other in others):
                return int(count)
    return None


def names_in(meta: Any) -> tuple[str, ...] | None:
    """Names of the classes in the ``metainfo`` of a data set; None where it has none.

    Early versions of MMDetection 3 name the entry ``CLASSES``.
    """
    meta = meta if isinstance(meta, Mapping) else {}
    names = meta.get('classes') or meta.get('CLASSES')
    return tuple(map(str, names)) if isinstance(names, Sequence) and not isinstance(names, str) else None


def saved_classes(checkpoint: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Names of the classes that a checkpoint of MMEngine or MMCV says it was trained for; None where it does not."""
    meta = checkpoint.get('meta')
    meta = meta if isinstance(meta, Mapping) else {}
    return names_in(meta.get('dataset_meta')) or names_in(meta)


def configured_classes(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Names of the classes that a config gives its training or validation set (``metainfo``); None where it does not.
    """
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        block = config.get(loader)
        while isinstance(block, Mapping):  # data sets are wrapped in others
            names = names_in(block.get('metainfo'))
            if names:
                return names
            block = block.get('dataset')
    return None


@dataclass(frozen=True)
class ClassMatch:
    """Match of the classes of a teacher and its student.

    Attributes:
        same: Whether they are the same in the same order, as far as known.
        known: Whether the names of both are known.
        order: Where the same classes are in another order: for each of the student's, its number with the teacher.
        text: What to say of it; empty where there is nothing to say.
    """

    same: bool = True
    known: bool = True
    order: tuple[int, ...] | None = None
    text: str = ''


def match_classes(teacher: Sequence[str] | None, student: Sequence[str] | None,
                  counts: tuple[int | None, int | None] = (None, None)) -> ClassMatch:
    """Compare classes by their names: capitals, blanks, signs and what follows a comma (synonyms) do not count.

    Signs and synonyms count where both sides have the same names with them: ``C`` and ``C++``.

    Args:
        teacher: Names of the teacher's classes; None where they are not known.
        student: Names of the student's.
        counts: How many teacher and student have, where that is known.

    Example:
        >>> from mmsrd.teachers.class_names import match_classes
        >>> match_classes(['cat', 'dog'], ['Dog', 'cat']).order
        (1, 0)
        >>> match_classes(['cat', 'dog'], ['cat', 'cow']).same
        False
    """
    theirs, own = ([name.strip().casefold() for name in names or ()] for names in (teacher, student))
    if sorted(theirs) != sorted(own):
        theirs, own = ([_plain(name) for name in names] for names in (theirs, own))
    known = teacher is not None and student is not None
    if None not in counts and counts[0] != counts[1] and (not known or theirs == own):
        return ClassMatch(False, False, None, f'the teacher has {counts[0]} classes, the student {counts[1]}')
    if teacher is None or student is None:
        who = ' and '.join(side for side, names in (('teacher', teacher), ('student', student)) if names is None)
        return ClassMatch(True, False, None, f'the class names of the {who} are not known, so classes with the same '
                                             'index are taken to be the same')
    if theirs == own:
        return ClassMatch()
    if sorted(theirs) == sorted(own) and len(set(own)) == len(own):
        i = next(i for i, (a, b) in enumerate(zip(theirs, own)) if a != b)
        return ClassMatch(False, True, tuple(theirs.index(name) for name in own),
                          f'the teacher has the student\'s classes in another order: class {i} is {teacher[i]!r} for '
                          f'the teacher and {student[i]!r} for the student')
    parts = [f'only {side} has {len(names)}: {", ".join(names[:3])}{" ..." if len(names) > 3 else ""}'
             for side, names in (
                 ('the teacher', [name for name, plain in zip(teacher, theirs) if plain not in own]),
                 ('the student', [name for name, plain in zip(student, own) if plain not in theirs])) if names]
    return ClassMatch(False, True, None, f'the teacher was trained on {len(teacher)} classes, the student has '
                                         f'{len(student)} ({"; ".join(parts) or "some have the same name"})')


def _plain(name: str) -> str:
    """Letters and digits of a name in small letters, without synonyms."""
    return ''.join(c for c in name.partition(',')[0] if c.isalnum())
