"""Where students come from: packages and scopes of somebody else, pure-Python configs, hooks that reach into them."""
from __future__ import annotations

import copy

import pytest
from helpers.processes import ROOT, forked

PIPELINE = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True), dict(type='PackDetInputs')]

def test_yolox_mode_switch(make_runner, distill, student_config):
    """The hook reaches into the model's head and the data set, in the last epoch."""
    inner = copy.deepcopy(student_config.train_dataloader.dataset)
    inner.pipeline = PIPELINE[:2]
    options = {
        'train_dataloader.dataset': dict(_delete_=True, type='MultiImageMixDataset', dataset=inner, pipeline=[
            dict(type='Mosaic', img_scale=(64, 64), prob=0.0), *PIPELINE[2:]]),
        'custom_hooks': [dict(type='YOLOXModeSwitchHook', num_last_epochs=1, skip_type_keys=('Mosaic',))]}
    runner = make_runner('run', distill, **options)
    runner.train()
    assert runner.model.bbox_head.use_l1
    assert runner.train_dataloader.dataset._skip_type_keys == ('Mosaic',)


def train(*arguments, cwd):
    done = forked(ROOT / 'tools' / 'train.py', *arguments, cwd=cwd, PYTHONPATH=f'{ROOT}:{cwd}')
    return done.stdout + done.stderr


THIRD_PARTY = """
import mmdet.registry
from mmdet.utils import register_all_modules
from mmengine.registry import Registry

register_all_modules(init_default_scope=False)

# As packages on top of MMDetection have it: a child of each of its registries, for a scope of their own.
for name in ('MODELS', 'TASK_UTILS', 'DATASETS', 'TRANSFORMS', 'DATA_SAMPLERS', 'HOOKS', 'VISUALIZERS', 'METRICS',
             'EVALUATOR', 'LOOPS', 'OPTIM_WRAPPERS', 'OPTIMIZERS', 'PARAM_SCHEDULERS', 'LOG_PROCESSORS',
             'OPTIM_WRAPPER_CONSTRUCTORS', 'VISBACKENDS', 'RUNNERS', 'WEIGHT_INITIALIZERS'):
    parent = getattr(mmdet.registry, name)
    globals()[name] = Registry(parent.name, parent=parent, scope='acme', build_func=parent.build_func, locations=[])
"""
THIRD_PARTY_MODEL = """
from mmdet.models import FCOS
from acme.registry import MODELS

@MODELS.register_module()
class AcmeDetector(FCOS):
    '''A detector of another package.'''
"""
THIRD_PARTY_HOOK = """
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class AcmeHook(Hook):
    def after_train(self, runner):
        print('acme hook saw', type(runner.model).__name__)
"""


@pytest.fixture
def folder(tmp_path, student_config, distill):
    """A package of somebody else, a student config that uses it, and a teacher's files."""
    package = tmp_path / 'acme'
    package.mkdir()
    for name, text in (('__init__', ''), ('registry', THIRD_PARTY), ('models', THIRD_PARTY_MODEL),
                       ('hooks', THIRD_PARTY_HOOK)):
        (package / f'{name}.py').write_text(text)
    config = short(student_config)
    config.custom_imports = dict(imports=['acme.registry', 'acme.models', 'acme.hooks'], allow_failed_imports=False)
    config.custom_hooks = [dict(type='AcmeHook')]
    config.model.type = 'acme.AcmeDetector'
    config.dump(str(tmp_path / 'student.py'))
    return tmp_path


def short(student_config):
    """Two iterations of the tiny student."""
    config = copy.deepcopy(student_config)
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=10)
    config.default_hooks.checkpoint = dict(type='CheckpointHook', interval=2, by_epoch=False)
    config.log_processor = dict(type='LogProcessor', window_size=1, by_epoch=False)
    config.log_level = 'INFO'
    return config


def test_a_package_of_somebody_else(folder, distill):
    text = train(folder / 'student.py', '--teacher', distill['teacher']['config'], '--teacher-checkpoint',
                 distill['teacher']['checkpoint'], cwd=folder)
    assert 'acme hook saw AcmeDetector' in text
    assert 'loss_srd_neck' in text
    assert (folder / 'work_dirs' / 'student' / 'iter_2.pth').is_file()


def test_a_scope_of_somebody_else(folder, distill):
    (folder / 'scoped.py').write_text(
        "_base_ = './student.py'\ndefault_scope = 'acme'\nmodel = dict(type='AcmeDetector')\n")
    text = train(folder / 'scoped.py', '--teacher', distill['teacher']['config'], '--teacher-checkpoint',
                 distill['teacher']['checkpoint'], cwd=folder)
    assert 'loss_srd_neck' in text


def test_a_pure_python_config(tmp_path, student_config, distill):
    """MMEngine's new style: classes instead of names; only what is imported may be used."""
    old = short(student_config)
    (tmp_path / 'pure.py').write_text(
        'from mmdet.models import FCOS\n'
        'from mmdet.models.data_preprocessors import DetDataPreprocessor\n'
        'from mmengine.optim.optimizer import OptimWrapper\n'
        'from torch.optim import SGD\n'
        f'old = {dict(old.to_dict())!r}\n'
        'default_scope = "mmdet"\n'
        'model = {**old["model"], "type": FCOS, "data_preprocessor": {**old["model"]["data_preprocessor"], '
        '"type": DetDataPreprocessor}}\n'
        'optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.01))\n'
        + ''.join(f'{k} = old["{k}"]\n' for k in old if k not in (
            'model', 'optim_wrapper', 'default_scope', 'custom_imports', 'custom_hooks', 'randomness'))
        + 'del old\n')
    text = train(tmp_path / 'pure.py', '--teacher', distill['teacher']['config'], '--teacher-checkpoint',
                 distill['teacher']['checkpoint'], cwd=tmp_path)
    assert 'loss_srd_neck' in text
