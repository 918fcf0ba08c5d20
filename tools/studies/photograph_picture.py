#!/usr/bin/env python
"""Picture of one validation photograph: ground truth, teacher, student alone, student with the preset.

``python tools/studies/real.py --parts chess/lite2_r18w16 --rows "student alone" preset --seeds 0`` trains the models.
Chess is in the public domain. Of its photographs with most objects, the one with the median gain is drawn; the captions
have the counts of all photographs, too.
"""
from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import matplotlib.pyplot as plt
from real import ARCHIVES, PRESET, checkpoint, config_alone
from runs import ROOT
from study import ALONE, TEACHER

sys.path.insert(0, str(ROOT / 'tools' / 'helpers'))
from detection_pictures import TRUTH, compared, show

SET, TEACHES, LEARNS = 'chess', 'lite2', 'r18w16'
MIN_IOU = 0.75
"""AP is a mean over 0.5 to 0.95; at 0.5 even the student alone finds nearly all pieces."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/studies/real'), help='of the study')
    parser.add_argument('--out', type=Path, default=Path('docs/pictures/photograph.jpg'))
    args = parser.parse_args()
    os.chdir(ROOT)
    student, teacher = config_alone(SET, LEARNS), config_alone(SET, TEACHES)
    models = {'teacher': (teacher, f'{SET}/{TEACHES}', TEACHER), 'student alone': (student, f'{SET}/{LEARNS}', ALONE),
              'student with mmsrd': (student, f'{SET}/{TEACHES}_{LEARNS}', PRESET)}
    data = Path('data', ARCHIVES[SET])
    truth = json.loads((data / 'annotations/instances_val.json').read_text())
    found = compared({title: (config, checkpoint(args.work_dir / folder / row, config))
                      for title, (config, folder, row) in models.items()}, data, truth, truth['images'], MIN_IOU)
    right = {title: [count for count, _ in of_model] for title, of_model in found.items()}
    objects = right.pop(TRUTH)
    most = max(objects)
    busiest = sorted((i for i, count in enumerate(objects) if count == most),
                     key=lambda i: right['student with mmsrd'][i] - right['student alone'][i])
    chosen = busiest[len(busiest) // 2]
    titles = [f'ground truth: {most} objects', *(
        f'{title}: {counts[chosen]} right here,\n{sum(counts)} of {sum(objects)} in all {len(objects)} photographs'
        for title, counts in right.items())]
    shown = [of_model[chosen][1] for of_model in found.values()]
    height, width = shown[0].shape[:2]
    figure, axes = plt.subplots(2, 2, figsize=(9, 1.2 + 9 * height / width), constrained_layout=True)
    for axis, picture, title in zip(axes.flat, shown, titles):
        show(axis, picture, title)
    figure.suptitle(f'boxes with the highest scores, one for each object; green: right (class, and IoU ≥ {MIN_IOU}), '
                    'red: wrong, yellow: missed', fontsize=9)
    figure.savefig(args.out, dpi=100)
    print(args.out)


if __name__ == '__main__':
    main()
