"""What is benchmarked: pairs of configs, their batches, and the variants of a training step."""
from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Any

import torch
from mmengine.config import Config

from mmsrd.compat.mmcv_ext import has_compiled_ops
from mmsrd.config import PLAIN
from mmsrd.utils.zoo import load_config

OURS = ('ours', 'naive', 'ended', 'scale 0.5', 'interval 2', 'no balance', 'no stream', 'compiled teacher', 'no fold',
        'no channels last', 'fp32 teacher', 'autograd loss', 'offload', 'device check')
DETECTION = ('MMRazor SingleTeacherDistill', 'MMRazor FpnTeacherDistill')
CLASSIFICATION = ('torchdistill SRD',)
CONTROL = 'plain again'
VARIANTS = ('plain', CONTROL, *OURS, *DETECTION, *CLASSIFICATION)
"""In the order of their worth, as time may end. ``'no balance'``: losses of constant weight; ``'naive'``: the teacher
as it comes, and the loss differentiated by PyTorch; ``'ended'``: after ``schedule.end``; the control: what two
processes that do the same differ by."""


@dataclass(frozen=True)
class Case:
    """One setting that all variants are measured in."""

    pair: str  # name in :data:`PAIRS`
    height: int  # of the images, pixels
    width: int  # of the images, pixels
    batch: int  # images in a step
    amp: str = 'none'  # ``'none'``, ``'fp16'`` or ``'bf16'``
    device: str = 'cpu'  # ``'cpu'`` or ``'cuda'``
    threads: int = 1  # of PyTorch on the CPU

    def to_dict(self) -> dict[str, Any]:
        """For the command line of a worker and for the results."""
        return asdict(self)


def _fcos(depth: int) -> Config:
    config = load_config('mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py', 'pair')
    if depth == 18:
        config.model.backbone.update(depth=18)
        config.model.neck.in_channels = [64, 128, 256, 512]
    return config


PAIRS = {
    'fcos': lambda: (_fcos(18), _fcos(50)),
    'retinanet': lambda: _zoo('mmdet::retinanet/retinanet_r{}_fpn_2x_coco.py', 50, 101),
    'faster-rcnn': lambda: _zoo('mmdet::faster_rcnn/faster-rcnn_r{}_fpn_2x_coco.py', 50, 101),
    'resnet': lambda: _zoo('mmpretrain::resnet/resnet{}_8xb32_in1k.py', 18, 34),
    'tiny': lambda: tuple(Config.fromfile(f'configs/quickstart/fcos_digits_{side}.py')
                          for side in ('student', 'teacher')),
}
"""Student and teacher config by name; weights are random, which changes no time."""

DEFAULTS = {
    'cpu': {'fcos': (256, 256, 2), 'retinanet': (256, 256, 2), 'faster-rcnn': (128, 128, 2), 'resnet': (128, 128, 16),
            'tiny': (64, 64, 2)},
    'cuda': {'fcos': (800, 1344, 8), 'retinanet': (800, 1344, 8), 'faster-rcnn': (800, 1344, 8),
             'resnet': (224, 224, 256), 'tiny': (64, 64, 2)},
}
"""Height, width and batch where the command names none."""


def variants_of(case: Case) -> list[str]:
    """All variants that make sense for a setting."""
    others = DETECTION if is_detector(configs_of(case.pair)[0]) else CLASSIFICATION
    same = ('device check',) if case.device == 'cuda' else (  # as 'ours'
        'no stream', 'fp32 teacher', 'no channels last', 'compiled teacher')
    return ['plain', CONTROL, *(variant for variant in OURS if variant not in same), *others]


def _zoo(pattern: str, *depths: int) -> tuple[Config, ...]:
    return tuple(load_config(pattern.format(depth), 'pair') for depth in depths)


def configs_of(pair: str) -> tuple[Config, Config]:
    """Student and teacher config without files to download."""
    student, teacher = (copy.deepcopy(config) for config in PAIRS[pair]())
    for config in (student, teacher):
        config.model.backbone.pop('init_cfg', None)
    return student, teacher


def mmcv_ops() -> str:
    """Return which operators stand behind mmcv's: with the stand-in, the plain step of a detector is slower, too."""
    return 'compiled' if has_compiled_ops() else 'stand-in'


def is_detector(config: Config) -> bool:
    """Return whether the pair is of MMDetection."""
    return bool(config.get('default_scope') == 'mmdet')


def batches(case: Case, student: Config, count: int = 2) -> list[dict[str, Any]]:
    """Random images with annotations, as a data loader would give them, already on the device."""
    device = torch.device(case.device)
    torch.manual_seed(0)
    if is_detector(student):
        from mmdet.testing import demo_mm_inputs
        head = student.model.get('bbox_head') or student.model.roi_head.bbox_head
        return [_on(demo_mm_inputs(case.batch, image_shapes=[(3, case.height, case.width)] * case.batch,
                                   num_items=[8] * case.batch, num_classes=head.num_classes), device)
                for _ in range(count)]
    from mmpretrain.structures import DataSample
    return [dict(inputs=list(torch.randint(0, 256, (case.batch, 3, case.height, case.width), device=device)),
                 data_samples=[DataSample().set_gt_label(i % 1000).to(device) for i in range(case.batch)])
            for _ in range(count)]


def _on(data: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return dict(inputs=[x.to(device) for x in data['inputs']],
                data_samples=[x.to(device) for x in data['data_samples']])


def distill_block(teacher: Config, variant: str) -> dict[str, Any]:
    """The ``distill`` block of a variant of ours."""
    inference: dict[str, Any] = {}
    block: dict[str, Any] = dict(teacher=dict(config=teacher, allow_random=True, inference=inference))
    switched = {'no fold': dict(fold=False), 'fp32 teacher': dict(precision='fp32'),
                'no channels last': dict(channels_last=False), 'no stream': dict(stream=False),
                'naive': PLAIN, 'compiled teacher': dict(compile=True)}
    inference.update(switched.get(variant, {}))
    if variant == 'ended':
        block['schedule'] = dict(end=1)
    if variant == 'interval 2':
        block['schedule'] = dict(interval=2)
    if variant == 'scale 0.5':
        block['teacher']['scale'] = 0.5
    if variant == 'device check':
        block['device_check'] = 'always'  # on a CPU, too
    if variant == 'offload':
        block['teacher']['offload'] = True
    return block
