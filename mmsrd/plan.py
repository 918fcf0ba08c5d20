"""What a distiller does, as a table for people."""
from __future__ import annotations

from typing import Sequence, cast

from torch import nn

from .distiller import ProjectorDistiller

_HEADER = ('loss', 'weight', 'student', 'stride', 'shape', 'teacher', 'stride', 'shape', 'projector')


def plan_rows(distiller: ProjectorDistiller) -> list[tuple[str, ...]]:
    """A row for each comparison, under the names of :data:`_HEADER`; shapes are those of one dry-run image."""
    rows: list[tuple[str, ...]] = []
    for name, config in distiller.configs.items():
        for pair, projector in zip(distiller.pairs[name], cast(nn.ModuleList, distiller.projectors[name]), strict=True):
            size = sum(p.numel() for p in projector.parameters())
            rows.append((
                name, f'{config.weight:g}',
                f'{config.student}[{pair.student}]', _stride(pair.strides[0]), _shape(pair.student_shape),
                f'{config.source}:{config.teacher}[{pair.teacher}]'.lstrip(':'), _stride(pair.strides[1]),
                _shape(pair.teacher_shape), f'{size / 1e3:.1f} k' if size else 'none'))
    return rows


def describe(distiller: ProjectorDistiller) -> str:
    """Teachers, losses, and the table of comparisons."""
    lines = [f'Distillation from {name + ": " if name else ""}{teacher.config_name} ({type(teacher.model).__name__})'
             for name, teacher in distiller.teachers.items()]
    lines += [f'  {name}: {distiller.criteria[name]}' for name in distiller.configs]
    return '\n'.join([*lines, text_table([_HEADER, *plan_rows(distiller)])])


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, two spaces apart."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return '\n'.join('  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                     for row in rows)


def _stride(stride: float | None) -> str:
    return '-' if stride is None else f'{stride:g}'


def _shape(shape: Sequence[int]) -> str:
    return 'x'.join(map(str, shape[1:]))
