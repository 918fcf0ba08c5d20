"""Checkpoint files are complete or absent, and a resume takes the newest complete one."""
from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmsrd.apis.command_line import auto_resumed
from mmsrd.errors import CheckpointError, StorageError
from mmsrd.resume.checkpoint_files import KEPT, atomic_write, checkpoint_folders, newest_complete


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


def test_checkpoints_that_somebody_has_deleted(tmp_path):
    """With ``rm *.pth last_checkpoint``, which leaves the hidden link."""
    checkpoint(tmp_path / KEPT)
    assert newest_complete(tmp_path) is None


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
    assert runner.model.distiller.progress.iteration == 8  # four of them are the first epoch's
    assert not list(folder.glob('*.partial'))
    assert {p.name for p in folder.glob('*.pth')} == {'epoch_2.pth', KEPT}


@pytest.mark.parametrize('as_path', [False, True])
def test_checkpoints_in_another_folder(make_runner, distill, tmp_path, as_path):
    """A kill after MMEngine has deleted the old checkpoint there, before the pointer names the new one."""
    out_dir = tmp_path / 'elsewhere' if as_path else str(tmp_path / 'elsewhere')
    options = {'default_hooks.checkpoint.max_keep_ckpts': 1, 'train_cfg.max_epochs': 1}
    hooks = dict(default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=1,
                                                    out_dir=out_dir)))
    make_runner('run', distill, **hooks, **options).train()
    folder = tmp_path / 'elsewhere' / 'run'
    assert (tmp_path / 'run/last_checkpoint').read_text() == str(folder / 'epoch_1.pth')
    (folder / 'epoch_1.pth').unlink()
    (folder / 'epoch_2.pth.partial').write_bytes(b'half')
    config = Config(dict(work_dir=str(tmp_path / 'run'), default_hooks=hooks['default_hooks']))
    assert auto_resumed([], config, 'run.py', True)[-1] == '--resume'
    runner = make_runner('run', distill, resume=True, **hooks, **{**options, 'train_cfg.max_epochs': 2})
    runner.train()
    assert runner.model.distiller.progress.iteration == 8  # four of them are the first epoch's
    assert not list(folder.glob('*.partial'))
    assert {p.name for p in folder.glob('*.pth')} == {'epoch_2.pth', KEPT}


def test_folders_of_checkpoints(tmp_path):
    """As MMEngine's hook finds them."""
    work_dir = tmp_path / 'runs' / 'a'
    assert checkpoint_folders(work_dir, [None, 's3://bucket', tmp_path / 'x', str(work_dir)]) == [tmp_path / 'x' / 'a']


def test_a_best_checkpoint_without_an_optimizer_is_not_kept(make_runner, distill, tmp_path):
    runner = make_runner('run', distill)
    runner.train()
    before = (tmp_path / 'run' / KEPT).read_bytes()
    runner.save_checkpoint(str(tmp_path / 'run'), 'best.pth', save_optimizer=False)
    assert (tmp_path / 'run' / 'best.pth').is_file()
    assert (tmp_path / 'run' / KEPT).read_bytes() == before


def refusing(number):
    """A system call that fails."""
    def call(*arguments, **options):
        raise OSError(number, os.strerror(number))
    return call


def test_a_rename_whose_answer_was_lost(tmp_path, monkeypatch):
    replace = os.replace

    def renamed_without_answer(source, target):
        replace(source, target)
        refusing(errno.ENOENT)()

    monkeypatch.setattr(os, 'replace', renamed_without_answer)
    with atomic_write(str(tmp_path), 'epoch_1.pth', keep=False) as name:
        checkpoint(tmp_path / name)
    assert newest_complete(tmp_path) == str(tmp_path / 'epoch_1.pth')
    with pytest.raises(FileNotFoundError), atomic_write(str(tmp_path), 'epoch_2.pth', keep=False) as name:
        (tmp_path / name).write_bytes(b'half')
    assert newest_complete(tmp_path) == str(tmp_path / 'epoch_1.pth')


def test_a_file_system_without_hard_links(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'link', refusing(errno.EPERM))
    with atomic_write(str(tmp_path), 'epoch_1.pth', keep=True) as name:
        checkpoint(tmp_path / name)
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_1.pth'))
    (tmp_path / 'epoch_1.pth').unlink()  # as MMEngine does before it writes the next
    assert newest_complete(tmp_path) == str(tmp_path / KEPT)


def test_no_room_for_a_copy(tmp_path, monkeypatch):
    """What was copied by then would keep the disk full."""
    def half(source, target):
        Path(target).write_bytes(b'half')
        refusing(errno.ENOSPC)()

    monkeypatch.setattr(os, 'link', refusing(errno.EPERM))
    monkeypatch.setattr(shutil, 'copyfile', half)
    with atomic_write(str(tmp_path), 'epoch_1.pth', keep=True) as name:
        checkpoint(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ['epoch_1.pth']


def test_a_full_disk(make_runner, distill, tmp_path, monkeypatch):
    make_runner('run', distill, **{'train_cfg.max_epochs': 1}).train()
    monkeypatch.setattr(LocalBackend, 'put', lambda self, content, path: (
        Path(path).write_bytes(content[:1000]), refusing(errno.ENOSPC)()))
    newest = str(tmp_path / 'run' / 'epoch_1.pth')
    with pytest.raises(StorageError, match=f'No space left on device.*newest complete .* is {newest}.*--resume'):
        make_runner('run', distill, resume=True).train()
    assert not list((tmp_path / 'run').glob('*.partial'))
    assert newest_complete(tmp_path / 'run') == newest


def test_other_missing_files_are_no_storage_errors(make_runner, distill, tmp_path):
    runner = make_runner('run', distill)
    with pytest.raises(FileNotFoundError) as error, runner.guarded():
        (tmp_path / 'image.png').read_bytes()
    assert not isinstance(error.value, StorageError)
    with pytest.raises(StorageError, match='There is no complete checkpoint'), runner.guarded():
        (tmp_path / 'run' / 'scalars.json').read_bytes()


def test_a_store_that_fails(make_runner, distill, monkeypatch):
    runner = make_runner('run', distill)
    monkeypatch.setattr(Runner, 'save_checkpoint', lambda *arguments, **options: 1 / 0)
    with pytest.raises(StorageError, match=r's3://bucket: a.pth could not be saved \(ZeroDivisionError'):
        runner.save_checkpoint('s3://bucket', 'a.pth')


def test_two_checkpoints_are_kept_in_a_store(make_runner, distill):
    """MMEngine deletes the oldest before the next is there."""
    runner = make_runner('run', distill, **{'default_hooks.checkpoint.max_keep_ckpts': 1,
                                            'default_hooks.checkpoint.out_dir': 's3://bucket'})
    hook, = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    with runner.guarded():
        assert hook.max_keep_ckpts == 2


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
