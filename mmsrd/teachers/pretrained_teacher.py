"""A teacher that has been trained before."""
from __future__ import annotations

from torch import nn

from ..config import PretrainedTeacherConfig
from ..utils.weights_checksum import weights_checksum
from ..utils.zoo import load_config
from .base_teacher import BaseTeacher
from .build_model import build_model, initialise
from .libraries import LibraryModel, build_library_model, is_library_model
from .weights import read_weights


class PretrainedTeacher(BaseTeacher):
    """A model of its own, whose weights come from a checkpoint and are never saved again.

    The architecture is built at once, the weights are read by :meth:`prepare` when training
    is about to start, so a config can be tested without them.

    Args:
        config: Its part of the ``distill`` block.
        model: The model, where it is built already.

    Attributes:
        model_config: Text of the model's part of its config, preprocessing included; empty for a built model.
        weights_checksum: Of the weights, once they are read; None before, and of random ones.
        classes: Names of the classes that it was trained for, once they are read; None where the file has none.

    Raises:
        TeacherError: The config cannot be read or the model not be built.
    """

    def __init__(self, config: PretrainedTeacherConfig, model: nn.Module | None = None) -> None:
        self.checkpoint = config.checkpoint
        self.weights_checksum: int | None = None
        self.classes: tuple[str, ...] | None = None
        self.model_config = ''
        if model is None:
            model = self._build(config)
        super().__init__(model, config)

    def _build(self, config: PretrainedTeacherConfig) -> nn.Module:
        """The model without its weights; with random ones where it is to have none."""
        key = f'{config.key}.config'
        if is_library_model(config.config):
            return build_library_model(config.name, key)
        loaded = load_config(config.config, key) if isinstance(config.config, str) else config.config
        self.model_config = f'{loaded.model} {loaded.get("data_preprocessor")}'
        model = build_model(loaded, key)
        if config.checkpoint is None:
            initialise(model)
        return model

    def load_weights(self) -> None:
        """Read the checkpoint into the model, once; nothing where the weights are random.

        Raises:
            CheckpointError: The file cannot be found or read, or belongs to another architecture.
        """
        if self.checkpoint is None or self.weights_checksum is not None:
            return
        key = f'{self.key}.checkpoint'
        if isinstance(self.model, LibraryModel):
            self.model.read_weights(self.checkpoint, key)
        else:
            self.classes = read_weights(self.model, self.checkpoint, self.config.name, key)
        self.model.eval().requires_grad_(False)
        self.weights_checksum = weights_checksum(self.model)
