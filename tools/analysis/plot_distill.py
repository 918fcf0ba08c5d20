#!/usr/bin/env python
"""Curves, spectra and alignment of distillation runs, as PNG files and one HTML page.

``plot_distill.py WORK_DIR... [--out FOLDER]`` reads what MMEngine's logger and, where it was switched on,
``mmsrd.ProjectorDiagnosticsHook`` have written in the newest run of each work directory.
"""
from __future__ import annotations

import argparse
import base64
import html
import sys
from itertools import takewhile
from pathlib import Path
from typing import List, Sequence, Tuple

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'helpers'))
from records import read_lines

from mmsrd.engine.hooks.projector_diagnostics_hook import SPECTRA

PANELS = {
    'losses': ('loss_srd_', 'weighted distillation loss'),
    'alignment': ('srd_alignment/', 'alignment (1 aligned, 0 unrelated)'),
    'level_alignment': ('srd_level_alignment/', 'alignment of each level'),
    'effective_rank': ('srd_effective_rank/', 'effective rank of the projector'),
    'cross_correlation': ('srd_cross_correlation/', 'mean |correlation| of projector input and output'),
}
"""File name → start of the scalars' names, and what the vertical axis says."""
METRICS = ('coco/bbox_mAP', 'accuracy/top1')
Curve = List[Tuple[float, float]]


class Run:
    """What one work directory has logged.

    Args:
        work_dir: Work directory of a training.
        name: What it is called in the pictures.

    Raises:
        SystemExit: Nothing was logged there.
    """

    def __init__(self, work_dir: Path, name: str) -> None:
        found = sorted(work_dir.glob('*/vis_data/scalars.json'))
        if not found:
            raise SystemExit(f'{work_dir}: no */vis_data/scalars.json; is it the work directory of a training?')
        self.name = name
        self.scalars = read_lines(found[-1])
        self.spectra = [line for line in read_lines(found[-1].with_name(SPECTRA)) if line['spectra']]

    def curves(self, start: str) -> dict[str, Curve]:
        """Curves of all scalars whose name starts so, by the rest of the name."""
        curves: dict[str, Curve] = {}
        for record in self.scalars:
            for key, value in record.items():
                if key.startswith(start):
                    curves.setdefault(key[len(start):], []).append((record['step'], value))
        return curves


def names_of(work_dirs: Sequence[Path]) -> list[str]:
    """What tells the work directories apart: their paths without what all begin and end with."""
    parts = [path.resolve().parts for path in work_dirs]
    start = _shared(parts)
    end = _shared([p[start:][::-1] for p in parts])
    return ['/'.join(p[start:len(p) - end]) or path.name for p, path in zip(parts, work_dirs)]


def _shared(sequences: Sequence[Sequence[str]]) -> int:
    """How many items all begin with."""
    return sum(1 for _ in takewhile(lambda items: len(set(items)) == 1, zip(*sequences)))


def draw_curves(runs: Sequence[Run], start: str, label: str, path: Path) -> bool:
    """One axes with a curve for each run and scalar; False where there is none."""
    figure, axes = plt.subplots(figsize=(7, 4), layout='constrained')
    drawn = False
    for run in runs:
        for name, curve in run.curves(start).items():
            text = ' '.join(x for x in (run.name if len(runs) > 1 else '', name) if x)
            axes.plot(*zip(*curve), label=text, marker='.' if len(curve) < 30 else '')
            drawn = True
    axes.set_xlabel('iteration, or epoch where the run counts epochs')
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)
    if drawn:
        axes.legend(fontsize=8)
        figure.savefig(path, dpi=110)
    plt.close(figure)
    return drawn


def draw_spectra(run: Run, path: Path) -> bool:
    """Singular values of each projector at up to six moments; False where there are none."""
    if not run.spectra:
        return False
    names = list(run.spectra[0]['spectra'])
    figure, all_axes = plt.subplots(1, len(names), figsize=(3.4 * len(names), 3.4), layout='constrained', squeeze=False)
    step = max((len(run.spectra) - 1) / 5, 1)
    moments = [run.spectra[round(i * step)] for i in range(min(6, len(run.spectra)))]
    for axes, name in zip(all_axes[0], names):
        for i, moment in enumerate(moments):
            axes.semilogy([max(v, 1e-6) for v in moment['spectra'][name]], label=f'iteration {moment["step"]}',
                          color=plt.get_cmap('viridis')(i / max(len(moments) - 1, 1)))
        axes.set_title(name)
        axes.set_xlabel('index')
        axes.grid(alpha=0.3)
    all_axes[0][0].set_ylabel('singular value')
    all_axes[0][-1].legend(fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return True


def page(title: str, pictures: Sequence[tuple[str, Path]]) -> str:
    """HTML with the pictures inside."""
    parts = [f'<h2>{html.escape(name)}</h2><img alt="{html.escape(name)}" src="data:image/png;base64,'
             f'{base64.b64encode(path.read_bytes()).decode()}">' for name, path in pictures]
    return (f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
            '<style>body{font-family:sans-serif;max-width:75em;margin:2em auto}img{max-width:100%}</style>'
            f'<h1>{html.escape(title)}</h1>{"".join(parts)}</html>')


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('work_dirs', type=Path, nargs='+', metavar='WORK_DIR')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/plots'), help='folder of the pictures')
    args = parser.parse_args(argv)
    runs = [Run(path, name) for path, name in zip(args.work_dirs, names_of(args.work_dirs))]
    args.out.mkdir(parents=True, exist_ok=True)
    pictures = []
    for metric in METRICS:
        path = args.out / f'{metric.replace("/", "_")}.png'
        if draw_curves(runs, metric, metric, path):
            pictures.append((metric, path))
    for file, (start, label) in PANELS.items():
        if draw_curves(runs, start, label, args.out / f'{file}.png'):
            pictures.append((label, args.out / f'{file}.png'))
    for run in runs:
        path = args.out / f'spectra_{run.name.replace("/", "_")}.png'
        if draw_spectra(run, path):
            pictures.append((f'singular values of the projectors, {run.name}', path))
    (args.out / 'index.html').write_text(page(', '.join(run.name for run in runs), pictures))
    print(f'{len(pictures)} pictures and index.html in {args.out}')


if __name__ == '__main__':
    main()
