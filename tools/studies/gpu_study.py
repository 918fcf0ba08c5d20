"""What the studies of trainings for GPUs share: options, and a table with a column for each row of trainings."""
from __future__ import annotations

from typing import Iterable, Mapping, Sequence

from runs import spread
from study import ALONE, Records, by_seed, gains

UNDISTILLED = 'distill=None', 'runner_type=Runner'
"""Options that make the student alone of a config with a teacher."""
UNTAUGHT = 'distill.teacher.checkpoint=None', 'distill.teacher.allow_random=True'
"""Options of a smoke run, which downloads no weights."""
COMMON = 'auto_scale_lr.enable=True', 'default_hooks.checkpoint.max_keep_ckpts=1'


def wide_table(records: Records, what: str, parts: Mapping[str, Iterable[str]], columns: Sequence[str], metric: str,
               scale: float, digits: int) -> str:
    """Markdown table with a line for each part.

    Args:
        records: Records of the trainings.
        what: Title of the first column.
        parts: Parts, and which columns each has.
        columns: Rows of trainings, the student alone first.
        metric: What is shown, and the gain over the student alone in brackets.
        scale: Factor of the metric.
        digits: Digits after the point.
    """
    lines = [f'| {what} | seeds | {" | ".join(columns)} |', f'|---|---|{"---|" * len(columns)}']
    for part, own in parts.items():
        values = {column: by_seed(records, part, column, metric) for column in columns}
        cells = []
        for column in columns:
            text = spread([scale * value for value in values[column].values()], digits=digits) \
                or ('not measured' if column in own else '–')
            gained = gains(values[column], values[ALONE]) if column != ALONE else []
            gain = spread([scale * value for value in gained], '+', digits)
            cells.append(f'{text} ({gain})' if gain else text)
        lines.append(f'| {part} | {max(map(len, values.values()))} | {" | ".join(cells)} |')
    return '\n'.join(lines)
