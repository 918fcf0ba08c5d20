"""Results of the benchmark as a table and a picture."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from records import markdown

_COLUMNS = {'variant': 'variant', 'step_ms': 'step, ms', 'step_ratio': 'over plain', 'step_ratio_range': 'range',
            'peak_mib': 'peak, MiB', 'reserved_mib': 'reserved, MiB', 'memory_ratio': 'over plain',
            'teacher_ms': 'teacher, ms', 'loss_ms': 'loss, ms', 'loss_floor_ms': 'its floor, ms'}
_SCALING_COLUMNS = {
    'what': 'what', 'value': 'value', 'plain_ms': 'plain step, ms', 'ours_ms': 'ours, ms', 'step_ratio': 'ratio',
    'teacher_ms': 'teacher, ms', 'loss_ms': 'loss, ms', 'autograd_ms': 'the reference, ms',
    'synced_ms': 'loss, shared statistics, ms', 'alone_ms': 'loss, own statistics, ms'}
_COLOURS = {'plain': 'tab:gray', 'MMRazor': 'tab:orange', 'torchdistill': 'tab:orange'}
STAND_IN = 'mmcv has no compiled operators here: plain and distilled steps are both slower, by what its stand-in takes.'


def title(result: dict[str, Any]) -> str:
    """Setting and machine in a line."""
    case, machine = result['case'], result['machine']
    return (f'{case["pair"]}, {case["height"]}×{case["width"]}, batch {case["batch"]}, '
            f'{"float32" if case["amp"] == "none" else "AMP " + case["amp"]}, {machine["device"]}, {machine["date"]}')


def table(result: dict[str, Any]) -> str:
    """A Markdown table of the variants; the reason stands where one could not run."""
    columns = {key: name for key, name in _COLUMNS.items()
               if key == 'step_ms' or any(key in row for row in result['rows'])}
    inflated = result.get('mmcv_ops') == 'stand-in' and result['case']['pair'] != 'resnet'
    return _markdown(columns, result['rows'], reason_at=1) + ('\n\n' + STAND_IN if inflated else '')


def scaling_table(result: dict[str, Any]) -> str:
    """A Markdown table of how the cost grows."""
    return _markdown(_SCALING_COLUMNS, result['scaling'], reason_at=3)


def _markdown(columns: dict[str, str], rows: list[dict[str, Any]], reason_at: int) -> str:
    lines = []
    for row in rows:
        cells = [_cell(row.get(key)) for key in columns]
        if 'error' in row:
            cells[reason_at] = f'not measured: {row["error"]}'
        lines.append(cells)
    return markdown(columns.values(), lines)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return f'{value[0]:.2f} to {value[1]:.2f}'
    if isinstance(value, float):
        return f'{value:.2f}' if value < 100 else f'{value:.0f}'
    return '–' if value is None else str(value)


def chart(result: dict[str, Any], path: Path) -> None:
    """Bars of step time over the plain step, with the range over the turns."""
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    rows = [row for row in result['rows'] if 'step_ratio' in row][::-1]
    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.35 * len(rows)), layout='constrained')
    ratios = [row['step_ratio'] for row in rows]
    spread = [[row['step_ratio'] - row['step_ratio_range'][0] for row in rows],
              [row['step_ratio_range'][1] - row['step_ratio'] for row in rows]]
    colours = [next((colour for start, colour in _COLOURS.items() if row['variant'].startswith(start)), 'tab:blue')
               for row in rows]
    axes.barh([row['variant'] for row in rows], ratios, xerr=spread, color=colours, capsize=3)
    axes.axvline(1, color='black', linewidth=0.8)
    for row, ratio, high in zip(rows, ratios, spread[1]):
        axes.text(ratio + high + 0.02, row['variant'], f'{ratio:.2f}', va='center')
    axes.set_xlim(0, max(r + h for r, h in zip(ratios, spread[1])) * 1.12)
    axes.set_xlabel('step time over the plain student step (median, range over turns)')
    axes.set_title(title(result), fontsize=10)
    figure.savefig(path, dpi=120)
    plt.close(figure)
