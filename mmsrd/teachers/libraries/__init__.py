"""Models of other libraries as teachers: ``timm::NAME`` and ``transformers::NAME``."""
from .build_library_model import build_library_model, is_library_model
from .library_model import LibraryModel

__all__ = ['LibraryModel', 'build_library_model', 'is_library_model']
