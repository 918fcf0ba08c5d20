"""Checkpoints are read without running code from them."""
from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer, MessageHub

from mmsrd.compat import load_checkpoint_file
from mmsrd.compat.safe_checkpoints import history_method
from mmsrd.errors import CheckpointError


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.usefixtures('reader')
def test_mmengine_checkpoints_are_readable(tmp_path):
    hub = MessageHub.get_instance('test_checkpoints')
    hub.update_scalar('train/loss', 1.5)
    hub.update_info('array', np.arange(3))
    hub.update_info('number', np.float64(2.5))
    path = tmp_path / 'a.pth'
    meta = dict(dataset_meta=ConfigDict(superclass=ConfigDict(a='x')))  # as versions before 1.0 saved it
    torch.save(dict(state_dict=dict(w=torch.ones(2)), message_hub=hub.state_dict(), meta=meta), path)
    for checkpoint in (load_checkpoint_file(str(path), 'k'), torch.load(path)):  # as stock MMEngine calls it
        assert torch.equal(checkpoint['state_dict']['w'], torch.ones(2))
        assert checkpoint['message_hub']['runtime_info']['array'].tolist() == [0, 1, 2]
        assert checkpoint['meta'] == meta
        assert checkpoint['message_hub']['runtime_info']['number'] == 2.5
        scalar = checkpoint['message_hub']['log_scalars']['train/loss']
        assert isinstance(scalar, HistoryBuffer)
        assert scalar.current() == 1.5
        assert scalar.statistics('mean') == 1.5


@pytest.mark.usefixtures('reader')
def test_optimizers_parameters_and_dtypes_are_readable(tmp_path):
    model = torch.nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    torch.save(dict(optimizer=optimizer.state_dict(), parameter=model.weight, dtype=torch.bfloat16,
                    half=torch.ones(2, dtype=torch.float16), size=torch.Size([1, 2])), tmp_path / 'a.pth')
    read = load_checkpoint_file(str(tmp_path / 'a.pth'), 'k')
    assert torch.equal(read['parameter'], model.weight)
    assert torch.equal(read['optimizer']['state'][0]['exp_avg'], optimizer.state_dict()['state'][0]['exp_avg'])
    assert (read['dtype'], read['half'].dtype, read['size']) == (torch.bfloat16, torch.float16, (1, 2))


@pytest.mark.usefixtures('reader')
@pytest.mark.parametrize('zipped', [True, False])
def test_older_file_formats(tmp_path, zipped):
    torch.save(dict(w=torch.ones(3)), tmp_path / 'a.pth', _use_new_zipfile_serialization=zipped)
    assert torch.equal(load_checkpoint_file(str(tmp_path / 'a.pth'), 'k')['w'], torch.ones(3))


@pytest.mark.usefixtures('reader')
def test_code_is_refused_and_not_run(tmp_path):
    path, trace = tmp_path / 'evil.pth', tmp_path / 'trace'
    torch.save(dict(state_dict={}, extra=Payload(trace)), path)
    with pytest.raises(CheckpointError, match=r"k = '.*evil.pth': refused: .*could run code.*mkdir"):
        load_checkpoint_file(str(path), 'k')
    assert not trace.exists()


@pytest.mark.usefixtures('reader')
def test_functions_cannot_be_changed(tmp_path):
    """The opcode BUILD on a global that may be found: GLOBAL, MARK ... BUILD, written by hand."""
    before = torch._utils._rebuild_tensor_v2.__defaults__
    torch.save(dict(w=torch.ones(1)), tmp_path / 'a.pth')
    code = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x0c\x00\x00\x00__defaults__K\x01\x85sb."
    with zipfile.ZipFile(tmp_path / 'a.pth') as archive, zipfile.ZipFile(tmp_path / 'b.pth', 'w') as changed:
        for name in archive.namelist():
            changed.writestr(name, code if name.endswith('data.pkl') else archive.read(name))
    with pytest.raises(CheckpointError, match='refused'):
        load_checkpoint_file(str(tmp_path / 'b.pth'), 'k')
    assert torch._utils._rebuild_tensor_v2.__defaults__ == before


def test_getattr_reaches_nothing_but_the_history_methods():
    assert history_method(HistoryBuffer, 'mean') is HistoryBuffer.mean
    for owner, name in ((HistoryBuffer, '__init__'), (dict, 'mean'), (os, 'system'), (HistoryBuffer, '__globals__')):
        with pytest.raises(pickle.UnpicklingError):
            history_method(owner, name)


@pytest.mark.parametrize(('content', 'message'), [
    (b'', 'truncated|damaged'), (b'not a checkpoint', 'truncated|damaged'), (None, 'no such file'),
])
def test_damaged_files(tmp_path, content, message):
    path = tmp_path / 'a.pth'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint_file(str(path), 'k')


def test_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    torch.save(dict(state_dict={}), tmp_path / 'a.pth')
    assert load_checkpoint_file('~/a.pth', 'k') == dict(state_dict={})


def test_truncated_checkpoint(tmp_path):
    path = tmp_path / 'a.pth'
    torch.save(dict(state_dict=dict(w=torch.ones(5000))), path)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(CheckpointError, match='truncated'):
        load_checkpoint_file(str(path), 'k')


def test_not_a_dict(tmp_path):
    torch.save([1, 2], tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='holds a list, not a checkpoint'):
        load_checkpoint_file(str(tmp_path / 'a.pth'), 'k')


def test_import_needs_no_toolbox():
    code = 'import mmsrd, mmsrd.registry, sys; assert not {"mmdet", "mmpretrain", "mmcv"} & set(sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
