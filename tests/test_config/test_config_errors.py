"""Bad input: each mistake has an error that names the key, quotes the value and says what is accepted."""
from __future__ import annotations

import copy
from pathlib import Path

import pytest
from mmengine.config import Config

import mmsrd
from mmsrd.distillers import read_block
from mmsrd.errors import (
    CheckpointError,
    ConfigError,
    ConfigTypeError,
    FeatureMismatchError,
    MMSRDError,
    TapError,
    TeacherError,
    UnknownKeyError,
)

TEACHER = dict(config='teacher.py', checkpoint='teacher.pth')


def block(**changes):
    """A block that is right but for the changes; 'losses__neck' style keys go into the loss."""
    made = dict(teacher=dict(TEACHER), losses=dict(neck=dict(student='neck', teacher='neck')))
    for key, value in changes.items():
        *path, last = key.split('__')
        target = made
        for name in path:
            target = target.setdefault(name, {})
        target[last] = value
    return made


def several(**changes):
    """As :func:`block`, with two teachers."""
    made = block(**changes)
    made.setdefault('teachers', {})
    if not changes.keys() & {'teacher'}:
        made.pop('teacher')
    if not changes.keys() & {'teachers'}:
        for name in ('big', 'small'):
            made['teachers'][name] = {**TEACHER, **made['teachers'].get(name, {})}
    return made


def test_a_right_block():
    config = read_block(block(losses__neck__alpha=2, schedule=dict(start=5, end=9, warmup=3)))
    assert config.losses[0].module['alpha'] == 2
    assert config.losses[0].student == 'neck'
    assert config.losses[0].weight == 1.0
    assert (config.schedule.start, config.schedule.end, config.schedule.warmup) == (5, 9, 3)


def test_what_mmengine_leaves_where_there_was_nothing_to_delete():
    config = Config(dict(distill=dict(teacher=dict(TEACHER))))  # losses of the preset
    config.merge_from_dict({'distill.losses._delete_': True, 'distill.losses.neck.student': 'neck',
                            'distill.losses.neck.teacher': 'neck', 'distill.schedule._delete_': True})
    assert '_delete_' in config.distill.losses
    assert [loss.name for loss in read_block(config.distill).losses] == ['neck']


WRONG = [
    (None, ConfigError, 'the config has no `distill` block'),
    ([], ConfigTypeError, r'distill = \[\]: must be a dict, not list'),
    (block(exact_resume=1), ConfigTypeError, 'distill.exact_resume = 1: must be True or False'),
    (block(schedule=0), ConfigTypeError, 'distill.schedule = 0: must be a dict'),
    (block(preemption=3), ConfigTypeError, 'distill.preemption = 3: must be True, False or a dict'),
    (block(preemption=dict(intervall=3)), UnknownKeyError, "distill.preemption: unknown key 'intervall'.*'interval'"),
    (block(preemption=dict(interval=0)), ConfigError, 'distill.preemption.interval = 0: must be .* at least 1'),
    (block(preemption=dict(signals='SIGTERM')), ConfigTypeError, "preemption.signals = 'SIGTERM': must be a list"),
    (block(preemption=dict(signals=['SIGNAL'])), ConfigError, "preemption.signals = 'SIGNAL': is not a signal"),
    (block(preemption=dict(signals=['SIGKILL'])), ConfigError, "'SIGKILL': is not a signal that can be handled"),
    ({3: 4}, ConfigTypeError, r'distill = \{3: 4\}: has the key 3; keys must be strings'),
    (block(teacher__config={3: 4}), ConfigTypeError, r'distill.teacher.config = \{3: 4\}: has the key 3'),
    (block(losses__neck__weight=10 ** 400), ConfigError, 'weight = 1000.*0{9}.*: is too large for a floating-point'),
    (block(losses__neck__type='..'), ConfigError, "distill.losses.neck.type = '..': is not a registered loss"),
    (block(tacher=1), UnknownKeyError, r"distill: unknown key 'tacher' \(did you mean 'teacher' or 'teachers'\?\)"),
    (dict(), ConfigError, 'distill.teacher: is required'),
    (block(teacher='x.py'), ConfigTypeError, "distill.teacher = 'x.py': must be dict\\(config=..., checkpoint=PATH"),
    (block(teacher__confg='x'), UnknownKeyError, "distill.teacher: unknown key 'confg'.*'config'"),
    (block(teacher=dict(checkpoint='a')), ConfigError, 'distill.teacher.config: is required'),
    (block(teacher__config=3), ConfigTypeError, 'distill.teacher.config = 3'),
    (block(teacher__config=dict(a=1)), ConfigError, 'distill.teacher.config: defines no model; it has a'),
    (block(teacher__checkpoint=None), ConfigError, 'distill.teacher.checkpoint = None: .*allow_random=True'),
    (block(teacher__checkpoint=3), ConfigTypeError, 'distill.teacher.checkpoint = 3: must be a path'),
    (block(teacher__init_student='yes'), ConfigTypeError, "distill.teacher.init_student = 'yes'"),
    (block(teacher__allow_random='yes'), ConfigTypeError, "distill.teacher.allow_random = 'yes'"),
    (dict(block(losses=None), preset='detect'), ConfigError,
     "distill.preset = 'detect': must be one of 'detection', 'classification', 'segmentation', 'keypoints'"),
    (block(preset='detection'), ConfigError, "distill.preset = 'detection': cannot be combined with"),
    (block(losses={}), ConfigError, 'distill.losses: is empty'),
    (block(losses=[]), ConfigTypeError, r'distill.losses = \[\]'),
    (block(losses=dict(my_loss=dict())), ConfigError, "distill.losses = 'my_loss': must not contain 'loss'"),
    (block(losses=dict(values=dict())), ConfigError, "distill.losses = 'values': is a name that PyTorch"),
    (block(losses={'a.b': dict()}), ConfigError, "distill.losses = 'a.b': a loss name has letters"),
    (block(losses__neck__alhpa=4), UnknownKeyError, "distill.losses.neck: unknown key 'alhpa'.*'alpha'"),
    (block(losses__neck__alpha=0.5), ConfigError, 'distill.losses.neck.alpha = 0.5: must be a number of at least 1'),
    (block(losses__neck__type='SDRLoss'), ConfigError, "distill.losses.neck.type = 'SDRLoss'.*SRDLoss"),
    (block(losses=dict(neck=dict(stdent='neck', teacher='neck'))), UnknownKeyError,
     r"distill.losses.neck: unknown key 'stdent' \(did you mean 'student'"),
    (block(losses__neck__student=None), ConfigError, 'distill.losses.neck.student: is required'),
    (block(losses__neck__teacher=0), ConfigTypeError, 'distill.losses.neck.teacher = 0'),
    (block(losses__neck__weight=-1), ConfigError, r'distill.losses.neck.weight = -1: must be a number of at least 0'),
    (block(losses__neck__weight='4'), ConfigTypeError, "distill.losses.neck.weight = '4': must be a number, not str"),
    (block(losses__neck__weight=True), ConfigTypeError, 'distill.losses.neck.weight = True'),
    (block(losses__neck__levels=[]), ConfigError, r'distill.losses.neck.levels = \[\]'),
    (block(losses__neck__levels='strides'), ConfigTypeError, r"levels = 'strides': must be a list .*, or 'stride'"),
    (block(losses__neck__levels=['p3']), ConfigTypeError, r"distill.losses.neck.levels = \['p3'\]: must be a list"),
    (block(losses__neck__resize='crop'), ConfigError, "distill.losses.neck.resize = 'crop': .*'to_student'"),
    (block(losses__neck__pool='avg'), ConfigTypeError, "distill.losses.neck.pool = 'avg': must be True or False"),
    (block(losses__neck__projector=dict(type='LinearProjector', dim=4)), UnknownKeyError,
     "distill.losses.neck.projector: unknown key 'dim'"),
    (block(losses__neck__projector=dict(bias=True)), ConfigError, 'distill.losses.neck.projector.type: is required'),
    (block(losses__neck__tokens='class'), ConfigError, "distill.losses.neck.tokens = 'class': must be one of 'all'"),
    (block(losses__neck__tokens=None), ConfigError, 'distill.losses.neck.tokens = None: must be one of'),
    (block(losses__neck__type='SRDLos'), ConfigError, r"type = 'SRDLos': is not a registered loss \(did you mean"),
    (block(losses__neck__type='MobileNetV1'), ConfigError, r"type = 'MobileNetV1': is not a registered loss; mmsrd has "
     'BinaryKLDivLoss, CWDLoss, DISTLoss, FeatureMSELoss, KLDivLoss, LDLoss, PKDLoss, SRDLoss, VkDLoss$'),
    (block(losses__neck__type='LinearProjector'), ConfigError, "type = 'LinearProjector': is not a registered loss"),
    (block(losses__neck__projector=dict(type='CifarVGG')), ConfigError,
     r"projector\.type = 'CifarVGG': is not a registered projector; mmsrd has LinearProjector, MLPProjector, "
     'OrthogonalProjector$'),
    (block(losses__neck__projector=dict(type='SRDLoss')), ConfigError, "projector.type = 'SRDLoss': is not"),
    (block(losses__neck__projector='linear'), ConfigTypeError, "projector = 'linear': must be 'auto', None or"),
    (block(losses__neck__from_teacher='big'), ConfigError,
     r"from_teacher = 'big': is not a teacher; there is one `distill.teacher`"),
    (block(teacher=dict(ema=dict(momentum=0))), ConfigError, 'momentum = 0: must be a number above 0 and below 1'),
    (block(teacher=dict(ema=dict(momentum='0.1'))), ConfigTypeError, r"ema\.momentum = '0\.1': must be a number"),
    (block(teacher=dict(ema=dict(decay=0.9))), UnknownKeyError, r"teacher\.ema: unknown key 'decay'"),
    (block(teacher=dict(ema=0.9)), ConfigTypeError, r'teacher\.ema = 0\.9: must be a dict'),
    (block(teacher=dict(ema=dict(momentum=0.1), offload=True)), ConfigError, 'cannot be combined with offload'),
    (block(teacher=dict(ema=dict(momentum=0.1), inference=dict(fold=False))), ConfigError,
     'ema: cannot be combined with inference'),
    (block(teacher__offload='yes'), ConfigTypeError, r"distill.teacher.offload = 'yes': must be True or False"),
    (block(teacher__inference=dict(precision='half')), ConfigError,
     r"inference\.precision = 'half': must be one of 'auto', 'fp32', 'bf16'"),
    (block(teacher__inference=dict(fold='no')), ConfigTypeError, r"inference\.fold = 'no': must be True or False"),
    (block(teacher__inference=dict(stream=1)), ConfigTypeError, r'inference\.stream = 1: must be True or False'),
    (block(teacher__inference=dict(channels_last='yes')), ConfigTypeError,
     r"inference\.channels_last = 'yes': must be True, False or 'auto'"),
    (block(teacher__inference=dict(compile='max-autotune')), ConfigTypeError,
     r"inference\.compile = 'max-autotune': must be True, False, or"),
    (block(teacher__inference=dict(folding=True)), UnknownKeyError, r"teacher\.inference: unknown key 'folding'"),
    (several(), ConfigError, r'losses\.neck\.from_teacher: is required where there are several'),
    (several(losses__neck__from_teacher='huge'), ConfigError,
     r"from_teacher = 'huge': is not a teacher; `distill.teachers` has 'big', 'small'"),
    (several(teachers={}), ConfigError, r'distill\.teachers: is empty'),
    (several(teachers={'a b': {}}), ConfigError, r"distill\.teachers = 'a b': a teacher name has"),
    (several(teachers=dict(loss_big=TEACHER)), ConfigError, r"distill\.teachers = 'loss_big': must not contain 'loss'"),
    (several(teachers__big__ema={}), ConfigError, r'teachers\.big\.ema: cannot be combined with config, chec'),
    (several(teacher={}), ConfigError, r'distill\.teachers: cannot be combined with `distill\.teacher`'),
    (block(schedule=dict(begin=3)), UnknownKeyError, "distill.schedule: unknown key 'begin'"),
    (block(schedule=dict(start=-1)), ConfigError, 'distill.schedule.start = -1: must not be negative'),
    (block(schedule=dict(start=9, end=5)), ConfigError, 'distill.schedule.end = 5: must be greater than start = 9'),
    (block(schedule=dict(warmup=0.5)), ConfigTypeError, 'distill.schedule.warmup = 0.5: must be a whole number'),
]


@pytest.mark.parametrize(('wrong', 'kind', 'message'), WRONG, ids=[w[2][:50] for w in WRONG])
def test_block(wrong, kind, message):
    with pytest.raises(kind, match=message) as error:
        read_block(wrong)
    assert isinstance(error.value, MMSRDError)
    assert '\\n' not in str(error.value)  # str() of a KeyError would quote the message


def changed(distill, path, value):
    """Copy of a block with one value set."""
    made = copy.deepcopy(distill)
    target = made
    for name in path.split('.')[:-1]:
        target = target[name]
    target[path.split('.')[-1]] = value
    return made


MISFITS = [
    ('losses.neck.student', 'nek', TapError, r"distill.losses.neck.student = 'nek': FCOS has no such module "
     r"\(did you mean 'neck'.*Modules of FCOS: data_preprocessor, backbone, neck, bbox_head"),
    ('losses.neck.teacher', 'neck.fpn_convs.7', TapError, "distill.losses.neck.teacher = 'neck.fpn_convs.7'.*"
     'Modules of neck.fpn_convs: 0, 1'),
    ('losses.neck.student', 'data_preprocessor', TapError, 'the module is not called by FCOS.forward'),
    ('losses.neck.levels', [0, 5], ConfigError, r'distill.losses.neck.levels = .*the student has no level 5; it has 3'),
    ('losses.neck.projector', dict(type='MLPProjector', layers=1), ConfigError,
     r'losses.neck.projector.layers = 1: must be a whole number of at least 2'),
    ('losses.neck.projector', None, FeatureMismatchError, r'\(1, 32, 16, 16\).*\(1, 64, 16, 16\) have different chan'),
    ('losses.neck.teacher', 'backbone.layer1', FeatureMismatchError, r'the student has 3 levels \[32x16x16, 32x8x8, '
     r'32x4x4\] and the teacher 1 \[32x32x32\]; level\(s\) 1, 2 exist only in the student'),
    ('teacher.config', 'mmdet::retinanet/retinanet_r50_fpn_1x_cocos.py', ConfigError,
     "mmdet has no such config .did you mean 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'"),
    ('teacher.config', '/nowhere/teacher.py', ConfigError, "distill.teacher.config = '/nowhere/teacher.py': no such"),
    ('teacher.checkpoint', '/nowhere/teacher.pth', CheckpointError, "distill.teacher.checkpoint = '/nowhere/teacher"),
    ('teacher.checkpoint', 'auto', CheckpointError, "'auto': works for configs of a model zoo"),
]


@pytest.mark.parametrize(('path', 'value', 'kind', 'message'), MISFITS, ids=[f'{m[0]}={m[1]}' for m in MISFITS])
def test_block_that_does_not_fit_the_models(student, distill, path, value, kind, message):
    keys = set(student.state_dict())
    with pytest.raises(kind, match=message):
        mmsrd.attach(student, changed(distill, path, value))
    assert not hasattr(student, 'distiller')
    assert set(student.state_dict()) == keys
    assert not any(m._forward_hooks for n, m in student.named_modules() if n)
    mmsrd.attach(student, distill)  # the corrected call works on the same model


@pytest.mark.parametrize('preset', ['classification'])
def test_preset_of_another_task(student, distill, preset):
    distill.pop('losses')
    with pytest.raises(ConfigError, match="distill.preset = 'classification': the student FCOS is made for detection"):
        mmsrd.attach(student, {**distill, 'preset': preset})


def test_different_sizes_need_resizing(student, distill):
    wrong = changed(distill, 'losses.neck', dict(student='backbone.layer1', teacher='backbone.layer2', resize='none'))
    with pytest.raises(FeatureMismatchError, match=r"\(1, 8, 32, 32\).*\(1, 64, 16, 16\) differ in size and resize"):
        mmsrd.attach(student, wrong)


def test_epochs_need_a_runner(student, distill):
    with pytest.raises(ConfigError, match='by_epoch = True: only a runner counts epochs'):
        mmsrd.attach(student, {**distill, 'schedule': dict(by_epoch=True)})


def test_one_distiller_only(student, distill):
    mmsrd.attach(student, distill)
    with pytest.raises(ConfigError, match="FCOS already has a child 'distiller'"):
        mmsrd.attach(student, distill)


def test_checkpoint_of_another_architecture(student, distill, tmp_path):
    import torch
    path = tmp_path / 'other.pth'
    torch.save(dict(state_dict=student.state_dict()), path)
    with pytest.raises(CheckpointError, match=r'does not fit FCOS of .*: \d+ of \d+ keys match; \d+ have another sh'):
        mmsrd.attach(student, changed(distill, 'teacher.checkpoint', str(path)))


def test_a_run_that_fails_its_checks_writes_nothing(make_runner, distill, tmp_path):
    work_dir = tmp_path / 'run'
    work_dir.mkdir()
    (work_dir / 'epoch_1.pth').write_bytes(b'mine')
    with pytest.raises(UnknownKeyError):
        make_runner('run', changed(distill, 'losses.neck.alhpa', 2))
    assert [p.name for p in work_dir.iterdir()] == ['epoch_1.pth']
    with pytest.raises(TapError):
        make_runner('run', changed(distill, 'losses.neck.student', 'nek'))
    runner = make_runner('run', changed(distill, 'teacher.checkpoint', '/nowhere.pth'))
    with pytest.raises(CheckpointError):
        runner.train()
    assert (work_dir / 'epoch_1.pth').read_bytes() == b'mine'
    assert not list(work_dir.glob('last_checkpoint'))


def test_the_runner_needs_a_block(make_runner):
    with pytest.raises(ConfigError, match='the config has no `distill` block'):
        make_runner('run', None, runner_type='mmsrd.DistillRunner')


def test_teacher_config_that_is_not_python(tmp_path, student, distill):
    path = Path(tmp_path) / 'broken.py'
    path.write_text('model = dict(')
    with pytest.raises(TeacherError, match='cannot be read as a config'):
        mmsrd.attach(student, changed(distill, 'teacher.config', str(path)))
    path.write_text("model = dict(type='NoSuchDetector')\ndefault_scope = 'mmdet'")
    with pytest.raises(TeacherError, match=r'the model cannot be built \(KeyError: .*NoSuchDetector'):
        mmsrd.attach(student, changed(distill, 'teacher.config', str(path)))


def test_other_names_of_weight_and_temperature(student, distill, batch):
    """As OpenMMLab's losses and other toolboxes call them."""
    logits = dict(student='bbox_head.conv_cls', teacher='bbox_head.conv_cls', type='BinaryKLDivLoss', levels='stride')
    values = []
    for options in (dict(weight=3.0, temperature=2.0), dict(loss_weight=3.0, tau=2.0)):
        mmsrd.attach(student, {**distill, 'losses': dict(logits=dict(logits, **options))})
        student.eval()  # no statistics move between the two
        values.append(float(student(**batch(student))['loss_srd_logits']))
        mmsrd.detach(student)
    assert values[0] == values[1] > 0


@pytest.mark.parametrize(('options', 'message'), [
    (dict(weight=1.0, loss_weight=2.0), r'losses\.x: has weight=1\.0 and loss_weight=2\.0, which mean the same'),
    (dict(balance=1.0, loss_weight=2.0), r'losses\.x: has weight=2\.0 and balance=1'),
    (dict(type='KLDivLoss', temperature=4, tau=2), r'losses\.x: has temperature=4 and tau=2, which mean the same')])
def test_both_names(options, message):
    with pytest.raises(ConfigError, match=message):
        read_block(dict(teacher=TEACHER, losses=dict(x=dict(student='neck', teacher='neck', **options))))
