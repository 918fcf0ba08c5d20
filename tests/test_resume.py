"""What a resume notices, and which file it takes."""
from __future__ import annotations

import copy
import os
import shutil
from pathlib import Path

import pytest
import torch

import mmsrd
from mmsrd.checkpoint_files import KEPT, newest_complete
from mmsrd.errors import CheckpointError
from mmsrd.record import describe_run, differences


@pytest.fixture
def run_with(make_runner, distill):
    """Train one epoch, then resume to the second with a changed block; what MMEngine logged meanwhile."""

    def run(change=None, **overrides):
        make_runner('run', distill, **{'train_cfg.max_epochs': 1}).train()
        block = copy.deepcopy(distill)
        if change:
            change(block)
        runner = make_runner('run', block, resume=True, **overrides)
        warnings = []
        runner.logger.handlers[0].addFilter(lambda record: warnings.append(record.getMessage()) or True)
        runner.train()
        return ' '.join(warnings)

    return run


@pytest.mark.parametrize(('change', 'message'), [
    (lambda b: b['losses']['neck'].update(alpha=2.0), r'distill.losses.neck.alpha was 4.0 and is 2.0'),
    (lambda b: b['losses']['neck'].update(weight=1.0), r'distill.losses.neck.weight was 2.0 and is 1.0'),
    (lambda b: b.update(schedule=dict(end=6)), r'distill.schedule.end was None and is 6'),
])
def test_other_settings_are_a_warning(run_with, change, message):
    assert f'Resumed with other settings than those of the checkpoint: {message}' in run_with(change)


def test_nothing_changed_is_no_warning(run_with):
    assert 'other settings' not in run_with()


def test_a_moved_teacher_is_the_same(run_with, tmp_path):
    def move(block):
        block['teacher']['checkpoint'] = str(shutil.copy(block['teacher']['checkpoint'], tmp_path / 'moved.pth'))
    assert 'other settings' not in run_with(move)


def test_another_teacher_is_an_error(run_with, tmp_path):
    def retrain(block):
        state = torch.load(block['teacher']['checkpoint'])
        state['state_dict']['backbone.conv1.weight'][0, 0, 0, 0] += 1e-3
        block['teacher']['checkpoint'] = str(tmp_path / 'other.pth')
        torch.save(state, block['teacher']['checkpoint'])
    with pytest.raises(CheckpointError, match=r'distill.teacher.weights are others than before \(checksum \d+ was, '
                                              r'\d+ is\): the projectors .* use load_from'):
        run_with(retrain)


def test_another_meaning_of_the_same_width_is_an_error(run_with):
    with pytest.raises(CheckpointError, match='distill.losses.neck.pool was False and is True: the projectors'):
        run_with(lambda b: b['losses']['neck'].update(pool=True))


def test_another_number_of_processes_is_notable(student, distill):
    distiller = mmsrd.attach(student, distill)
    fatal, notable = differences(describe_run(distiller, 8), describe_run(distiller, 4))
    assert fatal == []
    assert notable == ['number of processes was 8 and is 4']


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
