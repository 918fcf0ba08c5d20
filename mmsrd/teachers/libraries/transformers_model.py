"""Models of transformers that have a backbone class: DINOv2, DINOv3, Swin, ConvNeXt, ResNet and others."""
from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Any, ClassVar

from mmengine.logging import print_log
from torch import Tensor, nn

from ...errors import CheckpointError, TeacherError
from .library_model import LibraryModel

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TransformersModel(LibraryModel):
    """A model of transformers, built by its ``AutoBackbone``.

    Maps are those of all stages of a pyramid, and of the last layer of a vision transformer.

    Args:
        name: Name on the hub, or a folder with a ``config.json``, as ``save_pretrained`` writes it.
        key: Config key of the model, for messages.

    Raises:
        TeacherError: The configuration cannot be loaded, or transformers has no backbone class for it.
    """

    library: ClassVar[str] = 'transformers'

    def __init__(self, name: str, key: str) -> None:
        transformers: Any = importlib.import_module('transformers')
        value = f'transformers::{name}'
        folder = Path(name).expanduser()
        self.source = str(folder) if (folder / 'config.json').is_file() else name
        try:
            config = transformers.AutoConfig.from_pretrained(self.source)
            if hasattr(config, 'depths'):
                config.out_features = config.stage_names[1:]
            model = transformers.AutoBackbone.from_config(config)
        except Exception as e:
            raise TeacherError.at(key, value, f'transformers cannot build a backbone of it ({type(e).__name__}: {e})'
                                  ) from e
        patch = 1 if hasattr(config, 'depths') else getattr(config, 'patch_size', 1)
        super().__init__(name, key, model, *self._statistics(value, key), patch)
        self.config = config

    def _statistics(self, value: str, key: str) -> tuple[Any, Any]:
        transformers: Any = importlib.import_module('transformers')
        try:
            processor = transformers.AutoImageProcessor.from_pretrained(self.source)
            return processor.image_mean, processor.image_std
        except Exception as e:  # a folder without preprocessor_config.json
            print_log(f'{key} = {value!r}: the mean and std of its images are unknown ({type(e).__name__}); those of '
                      'ImageNet are used', logger='current', level=logging.WARNING)
            return _IMAGENET

    def run(self, images: Tensor) -> Any:
        """See :class:`LibraryModel`; returns the maps."""
        maps = tuple(self.model(images).feature_maps)
        return self.backbone(maps)

    def pretrained(self, checkpoint: str, key: str) -> nn.Module:
        """See :class:`LibraryModel`; ``checkpoint`` may be a folder, too."""
        folder = Path(checkpoint).expanduser()
        if checkpoint == 'auto' or folder.is_dir():
            source, state = (self.source if checkpoint == 'auto' else str(folder)), None
        else:
            source, state = None, self.state_in(checkpoint, key)
        model, info = type(self.model).from_pretrained(source, config=self.config, state_dict=state,
                                                       output_loading_info=True)
        # A backbone normalises what stages give, by layers that the model itself does not have.
        missing = [name for name in info['missing_keys'] if not name.startswith('hidden_states_norms.')]
        if missing or info['mismatched_keys']:
            raise CheckpointError.at(
                key, checkpoint, f'does not fit {type(model).__name__} of {self.name}: {len(missing)} keys are missing '
                f'and {len(info["mismatched_keys"])} have another shape')
        loaded: nn.Module = model
        return loaded
