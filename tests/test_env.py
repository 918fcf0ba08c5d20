"""Versions are checked at import, shown by one command, and installing mmsrd asks for none."""
from __future__ import annotations

import re
import sys

import pytest
from helpers.processes import ROOT, python

from mmsrd.compat.torch_versions import TORCH
from mmsrd.env import versions as env
from mmsrd.errors import UnsupportedVersionError


@pytest.mark.parametrize(('found', 'oldest', 'older'), [
    ('1.13.1', '2.0', True), ('2.0.1+cu118', '2.0', False), ('2.15.0a0+git1', '2.0', False), ('0.7.4', '0.8', True),
    ('0.10.7', '0.8', False), ('0.8.0rc1', '0.8', False), ('1.7.2', '2.0', True), ('3', '2.0', False),
    ('2', '2.0', False), ('1', '2.0', True), ('1.0', '', False)])
def test_comparing(found, oldest, older):
    assert env.is_older(found, oldest) == older


@pytest.fixture
def installed(monkeypatch):
    """Pretend that other versions are installed; None for nothing."""
    def pretend(**versions):
        real = env.find

        def find(package):
            if package.name not in versions:
                return real(package)
            found = versions[package.name]
            return None if found is None else env.Found(package.distributions[0], found)

        monkeypatch.setattr(env, 'find', find)
    return pretend


@pytest.mark.parametrize(('versions', 'message'), [
    (dict(torch='1.13.1+cu117'), r'torch 1\.13\.1\+cu117 is too old; torch 2\.0 or newer works \(pip install torch'),
    (dict(mmengine='0.7.4'), r'mmengine 0\.7\.4 is too old; mmengine 0\.8 or newer works'),
    (dict(mmcv='1.7.2'), r'mmcv 1\.7\.2 is too old; mmcv 2\.0 or newer works .*mim install'),
    (dict(torch='1.8', mmengine='0.1'), r'torch 1\.8 is too old.*; mmengine 0\.1 is too old'),
])
def test_too_old(installed, versions, message):
    installed(**versions)
    with pytest.raises(UnsupportedVersionError, match=f'^mmsrd cannot run here: {message}') as error:
        env.check_versions()
    assert isinstance(error.value, ImportError)


def test_missing(installed, monkeypatch):
    installed(mmengine=None)
    env.check_versions()  # a build without metadata, which can be imported
    monkeypatch.setattr(env.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UnsupportedVersionError, match=r'mmengine is not installed \(pip install mmengine\)'):
        env.check_versions()


def test_what_is_not_needed_is_no_error(installed):
    installed(mmcv=None, mmdet=None, mmpretrain='0.1', torchvision=None)
    env.check_versions()


def test_the_report(installed):
    installed(mmdet=None, mmpretrain='0.25.0', triton='2.1.0')
    lines = env.report().splitlines()
    assert 'mmdet       not found' in lines
    assert 'mmpretrain  0.25.0  too old: 1.0 or newer works' in lines
    assert any(line.startswith('Operators of mmcv: ') for line in lines)
    missing = lines[lines.index('Missing (install what you need):') + 1:]
    assert "  mmdet: pip install 'mmdet>=3.0,<3.4' pycocotools" in missing
    assert not any('triton' in line for line in missing)  # another one would not fit this torch
    assert len(lines) < 30  # one screen


@pytest.mark.skipif(TORCH < (2, 1), reason='PyTorch 2.0 convolves bfloat16 on a CPU with an error of 6 %, as it says')
def test_the_command():
    done = python('-m', 'mmsrd.env', '--check', cwd=ROOT)
    printed, lines = done.stdout, done.stdout.splitlines()
    assert 'RuntimeWarning' not in done.stderr
    assert printed.startswith('torch ')
    assert f'Interpreter: {sys.executable}' in printed
    assert 'CUDA available: ' in printed
    assert 'SRD loss: ' in printed
    assert lines[-1] == 'All right'
    for part in ('SRDLoss, elementwise, float32', 'SRDLoss, correlation, bfloat16', 'teacher, bfloat16', 'processes'):
        assert any(line.startswith(part) for line in lines), part


def test_the_check_fails_where_something_is_wrong(monkeypatch):
    from mmsrd.env import check
    from mmsrd.ops.torch_backend import TorchBackend
    monkeypatch.setattr(check, '_teacher', lambda *args: ('not tried', True))
    monkeypatch.setattr(check, '_processes', lambda *args: (_ for _ in ()).throw(RuntimeError('no port')))
    real = TorchBackend.gradient
    monkeypatch.setattr(TorchBackend, 'gradient', lambda self, *args: [2 * x for x in real(self, *args)])
    table, is_right = check.report_check()
    assert not is_right
    assert re.search(r'TorchBackend: level \d \(float32\): gradient of norm', table)
    assert 'RuntimeError: no port' in table
    assert table.splitlines()[-1].startswith('Wrong on this device, and switched off in a training: SRDLoss, ')
