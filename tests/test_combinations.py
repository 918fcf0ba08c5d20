"""What users combine, on detectors and classifiers, in one and two processes: at weight 0 the undistilled run."""
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from combinations_worker import DIGITS, OPTIONS
from mmengine.config import Config
from prepare_data import digits
from test_distributed import launch
from tiny import build_detector, compose_set, tiny_teacher

WORKER = Path(__file__).parent / 'combinations_worker.py'


@pytest.fixture(scope='session')
def folder(tmp_path_factory):
    """Data and teachers of both toolboxes."""
    folder = tmp_path_factory.mktemp('combinations')
    compose_set(folder / 'coco')
    digits(folder / 'digits')
    for toolbox in ('mmdet', 'mmpretrain'):
        (folder / toolbox).mkdir()
    tiny_teacher(folder / 'mmdet')
    config = Config.fromfile(str(DIGITS / 'resnet20_digits.py'))
    config.dump(str(folder / 'mmpretrain' / 'teacher.py'))
    torch.manual_seed(3)
    torch.save(dict(state_dict=build_detector(dict(config.model, _scope_='mmpretrain')).state_dict()),
               folder / 'mmpretrain' / 'teacher.pth')
    return folder


def check(folder, tmp_path, toolbox, processes, names):
    """Run the combinations, and compare what they ended with."""
    arguments = [toolbox, folder, tmp_path / 'results', *names]
    if processes == 1:
        done = subprocess.run([sys.executable, str(WORKER), *map(str, arguments)], capture_output=True, text=True,
                              timeout=900, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    else:
        launch(processes, *arguments, worker=WORKER)
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


@pytest.mark.parametrize('processes', [1, 2])
@pytest.mark.parametrize('toolbox', ['mmdet', 'mmpretrain'])
def test_matrix(folder, tmp_path, toolbox, processes):
    left_out = {'torch.compile'}  # below
    if processes == 2:
        left_out.add('SyncBN')  # PyTorch has none on the CPU; in one process MMEngine makes it BN
    check(folder, tmp_path, toolbox, processes, [name for name in OPTIONS if name not in left_out])


@pytest.mark.slow  # tracing takes half a minute and more
@pytest.mark.parametrize(('toolbox', 'processes'), [
    (toolbox, processes) for toolbox in ('mmpretrain', 'mmdet') for processes in (1, 2)])
def test_a_compiled_student(folder, tmp_path, toolbox, processes):
    check(folder, tmp_path, toolbox, processes, ['torch.compile'])
