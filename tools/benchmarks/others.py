"""What ours is compared with: MMRazor 1.0.0 and torchdistill, in the same training step.

MMRazor does not import on current PyTorch: its quantisation modules look for names that are gone. They have no part
in distillation, so they are replaced by empty modules here; nothing else of it is touched.
"""
from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmsrd.teachers.build_model import build_model, initialise

_QUANTISATION = ('mmrazor.models.quantizers', 'mmrazor.models.algorithms.quantization', 'mmrazor.models.fake_quants',
                 'mmrazor.models.observers', 'mmrazor.structures.quantization',
                 'mmrazor.engine.runner.quantization_loops')


class _Empty(types.ModuleType):
    __path__: list[str] = []  # noqa: RUF012  what makes it a package
    __all__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        return type(name, (), {})


class _EmptyModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.startswith(_QUANTISATION) else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Empty(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def mmrazor_model(student: Config, teacher: Config, algorithm: str) -> nn.Module:
    """PKD as in MMRazor's config ``pkd_fpn_faster-rcnn_r101_faster-rcnn_r50_2x_coco.py``: weight 6, four levels.

    ``algorithm``: ``'SingleTeacherDistill'`` (the whole teacher, its default) or ``'FpnTeacherDistill'``.
    """
    if not any(isinstance(finder, _EmptyModules) for finder in sys.meta_path):
        sys.meta_path.insert(0, _EmptyModules())
    import mmrazor.models  # noqa: F401  fills the registry
    from mmrazor.registry import MODELS
    models = [build_model(config, side) for side, config in (('student', student), ('teacher', teacher))]
    for model in models:
        initialise(model)
    names = [f'loss_pkd_fpn{i}' for i in range(min(4, student.model.neck.num_outs))]
    recorder = dict(fpn=dict(type='ModuleOutputs', source='neck'))
    return MODELS.build(dict(
        type=f'mmrazor.{algorithm}', architecture=models[0], teacher=models[1],
        data_preprocessor=models[0].data_preprocessor,
        distiller=dict(
            type='mmrazor.ConfigurableDistiller', student_recorders=recorder, teacher_recorders=recorder,
            distill_losses={name: dict(type='mmrazor.PKDLoss', loss_weight=6) for name in names},
            loss_forward_mappings={name: {
                f'preds_{side}': dict(from_student=side == 'S', recorder='fpn', data_idx=i) for side in 'ST'}
                for i, name in enumerate(names)})))


class TorchdistillSRD(BaseModel):
    """A classifier with torchdistill's ``SRDLoss``, fed as its ``SRDModelWrapper`` does: linear layer and batch norm.

    The teacher runs wholly, without gradients, before the student.
    """

    def __init__(self, student: Config, teacher: Config) -> None:
        from torchdistill.losses.mid_level import SRDLoss
        models = [build_model(config, side) for side, config in (('student', student), ('teacher', teacher))]
        super().__init__(data_preprocessor=models[0].data_preprocessor)
        for model in models:
            initialise(model)
        self.student = models[0]
        self.teacher = models[1].eval().requires_grad_(False)
        widths = [model.head.fc.in_features for model in models]
        self.projector = nn.Linear(*widths)
        self.norms = nn.ModuleList(nn.BatchNorm1d(widths[1], eps=1e-4, affine=False) for _ in models)
        self.criterion = SRDLoss('feature', 'output', 'feature', 'output', 'logits', 'output', 'logits', 'output',
                                 exponent=4.0)

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor') -> dict[str, Tensor]:
        with torch.no_grad():
            feature = self.teacher.extract_feat(inputs)[-1]
            said = _outputs(self.norms[1](feature), self.teacher.head.fc(feature))
        own = self.student.extract_feat(inputs)[-1]
        losses = self.student.head.loss((own,), data_samples)
        logits = self.student.head.fc(own)
        losses['loss_srd'] = self.criterion(_outputs(self.norms[0](self.projector(own)), logits), said)
        return losses


def _outputs(feature: Tensor, logits: Tensor) -> dict[str, dict[str, Tensor]]:
    return dict(feature=dict(output=feature), logits=dict(output=logits))
