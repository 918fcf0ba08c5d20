"""Models of whole configs: built in their own scope, initialised without downloads, and quietly."""
from __future__ import annotations

import copy
import logging
from typing import Any

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from ..errors import TeacherError
from ..utils.random_state import preserved_random_state


def scope_of(student: nn.Module) -> str:
    """Scope in which a config without ``default_scope`` names its classes: the student's, or else the runner's.

    Args:
        student: A model of one of OpenMMLab's toolboxes, or any other.
    """
    package = type(student).__module__.partition('.')[0]
    if package in MODELS.children:
        return package
    current = DefaultScope.get_current_instance()
    return 'mmengine' if current is None else str(current.scope_name)


def build_model(config: Config, key: str, scope: str = 'mmengine', downloads: bool = True) -> nn.Module:
    """Build the model of a whole config in that config's own scope, without initialising weights.

    Args:
        config: A config with a ``model``.
        key: Config key of it, for messages.
        scope: Scope where the config has none.
        downloads: Whether classes that download weights where they are built (``TIMMBackbone(pretrained=True)``) may.

    Raises:
        TeacherError: The model cannot be built; the message has the reason.
    """
    model_config = copy.deepcopy(config.model)
    if config.get('data_preprocessor') is not None:
        model_config.setdefault('data_preprocessor', copy.deepcopy(config.data_preprocessor))
    if not downloads:
        _without_downloads(model_config)
    try:
        with DefaultScope.overwrite_default_scope(config.get('default_scope') or scope), preserved_random_state():
            model: nn.Module = MODELS.build(model_config)
    except Exception as e:
        raise TeacherError(f'{key}: the model cannot be built ({type(e).__name__}: {e})') from e
    return model


def _without_downloads(config: Any) -> None:
    """Switch off what downloads weights in a constructor: others come from the checkpoint."""
    if isinstance(config, dict):
        if config.get('pretrained') is True:
            config['pretrained'] = False
        for entry in config.values():
            _without_downloads(entry)
    elif isinstance(config, (list, tuple)):
        for entry in config:
            _without_downloads(entry)


def initialise(model: nn.Module) -> None:
    """Random initial weights as the model would begin training with, but nothing downloaded; quietly.

    Building alone leaves some parameters as whatever was in memory (the L2Norm of SSD).
    """
    for module in model.modules():
        # A backbone may have a way of its own to name a file; and a config may name none, for the user to fill in.
        if any(word in str(getattr(module, 'init_cfg', None)) for word in ('checkpoint', 'Pretrained')):
            module.init_cfg = None  # type: ignore[assignment]
        if isinstance(getattr(module, 'pretrained', None), str):
            module.pretrained = None  # type: ignore[assignment]
    logger = MMLogger.get_current_instance()
    level, handlers = logger.level, logger.handlers
    logger.setLevel(logging.WARNING)  # MMEngine logs a line for each parameter, to files past the level
    logger.handlers = []
    try:
        with preserved_random_state():
            if hasattr(model, 'init_weights'):
                model.init_weights()  # type: ignore[operator]
    finally:
        logger.setLevel(level)
        logger.handlers = handlers
