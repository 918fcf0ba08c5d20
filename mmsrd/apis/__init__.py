"""What ``tools/train.py`` and ``tools/test.py`` call."""
from .command_line import distilled_config, parser_for, with_teacher
from .scripts import main, test, train

__all__ = ['distilled_config', 'main', 'parser_for', 'test', 'train', 'with_teacher']
