"""At weight 0 a student trains bit for bit as without a teacher, whatever the config uses besides."""
from __future__ import annotations

import json

import pytest
from helpers.processes import launch
from helpers.weight_zero_worker import OPTIONS, OWN_OPTIONS
from helpers.weights import same


def check(folder, tmp_path, toolbox, processes, names):
    """Train each combination undistilled, at weight 0 and distilled, and compare what they ended with."""
    launch(processes, 'weight_zero_worker.py', toolbox, folder, tmp_path / 'results', *names)
    results = [result for rank in range(processes) for result in json.loads(
        (tmp_path / f'results.{rank}').read_text())]
    assert [result['name'] for result in results] == names * processes
    sums = {}
    for result in results:
        name = result['name']
        assert result['at_zero_is_alone'], name
        assert not result['distilled_is_alone'], name
        assert not result['projectors_are_idle'], name
        assert result['finite'], name
        # All processes hold the same parameters.
        assert sums.setdefault(name, result['checksum']) == result['checksum'], name


@pytest.mark.parametrize('toolbox', ['mmdet', pytest.param('mmpretrain', marks=pytest.mark.slow)])
def test_one_process(both_toolboxes, tmp_path, toolbox):
    names = [name for name in (*OPTIONS, *OWN_OPTIONS[toolbox]) if name != 'torch.compile']
    check(both_toolboxes, tmp_path, toolbox, 1, names)


def test_an_init_cfg_of_the_whole_student(make_runner, distill):
    """MMEngine applies it to all layers of its kinds, those of a projector included."""
    loss = dict(type='VkDLoss', student='neck', teacher='neck', weight=0.0)
    weights = []
    for name, block in (('alone', None), ('at zero', {**distill, 'losses': dict(neck=loss)})):
        runner = make_runner(name, block, **{'model.init_cfg': dict(type='Normal', layer='Linear', std=0.01)})
        runner.train()
        weights.append(runner.model.state_dict())
    assert same(*weights)


# The detectors are enough to show what MMDistributedDataParallel changes.
@pytest.mark.parametrize('toolbox', ['mmdet', pytest.param('mmpretrain', marks=pytest.mark.slow)])
def test_two_processes(both_toolboxes, tmp_path, toolbox):
    # PyTorch has no SyncBN on the CPU; in one process MMEngine makes it BN.
    names = [name for name in OPTIONS if name not in ('torch.compile', 'SyncBN')]
    check(both_toolboxes, tmp_path, toolbox, 2, names)


@pytest.mark.slow  # tracing takes half a minute and more
@pytest.mark.parametrize(('toolbox', 'processes'), [
    (toolbox, processes) for toolbox in ('mmpretrain', 'mmdet') for processes in (1, 2)])
def test_a_compiled_student(both_toolboxes, tmp_path, toolbox, processes):
    check(both_toolboxes, tmp_path, toolbox, processes, ['torch.compile'])
