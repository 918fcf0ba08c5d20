"""When a loss that is not finite is noticed, and what copies of the check hold."""
from __future__ import annotations

import copy
import pickle

import pytest
import torch

from mmsrd.errors import NonFiniteError
from mmsrd.finite import FiniteCheck

NAN, ONE = torch.tensor(float('nan')), torch.tensor(1.0)


def test_at_once_on_the_cpu():
    check = FiniteCheck()
    check.watch(dict(a=ONE, b=ONE))
    check.watch({})
    with pytest.raises(NonFiniteError, match='^b$'):
        check.watch(dict(a=ONE, b=NAN))
    check.settle()  # said once


def test_some_steps_in_a_row_may_overflow():
    check = FiniteCheck()
    for _ in range(3):
        check.watch(dict(a=NAN), patience=3)
    check.watch(dict(a=ONE), patience=3)  # a good step starts the count again
    for _ in range(3):
        check.watch(dict(a=NAN), patience=3)
    with pytest.raises(NonFiniteError):
        check.watch(dict(a=NAN), patience=3)


def test_pending_flags_are_read_later_and_not_copied():
    class Event:
        waited = False

        def synchronize(self):
            self.waited = True

        def __reduce__(self):
            raise TypeError('cannot pickle an event')

    event, check = Event(), FiniteCheck()
    check._pending = torch.tensor([False]), event, ['a']
    for other in (copy.deepcopy(check), pickle.loads(pickle.dumps(check))):
        other.settle()
    with pytest.raises(NonFiniteError, match='a'):
        check.watch(dict(b=ONE))
    assert event.waited


def test_a_checkpoint_is_not_written_after_a_bad_step(make_runner, distill, tmp_path):
    runner = make_runner('run', distill)

    def late(described, patience=0):  # as on an accelerator: flags are left for the next step
        check = runner.model.distiller.finite
        check.settle()
        check._pending = torch.tensor([runner.iter < 3]), None, ['x']

    runner.model.distiller.finite.watch = late
    with pytest.raises(NonFiniteError, match='x'):
        runner.train()
    assert runner.iter == 4  # the fourth step was bad, and the fifth never ran
    assert not list((tmp_path / 'run').glob('*.pth'))
