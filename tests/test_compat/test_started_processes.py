"""Processes that are not forked find the stand-in for mmcv's operators before they need it."""
from __future__ import annotations

import pytest
from helpers.processes import ROOT, python

from mmsrd.compat import has_compiled_ops

DATA = '''
import mmcv.ops

class Data:
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return index

def ops(_):
    return mmcv.ops.nms.__name__
'''
SCRIPT = '''
import multiprocessing
if __name__ == '__main__':  # a process that is started imports this file, but not what is below
    import mmsrd
    import data
    from torch.utils.data import DataLoader
    for method in ('spawn', 'forkserver'):
        assert list(DataLoader(data.Data(), num_workers=1, multiprocessing_context=method)) == [0, 1, 2]
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        assert pool.map(data.ops, [0]) == ['nms']
'''


@pytest.mark.skipif(has_compiled_ops(), reason='nothing to find')
def test_loaders_and_pools(tmp_path):
    (tmp_path / 'data.py').write_text(DATA)
    (tmp_path / 'script.py').write_text(SCRIPT)
    python(tmp_path / 'script.py', cwd=tmp_path, timeout=120)


@pytest.mark.slow
def test_a_training_whose_workers_are_not_forked(student_config, distill, tmp_path):
    config = student_config.copy()
    config.merge_from_dict({'env_cfg': dict(mp_cfg=dict(mp_start_method='spawn')), 'train_cfg.max_epochs': 1,
                            'train_dataloader.num_workers': 1, 'val_dataloader.num_workers': 1,
                            'runner_type': 'mmsrd.DistillRunner', 'distill': distill})
    config.dump(str(tmp_path / 'student.py'))
    python(ROOT / 'tools/train.py', tmp_path / 'student.py', '--work-dir', tmp_path / 'run', cwd=tmp_path)
    assert (tmp_path / 'run' / 'epoch_1.pth').is_file()
