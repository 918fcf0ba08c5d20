#!/usr/bin/env python
"""Make the subset of COCO that ``real.py`` trains on: ``coco_subset.py COCO OUT``; photographs with longer side 320.

``COCO`` has ``annotations``, ``train2017`` and ``val2017``. ``coco_subset_names.txt`` lists the photographs: most of
both splits are of val2017, so that a detector of COCO has not seen them. Boxes and areas are those of COCO, scaled.
"""
from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2

NAMES = Path(__file__).with_name('coco_subset_names.txt')
SIDE = 320


def names() -> dict[str, list[str]]:
    """Split of the subset → photographs, as paths below COCO's folder."""
    found: dict[str, list[str]] = {}
    for line in NAMES.read_text().splitlines():
        if line.startswith('['):
            split = found.setdefault(line.strip('[]'), [])
        elif line and not line.startswith('#'):
            split.append(line)
    return found


def is_coco(folder: Path) -> bool:
    """Return whether a folder has COCO's annotations of 2017."""
    return all((folder / f'annotations/instances_{split}2017.json').is_file() for split in ('train', 'val'))


def make(coco: Path, out: Path, side: int = SIDE) -> None:
    """Write ``out/{train,val}/*.jpg`` and ``out/annotations/instances_{train,val}.json``.

    Raises:
        SystemExit: A photograph is not there, or COCO's annotations do not have it.
    """
    official = {split: json.loads((coco / f'annotations/instances_{split}.json').read_text())
                for split in ('train2017', 'val2017')}
    images = {f'{split}/{image["file_name"]}': image
              for split, content in official.items() for image in content['images']}
    objects: dict[int, list[dict[str, Any]]] = {}
    for content in official.values():
        for each in content['annotations']:
            objects.setdefault(each['image_id'], []).append(each)
    (out / 'annotations').mkdir(parents=True, exist_ok=True)
    for split, paths in names().items():
        (out / split).mkdir(exist_ok=True)
        content = dict(images=[], annotations=[], categories=official['val2017']['categories'])
        for path in paths:
            photograph = cv2.imread(str(coco / path)) if path in images else None
            if photograph is None:
                raise SystemExit(f'{coco} has no {path}, or its annotations do not name it')
            height, width = photograph.shape[:2]
            scale = side / max(height, width)
            size = round(width * scale), round(height * scale)
            name = path.replace('/', '_')
            cv2.imwrite(str(out / split / name), cv2.resize(photograph, size, interpolation=cv2.INTER_AREA),
                        [cv2.IMWRITE_JPEG_QUALITY, 95])
            image_id = images[path]['id']
            content['images'].append(dict(id=image_id, file_name=name, width=size[0], height=size[1]))
            content['annotations'] += [
                dict(id=each['id'], image_id=image_id, category_id=each['category_id'], iscrowd=each['iscrowd'],
                     bbox=[value * scale for value in each['bbox']], area=each['area'] * scale ** 2)
                for each in objects.get(image_id, ())]
        (out / f'annotations/instances_{split}.json').write_text(json.dumps(content))


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('coco', type=Path)
    parser.add_argument('out', type=Path)
    arguments = parser.parse_args()
    make(arguments.coco, arguments.out)
