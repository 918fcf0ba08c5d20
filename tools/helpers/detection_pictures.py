"""Detections of several models on the same images, each box marked as right or wrong.

Of each model as many boxes are taken as there are objects, those of the highest scores: how high scores are differs
between models, so a threshold would not treat them alike.
"""
from __future__ import annotations

import contextlib
import io
import json
import warnings
from pathlib import Path
from typing import Any, Mapping, Sequence

import cv2
import matplotlib.pyplot as plt
import numpy as np
from pycocotools import mask as mask_utils

CANDIDATES = 100
MIN_IOU = 0.5
TRUTH = 'Ground truth'
RIGHT, WRONG, MISSED = (60, 140, 40), (40, 40, 220), (0, 190, 230)  # BGR: green, red, yellow


def busiest(truth: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """The ``count`` images with most objects among the first validation images, before any prediction."""
    first = truth['images'][:CANDIDATES]
    counts = {image['id']: 0 for image in first}
    for annotation in truth['annotations']:
        if annotation['image_id'] in counts:
            counts[annotation['image_id']] += 1
    return sorted(first, key=lambda image: -counts[image['id']])[:count]


def judge(boxes: Sequence[Sequence[float]], labels: Sequence[Any], true_boxes: Sequence[Sequence[float]],
          true_labels: Sequence[Any], min_iou: float = MIN_IOU) -> tuple[list[bool], list[bool]]:
    """Return which predictions (by falling score) are right, and which objects are missed; boxes are (x1, y1, x2, y2).

    A prediction is right if an object of its label that no earlier one has taken overlaps it by an IoU of at least
    ``min_iou``; a second box on one object is wrong.
    """
    missed = [True] * len(true_boxes)
    if not len(boxes) or not len(true_boxes):
        return [False] * len(boxes), missed
    as_sizes = [np.array([(x1, y1, x2 - x1, y2 - y1) for x1, y1, x2, y2 in side], float)
                for side in (boxes, true_boxes)]
    overlaps = mask_utils.iou(*as_sizes, [0] * len(true_boxes))
    right = []
    for row, label in zip(overlaps, labels):
        free = [i for i in np.argsort(-row) if missed[i] and true_labels[i] == label and row[i] >= min_iou]
        right.append(bool(free))
        if free:
            missed[free[0]] = False
    return right, missed


def draw_boxes(image: np.ndarray, boxes: Sequence[Any], labels: Sequence[Any],
               colours: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Copy of a BGR image, three times as large, with boxes (corners in pixels), a colour for each.

    A label is written into its box where it is one character.
    """
    scale = 3
    canvas = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    for box, label, colour in zip(boxes, labels, colours):
        x1, y1, x2, y2 = (round(float(v) * scale) for v in box)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, 2)
        if len(str(label)) == 1:
            cv2.rectangle(canvas, (x1, y1), (x1 + 22, y1 + 24), colour, -1)
            cv2.putText(canvas, str(label), (x1 + 3, y1 + 19), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 2)
    return canvas


def panel(image: np.ndarray, found: Any, true_boxes: Sequence[Any], true_labels: Sequence[Any],
          classes: Sequence[str], min_iou: float = MIN_IOU) -> tuple[int, Any]:
    """Return how many of one model's best boxes are right, and a picture: right ones green, wrong red, missed yellow.

    True labels are names of ``classes``, which has the names of the found ones.
    """
    found = found[found.scores.argsort(descending=True)][:len(true_boxes)]
    boxes, labels = found.bboxes.tolist(), [classes[label] for label in found.labels]
    right, missed = judge(boxes, labels, true_boxes, true_labels, min_iou)
    lost = [i for i, is_missed in enumerate(missed) if is_missed]
    picture = draw_boxes(image, [*(true_boxes[i] for i in lost), *boxes], [*(true_labels[i] for i in lost), *labels],
                         [MISSED] * len(lost) + [RIGHT if is_right else WRONG for is_right in right])
    return sum(right), picture


def compared(models: Mapping[str, tuple[str, Path]], data: Path, truth: Mapping[str, Any],
             images: Sequence[Mapping[str, Any]], min_iou: float = MIN_IOU) -> dict[str, list[tuple[int, Any]]]:
    """For ground truth and each model, of each image: how many boxes are right, and a picture.

    ``models`` and ``data`` are as in :func:`pictures`; ``truth`` is the content of the annotations.
    """
    from mmdet.apis import inference_detector, init_detector
    names = {category['id']: category['name'] for category in truth['categories']}
    found: dict[str, list[tuple[int, Any]]] = {title: [] for title in (TRUTH, *models)}
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():  # mmdet tells what it loads
        warnings.simplefilter('ignore')
        built = {title: init_detector(config, str(file), device='cpu') for title, (config, file) in models.items()}
        for info in images:
            image = cv2.imread(str(data / 'val' / info['file_name']))
            own = [a for a in truth['annotations'] if a['image_id'] == info['id']]
            boxes = [(x, y, x + w, y + h) for x, y, w, h in (a['bbox'] for a in own)]
            labels = [names[a['category_id']] for a in own]
            found[TRUTH].append((len(own), draw_boxes(image, boxes, labels, [RIGHT] * len(own))))
            for title, model in built.items():
                found[title].append(panel(image, inference_detector(model, image).pred_instances, boxes, labels,
                                          model.dataset_meta['classes'], min_iou))
    return found


def show(axis: Any, picture: np.ndarray, title: str) -> None:
    """Show a BGR picture with its title."""
    axis.imshow(picture[..., ::-1])
    axis.set_axis_off()
    axis.set_title(title, fontsize=10)


def pictures(models: Mapping[str, tuple[str, Path]], data: Path, path: Path, count: int = 4,
             annotations: str = 'annotations/val.json') -> None:
    """Draw ``count`` validation images: ground truth and detections of each model, side by side.

    ``models`` has config file and checkpoint of each by its title, ``data`` is the folder of the COCO-format data.
    """
    truth = json.loads((data / annotations).read_text())
    shown = busiest(truth, count)
    panels = compared(models, data, truth, shown)
    height = sum(0.25 + 3 * image['height'] / image['width'] for image in shown)
    figure, axes = plt.subplots(count, 1 + len(models), figsize=(3 * (1 + len(models)), height),
                                constrained_layout=True, squeeze=False)
    for number, row in enumerate(axes):
        objects = panels[TRUTH][number][0]
        for axis, (title, of_model) in zip(row, panels.items()):
            right, picture = of_model[number]
            caption = f'{objects} objects' if title == TRUTH else f'{right} of {objects} right'
            show(axis, picture, caption if number else f'{title}\n{caption}')
    figure.suptitle(f'as many boxes as objects; green: right (IoU ≥ {MIN_IOU}), red: wrong, yellow: missed',
                    fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)
