"""Results of trainings in a data frame, and what the tables and pictures of the studies take from it."""
from __future__ import annotations

import statistics
from typing import Any, Iterable, Mapping, Sequence

import pandas as pd
from runs import Job, markdown, spread

ALONE, TEACHER = 'student alone', 'teacher'
KEYS = ['dataset', 'row', 'seed']


def frame(records: Mapping[Job, dict[str, Any]]) -> pd.DataFrame:
    """Records by data set, row and seed; columns are ``metrics.<name>``, ``alignment.<loss>``, ``curve`` and so on."""
    if not records:
        return pd.DataFrame(columns=KEYS).set_index(KEYS)
    return pd.json_normalize(list(records.values()), max_level=1).set_index(KEYS).sort_index()


def of_row(results: pd.DataFrame, dataset: str, row: str) -> pd.DataFrame:
    """Trainings of a row by their seeds, with the columns that one of them has; empty where there are none."""
    level = results.index.get_level_values
    found = results[(level('dataset') == dataset) & (level('row') == row)]
    return found.droplevel(KEYS[:2]).dropna(axis=1, how='all')


def by_seed(results: pd.DataFrame, dataset: str, row: str, metric: str) -> pd.Series:
    """A metric of a row, for each seed that is recorded."""
    return _column(results, dataset, row, f'metrics.{metric}')


def _column(results: pd.DataFrame, dataset: str, row: str, name: str) -> pd.Series:
    """Values of a column for each seed of a row that has one; found in the sorted index, for tables ask thousands."""
    try:
        return results[name].loc[(dataset, row)].dropna()
    except KeyError:  # nobody has the column, or nothing is recorded of the row
        return pd.Series(dtype=float)


def gains(values: pd.Series, alone: pd.Series) -> pd.Series:
    """Differences seed by seed: runs of one seed share initial weights and data order."""
    return (values - alone).dropna()


def alignment(results: pd.DataFrame, dataset: str, row: str, loss: str) -> str:
    """Mean of the last alignment of a loss over the seeds of a row; nothing where it was not logged."""
    values = list(_column(results, dataset, row, f'alignment.{loss}'))
    return f'{statistics.mean(values):.2f}' if values else ''


def counted(values: pd.Series, sign: str = '', digits: int = 1) -> str:
    """Spread and number of values, or that there are none."""
    return f'{spread(values, sign, digits)} ({len(values)})' if len(values) else 'not measured'


def wide_table(results: pd.DataFrame, what: str, parts: Mapping[str, Iterable[str]], columns: Sequence[str],
               metric: str, scale: float, digits: int) -> str:
    """Markdown table with a line for each part, and a column for each row of trainings, the student alone first.

    Shown is ``scale`` times the metric, and in brackets the gain over the student alone; ``parts`` says which of the
    columns each part has.
    """
    lines = []
    for part, own in parts.items():
        values = {column: by_seed(results, part, column, metric) for column in columns}
        cells = []
        for column in columns:
            text = spread(scale * values[column], digits=digits) or ('not measured' if column in own else '–')
            gain = '' if column == ALONE else spread(scale * gains(values[column], values[ALONE]), '+', digits)
            cells.append(f'{text} ({gain})' if gain else text)
        lines.append([part, max(map(len, values.values())), *cells])
    return markdown([what, 'seeds', *columns], lines)
