"""Records of measurements: JSON lines, their spread, and Markdown tables that are put into pages."""
from __future__ import annotations

import fcntl
import json
import statistics
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, TextIO

END = '<!-- end of table -->'


def read_lines(path: Path) -> List[Dict[str, Any]]:
    """Records of a JSON-lines file; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def append_line(path: Path, record: Mapping[str, Any]) -> str:
    """Add a record to a JSON-lines file that others may append to as well; its line."""
    line = json.dumps(record)
    with locked(path) as file:
        file.write(f'{line}\n')
    return line


@contextmanager
def locked(path: Path) -> Iterator[TextIO]:
    """A file to append to that no other thread or process has at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'a') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def spread(values: Iterable[float], sign: str = '', digits: int = 2) -> str:
    """Mean ± standard deviation; the mean alone of one value, nothing of none."""
    values = list(values)
    if not values:
        return ''
    mean = f'{statistics.mean(values):{sign}.{digits}f}'
    return f'{mean} ± {statistics.stdev(values):.{digits}f}' if len(values) > 1 else mean


def markdown(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table."""
    header = list(header)
    return '\n'.join(f'| {" | ".join(map(str, row))} |' if row else '|' + '---|' * len(header)
                     for row in (header, None, *rows))


def between(text: str, mark: str, new: str) -> str:
    """``text`` with ``new`` between a line ``mark`` and the next end of a table."""
    before, found, rest = text.partition(mark)
    if not found:
        raise ValueError(f'no {mark!r} in the text')
    return f'{before}{mark}\n{new}\n{END}{rest.partition(END)[2]}'
