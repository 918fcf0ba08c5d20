"""One config of a model zoo as a case: which one of a folder, small inputs for it, one optimisation step."""
from __future__ import annotations

import copy
import re
import traceback
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn
from zoo_inputs import batch_for

import mmsrd
from mmsrd.teachers.build_model import build_model, initialise
from mmsrd.utils.zoo import load_config, package_files

OTHER_TEACHER = dict(mmdet='mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
                     mmpretrain='mmpretrain::resnet/resnet50_8xb32_in1k.py',
                     mmseg='mmseg::fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py',
                     mmpose='mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py',
                     mmrotate='mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
                     mmyolo='mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
OTHER_TASKS = dict(mmdet=['rtmdet/rtmdet-ins'])
"""Configs of another task than the first one of their folder, by the beginning of their names."""
SIDES = dict(mmdet=(128, 256, 320, 512), mmpretrain=(224, 32, 256, 384, 299, 192, 448), mmseg=(128, 256, 512),
             mmpose=(256,), mmrotate=(128, 256, 512), mmyolo=(128, 256, 320, 640))
# Of the configs of a folder the first in this order: small models are quicker, and all are built the same way.
_ORDER = ('nano', 'tiny', 'r18', 'resnet18', 'xxs', 'xs', 'small', '-s0', 'r50', 'resnet50', '-b0', '400mf', 'mbv2', '',
          '101', '32x4d', 'base', '-b_', '64x4d', '152', 'x101', '200', '269', 'large', '-l_', '-l-', 'swin-l', 'xl',
          'huge', 'giant', '-g-p')
_MIDDLE = _ORDER.index('')


def folders(package: str) -> list[str]:
    """Config folders of an installed toolbox, of MMPose ``task/algorithm``; and beginnings of names in them."""
    root = package_files(package) / 'configs'
    found = (p.relative_to(root) for p in root.glob('*/*' if package == 'mmpose' else '*') if p.is_dir())
    return sorted([*(str(p) for p in found if not p.parts[0].startswith('_')), *OTHER_TASKS.get(package, ())])


def configs_of(package: str, folder: str) -> list[str]:
    """Zoo names of the configs of a folder that define a model to train, small models first."""
    root = package_files(package) / 'configs'
    paths = (root / folder).rglob('*.py') if (root / folder).is_dir() else root.glob(f'{folder}*.py')
    found = [p for p in sorted(paths) if not {'_base_', '__pycache__', 'deploy'} & set(p.parts)]
    found.sort(key=lambda p: _rank(p.stem))
    return [f'{package}::{p.relative_to(root)}' for p in found]


def _rank(stem: str) -> tuple[int, int, str]:
    """Position of the largest mark in the name, then the length of the name; usual data comes first."""
    marks = [i for i, mark in enumerate(_ORDER) if mark and mark in stem]
    size = max((i for i in marks if i > _MIDDLE), default=min(marks, default=_MIDDLE))
    # Of a size the usual data first: MMPretrain's ImageNet, MMDetection's plain COCO.
    return size, len(stem) + 50 * ('in1k' not in stem and 'coco' not in stem), stem


def is_trainable(package: str, config: Config) -> bool:
    """Return whether a config trains a model of the toolbox's task with labels; trackers and language models do not."""
    model = config.get('model') or {}
    if package == 'mmseg':
        return 'backbone' in model and 'decode_head' in model
    if package == 'mmpose':
        return 'backbone' in model and model.get('type') != 'PoseLifter'  # which takes no image
    if package in ('mmdet', 'mmrotate', 'mmyolo'):
        return ('backbone' in model or 'detector' in model) and not {'tracker', 'language_model'} & set(model) \
            and model.get('type') not in ('ImageClassifier', 'BaseReID')
    return model.get('type') == 'ImageClassifier' and bool(model.get('head'))


def pick(package: str, folder: str, count: int = 3) -> list[str]:
    """Configs of a folder that train a detector or classifier, small ones first; the first of each kind of backbone."""
    found: dict[str, str] = {}
    rest = []
    for name in configs_of(package, folder):
        try:
            config = load_config(name, 'config')
        except Exception:  # no model in it: a dataset, or a part of other configs
            continue
        if is_trainable(package, config):
            backbone = str(config.model.get('backbone'))
            if backbone in found or (found and _rank(Path(name).stem)[0] > _MIDDLE):
                rest.append(name)
            else:
                found[backbone] = name
    return [*found.values(), *rest][:count]


@torch.no_grad()
def replace_leftovers(model: nn.Module) -> None:
    """Small random values for parameters that are neither initialised nor meant to be: TridentNet loads them from a
    file, and before that they are what was in memory, zeros and NaN included."""
    for parameter in model.parameters():
        largest = parameter.abs().max() if parameter.numel() else torch.zeros(())
        if not largest < 1e3 or (parameter.dim() > 1 and largest < 1e-12):
            parameter.normal_(0, 0.01)


def step(package: str, name: str, teacher: str | None, side: int) -> dict[str, float]:
    """The losses of one optimisation step of a model with random weights, with a teacher if one is named."""
    config = load_config(name, 'config')
    torch.manual_seed(0)
    model = build_model(config, 'config').train()
    initialise(model)
    replace_leftovers(model)
    if teacher is not None:
        distiller = mmsrd.attach(model, dict(teacher=dict(config=teacher, allow_random=True)))
        replace_leftovers(distiller.teacher.model)
    wrapper = copy.deepcopy(config.get('optim_wrapper') or dict(optimizer=dict(type='SGD', lr=0.01)))
    if wrapper.get('type', 'OptimWrapper') != 'OptimWrapper':  # AMP needs an accelerator
        wrapper['type'] = 'OptimWrapper'
        for option in ('loss_scale', 'dtype', 'use_fsdp'):
            wrapper.pop(option, None)
    hub = MessageHub.get_current_instance()
    for clock in ('epoch', 'iter'):  # some heads ask where training is
        hub.update_info(clock, 0)
    with DefaultScope.overwrite_default_scope(config.get('default_scope', 'mmengine')):
        optimizer = Runner.build_optim_wrapper(_Owner(model), wrapper)  # type: ignore[arg-type]
        batch = batch_for(package, model, config, side)
        projected: set[nn.Module] = set()
        for k, module in model.named_modules():
            if '.projectors.' in k:
                module.register_forward_hook(lambda module, *_: projected.add(module))
        losses = model(**batch, mode='loss')
    total, _ = model.parse_losses(losses)  # type: ignore[operator]
    called = {f'{k}.' for k, module in model.named_modules() if module in projected}
    # A level of too few rows, such as a map of 1x1 of two images, is not projected.
    received = {k: 0.0 for k, _ in model.named_parameters() if 'distiller.' in k and (
        '.projectors.' not in k or any(k.startswith(start) for start in called))}
    for k, parameter in model.named_parameters():
        if k in received:
            parameter.register_hook(lambda gradient, k=k: received.update({k: float(gradient.abs().max())}))
    optimizer.update_params(total)
    logged = {k: float(sum(x.detach().sum() for x in (v if isinstance(v, (list, tuple)) else [v])))
              for k, v in losses.items()}
    wrong = [k for k, v in logged.items() if 'srd' in k and v != v]
    if wrong:
        raise FloatingPointError(f'{", ".join(wrong)} is NaN')
    if teacher is not None:
        assert any(k.startswith('loss_srd_') for k in logged), 'no distillation loss'
        assert received, 'no projector was used'
        without = [k for k, gradient in received.items() if not gradient > 0]
        assert not without, f'projectors without a gradient: {without}'
    return logged


class _Owner:
    """The part of a runner that ``Runner.build_optim_wrapper`` asks for."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model


def check(package: str, name: str, teacher: str | None) -> str:
    """``'ok'``, or the error of the first image size where no size works."""
    message = ''
    config = str(load_config(name, 'config').model)
    sides = SIDES[package]
    given = re.findall(r"'img_size': \(?(\d+)|'image_size': \(?(\d+)|'input_size': \(?(\d+)", config)
    own = [int(n) for group in given for n in group if n and 16 <= int(n) <= 512]
    for side in dict.fromkeys([*own[:1], *sides]):
        try:
            step(package, name, teacher, side)
            return 'ok'
        except Exception as e:
            last = traceback.extract_tb(e.__traceback__)[-1]
            message = message or f'{type(e).__name__}: {str(e).strip() or f"in {last.name}: {last.line}"}'
            if not _may_be_the_size(e):
                break
    return tidy(message)


def tidy(message: str) -> str:
    """A message on one line, without the folders of this machine."""
    message = re.sub(r'^TeacherError: config: the model cannot be built \((.*)\)$', r'cannot be built: \1',
                     ' '.join(message.split()))
    return re.sub(r'(/[\w.+-]+){2,}/', '', message)[:300]


def _may_be_the_size(error: Exception) -> bool:
    text = str(error).lower()
    return (isinstance(error, (RuntimeError, AssertionError, ValueError, IndexError)) and any(
        word in text for word in ('size', 'shape', 'dimension', 'divisible', 'view', 'topk', 'k not in range',
                                  'out of range', 'index', 'single row', 'more than 1 value', 'assert'))) or not text
