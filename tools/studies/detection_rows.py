"""What the detection study trains: settings, pairs of detectors, and the loss of each row."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence


@dataclass(frozen=True)
class Setting:
    """Sizes of everything."""

    name: str  # end of the configs' names, and of the data folder's
    side: int  # side of the square images
    student: str  # backbone of the students, in the configs' names
    teacher: str  # backbone of the teachers
    steps: tuple[int, int]  # iterations of a student and of a teacher
    images: tuple[int, int]  # number of training and of validation images
    objects: tuple[int, int]  # fewest and most objects in an image
    object_size: tuple[int, int]  # smallest and largest side of an object


SETTINGS = {
    'reduced': Setting('128', 128, 'r18w8', 'r18w32', (1200, 1200), (3000, 400), (2, 6), (20, 48)),
    'full': Setting('256', 256, 'r18', 'r50', (2400, 4800), (4000, 500), (4, 12), (20, 72)),
    'emoji': Setting('emoji', 128, 'r18w8', 'r18w32', (1200, 1200), (3000, 400), (2, 6), (16, 44)),
}
# Rows whose names end so are trained in another way than their configs say, and the student alone with them.
LONG = ', 4 × as long'  # does a teacher help a student that has the time to learn by itself?
# 1.6 and 6.4: what the time of as many distilled steps as with 1 and 4 is worth to the student alone.
LONGER = {', 1.6 × as long': 1.6, LONG: 4, ', 6.4 × as long': 6.4}
# Most COCO configs have SGD, the configs of this study AdamW.
SGD = ', SGD'
OPTIMIZER = ('optim_wrapper.optimizer._delete_=True', 'optim_wrapper.optimizer.type=SGD',
             'optim_wrapper.optimizer.lr=0.1', 'optim_wrapper.optimizer.momentum=0.9',
             'optim_wrapper.optimizer.weight_decay=0.0001', 'optim_wrapper.clip_grad.max_norm=35')
LAST_NORMS = 'SRD, balance 1, norms of the last step'
# The student starts with the teacher's neck and head, as far as they are alike.
INIT = ', init_student'
DEFAULT = f'SRD{INIT}'
"""Row of the preset."""
CROPS = 'SRD, a classifier teaches'
"""A model of timm that has been trained on the objects alone; all pairs of the maps by stride."""
SRD = dict(type='SRDLoss', student='neck', teacher='neck', alpha=4.0, balance=1.0)
CONSTANT = {**{k: v for k, v in SRD.items() if k != 'balance'}, 'weight': 0.25}  # without balance
PKD = dict(type='PKDLoss', student='neck', teacher='neck', projector=None, weight=6.0)
MSE = dict(type='FeatureMSELoss', student='neck', teacher='neck', weight=1.0)


VKD = dict(type='VkDLoss', student='neck', teacher='neck', weight=1.0, **{'projector.type': 'OrthogonalProjector'})


def balanced(loss: dict[str, Any], balance: float = 1.0) -> dict[str, Any]:
    """A loss with a balance instead of its weight."""
    return {**{k: v for k, v in loss.items() if k != 'weight'}, 'balance': balance}


def by_level(loss: dict[str, Any], weights: Sequence[float]) -> tuple[dict[str, Any], ...]:
    """A loss for each level, with weights of their own."""
    return tuple({**loss, 'levels': [level], 'weight': weight} for level, weight in enumerate(weights))


# Last factors of the rows SRD and PKD, balance 1, seed 0, over 3 levels (a loss is the mean of its levels).
BALANCED_SRD = 0.21, 0.036, 1.7e-7
BALANCED_PKD = 5.2, 1.2, 1e-5
BACKBONE = {'student': 'backbone', 'teacher': 'backbone'}
LOGITS = dict(type='BinaryKLDivLoss', student='bbox_head.conv_cls', teacher='bbox_head.conv_cls', levels='stride',
              balance=1.0)
# MMYOLO's recipe for RTMDet, with a third of its weight: it adds 1 for each of three levels.
CWD = dict(type='CWDLoss', student='neck', teacher='neck', weight=1.0)
LD = dict(type='LDLoss', student='bbox_head.scales', teacher='bbox_head.scales', balance=1.0)
MAIN: dict[str, dict[str, Any]] = {
    DEFAULT: SRD,
    f'PKD, balance 1{INIT}': balanced(PKD),
    f'MSE, projector, balance 1{INIT}': balanced(MSE),
    f'student alone{INIT}': {**CONSTANT, 'weight': 0.0},
    'SRD': SRD,
    'PKD, balance 1': balanced(PKD),
    'MSE, projector, balance 1': balanced(MSE),
    'SRD, weight 0.25': CONSTANT,
    'PKD': PKD,
    'PKD, weight 18': {**PKD, 'weight': 18.0},  # as published: 6 for each of three levels, whose mean a loss is here
    'MSE, projector': MSE,
}
ROWS: dict[str, dict[str, Any] | tuple[dict[str, Any], ...]] = {
    **MAIN,
    LAST_NORMS: SRD,
    'SRD, balance 0.3': {**SRD, 'balance': 0.3},
    'SRD, balance 3': {**SRD, 'balance': 3.0},
    **{f'SRD, balance 1, alpha {alpha:g}': {**SRD, 'alpha': alpha} for alpha in (1.0, 2.0, 6.0)},
    'SRD, balance 1, correlation form': {**SRD, 'form': 'correlation'},
    'SRD, balance 1, no normalisation': {**SRD, 'norm': 'none'},
    'SRD, balance 1, no projector': {**SRD, 'projector': None},
    f'SRD, balance 1, no projector{INIT}': {**SRD, 'projector': None},
    'SRD, balance 1, projector of 2 layers': {**SRD, 'projector.type': 'MLPProjector', 'projector.layers': 2},
    'SRD, balance 1, spatial normalisation': {**SRD, 'norm': 'spatial'},
    'SRD, balance 1, orthogonal projector': {**SRD, 'projector.type': 'OrthogonalProjector'},
    'SRD, balance 1, backbone': {**SRD, **BACKBONE},
    'SRD, balance 1, neck and backbone': (SRD, {**SRD, **BACKBONE}),
    'SRD and dense logits, balance 1': (SRD, LOGITS),
    'dense logits, balance 1': LOGITS,
    # Why it works: the weights that a balance ends with, held from the start; balance at one level; a level left out.
    'SRD, weights of a balanced run': by_level(CONSTANT, BALANCED_SRD),
    'PKD, weights of a balanced run': by_level(PKD, BALANCED_PKD),
    'SRD, balance 1, stride 8 alone': {**SRD, 'levels': [0]},
    'SRD, balance 1, stride 16 alone': {**SRD, 'levels': [1]},
    'SRD, balance 1, stride 32 alone': {**SRD, 'levels': [2]},
    'SRD, weight 0.17, without stride 32': {**CONSTANT, 'weight': 0.17, 'levels': [0, 1]},  # 0.25 × 2 / 3
    'CWD, balance 1': balanced(CWD),
    f'CWD, balance 1{INIT}': balanced(CWD),
    'CWD, weight 1': CWD,
    'VkD, balance 1': balanced(VKD),
    'VkD, weight 1': VKD,
    # The gradient of weight × log(mean(|d| ** alpha)) grows with weight × alpha, which is 1 in all of these.
    'SRD, alpha 1, weight 1': {**CONSTANT, 'alpha': 1.0, 'weight': 1.0},
    'SRD, alpha 2, weight 0.5': {**CONSTANT, 'alpha': 2.0, 'weight': 0.5},
    'SRD, alpha 6, weight 0.17': {**CONSTANT, 'alpha': 6.0, 'weight': 0.17},
    'SRD, no projector': {**CONSTANT, 'projector': None},
    'SRD, no projector, weight 1': {**CONSTANT, 'projector': None, 'weight': 1.0},
    'SRD, projector of 2 layers': {**CONSTANT, 'projector.type': 'MLPProjector', 'projector.layers': 2},
    'SRD, projector of 3 layers': {**CONSTANT, 'projector.type': 'MLPProjector', 'projector.layers': 3},
    'SRD, no normalisation': {**CONSTANT, 'norm': 'none'},
    'SRD, L2 normalisation': {**CONSTANT, 'norm': 'l2'},
    'SRD, correlation form': {**CONSTANT, 'form': 'correlation'},
    'SRD, backbone': {**CONSTANT, **BACKBONE},
    'SRD, weight 0.06': {**CONSTANT, 'weight': 0.06},
    'SRD, weight 1': {**CONSTANT, 'weight': 1.0},
    'SRD, weight 4': {**CONSTANT, 'weight': 4.0},
    'PKD, weight 2': {**PKD, 'weight': 2.0},
    'PKD, projector': {k: v for k, v in PKD.items() if k != 'projector'},
    'MSE, projector, weight 0.3': {**MSE, 'weight': 0.3},
    'MSE, projector, weight 3': {**MSE, 'weight': 3.0},
    f'SRD{SGD}': SRD,
    f'SRD, weight 0.25{SGD}': CONSTANT,
    f'SRD, weight 0.06{SGD}': {**CONSTANT, 'weight': 0.06},
    f'SRD, weight 1{SGD}': {**CONSTANT, 'weight': 1.0},
    f'SRD, weight 4{SGD}': {**CONSTANT, 'weight': 4.0},
    f'PKD{SGD}': PKD,
    f'PKD, balance 1{SGD}': balanced(PKD),
    f'MSE, projector, balance 1{SGD}': balanced(MSE),
    CROPS: {**SRD, 'teacher': 'backbone', 'levels': 'stride'},
    f'SRD{INIT}{LONG}': SRD,
    f'PKD, balance 1{INIT}{LONG}': balanced(PKD),
    f'MSE, projector, balance 1{INIT}{LONG}': balanced(MSE),
    f'SRD{INIT}{SGD}': SRD,
    f'SRD{LONG}': SRD,
    f'SRD, weight 0.25{LONG}': CONSTANT,
    f'PKD{LONG}': PKD,
    f'PKD, balance 1{LONG}': balanced(PKD),
    f'MSE, projector, balance 1{LONG}': balanced(MSE),
}
"""Row → the losses of its ``distill.losses`` block; one, or a tuple of several."""
OF_GFL = {f'LD, balance 1{INIT}': LD, f'SRD and LD, balance 1{INIT}': (SRD, LD)}
"""Rows of students whose boxes are distributions, beside :data:`MAIN`."""
ROWS.update(OF_GFL)
# Teacher and student; the ablation is made with the first, the others have the rows of MAIN.
ABLATED = ('fcos', 'fcos')
PAIRS = (ABLATED, ('retinanet', 'retinanet'), ('fcos', 'retinanet'), ('faster-rcnn', 'faster-rcnn'),
         ('faster-rcnn', 'fcos'))
# Heads that no choice has been made with.
NEW_PAIRS = (('atss', 'atss'), ('yolox', 'yolox'))
PAIRS_OF = {'reduced': (*PAIRS, *NEW_PAIRS), 'full': PAIRS, 'emoji': (ABLATED,)}
"""Setting → pairs that the method page compares."""
MASKS = ('mask-rcnn', 'rtmdet-ins')
"""Detectors that give masks, too: alone and with the preset."""
ALL_PAIRS_OF = {**PAIRS_OF, 'reduced': (*PAIRS_OF['reduced'], ('gfl', 'gfl'), *((name, name) for name in MASKS))}
TITLES = {'fcos': 'FCOS', 'retinanet': 'RetinaNet', 'faster-rcnn': 'Faster R-CNN', 'atss': 'ATSS', 'yolox': 'YOLOX',
          'gfl': 'GFL', 'mask-rcnn': 'Mask R-CNN', 'rtmdet-ins': 'RTMDet-Ins'}


def losses_of(row: str) -> tuple[dict[str, Any], ...]:
    """The losses of a row."""
    losses = ROWS[row]
    return losses if isinstance(losses, tuple) else (losses,)


def ending(row: str) -> str:
    """The part of a row's name that says how else it is trained; nothing where it is as its config says."""
    return next((end for end in (*LONGER, SGD) if row.endswith(end)), '')
