"""Models of transformers: backbones (DINOv2, DINOv3, Swin, ConvNeXt, ResNet) and detectors (RT-DETR, DETR, YOLOS)."""
from __future__ import annotations

import importlib
import logging
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Iterator, Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ...errors import CheckpointError, TeacherError
from .library_model import LibraryModel

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_UNCHANGED = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
_DETECTORS_SIDE = 32
"""Sides of a detector's images are multiples of it: RT-DETR adds maps that have been halved to maps that have not."""


def transformers_model(name: str, key: str) -> TransformersModel:
    """Build a detector where the configuration is one's, else a backbone; with random weights.

    Args:
        name: Name on the hub, or a folder with a ``config.json``, as ``save_pretrained`` writes it.
        key: Config key of the model, for messages.

    Raises:
        TeacherError: The configuration cannot be loaded, or transformers cannot build a model of it.
    """
    transformers: Any = importlib.import_module('transformers')
    folder = Path(name).expanduser()
    source = str(folder) if (folder / 'config.json').is_file() else name
    what = 'backbone'
    try:
        config = transformers.AutoConfig.from_pretrained(source)
        if type(config) in transformers.AutoModelForObjectDetection._model_mapping:
            what = 'detector'
            return TransformersDetector(name, key, source, config)
        return TransformersBackbone(name, key, source, config)
    except TeacherError:
        raise
    except Exception as e:
        raise TeacherError.at(key, f'transformers::{name}', f'transformers cannot build a {what} of it '
                              f'({type(e).__name__}: {e})') from e


class TransformersModel(LibraryModel):
    """A model of transformers.

    Args:
        name: As the config names it.
        key: Config key of the model, for messages.
        source: Name on the hub, or folder.
        config: Its configuration.
        model: The model that is built of it.
        patch: See :class:`LibraryModel`.
    """

    library: ClassVar[str] = 'transformers'

    def __init__(self, name: str, key: str, source: str, config: Any, model: nn.Module,
                 patch: int | Sequence[int]) -> None:
        super().__init__(name, key, model, *_statistics(source, f'transformers::{name}', key), patch)
        self.source = source
        self.config = config

    @abstractmethod
    def run(self, images: Tensor) -> Any:
        """See :class:`LibraryModel`."""

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


def _statistics(source: str, value: str, key: str) -> tuple[Any, Any]:
    """Return mean and std of the images of a model, as its image processor has them."""
    transformers: Any = importlib.import_module('transformers')
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(source)
        # RT-DETR's processor has ImageNet's statistics and does not use them.
        return (processor.image_mean, processor.image_std) if processor.do_normalize else _UNCHANGED
    except Exception as e:  # a folder without preprocessor_config.json
        print_log(f'{key} = {value!r}: the mean and std of its images are unknown ({type(e).__name__}); those of '
                  'ImageNet are used', logger='current', level=logging.WARNING)
        return _IMAGENET


class TransformersBackbone(TransformersModel):
    """A model that ``AutoBackbone`` builds.

    Maps are those of all stages of a pyramid, and of the last layer of a vision transformer.

    Args:
        name: As the config names it.
        key: Config key of the model, for messages.
        source: Name on the hub, or folder.
        config: Its configuration.
    """

    def __init__(self, name: str, key: str, source: str, config: Any) -> None:
        transformers: Any = importlib.import_module('transformers')
        if hasattr(config, 'depths'):
            config.out_features = config.stage_names[1:]
        model = transformers.AutoBackbone.from_config(config)
        super().__init__(name, key, source, config, model,
                         1 if hasattr(config, 'depths') else getattr(config, 'patch_size', 1))

    def run(self, images: Tensor) -> Any:
        """See :class:`LibraryModel`; returns the maps."""
        return self.backbone(tuple(self.model(images).feature_maps))


class TransformersDetector(TransformersModel):
    """A detector that ``AutoModelForObjectDetection`` builds: RT-DETR, DETR and its descendants, YOLOS.

    ``backbone`` hands the maps of its backbone on, and ``neck`` those of its encoder, in the middle of its forward
    pass, so the decoder does not run where these are all that is recorded. Tokens of an encoder are arranged as maps.
    A detector without both (YOLOS) has the patches of its last layer as ``backbone``.

    Args:
        name: As the config names it.
        key: Config key of the model, for messages.
        source: Name on the hub, or folder.
        config: Its configuration.

    Raises:
        TeacherError: It has neither maps nor patches.
    """

    def __init__(self, name: str, key: str, source: str, config: Any) -> None:
        transformers: Any = importlib.import_module('transformers')
        if hasattr(config, 'use_pretrained_backbone'):
            config.use_pretrained_backbone = False  # a download in a constructor; the checkpoint has these weights
        model = transformers.AutoModelForObjectDetection.from_config(config)
        super().__init__(name, key, source, config, model, _DETECTORS_SIDE)
        self._sizes: list[tuple[int, int]] = []
        parts = [getattr(self.inner, part, None) for part in ('backbone', 'encoder')]
        self.has_pyramid = all(isinstance(part, nn.Module) for part in parts)
        if self.has_pyramid:
            self.neck = nn.Identity()
            self.inner.backbone.register_forward_hook(self._after_backbone)
            self.inner.encoder.register_forward_hook(self._after_encoder)
        elif not hasattr(config, 'num_detection_tokens'):
            raise TeacherError.at(key, f'transformers::{name}', f'{type(model).__name__} has no backbone and encoder '
                                  'whose maps could be recorded, and no patches; choose another model')

    @property
    def inner(self) -> Any:
        """The detector without its heads."""
        return getattr(self.model, 'model', self.model.base_model)

    def run(self, images: Tensor) -> Any:
        """See :class:`LibraryModel`; returns what the detector without its heads does."""
        output = self.inner(images)
        if not self.has_pyramid:
            size = images.size(-2) // self.config.patch_size, images.size(-1) // self.config.patch_size
            patches = output[0][:, 1:-self.config.num_detection_tokens]  # a class token is the first
            self.backbone((self._as_map(patches, size),))
        return output

    def _after_backbone(self, module: nn.Module, args: Any, output: Any) -> None:
        levels = output[0] if isinstance(output, tuple) else output  # position embeddings follow
        maps = tuple(level for level in _tensors(levels) if level.dim() == 4)
        self._sizes = [(level.size(-2), level.size(-1)) for level in maps]
        self.backbone(maps)

    def _after_encoder(self, module: nn.Module, args: Any, output: Any) -> None:
        levels = list(_tensors(output[0]))
        if len(levels) == 1 and levels[0].dim() == 3:
            levels = self._levels_of(levels[0])
        self.neck(tuple(levels))

    def _levels_of(self, tokens: Tensor) -> list[Tensor]:
        """Maps of the tokens (N, L, C) of an encoder: of the last level of the backbone, or of all and some smaller."""
        sizes, count = self._sizes[-1:], tokens.size(1)
        if count != sizes[0][0] * sizes[0][1]:
            sizes = list(self._sizes)
            while sum(height * width for height, width in sizes) < count:
                sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
        lengths = [height * width for height, width in sizes]
        if sum(lengths) != count:
            raise TeacherError.at(self.key, f'transformers::{self.name}', f'the {count} tokens of its encoder do not '
                                  f'fill maps of {sizes}; choose another model')
        return [self._as_map(part, size) for part, size in zip(torch.split(tokens, lengths, 1), sizes)]

    @staticmethod
    def _as_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
        return tokens.transpose(1, 2).reshape(tokens.size(0), tokens.size(2), *size)


def _tensors(output: Any) -> Iterator[Tensor]:
    """Iterate over the tensors in nested lists and tuples."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (list, tuple)):
        for member in output:
            yield from _tensors(member)
