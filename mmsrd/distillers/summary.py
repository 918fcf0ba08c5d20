"""What a distiller does, as a table for people."""
from __future__ import annotations

from typing import Sequence

from .projector_distiller import ProjectorDistiller

HEADER = ('loss', 'weight', 'student', 'stride', 'shape', 'teacher', 'stride', 'shape', 'projector')


def summary(distiller: ProjectorDistiller) -> str:
    """Teachers, losses, and a table of the compared levels; shapes are those of one dry-run image."""
    lines = [f'Distillation from {name + ": " if name else ""}{teacher.config.name} ({type(teacher.model).__name__})'
             for name, teacher in distiller.teachers.items()]
    lines += [f'  layers the student starts with: {teacher.student_init}' for teacher in distiller.teachers.values()
              if teacher.student_init is not None]
    lines += [f'  {loss.config.name}: {loss.criterion}' for loss in distiller.feature_losses]
    rows = [row for loss in distiller.feature_losses for row in loss.summary_rows()]
    return '\n'.join([*lines, text_table([HEADER, *rows])])


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, two spaces apart."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return '\n'.join('  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
                     for row in rows)
