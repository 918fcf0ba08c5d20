"""The command-line tools, the stock scripts and the wheel."""
from __future__ import annotations

import copy
import json
import os
import re
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
from helpers.processes import ROOT, forked, run
from helpers.weights import load, same
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from packaging.metadata import Metadata

from mmsrd import DistillRunner, __version__
from mmsrd.apis import distilled_config, parser_for, toolbox_scripts, train
from mmsrd.apis.command_line import auto_resumed, take_config, with_options, with_teacher, without_distillation
from mmsrd.apis.toolbox_scripts import config_stub, toolbox_of
from mmsrd.errors import ConfigError
from mmsrd.utils.zoo import package_files

STOCK_TRAIN = package_files('mmdet') / 'tools' / 'train.py'


@pytest.fixture
def student_file(student_config, tmp_path) -> Path:
    """The tiny student's config as a file in a folder with a space in its name: one epoch."""
    folder = tmp_path / 'my configs'
    folder.mkdir()
    config = copy.deepcopy(student_config)
    config.train_cfg.max_epochs = 1
    config.log_level = 'INFO'
    config.dump(str(folder / 'student.py'))
    return folder / 'student.py'


@pytest.fixture
def distilled_file(student_file, distill) -> Path:
    """A config that adds the two keys to it."""
    path = student_file.with_name('distilled.py')
    path.write_text(f"_base_ = './student.py'\nrunner_type = 'mmsrd.DistillRunner'\ndistill = {distill!r}\n")
    return path


def test_train_with_a_teacher_then_test(student_file, distill, tmp_path):
    teacher = distill['teacher']
    done = forked(ROOT / 'tools/train.py', student_file, '--teacher', teacher['config'], '--teacher-checkpoint',
                  teacher['checkpoint'], '--distill-preset', 'detection',
                  '--cfg-options', 'distill.schedule.warmup=2', cwd=tmp_path)
    checkpoint = tmp_path / 'work_dirs' / 'student' / 'epoch_1.pth'  # the name is the student's
    assert 'distiller' in load(checkpoint)
    assert 'srd_alignment_neck' in done.stdout + done.stderr
    written = Config.fromfile(str(checkpoint.with_name('student.py')))
    assert written.distill.schedule.warmup == 2
    # The written config tests without its teacher, by our script and by the stock one.
    Path(teacher['checkpoint']).rename(teacher['checkpoint'] + '.gone')
    try:
        own, stock = [ROOT / 'tools/test.py'], ['mmsrd', package_files('mmdet') / 'tools/test.py']
        for script, arguments in ((own, []), (stock, ['--work-dir', tmp_path / 'test'])):
            done = forked(*script, checkpoint.with_name('student.py'), checkpoint, *arguments, cwd=tmp_path)
            assert 'coco/bbox_mAP' in done.stdout + done.stderr
        # Into the same work directory, where the training's config stays what it was.
        assert Config.fromfile(str(checkpoint.with_name('student.py'))).distill == written.distill
    finally:
        Path(teacher['checkpoint'] + '.gone').rename(teacher['checkpoint'])


@pytest.mark.slow
def test_train_without_a_teacher_is_the_stock_run(student_file, tmp_path):
    run(sys.executable, ROOT / 'tools/train.py', student_file, '--work-dir', tmp_path / 'ours', cwd=tmp_path)
    run(sys.executable, '-m', 'mmsrd', STOCK_TRAIN, student_file, '--work-dir', tmp_path / 'stock', cwd=tmp_path)
    a, b = (load(tmp_path / name / 'epoch_1.pth')['state_dict'] for name in ('ours', 'stock'))
    assert same(a, b)


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--teacher', 'mmdet::retinanet/retinanet_r101_fpn_2x_coc.py'], 'did you mean'),
    (['--teacher', 'TEACHER'], 'the teacher would have random weights'),
    (['--teacher-checkpoint', 'auto'], '--teacher-checkpoint was given without --teacher'),
    (['--distill-preset', 'detection'], '--distill-preset was given without --teacher'),
    (['--distill-preset', 'everything'], "distill.preset = 'everything': must be one of 'detection', 'classification'"),
    (['--teacher', 'TEACHER', '--teacher-checkpoint', 'none.pth'], "'none.pth': no such file"),
])
def test_a_user_error_is_one_line(student_file, distill, tmp_path, arguments, message):
    arguments = [distill['teacher']['config'] if a == 'TEACHER' else a for a in arguments]
    done = forked(ROOT / 'tools/train.py', student_file, '--work-dir', tmp_path / 'run', *arguments, cwd=tmp_path,
                  ok=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert 'Traceback' not in done.stderr
    assert not list(tmp_path.glob('run/*.pth'))


def test_the_traceback_is_there_for_those_who_ask(student_file, tmp_path):
    done = forked(ROOT / 'tools/train.py', student_file, '--teacher-checkpoint', 'auto', cwd=tmp_path, ok=False,
                  MMSRD_TRACEBACK='1')
    assert 'Traceback' in done.stderr
    assert done.stderr.splitlines()[-1].startswith('mmsrd.errors.ConfigError: --teacher-checkpoint was given without')


@pytest.mark.parametrize('arguments', [[], ['train'], ['test']])
def test_running_the_package_without_arguments_says_how(arguments, tmp_path):
    done = forked('mmsrd', *arguments, cwd=tmp_path, ok=False)
    assert 'CONFIG' in done.stdout + done.stderr


def test_help_has_both_sets_of_flags(tmp_path):
    for script, flag in (('train', '--auto-scale-lr'), ('test', '--tta')):
        text = forked(ROOT / f'tools/{script}.py', '--help', cwd=tmp_path).stdout
        assert '--teacher-checkpoint' in text
        assert flag in text


class OwnRunner(DistillRunner):
    """A runner of a user."""


@pytest.mark.parametrize(('runner_type', 'name', 'wanted'), [
    ('Runner', 'Runner', 'DistillRunner'), ('mmengine.Runner', 'mmengine.Runner', 'DistillRunner'),
    ('FlexibleRunner', 'FlexibleRunner', 'DistillFlexibleRunner'),
    ('mmengine.FlexibleRunner', 'mmengine.FlexibleRunner', 'DistillFlexibleRunner'),
    (Runner, 'Runner', 'DistillRunner')])
def test_a_runner_that_would_ignore_the_block(runner_type, name, wanted):
    config = Config(dict(runner_type=runner_type, distill=dict(teacher=dict(config='a', checkpoint='b'))))
    with pytest.raises(ConfigError, match=f"runner_type = '{name}': would ignore the `distill` block; write "
                                          f"'mmsrd.{wanted}'"):
        with_teacher(config, None, None, None)


@pytest.mark.parametrize(('runner_type', 'plain'), [
    ('mmsrd.DistillRunner', 'Runner'), ('mmsrd.DistillFlexibleRunner', 'FlexibleRunner'), (OwnRunner, 'Runner'),
    (None, None)])
def test_a_runner_for_a_test(runner_type, plain):
    """Of the student alone, which needs no teacher."""
    config = Config(dict(distill=dict(teacher=dict(config='a', checkpoint='b'))))
    if runner_type is not None:
        config.runner_type = runner_type
        with_teacher(config, None, None, None)  # which accepts all of them
    assert without_distillation(config).to_dict() == ({} if plain is None else dict(runner_type=plain))


SCRIPT = """
import sys
from pathlib import Path
from mmengine.config import Config
from mmengine.runner import Runner

config = Config.fromfile(sys.argv[1])
config.work_dir = __PLACE__ + ' run'
config.visualizer.name = config.work_dir  # visualizers are global by name
runner = Runner.from_cfg(config)
Path(__PLACE__).write_text(f'{type(runner).__name__} {runner.distill_config.teachers[""].scale}')
"""


def test_a_script_that_makes_its_own_runner(distilled_file, distill, tmp_path, monkeypatch):
    """MMPose's does not read ``runner_type``."""
    script = tmp_path / 'train.py'
    script.write_text(SCRIPT.replace('__PLACE__', repr(str(tmp_path / 'made'))))
    monkeypatch.setattr(toolbox_scripts, 'toolbox_script', lambda package, name: script)
    monkeypatch.setattr(Config, 'pretty_text', property(repr))
    teacher = distill['teacher']
    train([str(distilled_file), '--teacher', teacher['config'], '--teacher-checkpoint', teacher['checkpoint'],
           '--cfg-options', 'distill.teacher.scale=0.5'])
    assert (tmp_path / 'made').read_text() == 'DistillRunner 0.5'


def test_options_of_a_teacher_of_the_command_line(distilled_file):
    """They are for the one that ``--teacher`` names, also where a resume leaves them out of the script's arguments."""
    arguments = ['--teacher', 'other.py', '--cfg-options', 'distill.teacher.swap_channels=True']
    config = distilled_config(distilled_file, parser_for('train').parse_known_args(arguments)[0], arguments)
    assert config.distill.teacher == dict(config='other.py', checkpoint=None, swap_channels=True)


def test_the_block_may_come_from_the_command_line():
    config = with_options(Config(dict(model=dict(type='X'))), [
        '--amp', '--cfg-options', 'distill.teacher.config=a.py', 'distill.teacher.checkpoint=b.pth', '--resume'])
    assert with_teacher(config, None, None, None).runner_type == 'mmsrd.DistillRunner'
    assert config.distill == dict(teacher=dict(config='a.py', checkpoint='b.pth'))


LAZY = """
from mmengine.config import read_base
from mmengine.optim import OptimWrapper
from torch.optim import SGD
from mmsrd import DistillRunner, SRDLoss

runner_type = DistillRunner
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.01))
distill = dict(losses=dict(z=dict(type=SRDLoss), a=dict(levels=[(0, 1)])))
limit = float('inf')
"""


def read_back(config, tmp_path):
    path = tmp_path / 'handed_over.py'
    path.write_text(config_stub(config))
    return Config.fromfile(str(path))


def test_a_config_is_handed_over_as_it_is(tmp_path):
    """Order of keys, infinite numbers, classes and tuples; a copy."""
    given = dict(losses=dict(z=1, a=2, m=[3, dict(y=1, b=2)]), inf=float('inf'), nan=float('nan'), kind=OwnRunner,
                 scale=(1, 2), words="it's", empty={}, _private=3, scope=dict(_scope_='mmdet', type='X'))
    config = Config(given)
    handed_over = read_back(config, tmp_path)
    assert repr(handed_over.to_dict()) == repr(config.to_dict())
    assert type(handed_over.scale) is tuple
    handed_over.losses.z = 5
    assert config.losses.z == 1


def test_a_pure_python_config_is_handed_over(tmp_path):
    """Its classes are imported when they are used, and what it has imported is no part of it."""
    (tmp_path / 'lazy.py').write_text(LAZY)
    config = Config.fromfile(str(tmp_path / 'lazy.py'))
    handed_over = read_back(config, tmp_path)
    assert repr(handed_over.to_dict()) == repr(config.to_dict())
    assert handed_over.optim_wrapper.optimizer.type is torch.optim.SGD
    assert list(handed_over.distill.losses) == ['z', 'a']
    assert eval(repr(handed_over.distill.losses.a)) == dict(levels=[(0, 1)])
    assert compile(handed_over.pretty_text.replace('inf', '1'), 'x', 'exec')  # which MMEngine writes into the work dir


@pytest.mark.slow
@pytest.mark.parametrize('script', ['ours', 'stock'])
def test_any_script_gives_the_same_weights(student_file, distill, tmp_path, script):
    """With losses that are not in the order of the alphabet, and numbers that a dump could not write."""
    neck = dict(student='neck', teacher='neck')
    losses = dict(z=dict(neck, weight=2.0), a=dict(neck, levels=[0]))
    path = student_file.with_name('distilled.py')
    path.write_text("_base_ = './student.py'\nrunner_type = 'mmsrd.DistillRunner'\nrandomness = dict(seed=3)\n"
                    f"distill = {dict(distill, losses=losses)!r}\nlimit = float('inf')\n")
    command = [ROOT / 'tools/train.py'] if script == 'ours' else ['-m', 'mmsrd', STOCK_TRAIN]
    run(sys.executable, *command, path, '--work-dir', tmp_path / 'run', cwd=tmp_path)
    ours = load(tmp_path / 'run' / 'epoch_1.pth')
    assert next(iter(ours['distiller']['state_dict'])).startswith('losses.z.')
    config = Config.fromfile(str(path))
    config.work_dir = str(tmp_path / 'here')
    config.experiment_name = config.visualizer.name = f'{tmp_path.name}-{script}'
    RUNNERS.build(config).train()
    here = load(tmp_path / 'here' / 'epoch_1.pth')
    assert same(here['state_dict'], ours['state_dict'])
    assert list(here['distiller']['state_dict']) == list(ours['distiller']['state_dict'])
    assert same(here['distiller']['state_dict'], ours['distiller']['state_dict'])


@pytest.mark.slow
def test_a_config_with_a_strategy_is_tested(student_file, distill, tmp_path):
    path = student_file.with_name('flexible.py')
    path.write_text("_base_ = './student.py'\nrunner_type = 'mmsrd.DistillFlexibleRunner'\n"
                    f'distill = {distill!r}\n')
    run(sys.executable, ROOT / 'tools/train.py', path, '--work-dir', tmp_path / 'run', cwd=tmp_path)
    done = run(sys.executable, ROOT / 'tools/test.py', path, tmp_path / 'run/epoch_1.pth', '--work-dir',
               tmp_path / 'test', cwd=tmp_path)
    assert 'coco/bbox_mAP' in done.stdout + done.stderr


@pytest.mark.parametrize(('line', 'config', 'rest'), [
    ('c.py --amp', 'c.py', '--amp'), ('--amp c.py', 'c.py', '--amp'),
    ('--work-dir w c.py --resume', 'c.py', '--work-dir w --resume'),
    ('--work-dir=w c.py k.pth', 'c.py', '--work-dir=w k.pth'),
    ('--launcher pytorch c.py k.pth --tta', 'c.py', '--launcher pytorch k.pth --tta'),
    ('--cfg-options a=1 b=2 --amp c.py', 'c.py', '--cfg-options a=1 b=2 --amp')])
def test_the_config_may_stand_anywhere(line, config, rest):
    arguments = line.split()
    assert take_config(arguments) == config
    assert arguments == rest.split()


def test_no_config():
    with pytest.raises(ConfigError, match='no config is given'):
        take_config(['--amp'])


def test_toolbox_follows_the_default_scope():
    assert toolbox_of(Config(dict(default_scope='mmpretrain'))) == 'mmpretrain'
    assert toolbox_of(Config(dict())) == 'mmdet'


@pytest.mark.slow
def test_dist_train_and_dist_test_without_gpus(distilled_file, tmp_path):
    run('bash', ROOT / 'tools/dist_train.sh', distilled_file, '2', '--work-dir', tmp_path / 'run', cwd=tmp_path,
        PORT='29618')
    run('bash', ROOT / 'tools/dist_train.sh', distilled_file.with_name('student.py'), '2', '--work-dir',
        tmp_path / 'alone', cwd=tmp_path, PORT='29620')
    checkpoint = tmp_path / 'run' / 'epoch_1.pth'
    assert 'distiller' in load(checkpoint)
    done = run('bash', ROOT / 'tools/dist_test.sh', distilled_file, checkpoint, '2', '--work-dir', tmp_path / 'test',
               cwd=tmp_path, PORT='29619')
    assert 'coco/bbox_mAP' in done.stdout + done.stderr


@pytest.mark.parametrize(('variables', 'endpoint'), [
    ({}, '127.0.0.1:0'), (dict(PORT='7'), '127.0.0.1:7'), (dict(NNODES='2:4', MASTER_ADDR='a'), 'a:29500')])
def test_trainings_with_restarts_do_not_meet(tmp_path, variables, endpoint):
    """A second one on a port would wait for a place in the first, and in several machines train with it."""
    names = set()
    for config in ('a.py', 'b.py'):
        printed = run('bash', ROOT / 'tools/dist_train.sh', config, '2', cwd=tmp_path, PYTHON='echo', MAX_RESTARTS='3',
                      **variables).stdout
        assert f'--rdzv_endpoint={endpoint} ' in printed
        names.add(re.search('--rdzv_id=(.*?) ', printed)[1])
    assert len(names) == 2


def test_an_error_in_one_process_ends_all(distilled_file, tmp_path):
    """With its message, and soon, although the other process waits for it."""
    (tmp_path / 'raising_hook.py').write_text('''
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class RaisingHook(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if get_rank() == 1 and runner.iter == 1:
            raise RuntimeError('only here')
''')
    config = distilled_file.with_name('raising.py')
    config.write_text("_base_ = './distilled.py'\ncustom_imports = dict(imports=['raising_hook'])\n"
                      "custom_hooks = [dict(type='RaisingHook')]\n")
    started = time.monotonic()
    done = run('bash', ROOT / 'tools/dist_train.sh', config, '2', '--work-dir', tmp_path / 'run', cwd=tmp_path,
               ok=False, PORT='29622', PYTHONPATH=str(tmp_path))
    assert 'RuntimeError: only here' in done.stderr
    # Most of it is the start of two processes on a busy machine; gloo's time limit is half an hour.
    assert time.monotonic() - started < 120


def test_a_user_error_in_several_processes_is_one_line(student_file, distill, tmp_path):
    """With the status of one process, for `srun`; the launcher of PyTorch has its own."""
    done = forked(ROOT / 'tools/train.py', student_file, '--teacher', distill['teacher']['config'],
                  '--teacher-checkpoint', 'none.pth', '--launcher', 'pytorch', '--work-dir', tmp_path / 'run',
                  processes=2, cwd=tmp_path, ok=False)
    assert done.returncode == 2
    assert "'none.pth': no such file" in done.stderr
    assert 'Traceback' not in done.stderr


RESOURCES = ['-p', 'gpu part', '--job-name=job', '--gres=gpu:4', '--ntasks=16', '--ntasks-per-node=4',
             '--cpus-per-task=5', '--qos=high', '--time=10']


@pytest.fixture
def slurm(tmp_path):
    """Stand-ins for Slurm's commands that record their arguments; ``slurm(script, *arguments, **environment)``."""
    folder = tmp_path / 'bin'
    folder.mkdir()
    for name in ('srun', 'sbatch', 'scontrol'):
        (folder / name).write_text(
            f'#!{sys.executable}\nimport json, os, sys\n'
            f'json.dump(sys.argv[1:], open({str(tmp_path / name)!r}, "w"))\n'
            f'sys.exit(int(os.environ.get("STATUS", 0)) if {name!r} == "srun" else 0)')
        (folder / name).chmod(0o755)

    def call(script, *arguments, ok=True, **environment):
        run('bash', ROOT / f'tools/slurm_{script}.sh', *arguments, cwd=tmp_path, ok=ok,
            PATH=f'{folder}:{os.environ["PATH"]}', GPUS='16', GPUS_PER_NODE='4',
            **{'SRUN_ARGS': '--qos=high --time=10', **environment})
        return {name: json.loads((tmp_path / name).read_text()) for name in ('srun', 'sbatch', 'scontrol')
                if (tmp_path / name).exists()}

    return call


TRAIN = ['gpu part', 'job', 'my config.py', 'work dir', '--teacher', 'a b.py']
COMMAND = ['python', '-u', str(ROOT / 'tools/train.py'), 'my config.py', '--work-dir=work dir', '--launcher=slurm',
           '--teacher', 'a b.py']


def test_slurm_test(slurm):
    assert slurm('test', 'gpu part', 'job', 'my config.py', 'epoch 1.pth', '--tta') == dict(srun=[
        *RESOURCES[:-2], '--kill-on-bad-exit=1', *RESOURCES[-2:], 'python', '-u', str(ROOT / 'tools/test.py'),
        'my config.py', 'epoch 1.pth', '--launcher=slurm', '--tta'])
    slurm('test', 'gpu', ok=False)


def test_slurm_train_submits_a_job(slurm, tmp_path):
    assert slurm('train', *TRAIN) == dict(sbatch=[
        *RESOURCES, '--signal=USR1@120', '--requeue', '--open-mode=append', '--output=work dir/slurm-%j.log',
        str(ROOT / 'tools/slurm_train.sh'), *TRAIN])
    assert (tmp_path / 'work dir').is_dir()
    slurm('train', 'gpu', ok=False)
    signal = [argument for argument in slurm('train', *TRAIN, SRUN_ARGS='--signal=USR1@900')['sbatch']
              if 'signal' in argument]
    assert signal == ['--signal=USR1@900']


@pytest.mark.parametrize('status', [0, 1, 75])
def test_slurm_train_in_the_job(slurm, status):
    """Resumes, and is queued again only after it was preempted."""
    called = slurm('train', *TRAIN, ok=status == 0, MMSRD_SLURM_JOB=str(ROOT / 'tools'), SLURM_JOB_ID='7',
                   STATUS=str(status))
    assert called.pop('srun') == ['--cpus-per-task=5', '--kill-on-bad-exit=1', *COMMAND, '--auto-resume']
    assert called == (dict(scontrol=['requeue', '7']) if status == 75 else {})


@pytest.mark.parametrize(('name', 'again'), [('preempted.pth', True), ('iter_3.pth', False)])
def test_slurm_train_whose_last_process_was_killed(slurm, tmp_path, name, again):
    (tmp_path / 'work dir').mkdir()
    pointer = tmp_path / 'work dir' / 'last_checkpoint'
    pointer.write_text(f'/somewhere/{name}')
    later = time.time() + 60
    os.utime(pointer, (later, later))
    called = slurm('train', *TRAIN, ok=False, MMSRD_SLURM_JOB=str(ROOT / 'tools'), SLURM_JOB_ID='7', STATUS='137')
    assert ('scontrol' in called) == again


@pytest.mark.parametrize('arguments', [['--amp'], ['--resume', 'old.pth', '--amp'],
                                       ['--amp', '--work-dir', 'run']])
def test_auto_resume(tmp_path, monkeypatch, arguments):
    """Weights to start from are kept until there is a checkpoint of the run itself."""
    monkeypatch.chdir(tmp_path)
    assert auto_resumed(arguments, Config(), 'a.py', True) == arguments
    folder = Path('run' if 'run' in arguments else 'work_dirs/a')
    folder.mkdir(parents=True)
    torch.save(dict(state_dict={}), folder / 'epoch_1.pth')
    assert auto_resumed(arguments, Config(), 'a.py', True) == ['--amp', f'--work-dir={folder}', '--resume']


@pytest.mark.parametrize(('flag', 'restarts', 'resumes'), [
    ([], True, True), ([], False, False), (['--resume'], False, True), (['--resume', 'auto'], False, True),
    (['--resume', 'old.pth'], False, False)])
def test_a_resume_is_not_from_load_from(tmp_path, monkeypatch, flag, restarts, resumes):
    """MMPretrain's script reads it in --cfg-options after --resume, MMSegmentation's in the config."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'run').mkdir()
    torch.save(dict(state_dict={}), 'run/iter_1.pth')
    config = Config(dict(work_dir='run', load_from='pretrained.pth'))
    options = ['--cfg-options', 'a.b=1', '--amp', '--cfg-options', 'load_from=pretrained.pth']
    arguments = auto_resumed([*flag, *options], config, 'a.py', restarts)
    assert config.load_from == (None if resumes else 'pretrained.pth')
    assert arguments == (['--amp', '--work-dir=run', '--resume'] if resumes else [*flag, *options])


def test_a_first_start_with_resume(tmp_path, monkeypatch):
    """Begins as the config says: MMDetection's script leaves its weights out, MMPretrain's resumes from them."""
    monkeypatch.chdir(tmp_path)
    config = Config(dict(work_dir='run', load_from='pretrained.pth'))
    arguments = ['--resume', '--amp', '--cfg-options', 'load_from=pretrained.pth']
    assert auto_resumed(arguments, config, 'a.py', False) == ['--amp', '--work-dir=run']
    assert config.load_from == 'pretrained.pth'


@pytest.mark.parametrize('environment', [dict(REQUEUE='0'), dict(SLURM_JOB_ID='7')], ids=['asked for', 'allocation'])
def test_slurm_train_at_once(slurm, environment):
    assert slurm('train', *TRAIN, **environment) == dict(
        srun=[*RESOURCES, '--signal=USR1@120', '--kill-on-bad-exit=1', *COMMAND])


def test_the_wheel_works_outside_of_the_checkout(wheel, distilled_file, distill, tmp_path):
    """With MMDetection's own script, too."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith('METADATA'))).decode()
    required = [line for line in metadata.splitlines() if line.startswith('Requires-Dist')]
    is_new = 'Metadata-Version: 2.1' not in metadata  # an old setuptools writes keys of newer versions into it
    # Raises where an index would refuse it.
    assert Metadata.from_email(metadata, validate=is_new).version.public == __version__
    assert required
    assert all('extra ==' in line for line in required)  # nothing that pip could move
    assert [line for line in required if 'mmcv' in line] == [line for line in required if 'mmcv-lite' in line]
    for path in ('model-index.yml', 'tools/train.py', 'tools/dist_train.sh', 'configs/quickstart/metafile.yml'):
        assert f'mmsrd/.mim/{path}' in names
    configs = [Path(name).name for name in names if name.startswith('mmsrd/.mim/configs') and name.endswith('.py')]
    assert len(configs) == len(set(configs)) > 90  # MIM looks for them by their base names
    run(sys.executable, '-m', 'pip', 'install', '--no-deps', '--target', tmp_path / 'target', wheel, cwd=tmp_path)
    empty = tmp_path / 'empty'
    empty.mkdir()
    installed = dict(cwd=empty, PYTHONPATH=str(tmp_path / 'target'))
    where = run(sys.executable, '-c', 'import importlib.util as util; print(util.find_spec("mmsrd").origin)',
                **installed).stdout
    assert str(tmp_path / 'target') in where
    run(sys.executable, STOCK_TRAIN, distilled_file, '--work-dir', tmp_path / 'stock', **installed)
    run(sys.executable, '-m', 'mmsrd', 'train', distilled_file.with_name('student.py'), '--teacher',
        distill['teacher']['config'], '--teacher-checkpoint', distill['teacher']['checkpoint'], **installed)
    own = empty / 'work_dirs' / 'student' / 'epoch_1.pth'
    assert all('distiller' in load(path) for path in (tmp_path / 'stock' / 'epoch_1.pth', own))
    done = run(sys.executable, '-m', 'mmsrd', 'test', distilled_file, own, **installed)
    assert 'coco/bbox_mAP' in done.stdout + done.stderr
