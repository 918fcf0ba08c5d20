"""Records of measurements: read from JSON lines, their spread written down, tables put into pages."""
from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any, Sequence

END = '<!-- end of table -->'


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Records of a JSON-lines file; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def spread(values: Sequence[float], sign: str = '', digits: int = 2) -> str:
    """Mean ± standard deviation; the mean alone of one value, nothing of none."""
    if not values:
        return ''
    mean = f'{statistics.mean(values):{sign}.{digits}f}'
    return f'{mean} ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else mean


def between(text: str, mark: str, new: str) -> str:
    """``text`` with ``new`` between a line ``mark`` and the next end of a table."""
    before, found, rest = text.partition(mark)
    if not found:
        raise ValueError(f'no {mark!r} in the text')
    return f'{before}{mark}\n{new}\n{END}{rest.partition(END)[2]}'
