"""Models of timm: vision transformers, DINOv2 and DINOv3, convolutional networks."""
from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from ...errors import TeacherError, did_you_mean
from .library_model import LibraryModel


class TimmModel(LibraryModel):
    """A model of timm (1.0 or newer).

    Maps come from ``forward_intermediates``: the last of each stride, after the final normalisation where all
    have one stride, as a vision transformer's. Logits follow where the model has a classifier.

    Args:
        name: timm's name, with or without its tag; or a folder with a ``config.json``, as timm saves them.
        key: Config key of the model, for messages.

    Raises:
        TeacherError: timm has no such model, or it cannot give feature maps.
    """

    library: ClassVar[str] = 'timm'

    def __init__(self, name: str, key: str) -> None:
        import timm
        folder = Path(name).expanduser()
        self.source = f'local-dir:{folder}' if (folder / 'config.json').is_file() else name
        known = timm.list_models(pretrained='.' in self.source)  # with tags, or without
        is_former = '.' not in self.source and timm.is_model(self.source)  # names of before are not listed
        if ':' not in self.source and self.source not in known and not is_former:
            empty = ' and the folder has no config.json' if folder.is_dir() else ''
            raise TeacherError.at(key, f'timm::{name}', f'timm {timm.__version__} has no such model{empty}'
                                  + did_you_mean(self.source, known))
        model = self._create()
        if not hasattr(model, 'forward_intermediates'):
            raise TeacherError.at(key, f'timm::{name}', f'{type(model).__name__} has no forward_intermediates, so it '
                                  'gives no feature maps; choose another model')
        strides = [level['reduction'] for level in model.feature_info]
        self.flat = len(set(strides)) == 1
        self.indices = [i for i, stride in enumerate(strides) if stride not in strides[i + 1:]]
        patch = getattr(getattr(model, 'patch_embed', None), 'patch_size', 1) if self.flat else 1
        super().__init__(name, key, model, model.pretrained_cfg['mean'], model.pretrained_cfg['std'], patch)

    def _create(self, **options: Any) -> Any:
        import timm
        try:  # position embeddings for images of any size, where there are some
            return timm.create_model(self.source, dynamic_img_size=True, **options)
        except TypeError:
            return timm.create_model(self.source, **options)

    def run(self, images: Tensor) -> Any:
        """See :class:`LibraryModel`; returns the logits, or the pooled feature of a model without a classifier."""
        feature, maps = self.model.forward_intermediates(images, indices=self.indices, norm=self.flat)
        self.backbone(tuple(maps))
        return self.model.forward_head(feature)

    def pretrained(self, checkpoint: str, key: str) -> nn.Module:
        """See :class:`LibraryModel`; a file may have timm's or the authors' layout, which timm converts."""
        if checkpoint == 'auto':
            model: nn.Module = self._create(pretrained=True)
        else:
            state = self.state_in(checkpoint, key)
            model = self._create(pretrained=True, pretrained_cfg_overlay=dict(state_dict=state))
        return model
