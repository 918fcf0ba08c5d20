"""Strategies of MMEngine's flexible runner in two CPU processes: the same training, whole checkpoints, resume."""
from __future__ import annotations

import json

import pytest
import torch
from helpers.processes import launch
from helpers.weights import load
from mmengine.registry import RUNNERS

from mmsrd.compat.torch_versions import TORCH
from mmsrd.errors import ConfigError

FSDP = dict(type='FSDPStrategy', state_dict_cfg='full')


def train(folder, name, epochs, strategy, resume=False, balance=None):
    return launch(2, 'flexible_worker.py', folder, name, epochs, json.dumps(strategy), resume, balance)


def close(a, b):
    assert list(a) == list(b)
    for key, value in a.items():
        torch.testing.assert_close(value, b[key], rtol=1e-4, atol=1e-5, msg=key)


@pytest.mark.slow
@pytest.mark.skipif(TORCH < (2, 1), reason='FSDP needs PyTorch 2.1 with distillation')
@pytest.mark.parametrize('balance', [None, 0.5])
def test_sharded_training_is_the_same(both_toolboxes, balance):
    output = train(both_toolboxes, 'ddp', 2, dict(type='DDPStrategy'), balance=balance)
    assert 'STUDENT ImageClassifier 8' in output
    train(both_toolboxes, 'fsdp', 1, FSDP, balance=balance)
    assert 'STUDENT ImageClassifier 8' in train(both_toolboxes, 'fsdp', 2, FSDP, True, balance)
    whole, sharded = (load(both_toolboxes / name / 'epoch_2.pth') for name in ('ddp', 'fsdp'))
    # FSDP adds gradients in another order; four steps of SGD with momentum amplify it little.
    # MMEngine's DDP strategy saves under the wrapper's names, which all loaders know; distilled or not.
    close({key.replace('module.', '', 1): value for key, value in whole['state_dict'].items()}, sharded['state_dict'])
    close(whole['distiller']['state_dict'], sharded['distiller']['state_dict'])
    norms = [value for key, value in sharded['distiller']['state_dict'].items() if key.endswith('balance.norms')]
    assert all((value > 0).all() for value in norms)
    assert bool(norms) == (balance is not None)
    assert not any('distiller' in key for state in (whole, sharded) for key in state['state_dict'])


@pytest.mark.parametrize(('strategy', 'message'), [
    (dict(type='DeepSpeedStrategy'), "strategy.type = 'DeepSpeedStrategy': has not been tested with distillation"),
    (dict(type='mmengine._strategy.FSDPStrategy'), "strategy.state_dict_cfg = 'local': .* use 'full'" if TORCH >= (2, 1)
     else "strategy.type = 'FSDPStrategy': needs PyTorch 2.1 or newer"),
    pytest.param(dict(FSDP, model_wrapper=dict(type='MMFullyShardedDataParallel', mixed_precision=dict(
        param_dtype='bfloat16'))), "strategy.model_wrapper.mixed_precision = .*'bfloat16'.* use_fsdp=True",
        marks=pytest.mark.skipif(TORCH < (2, 1), reason='FSDP is refused as a whole')),
])
def test_refused(student_config, distill, tmp_path, strategy, message):
    config = student_config.copy()
    config.update(work_dir=str(tmp_path), distill=distill, runner_type='mmsrd.DistillFlexibleRunner',
                  strategy=strategy)
    with pytest.raises(ConfigError, match=message):
        RUNNERS.build(config)


def test_one_device(student_config, distill, tmp_path):
    config = student_config.copy()
    config.update(work_dir=str(tmp_path), distill=distill, runner_type='mmsrd.DistillFlexibleRunner',
                  experiment_name=tmp_path.name)
    config.visualizer.name = tmp_path.name
    config.train_cfg = dict(by_epoch=True, max_epochs=1, val_interval=9)
    runner = RUNNERS.build(config)
    runner.train()
    assert runner.model.distiller.progress.iteration == 4
    assert set(load(tmp_path / 'epoch_1.pth')) > {'state_dict', 'distiller'}
