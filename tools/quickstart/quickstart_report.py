"""Table and pictures of the quick start, made from what the trainings wrote."""
from __future__ import annotations

import json
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'helpers'))
from detection_pictures import pictures
from records import markdown, read_lines, spread

NAMES = dict(teacher='Teacher', student='Student alone', distilled='Student distilled')
COLOURS = dict(teacher='#6b6b6b', student='#d1603d', distilled='#2a6f97')


@dataclass
class Run:
    """One finished training."""

    role: str  # ``teacher``, ``student`` or ``distilled``
    seed: int  # seed of the run
    work_dir: Path  # where it wrote
    config: str  # its config file
    seconds: float  # wall-clock time of the training command, validation included

    def scalars(self) -> list[dict[str, Any]]:
        """Return what the newest training in the work directory logged, a dict for each interval or validation."""
        path = sorted(self.work_dir.glob('*/vis_data/scalars.json'))[-1]
        return read_lines(path)

    def checkpoint(self) -> Path:
        """The last checkpoint."""
        return Path((self.work_dir / 'last_checkpoint').read_text().strip())


def parameters(checkpoint: Path) -> int:
    """Learnable parameters in a checkpoint: everything in its state dict but batch statistics."""
    import mmsrd  # noqa: F401  makes MMEngine's checkpoints readable
    state = torch.load(checkpoint, map_location='cpu', weights_only=True)['state_dict']
    return sum(v.numel() for k, v in state.items() if 'running_' not in k and 'num_batches' not in k)


def measure(run: Run) -> dict[str, Any]:
    """Numbers of one run; mAP in percent, from its last validation."""
    last = [s for s in run.scalars() if 'coco/bbox_mAP' in s][-1]
    return dict(role=run.role, seed=run.seed, config=run.config, work_dir=str(run.work_dir),
                mAP=100 * last['coco/bbox_mAP'], mAP50=100 * last['coco/bbox_mAP_50'],
                parameters=parameters(run.checkpoint()), seconds=round(run.seconds, 1))


def table(results: list[dict[str, Any]]) -> str:
    """Markdown table, a row for each role."""
    lines = []
    for role, name in NAMES.items():
        rows = [r for r in results if r['role'] == role]
        if rows:
            lines.append((name, ', '.join(str(r['seed']) for r in rows), spread((r['mAP'] for r in rows), digits=1),
                          spread((r['mAP50'] for r in rows), digits=1), f'{rows[0]["parameters"] / 1e3:.0f} k',
                          f'{statistics.mean(r["seconds"] for r in rows):.0f} s'))
    return markdown(('model', 'seeds', 'mAP', 'mAP50', 'parameters', 'training time'), lines)


def curves(runs: list[Run], path: Path) -> None:
    """Draw mAP, training loss without distillation, SRD loss and alignment over the iterations."""
    figure, axes = plt.subplots(1, 4, figsize=(17, 3.8), constrained_layout=True)
    panels = {'mAP on val (%)': lambda s: 100 * s['coco/bbox_mAP'],
              'detection loss': lambda s: s['loss_cls'] + s['loss_bbox'] + s['loss_centerness'],
              'SRD loss (weighted)': lambda s: s['loss_srd_neck'],
              'alignment': lambda s: s['srd_alignment_neck']}
    for axis, (title, value) in zip(axes, panels.items()):
        labelled: set[str] = set()
        for run in runs:
            points = []
            for scalar in run.scalars():
                try:
                    points.append((scalar['step'], value(scalar)))
                except KeyError:
                    continue
            if points:
                label = None if run.role in labelled else NAMES[run.role]
                labelled.add(run.role)
                axis.plot(*zip(*points), color=COLOURS[run.role], label=label, alpha=0.85,
                          marker='o' if 'mAP' in title else None, markersize=4)
        axis.set(title=title, xlabel='iteration')
        if 'SRD' not in title:  # the logarithm falls below zero
            axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def report(work_dir: Path, runs: list[Run] | None = None) -> str:
    """Write ``results.json``, ``results.md``, ``curves.png`` and ``detections.png``; what to print.

    Without ``runs`` they are those of the ``results.json`` that is there.
    """
    results_file = work_dir / 'results.json'
    if runs is None:
        runs = [Run(r['role'], r['seed'], Path(r['work_dir']), r['config'], r['seconds'])
                for r in json.loads(results_file.read_text())]
    results = [measure(run) for run in runs]
    results_file.write_text(json.dumps(results, indent=1) + '\n')
    text = table(results)
    (work_dir / 'results.md').write_text(text + '\n')
    curves(runs, work_dir / 'curves.png')
    first = {NAMES[role]: next(run for run in runs if run.role == role) for role in NAMES}
    pictures({title: (run.config, run.checkpoint()) for title, run in first.items()}, work_dir / 'data',
             work_dir / 'detections.png')
    page = first[NAMES['distilled']].work_dir / 'distill_report' / 'index.html'
    return (f'\n{text}\n\nreport of the distilled training: {page.resolve()}\n'
            f'learning curves and detections of all: {work_dir}/curves.png, {work_dir}/detections.png\n'
            'next, with your own config: python tools/train.py CONFIG --teacher CONFIG --teacher-checkpoint FILE')
