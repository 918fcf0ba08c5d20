"""The report's page: HTML with everything inside."""
from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import Sequence

from .charts import Chart
from .notes import ReportNotes

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


def page(title: str, subtitle: str, tiles: Sequence[tuple[str, str, str]], charts: Sequence[Chart],
         tables: Sequence[tuple[str, Sequence[Sequence[str]]]], notes: ReportNotes, folder: Path, hints: Sequence[str]
         ) -> str:
    """The whole page.

    Args:
        title: Heading.
        subtitle: Line below it.
        tiles: Label, figure and explanation of what comes first.
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
    names = [f'<span><i style="border-color:var(--series-{line.series % 8})"'
             f'{" class=dashed" if line.series >= 8 else ""}></i>{html.escape(line.name)}</span>'
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
