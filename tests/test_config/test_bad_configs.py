"""Changed blocks train a step or raise a typed error; ``tools/reliability/bad_configs.py`` tries 10,000."""
from __future__ import annotations

import pytest

pytest.importorskip('hypothesis', reason='not installed in this environment')
from bad_configs import UNKNOWN, outcome, trial, valid_blocks


def test_five_hundred_changed_blocks(tmp_path):
    outcomes = trial(tmp_path, 500)
    assert sum(outcomes.values()) >= 500
    assert {'trained', 'ConfigError', 'ConfigTypeError', 'UnknownKeyError'} <= set(outcomes)
    assert {'TapError', 'TeacherError'} & set(outcomes)  # after building; versions of hypothesis draw other examples


def test_the_check_sees_other_exceptions(tmp_path):
    block = valid_blocks(tmp_path)[0]
    assert outcome(block) == 'trained'
    block['losses']['second'][UNKNOWN] = 1
    assert outcome(block) == 'UnknownKeyError'
    with pytest.raises(AttributeError):
        outcome({'teacher': dict(ema={}), 'losses': None, 'schedule': None, **dict.fromkeys(('preset',), Broken())})


class Broken:
    """Raises what a mistake of ours would."""

    def __repr__(self):
        raise AttributeError('a mistake')
