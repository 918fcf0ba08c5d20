"""``LibraryModel``: a model of another library in MMEngine's calling convention."""
from __future__ import annotations

import textwrap
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Sequence

import torch
from mmengine.logging import print_log
from mmengine.model import ImgDataPreprocessor
from torch import Tensor, nn
from torch.nn import functional

from ...compat import load_checkpoint_file
from ...errors import CheckpointError, TeacherError
from ...utils.random_state import preserved_random_state
from ...utils.zoo import local_checkpoint
from ..weights import saved_state


class LibraryModel(nn.Module, ABC):
    """A frozen model of another library, called as a model of MMEngine is.

    It can teach students of all tasks, with its features at least. Its feature maps go through ``backbone``, which
    hands them on: the place where presets and losses record them. Paths below ``model`` name the library's own
    modules, ``model.blocks.6`` for instance.

    Args:
        name: Name of the model in its library.
        key: Config key of the model, for messages.
        model: The library's model.
        mean: Subtracted per channel (RGB) from pixels of 0 to 1.
        std: Divided by per channel.
        patch: Side of a patch in pixels; images are resized to the nearest multiple of it. 1 where any size will do.
    """

    library: ClassVar[str]

    def __init__(self, name: str, key: str, model: nn.Module, mean: Sequence[float], std: Sequence[float],
                 patch: int | Sequence[int]) -> None:
        super().__init__()
        self.name = name
        self.key = key
        self.model: Any = model
        self.patch = patch if isinstance(patch, int) else max(patch)
        self.backbone = nn.Identity()
        self.data_preprocessor = ImgDataPreprocessor(  # for its statistics: teachers see the student's pixels
            mean=[255 * value for value in mean], std=[255 * value for value in std], bgr_to_rgb=True)

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor') -> Any:
        """Feature maps, and the logits where the model has some.

        Args:
            inputs: Images (N, 3, H, W), normalised.
            data_samples: Not used.
            mode: Not used: there is nothing to train.

        Returns:
            Whatever :meth:`run` does.

        Raises:
            TeacherError: The model takes no images of this size.
        """
        images = self.fitted(inputs)
        try:
            return self.run(images)
        except (AssertionError, ValueError) as e:  # windows that do not divide it, for instance
            size = 'x'.join(map(str, images.shape[-2:]))
            raise TeacherError.at(self.key, f'{self.library}::{self.name}', f'cannot take images of {size} ({e}); '
                                  'set `size` of the teacher to one that it accepts, or choose another model') from e

    def fitted(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) of a size that patches fill; resized where they do not."""
        size = [max(round(side / self.patch), 1) * self.patch for side in images.shape[-2:]]
        if size == list(images.shape[-2:]):
            return images
        return functional.interpolate(images, size, mode='bilinear', align_corners=False)

    @abstractmethod
    def run(self, images: Tensor) -> Any:
        """Forward pass of images that fit; gives the maps, each (N, C, H, W), to ``backbone`` as a tuple."""

    @abstractmethod
    def pretrained(self, checkpoint: str, key: str) -> nn.Module:
        """The library's model with weights.

        Args:
            checkpoint: ``'auto'`` for the library's own download, else a path or a URL.
            key: Config key of the checkpoint.

        Raises:
            CheckpointError: They cannot be found or read, or belong to another architecture.
        """

    def state_in(self, checkpoint: str, key: str) -> dict[str, Any]:
        """The tensors of a checkpoint file by name.

        Args:
            checkpoint: Path or URL.
            key: Config key of the checkpoint.

        Raises:
            CheckpointError: The file cannot be found or read.
        """
        return dict(saved_state(load_checkpoint_file(local_checkpoint(checkpoint, self.name, key), key)))

    def read_weights(self, checkpoint: str, key: str) -> None:
        """Give the model the weights that :meth:`pretrained` finds.

        Raises:
            CheckpointError: They cannot be found or read, or belong to another architecture.
        """
        try:
            with preserved_random_state(), torch.no_grad():
                self.model.load_state_dict(self.pretrained(checkpoint, key).state_dict())
        except CheckpointError:
            raise
        except Exception as e:  # the library's own, of its download or of what does not fit
            reason = textwrap.shorten(str(e), 300, placeholder=' ...')  # not the names of all tensors
            raise CheckpointError.at(key, checkpoint, f'{self.library} cannot load these weights into {self.name} '
                                     f'({type(e).__name__}: {reason})') from e
        print_log(f'Teacher weights of {self.library}::{self.name} loaded from {checkpoint!r}: '
                  f'{len(self.model.state_dict())} tensors', logger='current')
