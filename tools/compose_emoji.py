#!/usr/bin/env python
"""Compose a small COCO-format detection set of emoji on photographs.

Emoji of 24 classes, eight each of animals, fruit and vehicles, come from the font Noto Color Emoji (Debian package
``fonts-noto-color-emoji``); grounds are crops of the photographs that scikit-image and scikit-learn ship (``pip install
scikit-image``). Training scenes are cut from the left two thirds of each photograph, validation scenes from the rest.
"""
from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Callable, Sequence

import cv2
import numpy as np
from compose_digits import Drawn, compose_set, room_for

EMOJI = '🐶🐱🐭🐹🐰🦊🐻🐼🍎🍊🍋🍉🍇🍓🍒🍑🚗🚕🚙🚌🚎🚓🚑🚒'
FONT = Path('/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf')
FONT_SIZE = 109  # the one that the font has bitmaps of
PHOTOGRAPHS = ('astronaut', 'chelsea', 'coffee', 'motorcycle_left', 'rocket', 'brick', 'grass', 'gravel')
CATEGORIES = [dict(id=i, name=f'u{ord(emoji):x}') for i, emoji in enumerate(EMOJI)]


@dataclass(frozen=True)
class EmojiConfig:
    """Looks of a scene. Sizes in pixels."""

    size: int = 128  # side of the square image
    emoji: tuple[int, int] = (2, 6)  # fewest and most emoji in an image
    emoji_size: tuple[int, int] = (16, 44)  # smallest and largest side of an emoji
    angle: float = 25.0  # largest rotation to either side, in degrees
    opacity: float = 0.7  # smallest opacity
    noise: float = 6.0  # standard deviation of the pixel noise, of 255


def glyphs(font: Path = FONT) -> list[np.ndarray]:
    """The emoji, (H, W, 4) uint8 in OpenCV's order of channels with alpha, cropped to what is drawn.

    Raises:
        SystemExit: The font is not there.
    """
    from PIL import Image, ImageDraw, ImageFont
    if not font.is_file():
        raise SystemExit(f'{font} is missing: install the Debian package fonts-noto-color-emoji, or name the font with '
                         '--font')
    drawn = []
    for emoji in EMOJI:
        canvas = Image.new('RGBA', (160, 160))
        ImageDraw.Draw(canvas).text((8, 8), emoji, font=ImageFont.truetype(str(font), FONT_SIZE), embedded_color=True)
        drawn.append(np.asarray(canvas.crop(canvas.getbbox()))[..., [2, 1, 0, 3]])
    return drawn


def photographs() -> list[np.ndarray]:
    """The grounds, (H, W, 3) uint8 in OpenCV's order of channels.

    Raises:
        SystemExit: scikit-image is not installed.
    """
    from sklearn.datasets import load_sample_images
    try:
        import skimage
    except ModuleNotFoundError:
        raise SystemExit('scikit-image is missing, which has the photographs: pip install scikit-image') from None
    folder = Path(skimage.__file__).parent / 'data'
    found = [cv2.imread(str(next(folder.glob(f'{name}.*')))) for name in PHOTOGRAPHS]
    return [*found, *(image[..., ::-1] for image in load_sample_images().images)]


def ground(photos: Sequence[np.ndarray], size: int, rng: np.random.Generator) -> np.ndarray:
    """A square crop of a photograph, resized, mirrored half of the time, (size, size, 3) float32."""
    photo = photos[int(rng.integers(len(photos)))]
    side = int(rng.integers(min(size, *photo.shape[:2]), min(photo.shape[:2]) + 1))
    y, x = (int(rng.integers(0, length - side + 1)) for length in photo.shape[:2])
    crop = cv2.resize(photo[y:y + side, x:x + side], (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)
    return (crop[:, ::-1] if rng.random() < 0.5 else crop) * rng.uniform(0.7, 1.2)


def emoji_scene(drawn: Sequence[np.ndarray], photos: Sequence[np.ndarray], scene: EmojiConfig,
                rng: np.random.Generator) -> Drawn:
    """Draw one scene."""
    image = np.ascontiguousarray(ground(photos, scene.size, rng))
    taken = np.zeros((scene.size, scene.size), dtype=bool)
    objects = []
    for _ in range(int(rng.integers(scene.emoji[0], scene.emoji[1] + 1))):
        label = int(rng.integers(len(drawn)))
        ink = _place(image, taken, drawn[label], scene, rng)
        if ink is not None:
            objects.append((ink, label))
    return np.clip(image + rng.normal(0, scene.noise, image.shape), 0, 255).astype(np.uint8), objects


def _place(image: np.ndarray, taken: np.ndarray, glyph: np.ndarray, scene: EmojiConfig,
           rng: np.random.Generator) -> np.ndarray | None:
    """Draw one emoji where no other is; returns its mask, or None where there is no room."""
    side = int(rng.integers(scene.emoji_size[0], scene.emoji_size[1] + 1))
    centre = glyph.shape[1] / 2, glyph.shape[0] / 2
    turn = cv2.getRotationMatrix2D(centre, rng.uniform(-scene.angle, scene.angle), 0.85)
    turned = cv2.warpAffine(glyph[:, ::-1] if rng.random() < 0.5 else glyph, turn, glyph.shape[1::-1])
    patch = cv2.resize(turned, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
    region = room_for(side, taken, rng)
    if region is None:
        return None
    alpha = patch[..., 3:] / 255
    colour = patch[..., :3] * rng.uniform(0.7, 1.2, 3)
    shown = alpha * rng.uniform(scene.opacity, 1)
    image[region] = image[region] * (1 - shown) + colour * shown
    ink = np.zeros((scene.size, scene.size), dtype=bool)
    ink[region] = alpha[..., 0] > 0.3
    return ink


def compose(out: Path, train: int, val: int, scene: EmojiConfig = EmojiConfig(), seed: int = 0,
            font: Path = FONT) -> None:
    """Compose so many training and validation images under ``out`` unless the same set is there already.

    Raises:
        SystemExit: The font or the photographs are not there.
    """
    def draws() -> dict[str, Callable[[], Drawn]]:
        drawn, photos = glyphs(font), photographs()
        cuts = [photo.shape[1] * 2 // 3 for photo in photos]
        parts = dict(train=[photo[:, :cut] for photo, cut in zip(photos, cuts)],
                     val=[photo[:, cut:] for photo, cut in zip(photos, cuts)])
        return {name: partial(emoji_scene, drawn, part, scene, np.random.default_rng(seed * 2 + number))
                for number, (name, part) in enumerate(parts.items(), 1)}

    compose_set(out, dict(train=train, val=val), dict(scene=asdict(scene), seed=seed), draws, CATEGORIES)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('out', type=Path, help='folder to write to')
    parser.add_argument('--train', type=int, default=3000, help='number of training images')
    parser.add_argument('--val', type=int, default=400, help='number of validation images')
    parser.add_argument('--size', type=int, default=EmojiConfig.size, help='side of an image in pixels')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--font', type=Path, default=FONT, help=f'Noto Color Emoji (default: {FONT})')
    args = parser.parse_args()
    compose(args.out, args.train, args.val, EmojiConfig(size=args.size), args.seed, args.font)
    print(f'{args.train} training and {args.val} validation images in {args.out}')


if __name__ == '__main__':
    main()
