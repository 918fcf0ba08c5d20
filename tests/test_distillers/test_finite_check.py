"""When a loss that is not finite is noticed, and what copies of the check hold."""
from __future__ import annotations

import copy
import pickle

import pytest
import torch

from mmsrd.distillers.finite_check import FiniteCheck
from mmsrd.errors import NonFiniteError

NAN, ONE = torch.tensor(float('nan')), torch.tensor(1.0)


def test_at_once_on_the_cpu():
    check = FiniteCheck()
    check.check(dict(a=ONE, b=ONE))
    check.check({})
    with pytest.raises(NonFiniteError, match='^b$'):
        check.check(dict(a=ONE, b=NAN))
    check.flush()  # said once


def test_some_steps_in_a_row_may_overflow():
    check = FiniteCheck()
    for _ in range(3):
        check.check(dict(a=NAN), patience=3)
    check.check(dict(a=ONE), patience=3)  # a good step starts the count again
    for _ in range(3):
        check.check(dict(a=NAN), patience=3)
    with pytest.raises(NonFiniteError):
        check.check(dict(a=NAN), patience=3)


def test_pending_flags_are_read_later_and_not_copied():
    check = FiniteCheck(delayed=True)
    check.check(dict(a=NAN))
    for other in (copy.deepcopy(check), pickle.loads(pickle.dumps(check))):
        other.flush()
    with pytest.raises(NonFiniteError, match='a'):
        check.check(dict(b=ONE))


def test_a_checkpoint_is_not_written_after_a_bad_step(make_runner, distill, tmp_path):
    """The fourth step is bad, which an accelerator tells one step later; the checkpoint is due before that."""
    runner = make_runner('run', distill)
    distiller = runner.model.distiller
    distiller.finite = FiniteCheck(delayed=True)
    projector = distiller.losses['neck'].projectors[0]
    projector.register_forward_hook(lambda module, args, out: out * float('nan') if runner.iter == 3 else out)
    with pytest.raises(NonFiniteError, match='iteration 3'):
        runner.train()
    assert runner.iter == 4  # the fifth step never ran
    assert not list((tmp_path / 'run').glob('*.pth'))
