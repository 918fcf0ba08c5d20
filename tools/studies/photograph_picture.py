#!/usr/bin/env python
"""Picture of one validation photograph: ground truth, teacher, student alone, student with the preset.

``python tools/studies/real.py --parts chess/lite2_r18w16 --rows "student alone" preset --seeds 0`` trains the models.
Chess is in the public domain. Of its photographs with most objects, the one with the median gain is drawn; the captions
have the counts of all photographs, too.
"""
from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
from real import ARCHIVES, PRESET, checkpoint, config_alone
from runs import ROOT
from study import ALONE, TEACHER

sys.path.insert(0, str(ROOT / 'tools' / 'helpers'))
from detection_pictures import RIGHT, corners, draw_boxes, panel

SET, TEACHES, LEARNS = 'chess', 'lite2', 'r18w16'
MIN_IOU = 0.75
"""AP is a mean over 0.5 to 0.95; at 0.5 even the student alone finds nearly all pieces."""


def main() -> None:
    from mmdet.apis import inference_detector, init_detector  # wants mmcv's operators, which mmsrd stands in for
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
    names = {category['id']: category['name'] for category in truth['categories']}
    objects = {image['id']: [each for each in truth['annotations'] if each['image_id'] == image['id']]
               for image in truth['images']}
    pictures = {image['id']: cv2.imread(str(data / 'val' / image['file_name'])) for image in truth['images']}
    found = {}
    for title, (config, folder, row) in models.items():
        with contextlib.redirect_stdout(io.StringIO()):  # mmdet tells what it loads
            model = init_detector(config, str(checkpoint(args.work_dir / folder / row, config)), device='cpu')
        found[title] = {key: panel(
            pictures[key], inference_detector(model, pictures[key]).pred_instances, corners(own),
            [names[each['category_id']] for each in own], model.dataset_meta['classes'], MIN_IOU)
            for key, own in objects.items()}
    most = max(map(len, objects.values()))
    busiest = sorted((key for key, own in objects.items() if len(own) == most),
                     key=lambda key: found['student with mmsrd'][key][0] - found['student alone'][key][0])
    chosen = busiest[len(busiest) // 2]
    boxes = corners(objects[chosen])
    drawn = {f'ground truth: {most} objects': draw_boxes(pictures[chosen], boxes, [''] * most, [RIGHT] * most)}
    every = sum(map(len, objects.values()))
    for title, of_model in found.items():
        right = sum(count for count, _ in of_model.values())
        drawn[f'{title}: {of_model[chosen][0]} right here,\n{right} of {every} in all {len(objects)} photographs'] = \
            of_model[chosen][1]
    height, width = pictures[chosen].shape[:2]
    figure, axes = plt.subplots(2, 2, figsize=(9, 1.2 + 9 * height / width), constrained_layout=True)
    for axis, (title, picture) in zip(axes.flat, drawn.items()):
        axis.imshow(picture[..., ::-1])
        axis.set_axis_off()
        axis.set_title(title, fontsize=10)
    figure.suptitle(f'boxes with the highest scores, one for each object; green: right (class, and IoU ≥ {MIN_IOU}), '
                    'red: wrong, yellow: missed', fontsize=9)
    figure.savefig(args.out, dpi=100)
    print(args.out)


if __name__ == '__main__':
    main()
