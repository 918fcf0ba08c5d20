"""``ImageFolder``: all images of a folder, without labels."""
from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, Iterator, List

from mmengine.dataset import BaseDataset
from PIL import Image

from ..errors import ConfigError
from ..registry import DATASETS

EXTENSIONS = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
"""Ends of names of images, in lower case."""


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """All images in a folder and the folders in it, linked ones too, for a student that is trained without labels.

    It works with the pipelines of all toolboxes. ``LoadAnnotations`` finds no boxes, so transforms that need some
    (``FilterAnnotations``, crops around objects) have to go.

    Args:
        data_root: The folder.
        pipeline: Transforms, as of any other data set.
        options: Other arguments of MMEngine's ``BaseDataset``.

    Raises:
        ConfigError: There is no such folder, or it has no images.

    Example:
        In a config::

            train_dataloader = dict(dataset=dict(
                _delete_=True, type='mmsrd.ImageFolder', data_root='photographs/', pipeline=[
                    dict(type='LoadImageFromFile'), dict(type='Resize', scale=(640, 640), keep_ratio=True),
                    dict(type='RandomFlip', prob=0.5), dict(type='PackDetInputs')]))
    """

    def __init__(self, data_root: str, pipeline: Any = (), **options: Any) -> None:
        super().__init__(data_root=str(Path(data_root).expanduser()), pipeline=list(pipeline), **options)

    def load_data_list(self) -> List[Dict[str, Any]]:
        """Return paths and numbers of the images."""
        if not Path(self.data_root).is_dir():
            raise ConfigError.at('data_root', str(self.data_root), 'there is no such folder')
        paths = sorted(_images(Path(self.data_root)))
        if not paths:
            raise ConfigError.at('data_root', str(self.data_root), 'there are no images in this folder '
                                 f'({", ".join(EXTENSIONS)})')
        return [dict(img_path=str(path), img_id=number, instances=[]) for number, path in enumerate(paths)]

    def get_data_info(self, idx: int) -> Dict[str, Any]:
        """Return what is known of an image, with the width and height that samplers of detectors ask for."""
        info: Dict[str, Any] = super().get_data_info(idx)
        with Image.open(info['img_path']) as image:  # its header alone
            info['width'], info['height'] = image.size
        return info


def _images(root: Path) -> Iterator[Path]:
    """Yield images, without hidden files: macOS puts one beside each file of an archive."""
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder above it
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(('.', '__MACOSX'))]
        yield from (Path(folder, name) for name in files
                    if name.lower().endswith(EXTENSIONS) and not name.startswith('.'))
