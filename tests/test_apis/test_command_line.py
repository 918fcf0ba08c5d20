"""The command-line tools, the stock scripts and the wheel, each in processes of its own."""
from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmsrd.apis.command_line import take_config, with_teacher
from mmsrd.apis.toolbox_scripts import toolbox_of
from mmsrd.errors import ConfigError
from mmsrd.utils.zoo import package_files

ROOT = Path(__file__).resolve().parents[2]
STOCK_TRAIN = package_files('mmdet') / 'tools' / 'train.py'


def run(*command: str | Path, cwd: Path, ok: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command with this Python first on the path; the checkout is importable unless env says otherwise."""
    environment = {**os.environ, 'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
                   'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', **env}
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=environment, capture_output=True, text=True,
                          timeout=300)
    assert (done.returncode == 0) == ok, done.stdout[-3000:] + done.stderr[-3000:]
    return done


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


def test_stock_train_runs_a_distill_config(distilled_file, tmp_path):
    run(sys.executable, STOCK_TRAIN, distilled_file, '--work-dir', tmp_path / 'run', cwd=tmp_path)
    assert 'distiller' in torch.load(tmp_path / 'run' / 'epoch_1.pth')


def test_train_with_a_teacher_then_test(student_file, distill, tmp_path):
    teacher = distill['teacher']
    done = run(sys.executable, ROOT / 'tools/train.py', student_file, '--teacher', teacher['config'],
               '--teacher-checkpoint', teacher['checkpoint'], '--distill-preset', 'detection',
               '--cfg-options', 'distill.schedule.warmup=2', cwd=tmp_path)
    checkpoint = tmp_path / 'work_dirs' / 'student' / 'epoch_1.pth'  # the name is the student's
    assert 'distiller' in torch.load(checkpoint)
    assert 'srd_alignment/neck' in done.stdout + done.stderr
    written = Config.fromfile(str(checkpoint.with_name('student.py')))
    assert written.distill.schedule.warmup == 2
    # The written config tests without its teacher, by our script and by the stock one.
    Path(teacher['checkpoint']).rename(teacher['checkpoint'] + '.gone')
    try:
        for script in ([ROOT / 'tools/test.py'], ['-m', 'mmsrd', package_files('mmdet') / 'tools/test.py']):
            done = run(sys.executable, *script, checkpoint.with_name('student.py'), checkpoint,
                       '--work-dir', tmp_path / 'test', cwd=tmp_path)
            assert 'coco/bbox_mAP' in done.stdout + done.stderr
    finally:
        Path(teacher['checkpoint'] + '.gone').rename(teacher['checkpoint'])


def test_train_without_a_teacher_is_the_stock_run(student_file, tmp_path):
    run(sys.executable, ROOT / 'tools/train.py', student_file, '--work-dir', tmp_path / 'ours', cwd=tmp_path)
    run(sys.executable, '-m', 'mmsrd', STOCK_TRAIN, student_file, '--work-dir', tmp_path / 'stock', cwd=tmp_path)
    a, b = (torch.load(tmp_path / name / 'epoch_1.pth')['state_dict'] for name in ('ours', 'stock'))
    assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--teacher', 'mmdet::retinanet/retinanet_r101_fpn_2x_coc.py'], 'did you mean'),
    (['--teacher', 'TEACHER'], 'a teacher without weights teaches noise'),
    (['--teacher-checkpoint', 'auto'], '--teacher-checkpoint was given without --teacher'),
    (['--distill-preset', 'detection'], '--distill-preset was given without --teacher'),
    (['--distill-preset', 'everything'], 'invalid choice'),
    (['--teacher', 'TEACHER', '--teacher-checkpoint', 'none.pth'], "'none.pth': no such file"),
])
def test_a_user_error_is_one_line(student_file, distill, tmp_path, arguments, message):
    arguments = [distill['teacher']['config'] if a == 'TEACHER' else a for a in arguments]
    done = run(sys.executable, ROOT / 'tools/train.py', student_file, '--work-dir', tmp_path / 'run', *arguments,
               cwd=tmp_path, ok=False)
    assert message in done.stderr
    assert 'Traceback' not in done.stderr
    assert not list(tmp_path.glob('run/*.pth'))


def test_help_has_both_sets_of_flags(tmp_path):
    for script, flag in (('train', '--auto-scale-lr'), ('test', '--tta')):
        text = run(sys.executable, ROOT / f'tools/{script}.py', '--help', cwd=tmp_path).stdout
        assert '--teacher-checkpoint' in text
        assert flag in text


def test_the_stock_runner_would_ignore_the_block():
    config = Config(dict(runner_type='Runner', distill=dict(teacher=dict(config='a', checkpoint='b'))))
    with pytest.raises(ConfigError, match="runner_type = 'Runner': would ignore the `distill` block"):
        with_teacher(config, None, None, None)


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


def test_dist_train_and_dist_test_without_gpus(distilled_file, tmp_path):
    run('bash', ROOT / 'tools/dist_train.sh', distilled_file, '2', '--work-dir', tmp_path / 'run', cwd=tmp_path,
        PORT='29618')
    run('bash', ROOT / 'tools/dist_train.sh', distilled_file.with_name('student.py'), '2', '--work-dir',
        tmp_path / 'alone', cwd=tmp_path, PORT='29620')
    checkpoint = tmp_path / 'run' / 'epoch_1.pth'
    assert 'distiller' in torch.load(checkpoint)
    done = run('bash', ROOT / 'tools/dist_test.sh', distilled_file, checkpoint, '2', '--work-dir', tmp_path / 'test',
               cwd=tmp_path, PORT='29619')
    assert 'coco/bbox_mAP' in done.stdout + done.stderr


@pytest.mark.parametrize(('script', 'last'), [('train', ['work dir', '--teacher', 'a b.py']),
                                              ('test', ['epoch 1.pth', '--tta'])])
def test_slurm_scripts(tmp_path, script, last):
    """Against a stand-in for srun that records its arguments."""
    srun = tmp_path / 'bin' / 'srun'
    srun.parent.mkdir()
    srun.write_text(f'#!{sys.executable}\nimport json, sys\n'
                    f'json.dump(sys.argv[1:], open({str(tmp_path / "a")!r}, "w"))')
    srun.chmod(0o755)
    run('bash', ROOT / f'tools/slurm_{script}.sh', 'gpu part', 'job', 'my config.py', *last, cwd=tmp_path,
        PATH=f'{srun.parent}:{os.environ["PATH"]}', GPUS='16', GPUS_PER_NODE='4', SRUN_ARGS='--qos=high --time=10')
    first = last[:1] if script == 'test' else [f'--work-dir={last[0]}']
    assert json.loads((tmp_path / 'a').read_text()) == [
        '-p', 'gpu part', '--job-name=job', '--gres=gpu:4', '--ntasks=16', '--ntasks-per-node=4', '--cpus-per-task=5',
        '--kill-on-bad-exit=1', '--qos=high', '--time=10', 'python', '-u', str(ROOT / f'tools/{script}.py'),
        'my config.py', *first, '--launcher=slurm', *last[1:]]
    run('bash', ROOT / f'tools/slurm_{script}.sh', 'gpu', cwd=tmp_path, ok=False)


def test_the_wheel_works_outside_of_the_checkout(distilled_file, tmp_path):
    source = tmp_path / 'source'
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns('.venv*', '.git', 'work_dirs', '*.egg-info', 'build'))
    run(sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation', '-w', tmp_path / 'dist', source,
        cwd=tmp_path)
    wheel, = (tmp_path / 'dist').glob('mmsrd-*.whl')
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(next(n for n in archive.namelist() if n.endswith('METADATA'))).decode()
    required = [line for line in metadata.splitlines() if line.startswith('Requires-Dist')]
    assert [line for line in required if 'mmcv' in line] == [line for line in required if 'extra == "lite"' in line]
    run(sys.executable, '-m', 'pip', 'install', '--no-deps', '--target', tmp_path / 'target', wheel, cwd=tmp_path)
    empty = tmp_path / 'empty'
    empty.mkdir()
    where = run(sys.executable, '-c', 'import mmsrd; print(mmsrd.__file__)', cwd=empty,
                PYTHONPATH=str(tmp_path / 'target')).stdout
    assert str(tmp_path / 'target') in where
    run(sys.executable, STOCK_TRAIN, distilled_file, '--work-dir', tmp_path / 'run', cwd=empty,
        PYTHONPATH=str(tmp_path / 'target'))
    assert 'distiller' in torch.load(tmp_path / 'run' / 'epoch_1.pth')
