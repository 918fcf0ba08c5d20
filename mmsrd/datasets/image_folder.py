"""``ImageFolder``: all images of a folder, without labels."""
from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

from mmengine.dataset import BaseDataset
from PIL import Image

from ..errors import ConfigError
from ..registry import DATASETS

EXTENSIONS = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
"""Ends of names of images, in lower case."""


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """All images in a folder and the folders in it, by name, for a student that is trained without labels.

    It works with the pipelines of all toolboxes. ``LoadAnnotations`` finds no boxes, so transforms that need some
    (``FilterAnnotations``, crops around objects) have to go.

    Args:
        data_root: The folder.
        pipeline: Transforms, as of any other data set.
        options: Other arguments of MMEngine's ``BaseDataset``.

    Raises:
        ConfigError: The folder has no images.

    Example:
        In a config::

            train_dataloader = dict(dataset=dict(
                _delete_=True, type='mmsrd.ImageFolder', data_root='photographs/', pipeline=[
                    dict(type='LoadImageFromFile'), dict(type='Resize', scale=(640, 640), keep_ratio=True),
                    dict(type='RandomFlip', prob=0.5), dict(type='PackDetInputs')]))
    """

    def __init__(self, data_root: str, pipeline: Any = (), **options: Any) -> None:
        super().__init__(data_root=data_root, pipeline=list(pipeline), **options)

    def load_data_list(self) -> List[Dict[str, Any]]:
        """Return paths and numbers of the images."""
        paths = sorted(path for path in Path(self.data_root).rglob('*') if path.suffix.lower() in EXTENSIONS)
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
