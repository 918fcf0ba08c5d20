"""Layers of a teacher that a student starts with."""
from __future__ import annotations

from typing import Any, Iterator, Mapping

import torch
from mmengine.dist import broadcast
from mmengine.model import PretrainedInit
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ..recorders import trained_part
from ..registry import engine_name

_OWN = ('backbone', 'data_preprocessor')


class StudentInit:
    """The layers of neck and heads that are alike in a student and its teacher, and the teacher's weights of them.

    A part of the detector (a child other than the backbone; of a ``roi_head`` each of its children) counts where both
    have it, of one class and with the same names of parameters and buffers. Of such a part the student takes each
    layer of the same kind and shape, a normalisation also where the layer before it differs: what comes after is made
    for its scale and shift. What differs stays the student's own: lateral convolutions as wide as the backbone, a
    classifier of another number of classes. So does what the student reads from a file (``init_cfg`` of type
    ``'Pretrained'``).

    *Focal and Global Knowledge Distillation for Detectors* (Yang et al., CVPR 2022) calls this the inheriting
    strategy, and took it from *Instance-Conditional Knowledge Distillation* (Kang et al., NeurIPS 2021).

    Args:
        student: The student, without a distiller.
        teacher: The teacher's model, before anything in it is fused.

    Attributes:
        parts: Path of each part that gives layers → how many, and how many with parameters it has.
        classifiers: Those of the layers whose outputs are classes, by path.

    Example:
        >>> import torch
        >>> from mmsrd.teachers import StudentInit
        >>> def detector(width):
        ...     return torch.nn.ModuleDict(dict(backbone=torch.nn.Conv2d(3, width, 1),
        ...                                     neck=torch.nn.Conv2d(width, 8, 1), bbox_head=torch.nn.Conv2d(8, 4, 1)))
        >>> student, teacher = detector(2), detector(4)
        >>> init = StudentInit(student, teacher)
        >>> init.parts
        {'bbox_head': (1, 1)}
        >>> init.read()
        >>> init.apply()
        >>> torch.equal(student['bbox_head'].weight, teacher['bbox_head'].weight)
        True
    """

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        self.parts: dict[str, tuple[int, int]] = {}
        self.classifiers: dict[str, nn.Module] = {}
        self._layers: list[tuple[nn.Module, nn.Module]] = []
        self._weights: list[dict[str, Tensor]] | None = None
        inner = trained_part(student)[1]
        if _from_file(student) or _from_file(inner):
            return
        detector = trained_part(teacher)[1]
        theirs = dict(_parts(detector))
        for path, own in _parts(inner):
            other = theirs.get(path)
            if other is None or not _comparable(own, other):
                continue
            others = dict(other.named_modules(remove_duplicate=False))
            layers = [(layer, others.get(name)) for name, layer in own.named_modules() if _parameters(layer)]
            alike = [(layer, its) for layer, its in layers if its is not None and _kind(layer) == _kind(its)]
            if any(parameter.dim() > 1 for layer, _ in alike for parameter in _parameters(layer)):
                self._layers += alike
                self.parts[path] = len(alike), len(layers)
                for name, layer in classifiers_of(own, path).items():
                    if any(layer is it for it, _ in alike):
                        self.classifiers[name] = layer
        of_itself = ', '.join(name for name, _ in inner.named_parameters(recurse=False))
        if self.parts and of_itself and _kind(inner) == _kind(detector):  # such as the level embeddings of DINO
            self._layers.append((inner, detector))
            self.parts[of_itself] = 1, 1

    def __str__(self) -> str:
        return self.text(self.parts)

    @staticmethod
    def text(parts: Mapping[str, tuple[int, int]]) -> str:
        """Return :attr:`parts` as text."""
        return ', '.join(f'{name} ({alike} of {layers} layers)' for name, (alike, layers) in parts.items())

    def leave_out_classifiers(self) -> None:
        """Let the student keep its own classifiers: its classes are others, or in another order."""
        kept = set(self.classifiers.values())
        for path in self.parts:
            count = sum(name.startswith(f'{path}.') for name in self.classifiers)
            self.parts[path] = self.parts[path][0] - count, self.parts[path][1]
        places = [i for i, (layer, _) in enumerate(self._layers) if layer not in kept]
        self._layers = [self._layers[i] for i in places]
        if self._weights is not None:
            self._weights = [self._weights[i] for i in places]
        self.classifiers = {}

    def read(self) -> None:
        """Copy the teacher's weights, before they are fused and converted."""
        self._weights = [{name: tensor.detach().clone() for name, tensor in _tensors(layer).items()}
                         for _, layer in self._layers]

    @torch.no_grad()
    def apply(self) -> None:
        """Give the student the teacher's weights, those of the first process; once the student is initialised."""
        assert self._weights is not None, 'read() comes first'
        for (layer, _), weights in zip(self._layers, self._weights):
            own = _tensors(layer)
            for name, value in weights.items():
                own[name].copy_(value)
                broadcast(own[name].data)  # MMEngine copies between devices only tensors of one class


def classifiers_of(part: nn.Module, path: str) -> dict[str, nn.Module]:
    """Layers of a head whose outputs, or whose rows of an embedding, are classes, by path.

    A head says how many classes it has. A layer with as many outputs, with one more for the background, or with that
    times the anchors makes class scores. A layer whose name says that it makes boxes counts only if it has four outputs
    for each class. A proposal head has no classes.

    Args:
        part: A head, or another part of a detector.
        path: Its path in the detector.

    Example:
        >>> from torch import nn
        >>> from mmsrd.teachers.student_init import classifiers_of
        >>> head = nn.ModuleDict(dict(conv_cls=nn.Conv2d(16, 80, 1), conv_reg=nn.Conv2d(16, 4, 1)))
        >>> head.num_classes = 80
        >>> list(classifiers_of(head, 'bbox_head'))
        ['bbox_head.conv_cls']
    """
    if 'rpn' in path:
        return {}
    heads: list[Any] = [module for module in part.modules() if isinstance(getattr(module, 'num_classes', None), int)]
    scores: set[int] = set()
    boxes: set[int] = set()
    for head in heads:
        classes, anchors = head.num_classes, getattr(head, 'num_base_priors', 1)  # SSD has a number for each level
        counts = [1, *(anchors if isinstance(anchors, list) else [anchors])]
        own = {classes, classes + 1, classes + 5, getattr(head, 'cls_out_channels', classes)}  # YOLOv3 makes all in one
        scores |= {count * times for count in own for times in counts if isinstance(times, int)}
        if not getattr(head, 'reg_class_agnostic', True):
            boxes.add(4 * classes)
    return {f'{path}.{name}': layer for name, layer in part.named_modules() if name and any(
                parameter.dim() > 1 and parameter.size(0) in (boxes if _makes_boxes(name) else scores)
                for parameter in _parameters(layer))}


def _makes_boxes(name: str) -> bool:
    return any(word in name.rpartition('.')[2] or word in name.partition('.')[0]
               for word in ('reg', 'bbox', 'centerness', 'ctr', 'iou', 'obj', 'offset', 'wh_head'))


def _parts(detector: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Parts of a detector by path; none of a model that has no backbone to leave out."""
    for name, child in detector.named_children() if hasattr(detector, 'backbone') else ():
        if name == 'roi_head':
            yield from ((f'{name}.{inner}', part) for inner, part in child.named_children())
        elif name not in _OWN:
            yield name, child


def _comparable(own: nn.Module, other: nn.Module) -> bool:
    """Return whether two parts are built alike, and the student's does not come from a file."""
    return type(own) is type(other) and own.state_dict().keys() == other.state_dict().keys() and \
        not any(_from_file(module) for module in own.modules())


def _from_file(module: nn.Module) -> bool:
    init: Any = getattr(module, 'init_cfg', None) or []
    entries = [init] if isinstance(init, dict) else init
    return any(engine_name(entry.get('type')) in ('Pretrained', PretrainedInit.__name__) for entry in entries)


def _kind(layer: nn.Module) -> tuple[type, dict[str, torch.Size]]:
    """Class and shapes; the kinds of batch normalisation count as one."""
    kind = _NormBase if isinstance(layer, _NormBase) else type(layer)
    return kind, {name: tensor.shape for name, tensor in _tensors(layer).items()}


def _parameters(layer: nn.Module) -> list[nn.Parameter]:
    """Parameters of a module itself."""
    return list(layer.parameters(recurse=False))


def _tensors(layer: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of a module itself."""
    return dict([*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)])
