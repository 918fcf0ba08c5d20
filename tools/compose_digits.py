#!/usr/bin/env python
"""Compose a small COCO-format detection set from real handwritten digits.

The 1,797 digits that scikit-learn ships (8×8 pixels, UCI optical recognition of
handwritten digits) are placed at several sizes and colours on cluttered
backgrounds. Training and validation images use different source digits. Boxes
are tight around the ink; masks are the ink itself.
"""
from __future__ import annotations

import argparse
import importlib
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, List, Mapping, Sequence, Tuple

import cv2
import numpy as np

Drawn = Tuple[np.ndarray, List[Tuple[np.ndarray, int]]]
"""A scene (H, W, 3) uint8 as OpenCV has it, and of each object the mask (H, W) of its ink and its category."""
CATEGORIES = [dict(id=i, name=str(i)) for i in range(10)]


@dataclass(frozen=True)
class SceneConfig:
    """Looks of a scene. Sizes in pixels."""

    size: int = 128  # side of the square image
    digits: tuple[int, int] = (2, 6)  # fewest and most digits in an image
    digit_size: tuple[int, int] = (20, 48)  # smallest and largest side of a digit
    strokes: int = 6  # number of distracting line segments
    contrast: int = 70  # smallest difference between the colours of a digit and its ground, of 255
    noise: float = 8.0  # standard deviation of the pixel noise, of 255


def background(rng: np.random.Generator, scene: SceneConfig) -> np.ndarray:
    """A smooth random ground with strokes on it, (size, size, 3) float32 in 0..255."""
    coarse = rng.uniform(40, 215, (4, 4, 3)).astype(np.float32)
    image = cv2.resize(coarse, (scene.size, scene.size), interpolation=cv2.INTER_CUBIC)
    for _ in range(scene.strokes):
        x1, y1, x2, y2 = (int(v) for v in rng.integers(0, scene.size, 4))
        colour = tuple(float(c) for c in rng.uniform(0, 255, 3))
        cv2.line(image, (x1, y1), (x2, y2), colour, int(rng.integers(1, 4)), cv2.LINE_AA)
    return np.clip(image, 0, 255)


def room_for(side: int, taken: np.ndarray, rng: np.random.Generator) -> tuple[slice, slice] | None:
    """A square region of a square scene where nothing is yet, marked as taken; None where there is no room."""
    for _ in range(20):
        x, y = (int(v) for v in rng.integers(0, len(taken) - side + 1, 2))
        region = np.s_[y:y + side, x:x + side]
        if not taken[region].any():
            taken[region] = True
            return region
    return None


def place(image: np.ndarray, taken: np.ndarray, digit: np.ndarray, rng: np.random.Generator,
          scene: SceneConfig) -> np.ndarray | None:
    """Draw one digit where no other is; returns its ink mask (size, size) bool, or None where there is no room."""
    side = int(rng.integers(scene.digit_size[0], scene.digit_size[1] + 1))
    alpha = cv2.resize(digit.astype(np.float32) / 16, (side, side), interpolation=cv2.INTER_CUBIC)
    alpha = np.clip(alpha * 1.3, 0, 1)
    region = room_for(side, taken, rng)
    if region is None:
        return None
    ground = image[region].mean((0, 1))
    sign = np.where(ground > 127, -1, 1)
    colour = np.clip(ground + sign * rng.uniform(scene.contrast, 2 * scene.contrast, 3), 0, 255)
    image[region] = image[region] * (1 - alpha[..., None]) + colour * alpha[..., None]
    ink = np.zeros((scene.size, scene.size), dtype=bool)
    ink[region] = alpha > 0.3
    return ink


def annotation(ink: np.ndarray, label: int, image_id: int, ann_id: int) -> dict[str, Any]:
    """COCO annotation of one object: tight box and run-length mask."""
    ys, xs = np.nonzero(ink)
    x, y, x2, y2 = int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1
    runs = np.flatnonzero(np.diff(np.concatenate([[0], ink.ravel(order='F').astype(np.int8), [0]])))
    counts = np.diff(np.concatenate([[0], runs, [ink.size]])).tolist()
    return dict(id=ann_id, image_id=image_id, category_id=label, bbox=[x, y, x2 - x, y2 - y],
                area=int(ink.sum()), iscrowd=0, segmentation=dict(size=list(ink.shape), counts=counts))


def write_split(out: Path, name: str, count: int, draw: Callable[[], Drawn], categories: Sequence[Mapping[str, Any]],
                ) -> None:
    """Write ``count`` scenes to ``out/name/*.png`` and their annotations to ``out/annotations/name.json``."""
    (out / name).mkdir(parents=True, exist_ok=True)
    (out / 'annotations').mkdir(exist_ok=True)
    infos: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id in range(1, count + 1):
        image, objects = draw()
        annotations += [annotation(ink, label, image_id, len(annotations) + i)
                        for i, (ink, label) in enumerate(objects, 1)]
        file_name = f'{image_id:06d}.png'
        cv2.imwrite(str(out / name / file_name), image)
        infos.append(dict(id=image_id, file_name=file_name, width=image.shape[1], height=image.shape[0]))
    (out / 'annotations' / f'{name}.json').write_text(
        json.dumps(dict(images=infos, annotations=annotations, categories=categories)))


def digit_scene(images: np.ndarray, labels: np.ndarray, scene: SceneConfig, rng: np.random.Generator) -> Drawn:
    """Draw one scene of digits that are picked from ``images`` (N, 8, 8)."""
    image = background(rng, scene)
    taken = np.zeros((scene.size, scene.size), dtype=bool)
    objects = []
    for _ in range(int(rng.integers(scene.digits[0], scene.digits[1] + 1))):
        pick = int(rng.integers(len(images)))
        ink = place(image, taken, images[pick], rng, scene)
        if ink is not None:
            objects.append((ink, int(labels[pick])))
    return np.clip(image + rng.normal(0, scene.noise, image.shape), 0, 255).astype(np.uint8), objects


def compose_set(out: Path, counts: Mapping[str, int], recipe: Mapping[str, Any],
                draws: Callable[[], Mapping[str, Callable[[], Drawn]]],
                categories: Sequence[Mapping[str, Any]]) -> None:
    """Write the splits of a set, ``counts`` scenes each, unless the same set is there already.

    ``recipe`` is what else it depends on; ``draws``, which make the scenes of each split, are asked only if needed.
    """
    text = json.dumps({**counts, **recipe}, sort_keys=True)
    stamp = out / 'recipe.json'
    if stamp.is_file() and stamp.read_text() == text:
        return
    for name, draw in draws().items():
        write_split(out, name, counts[name], draw, categories)
    stamp.write_text(text)


def compose(out: Path, train: int, val: int, scene: SceneConfig = SceneConfig(), seed: int = 0) -> None:
    """Compose so many training and validation images under ``out`` unless the same set is there already.

    ``seed`` decides the split of source digits and every scene.
    """
    def draws() -> dict[str, Callable[[], Drawn]]:
        from sklearn.datasets import load_digits
        digits = load_digits()
        order = np.random.default_rng(seed).permutation(len(digits.images))
        sources = dict(train=order[500:], val=order[:500])
        return {name: partial(digit_scene, digits.images[picked], digits.target[picked], scene,
                              np.random.default_rng(seed * 2 + number))
                for number, (name, picked) in enumerate(sources.items(), 1)}

    compose_set(out, dict(train=train, val=val), dict(scene=asdict(scene), seed=seed), draws, CATEGORIES)


def as_coco(data: Path, out: Path) -> None:
    """Copy a composed set into COCO's folder layout with its 80 classes, so that stock COCO configs can be tried on it.

    Digits become the first ten classes.
    """
    import mmsrd  # noqa: F401  before mmdet: replaces operators of mmcv
    coco = importlib.import_module('mmdet.datasets').CocoDataset
    categories = [dict(id=i, name=name) for i, name in enumerate(coco.METAINFO['classes'])]
    (out / 'annotations').mkdir(parents=True)
    for split in ('train', 'val'):
        shutil.copytree(data / split, out / f'{split}2017')
        content = json.loads((data / 'annotations' / f'{split}.json').read_text())
        content['categories'] = categories
        (out / 'annotations' / f'instances_{split}2017.json').write_text(json.dumps(content))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument('out', type=Path, help='folder to write to')
    parser.add_argument('--train', type=int, default=1000, help='number of training images')
    parser.add_argument('--val', type=int, default=300, help='number of validation images')
    parser.add_argument('--size', type=int, default=SceneConfig.size, help='side of an image in pixels')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--coco', action='store_true', help="with COCO's folder layout and classes")
    args = parser.parse_args()
    scene = SceneConfig(size=args.size)
    if args.coco:
        with tempfile.TemporaryDirectory() as folder:
            compose(Path(folder), args.train, args.val, scene, args.seed)
            as_coco(Path(folder), args.out)
    else:
        compose(args.out, args.train, args.val, scene, args.seed)
    print(f'{args.train} training and {args.val} validation images in {args.out}')


if __name__ == '__main__':
    main()
