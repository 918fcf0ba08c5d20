"""Checkpoint files are complete or absent, and a resume takes the newest complete one."""
from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from mmsrd.engine.checkpoint_files import KEPT, newest_complete
from mmsrd.errors import CheckpointError


def checkpoint(path: Path) -> Path:
    torch.save(dict(state_dict=dict(w=torch.ones(2000))), path)
    return path


def test_the_pointer_decides(tmp_path):
    assert newest_complete(tmp_path) is None
    first, _ = checkpoint(tmp_path / 'epoch_1.pth'), checkpoint(tmp_path / 'epoch_12.pth')
    (tmp_path / 'last_checkpoint').write_text(str(first))
    assert newest_complete(tmp_path) == str(first)
    (tmp_path / 'last_checkpoint').write_text('s3://bucket/epoch_3.pth')
    assert newest_complete(tmp_path) == 's3://bucket/epoch_3.pth'


@pytest.mark.parametrize('pointer', ['', 'epoch_3.pth', '/moved/epoch_2.pth'])
def test_a_pointer_to_nothing(tmp_path, pointer):
    checkpoint(tmp_path / 'epoch_2.pth')
    whole = checkpoint(tmp_path / 'epoch_10.pth')
    (tmp_path / 'epoch_11.pth').write_bytes(whole.read_bytes()[:5000])
    (tmp_path / 'last_checkpoint').write_text(pointer)
    assert newest_complete(tmp_path) == str(whole)
    kept = checkpoint(tmp_path / KEPT)
    assert newest_complete(tmp_path) == str(kept)


def test_no_complete_file_is_an_error(tmp_path):
    (tmp_path / 'epoch_1.pth').write_bytes(b'PK')
    with pytest.raises(CheckpointError, match=r'none of the checkpoints in .* is complete \(epoch_1.pth\)'):
        newest_complete(tmp_path)


def test_the_newest_outlives_its_deletion(make_runner, distill, tmp_path):
    """With one checkpoint kept, MMEngine deletes it before it writes the next."""
    options = {'default_hooks.checkpoint.max_keep_ckpts': 1, 'train_cfg.max_epochs': 1}
    make_runner('run', distill, **options).train()
    folder = tmp_path / 'run'
    assert os.stat(folder / KEPT).st_nlink == 2  # no second copy on the disk
    (folder / 'epoch_1.pth').unlink()
    (folder / 'epoch_2.pth.partial').write_bytes(b'half')
    runner = make_runner('run', distill, resume=True, **{**options, 'train_cfg.max_epochs': 2})
    runner.train()
    assert runner.model.distiller.iteration == 8  # four of them are the first epoch's
    assert not list(folder.glob('*.partial'))
    assert {p.name for p in folder.glob('*.pth')} == {'epoch_2.pth', KEPT}


def test_a_best_checkpoint_without_an_optimizer_is_not_kept(make_runner, distill, tmp_path):
    runner = make_runner('run', distill)
    runner.train()
    before = (tmp_path / 'run' / KEPT).read_bytes()
    runner.save_checkpoint(str(tmp_path / 'run'), 'best.pth', save_optimizer=False)
    assert (tmp_path / 'run' / 'best.pth').is_file()
    assert (tmp_path / 'run' / KEPT).read_bytes() == before


class Payload:
    """Creates a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize('resume', [False, True])
def test_code_in_a_checkpoint_is_refused_and_not_run(make_runner, distill, tmp_path, resume):
    path, trace = tmp_path / 'evil.pth', tmp_path / 'trace'
    torch.save(dict(state_dict={}, meta={}, extra=Payload(trace)), path)
    runner = make_runner('run', distill, resume=resume, load_from=str(path))
    with pytest.raises(CheckpointError, match='refused: .*mkdir'):
        runner.train()
    assert not trace.exists()
