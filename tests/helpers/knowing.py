"""A detector that knows the boxes of some images, so that its figure is neither 0 nor 1."""
from __future__ import annotations

import json
from typing import Any

import torch
from mmdet.models import FCOS
from mmengine.registry import MODELS
from mmengine.structures import InstanceData


@MODELS.register_module()
class KnowingFCOS(FCOS):
    """Predicts what the annotation file says, for images of odd ids, and half of it for the others.

    Args:
        answers: Annotation file in COCO's format.
    """

    def __init__(self, *args: Any, answers: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        with open(answers) as file:
            self.answers = json.load(file)['annotations']

    def predict(self, batch_inputs: Any, batch_data_samples: Any, rescale: bool = True) -> Any:
        for sample in batch_data_samples:
            known = [box for box in self.answers if box['image_id'] == sample.img_id]
            known = known if sample.img_id % 2 else known[:len(known) // 2]
            boxes = torch.tensor([box['bbox'] for box in known], dtype=torch.float32).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            sample.pred_instances = InstanceData(
                bboxes=boxes, scores=torch.ones(len(boxes)), labels=torch.tensor([box['category_id'] for box in known]))
        return batch_data_samples
