"""What ``tools/train.py`` and ``tools/test.py`` call."""
from .command_line import parser_for, with_teacher
from .scripts import main, test, train

__all__ = ['main', 'parser_for', 'test', 'train', 'with_teacher']
