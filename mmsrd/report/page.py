"""The report's page, of one or several distilled trainings: HTML with everything inside."""
from __future__ import annotations

import base64
import html
import time
from itertools import takewhile
from pathlib import Path
from typing import Mapping, Sequence

from ..utils.files import write_whole
from .charts import SERIES, Chart, level_charts, loss_charts, metric_chart
from .comparison import Comparison, Group, main_metric, mean_and_spread, scale_of
from .run_log import LOGS, NOTES, ReportNotes, RunLog

PAGE = 'distill_report/index.html'
"""File of the page of a training, seen from its work directory."""
STYLE = '''
:root{color-scheme:light dark;--page:#fff;--card:#f6f7f9;--ink:#1b1f24;--ink-2:#4d5660;--line:#d8dde3;
--series-0:#0b62b8;--series-1:#c2410c;--series-2:#23803c;--series-3:#8338a8;--series-4:#9a6b00;--series-5:#be185d;
--series-6:#0e7490;--series-7:#57534e}
@media (prefers-color-scheme:dark){:root{--page:#14171b;--card:#1d2126;--ink:#e8eaed;--ink-2:#aab2bc;--line:#363d45;
--series-0:#6cb0f5;--series-1:#fb923c;--series-2:#5fd07d;--series-3:#c792ea;--series-4:#e0b040;--series-5:#f472b6;
--series-6:#4fc3d9;--series-7:#b8b0a8}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1240px;padding:16px;background:var(--page);color:var(--ink);
font:15px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.5rem;margin:.2em 0}h2{font-size:1.15rem;margin:1.6em 0 .5em}
p{margin:.3em 0;color:var(--ink-2)}
.tiles,.charts{display:grid;gap:12px}
.tiles{grid-template-columns:repeat(auto-fit,minmax(150px,1fr));margin-top:12px}
.charts{grid-template-columns:repeat(auto-fill,minmax(min(350px,100%),1fr))}
.tile,figure{background:var(--card);border-radius:8px;padding:12px;margin:0;min-width:0}
.tile b{display:block;font-size:1.5rem;line-height:1.2}.tile span,small{color:var(--ink-2);font-size:.85rem}
figure h3{font-size:1rem;margin:0}figure svg{display:block;width:100%;height:auto;font-family:inherit}
.legend{display:flex;flex-wrap:wrap;gap:2px 12px;font-size:.85rem;margin:4px 0}
.legend i{display:inline-block;width:14px;border-top:3px solid;vertical-align:middle;margin-right:5px}
.legend i.dashed{border-top-style:dashed;border-top-width:2px}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem}
th,td{text-align:left;padding:4px 12px 4px 0;border-bottom:1px solid var(--line);white-space:nowrap}
.pictures{display:grid;gap:6px 8px}.pictures>*{min-width:0}.pictures img{width:100%;display:block;border-radius:4px}
.pictures .head{font-weight:600;font-size:.9rem}.pictures .title{grid-column:1/-1;margin-top:6px;overflow-wrap:anywhere}
'''


def write_report(runs: Sequence[RunLog], out: Path, baselines: Sequence[RunLog] = (), metric: str | None = None
                 ) -> None:
    """Write the page of runs that differ in their seed, or of one.

    Args:
        runs: With distillation.
        out: File of the page.
        baselines: Runs of the student alone; none by default.
        metric: Name of the metric that it is about; None, the default, for the main one that was logged.

    Example:
        >>> from pathlib import Path
        >>> from mmsrd.report import RunLog, write_report
        >>> write_report([RunLog('work_dirs/srd_retinanet')], Path('report.html'))  # doctest: +SKIP
    """
    notes = ReportNotes.read(runs[0].work_dir)
    metric = metric or main_metric([*runs, *baselines])
    charts, tiles, hints = [], [], []
    tables: list[tuple[str, Sequence[Sequence[str]]]] = []
    if metric is not None:
        best = notes.best_teacher(metric)
        scale = scale_of(metric, _known_values(metric, [*runs, *baselines], notes))
        groups = [Group(name, group, metric, scale)
                  for name, group in (('distilled', runs), ('student alone', baselines)) if group]
        teacher = None if best is None else best['metrics'][metric] * scale
        charts.append(metric_chart(groups, teacher, 'points (0 to 100)' if scale > 1 else ''))
        if baselines:
            charts.append(metric_chart(groups, teacher, '', in_time=True))
        tiles = _tiles(groups, teacher, 0 if best is None else best['images'])
        tables.append(('Results', _results(groups, notes)))
        if not groups[0].curves():
            known = sorted({name for run in runs for validation in run.validations for name in validation.metrics})
            hints.append(f'No validation has {metric!r}; known metrics: {", ".join(known) or "none"}.')
    charts += [*loss_charts(runs, baselines), *level_charts(runs)]
    tables += [('What is compared', [notes.header, *notes.plan]),
               ('Teachers', [('teacher', 'weights'), *((teacher['config'], teacher['checkpoint'])
                                                       for teacher in notes.teachers)])]
    if not any(run.training for run in runs):
        hints.append(f"No curves: {LOGS} has no training iteration yet. Curves need dict(type='LocalVisBackend') in "
                     'visualizer.vis_backends.')
    steps = max((run.training[-1]['step'] for run in runs if run.training), default=0)
    several = f'{len(runs)} runs, ' if len(runs) > 1 else ''
    name = runs[0].name if len(runs) == 1 else runs[0].work_dir.resolve().parent.name
    text = _html(f'Distillation report: {notes.title or name}',
                 f'{several}{steps} iterations; written {time.strftime("%Y-%m-%d %H:%M")}',
                 tiles, charts, tables, notes, (runs[0].work_dir / NOTES).parent, hints)
    write_whole(out, text)


def _tiles(groups: Sequence[Group], teacher: float | None, images: int) -> list[tuple[str, str, str]]:
    distilled = groups[0]
    tiles = [('Student, distilled', mean_and_spread(distilled.last()),
              f'{distilled.metric}, last; best {mean_and_spread(distilled.best())}')]
    if len(groups) > 1:
        compared = Comparison(*groups)
        tiles.append(('Student alone', mean_and_spread(groups[1].last()),
                      f'last; best {mean_and_spread(groups[1].best())}'))
        tiles.append(('Gain', mean_and_spread(compared.gain(), sign=True), 'points at equal iterations'))
        tiles.append(('Gain in equal time', mean_and_spread(compared.gain(in_time=True), sign=True),
                      'points at equal training time'))
        matched, cost = compared.time_to_match(), compared.cost_of_step()
        tiles.append(('Time to match', f'{matched:.0%}' if matched is not None else 'not yet',
                      "of the baseline's training time, to reach the baseline's final result"))
        if cost is not None:
            tiles.append(('Time of a step', f'× {cost:.2f}', 'of a step of the student alone'))
    if teacher is not None:
        tiles.append(('Teacher', f'{teacher:.1f}', f'on {images} validation images'))
    return tiles


def _results(groups: Sequence[Group], notes: ReportNotes) -> list[tuple[str, ...]]:
    """Return the table of each run's last validation, by metric."""
    names = list(dict.fromkeys(name for group in groups for run in group.runs for validation in run.validations[-1:]
                               for name in validation.metrics))
    rows: list[tuple[str, ...]] = [('last validation', *names)]
    all_runs = [run for group in groups for run in group.runs]
    scales = {name: scale_of(name, _known_values(name, all_runs, notes)) for name in names}
    for group in groups:
        for run in group.runs:
            known = run.validations[-1].metrics if run.validations else {}
            label = f'{group.name}: {run.name}' if len(group.runs) > 1 else group.name
            rows.append((label, *(_cell(known, name, scales[name]) for name in names)))
    for teacher in notes.teachers:
        if teacher.get('metrics'):
            cells = (_cell(teacher['metrics'], name, scales[name]) for name in names)
            rows.append((f'teacher {teacher["name"]}'.strip(), *cells))
    return rows


def _known_values(metric: str, runs: Sequence[RunLog], notes: ReportNotes) -> list[float]:
    """Return all known values of a metric, of the students and the teachers."""
    return [value for run in runs for _, value in run.metric(metric)] + [
        teacher['metrics'][metric] for teacher in notes.teachers if metric in teacher.get('metrics', {})]


def _cell(metrics: Mapping[str, float], name: str, scale: float) -> str:
    value = metrics.get(name, -1)
    return '–' if value < 0 else f'{value * scale:.1f}'  # -1: there is no object of that kind


def distinct_names(work_dirs: Sequence[Path]) -> list[str]:
    """Return names that tell work directories apart: their paths without what all begin and end with.

    Example:
        >>> from pathlib import Path
        >>> from mmsrd.report import distinct_names
        >>> distinct_names([Path('/a/seed0/x'), Path('/a/seed1/x')])
        ['seed0', 'seed1']
    """
    parts = [path.resolve().parts for path in work_dirs]
    start = _common_length(parts)
    end = _common_length([p[start:][::-1] for p in parts])
    return ['/'.join(p[start:len(p) - end]) or path.name for p, path in zip(parts, work_dirs)]


def _common_length(sequences: Sequence[Sequence[str]]) -> int:
    """Return the number of items that all begin with."""
    return sum(1 for _ in takewhile(lambda items: len(set(items)) == 1, zip(*sequences)))


def _html(title: str, subtitle: str, tiles: Sequence[tuple[str, str, str]], charts: Sequence[Chart],
         tables: Sequence[tuple[str, Sequence[Sequence[str]]]], notes: ReportNotes, folder: Path, hints: Sequence[str]
         ) -> str:
    """Return the page as HTML with everything inside.

    Args:
        title: Heading.
        subtitle: Line below it.
        tiles: Label, figure and explanation of each.
        charts: Charts; those without a line are left out.
        tables: Heading and rows, the first of which is the head.
        notes: Pictures.
        folder: Where their files are.
        hints: What is missing and how to add it.
    """
    parts = [f'<h1>{html.escape(title)}</h1><p>{html.escape(subtitle)}</p>']
    if tiles:
        parts.append('<div class="tiles">' + ''.join(
            f'<div class="tile"><span>{html.escape(label)}</span><b>{html.escape(figure)}</b>'
            f'<span>{html.escape(text)}</span></div>' for label, figure, text in tiles) + '</div>')
    parts += [f'<p>{html.escape(hint)}</p>' for hint in hints]
    drawn = [_figure(chart) for chart in charts if chart.lines]
    if drawn:
        parts.append(f'<h2>Training</h2><div class="charts">{"".join(drawn)}</div>')
    parts += [f'<h2>{html.escape(heading)}</h2>{_table(rows)}' for heading, rows in tables if len(rows) > 1]
    if notes.pictures:
        parts.append(f'<h2>Validation images</h2>{_pictures(notes, folder)}')
    return ('<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
            f'content="width=device-width,initial-scale=1"><title>{html.escape(title)}</title><style>{STYLE}</style>'
            f'</head><body>{"".join(parts)}</body></html>\n')


def _figure(chart: Chart) -> str:
    names = [f'<span><i style="border-color:var(--series-{line.series % SERIES})"'
             f'{" class=dashed" if line.series >= SERIES else ""}></i>{html.escape(line.name)}</span>'
             for line in chart.lines if line.name]
    if chart.level is not None:
        names.append(f'<span><i class="dashed"></i>{html.escape(chart.level[0])} {chart.level[1]:.1f}</span>')
    note = f'<small>{html.escape(chart.note)}</small>' if chart.note else ''
    return (f'<figure><h3>{html.escape(chart.title)}</h3>{note}<div class="legend">{"".join(names)}</div>'
            f'{chart.svg()}</figure>')


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in row)
             for row, tag in zip(rows, ['th', *['td'] * (len(rows) - 1)])]
    return '<div class="scroll"><table>' + ''.join(f'<tr>{line}</tr>' for line in lines) + '</table></div>'


def _pictures(notes: ReportNotes, folder: Path) -> str:
    cells = [f'<div class="head">{html.escape(column)}</div>' for column in notes.columns]
    for picture in notes.pictures:
        cells.append(f'<small class="title">{html.escape(picture["title"])}</small>')
        for column, shown in zip(notes.columns, picture['shown']):
            path = folder / shown.get('file', '')
            label = html.escape(f'{column}: {picture["title"]}')
            image = (f'<img loading="lazy" alt="{label}" src="data:image/jpeg;base64,'
                     f'{base64.b64encode(path.read_bytes()).decode()}">') if path.is_file() else ''
            cells.append(f'<div>{image}<small>{html.escape(shown.get("text", ""))}</small></div>')
    return (f'<div class="pictures" style="grid-template-columns:repeat({len(notes.columns)},1fr)">{"".join(cells)}'
            '</div>')
