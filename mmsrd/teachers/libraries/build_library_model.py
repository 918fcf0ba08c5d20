"""From ``timm::NAME`` or ``transformers::NAME`` to a model."""
from __future__ import annotations

import importlib.util
from typing import Callable

from ...errors import MissingPackageError, TeacherError
from ...utils.random_state import preserved_random_state
from .library_model import LibraryModel
from .timm_model import TimmModel
from .transformers_model import transformers_model

_LIBRARIES: dict[str, Callable[[str, str], LibraryModel]] = {
    'timm': TimmModel, 'transformers': transformers_model}


def is_library_model(config: object) -> bool:
    """Return whether a teacher's ``config`` names a model of a library and not a config of a toolbox.

    Example:
        >>> from mmsrd.teachers.libraries import is_library_model
        >>> is_library_model('timm::resnet50.a1_in1k'), is_library_model('mmdet::retinanet/retinanet_r50_fpn_1x_coco')
        (True, False)
    """
    return isinstance(config, str) and config.partition('::')[0] in _LIBRARIES and '::' in config


def build_library_model(config: str, key: str) -> LibraryModel:
    """Build the model, with random weights.

    Raises:
        MissingPackageError: The library is not installed.
        TeacherError: It has no such model, or cannot build it.
    """
    library, _, name = config.partition('::')
    if importlib.util.find_spec(library) is None:
        raise MissingPackageError.at(key, config, f'{library} is not installed; "pip install {library}" installs it')
    try:
        with preserved_random_state():
            return _LIBRARIES[library](name, key)
    except TeacherError:
        raise
    except Exception as e:
        raise TeacherError.at(key, config, f'{library} cannot build it ({type(e).__name__}: {e})') from e
