"""Recorders record while they are told to, and only then."""
from __future__ import annotations

import copy

import pytest
import torch
from helpers.toy_models import Pyramid, Residual

from mmsrd.errors import TapError
from mmsrd.recorders import RecorderManager, as_levels

IMAGES = torch.zeros(1, 3, 8, 8)


def test_records_only_while_recording_and_lets_go():
    model = Pyramid()
    recorders = RecorderManager(model, {'stem': 'a', 'head': 'b'})
    model(IMAGES)
    assert recorders.num_calls == {'stem': 0, 'head': 0}
    with recorders.recording():
        model(IMAGES)
        assert recorders.num_calls == {'stem': 1, 'head': 2}
        outputs = recorders.pop_outputs()
        assert not recorders.is_recording
    assert [tuple(x.shape) for x in outputs['head']] == [(1, 2, 4, 4), (1, 2, 2, 2)]
    with recorders.recording():
        model(IMAGES)
    assert not recorders.is_recording
    assert recorders.num_calls == {'stem': 0, 'head': 0}


def test_removed_recorders_leave_no_hook():
    model = Pyramid()
    recorders = RecorderManager(model, {'stem': 'a'})
    recorders.start()
    recorders.remove()
    model(IMAGES)
    assert recorders.num_calls == {'stem': 0}


def test_a_copy_of_the_model_has_recorders_of_its_own():
    model = Pyramid()
    recorders = RecorderManager(model, {'stem': 'a'})
    copied, copied_recorders = copy.deepcopy((model, recorders))
    copied_recorders.start()
    recorders.start()
    copied(IMAGES)
    assert (recorders.num_calls, copied_recorders.num_calls) == ({'stem': 0}, {'stem': 1})


def test_an_output_that_is_overwritten_can_be_cloned():
    model = Residual()
    recorders = RecorderManager(model, {'norm': 'a'}, clones=['norm'])
    inputs = torch.randn(2, 3, 4, 4)
    with recorders.recording():
        model(inputs)
        torch.testing.assert_close(recorders.pop_outputs()['norm'][0], model.norm(inputs))


def test_an_output_that_is_overwritten_unexpectedly_is_an_error():
    model = Residual()
    recorders = RecorderManager(model, {'norm': 'k'})
    with recorders.recording():
        model(torch.randn(2, 3, 4, 4))
        with pytest.raises(TapError, match="k = 'norm': the model changes its output in place"):
            recorders.pop_outputs()


def test_both_names_of_a_shared_module_are_paths():
    assert RecorderManager(Residual(), {'shared.0.0': 'a', 'alias.0': 'b'}).keys == {'shared.0.0': 'a', 'alias.0': 'b'}


def test_a_module_that_was_not_called():
    recorders = RecorderManager(Pyramid(), {'unused': 'distill.losses.x.student'})
    with recorders.recording(), \
            pytest.raises(TapError, match=r"distill.losses.x.student = 'unused': the module was not called"):
        recorders.pop_outputs()


@pytest.mark.parametrize(('output', 'what'), [
    (None, 'a NoneType'), (dict(a=torch.zeros(1), b=3), r"a dict of \['Tensor', 'int'\]"), ((), r"a tuple of \[\]"),
    ((None, None), r"a tuple of \[\]"), (([torch.zeros(1)], ['x']), r"a tuple of \['Tensor', 'str'\]"),
])
def test_outputs_without_tensors(output, what):
    with pytest.raises(TapError, match=f"k = 'p': its output is not a tensor or a list of tensors but {what}"):
        as_levels(output, 'k', 'p')


def test_an_output_that_is_switched_off_does_not_count():
    x = torch.zeros(1)
    assert as_levels((None, x), 'k', 'p') == [x]  # InceptionV3 without its auxiliary classifier
    assert as_levels(((x,), (None, None)), 'k', 'p') == [x]
    assert as_levels(dict(a=dict(), b=[x, [None, ()]], c=(x, x)), 'k', 'p') == [x, x, x]
