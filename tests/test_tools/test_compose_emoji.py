"""Scenes of emoji: annotations fit what is drawn. Glyphs and photographs are stand-ins, so that no font is needed."""
from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.processes import ROOT
from mmengine.config import Config

sys.path.insert(0, str(ROOT / 'tools'))
import compose_emoji
from compose_emoji import CATEGORIES, EMOJI, EmojiConfig, emoji_scene, glyphs


def solid(colour):
    """A round glyph of one colour on nothing."""
    y, x = np.mgrid[-1:1:40j, -1:1:40j]
    return np.dstack([np.full((40, 40), part) for part in colour] + [255 * (x ** 2 + y ** 2 < 1)]).astype(np.uint8)


def test_masks_are_where_the_emoji_are():
    """Two colours on grey: each object's pixels have its colour, and what is no object's is grey."""
    colours = [(200, 0, 0), (0, 0, 200)]
    photos = [np.full((100, 160, 3), 128, np.uint8)]
    scene = EmojiConfig(size=96, opacity=1.0, noise=0.0)
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(10):
        image, objects = emoji_scene([solid(colour) for colour in colours], photos, scene, rng)
        assert image.shape == (96, 96, 3)
        free = np.ones((96, 96), bool)
        for ink, label in objects:
            assert 12 ** 2 / 2 < ink.sum() < 44 ** 2
            blue, _, red = image[ink].mean(0)
            assert (blue > 2 * red) if label == 0 else (red > 2 * blue)
            free &= ~ink
            seen.add(label)
        grey = image[free].astype(float)
        assert np.median(np.ptp(grey, axis=1)) == 0
    assert seen == {0, 1}


def test_the_configs_have_the_classes():
    config = Config.fromfile(str(ROOT / 'configs/composed/fcos_r18w8_emoji.py'))
    names = tuple(category['name'] for category in CATEGORIES)
    assert len(set(names)) == len(EMOJI) == config.model.bbox_head.num_classes
    for split in ('train', 'val', 'test'):
        assert config[f'{split}_dataloader'].dataset.metainfo.classes == names


def test_splits_are_cut_from_different_parts(tmp_path, monkeypatch):
    """A photograph that is black in its left two thirds and white beyond."""
    photo = np.zeros((60, 300, 3), np.uint8)
    photo[:, 200:] = 255
    monkeypatch.setattr(compose_emoji, 'glyphs', lambda font: [solid((0, 200, 0))])
    monkeypatch.setattr(compose_emoji, 'photographs', lambda: [photo])
    compose_emoji.compose(tmp_path, 4, 3, EmojiConfig(size=64, emoji=(1, 1)))
    for split, count, dark in (('train', 4, True), ('val', 3, False)):
        files = sorted((tmp_path / split).glob('*.png'))
        assert len(files) == count
        assert all((np.median(cv2.imread(str(file))) < 64) == dark for file in files)
        annotations = json.loads((tmp_path / 'annotations' / f'{split}.json').read_text())
        assert len(annotations['annotations']) == count
        assert annotations['categories'] == CATEGORIES


def test_missing_font():
    with pytest.raises(SystemExit, match='nowhere.ttf is missing: install the Debian package fonts-noto-color-emoji'):
        glyphs(Path('nowhere.ttf'))


def test_grounds_need_scikit_image(monkeypatch):
    monkeypatch.setitem(sys.modules, 'skimage', None)
    with pytest.raises(SystemExit, match='pip install scikit-image'):
        compose_emoji.photographs()
