"""What is installed, and whether it is new enough: ``python -m mmsrd.env`` shows it."""
from .versions import check_versions, report

__all__ = ['check_versions', 'report']
