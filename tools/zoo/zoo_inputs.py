"""Random inputs for a model of a zoo: two to four small images with labels, ready for its forward in mode 'loss'."""
from __future__ import annotations

import re
from typing import Any, Callable

import torch
from mmengine.config import Config
from torch import nn

from mmsrd.recorders import channel_candidates


def batch_for(package: str, model: nn.Module, config: Config, side: int) -> dict[str, Any]:
    """Arguments of the model's forward in mode 'loss'; keypoint estimators have the image size of their config."""
    processed: dict[str, Any] = model.data_preprocessor(_MAKERS[package](model, config, side), True)
    return processed


def classes_of(model: nn.Module) -> int:
    """Number of classes that labels may have: the smallest of the heads, but for those of region proposals."""
    counts = [n for name, m in model.named_modules() if 'rpn' not in name and 'backbone' not in name
              for attribute in ('num_classes', 'num_things_classes')
              if isinstance(n := getattr(m, attribute, None), int) and n > 0]
    return min(counts, default=10)


def _images(count: int, height: int, width: int, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, height, width), generator=generator, dtype=torch.uint8)


def _detector(model: nn.Module, config: Config, side: int) -> dict[str, Any]:
    from mmdet.testing import demo_mm_inputs
    text = str(config.model)
    options = dict(image_shapes=(3, side, side), num_items=[3, 3], num_classes=5,
                   with_mask='mask' in text.lower(), with_semantic='semantic' in text or 'panoptic' in text.lower(),
                   use_box_type='use_box_type' in str(config.get('train_pipeline', '')) or 'boxtype2tensor' in text)
    if getattr(model.data_preprocessor, 'batch_augments', None):
        model.data_preprocessor.batch_augments = None  # they pad to the size of the real training
    if 'multi_branch' in text.lower() or 'MultiBranch' in text:
        branches = {name: demo_mm_inputs(2, **options) for name in ('sup', 'unsup_teacher', 'unsup_student')}
        for data in branches.values():
            for sample in data['data_samples']:
                sample.set_metainfo(dict(homography_matrix=torch.eye(3).numpy()))
        return {key: {name: data[key] for name, data in branches.items()} for key in ('inputs', 'data_samples')}
    packed: dict[str, Any] = demo_mm_inputs(2, **options)
    for sample in packed['data_samples']:
        sample.gt_instances.labels %= classes_of(model)
    return packed


def _classifier(model: nn.Module, config: Config, side: int) -> dict[str, Any]:
    from mmpretrain.structures import DataSample
    classes = classes_of(model)
    samples = [DataSample().set_gt_label(i % classes) for i in range(4)]
    if 'MultiLabel' in str(config.model.get('head')) or 'CSRAClsHead' in str(config.model.get('head')):
        samples = [DataSample().set_gt_score(torch.eye(classes)[i % classes]) for i in range(4)]
    return dict(inputs=_images(4, side, side, 1 if 1 in channel_candidates(model) else 3), data_samples=samples)


def _segmentor(model: nn.Module, config: Config, side: int) -> dict[str, Any]:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample
    if hasattr(model.data_preprocessor, 'size'):  # images are cropped to the size of the real training
        model.data_preprocessor.size = (side, side)
        model.data_preprocessor.size_divisor = None
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(0, max(classes_of(model), 2), (2, 1, side, side), generator=generator)
    samples = [SegDataSample(metainfo=dict(img_shape=(side, side), ori_shape=(side, side), pad_shape=(side, side)),
                             gt_sem_seg=PixelData(data=mask), gt_edge_map=PixelData(data=mask % 2)) for mask in masks]
    return dict(inputs=list(_images(2, side, side)), data_samples=samples)


def _keypoints(model: nn.Module, config: Config, side: int) -> dict[str, Any]:
    """Labels as the config's own codec makes them, from keypoints in the middle of the image."""
    import numpy as np
    from mmengine.dataset import pseudo_collate
    from mmpose.registry import TRANSFORMS
    from mmpose.testing import get_coco_sample
    codec = config.codec[0] if isinstance(config.codec, (list, tuple)) else config.codec
    width, height = codec['input_size'][:2]
    count = next(n for name in ('num_keypoints', 'num_joints', 'out_channels')
                 if isinstance(n := getattr(model.head, name, None), int))
    steps = [TRANSFORMS.build(step) for step in config.train_pipeline if step['type'] in (
        'GenerateTarget', 'BottomupGetHeatmapMask', 'PackPoseInputs')]
    if not steps:
        raise ValueError('the config has no pipeline for training')
    generator = np.random.default_rng(0)
    samples = []
    for _ in range(2):
        sample = get_coco_sample(img_shape=(height, width))
        points = generator.uniform(0.25, 0.75, (1, count, 2)) * (width, height)
        sample.update(keypoints=points.astype(np.float32), keypoints_visible=np.ones((1, count), np.float32),
                      flip_indices=list(range(count)), dataset_keypoint_weights=np.ones(count, np.float32),
                      input_size=(width, height))
        if 'Bottomup' in config.model.type:  # as their affine transform leaves it
            sample['bbox'] = sample['bbox'][:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 4, 2)
        for step in steps:
            sample = step(sample)
        samples.append(sample)
    packed: dict[str, Any] = pseudo_collate(samples)
    return packed


def _rotated(model: nn.Module, config: Config, side: int) -> dict[str, Any]:
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData
    from mmrotate.structures import RotatedBoxes
    kind = re.search(r"gt_bboxes': '(\w+)'", str(config.train_pipeline))  # files have quadrilaterals
    boxes = RotatedBoxes(torch.tensor([[0.3, 0.3, 0.25, 0.15, 0.0], [0.6, 0.55, 0.3, 0.15, 0.0]]) * side
                         + torch.tensor([0, 0, 0, 0, 0.3])).convert_to(kind.group(1) if kind else 'qbox')
    meta = dict(img_shape=(side, side), ori_shape=(side, side), pad_shape=(side, side), scale_factor=(1.0, 1.0))
    return dict(inputs=list(_images(2, side, side)), data_samples=[
        DetDataSample(metainfo=meta, gt_instances=InstanceData(bboxes=boxes, labels=torch.tensor([0, 3])),
                      ignored_instances=InstanceData(bboxes=boxes[:0])) for _ in range(2)])


def _yolo(model: nn.Module, config: Config, side: int) -> dict[str, Any]:
    boxes = torch.tensor([[i, 3, 0.15 * side, 0.25 * side, 0.6 * side, 0.7 * side] for i in range(2)])
    labels = dict(bboxes_labels=boxes)
    if 'with_mask=True' in str(config.model) or 'mask_head' in str(config.model):
        labels['masks'] = torch.ones(2, side, side)
    images = _images(2, side, side)
    wants_list = type(model.data_preprocessor).__name__ == 'PPYOLOEDetDataPreprocessor'
    return dict(inputs=list(images) if wants_list else images, data_samples=labels)


_MAKERS: dict[str, Callable[[nn.Module, Config, int], dict[str, Any]]] = dict(
    mmdet=_detector, mmpretrain=_classifier, mmseg=_segmentor, mmpose=_keypoints, mmrotate=_rotated, mmyolo=_yolo)
