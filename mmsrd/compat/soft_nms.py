"""Soft-NMS with the calling convention of ``mmcv._ext.softnms`` (CPU tensors)."""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_NAIVE, _LINEAR, _GAUSSIAN = 0, 1, 2


def softnms(boxes: Tensor, scores: Tensor, dets: Tensor, *, iou_threshold: float, sigma: float, min_score: float,
            method: int, offset: int) -> Tensor:
    """Take the best box, damp the scores of those that overlap it, repeat.

    Args:
        boxes: (N, 4) corners in pixels.
        scores: (N,).
        dets: (N, 5), receives corners and damped score of the kept boxes in its first K rows.
        iou_threshold: Overlap from which ``naive`` drops and ``linear`` damps.
        sigma: Width of the Gaussian damping.
        min_score: Boxes whose damped score falls below are dropped.
        method: 0 naive, 1 linear, 2 Gaussian.
        offset: Added to widths and heights, 0 or 1.

    Returns:
        Tensor: Kept indices (K,), int64, in the order of selection.
    """
    # float32 as in the compiled operator: damping multiplies up, so precision decides ties at min_score.
    box = boxes.detach().float().numpy().copy()
    score = scores.detach().float().numpy().copy()
    index = np.arange(len(box), dtype=np.int64)
    shift = np.float32(offset)
    area = (box[:, 2] - box[:, 0] + shift) * (box[:, 3] - box[:, 1] + shift)
    kept = 0
    while kept < len(box):
        best = kept + int(np.argmax(score[kept:]))
        for array in (box, score, index, area):
            array[[kept, best]] = array[[best, kept]]
        dets[kept, :4] = torch.from_numpy(box[kept])
        dets[kept, 4] = float(score[kept])
        rest = slice(kept + 1, None)
        overlap = _overlap(box[kept], area[kept], box[rest], area[rest], shift)
        score[rest] *= _damping(overlap, method, iou_threshold, sigma)
        alive = np.concatenate([np.ones(kept + 1, dtype=bool), score[rest] >= np.float32(min_score)])
        box, score, index, area = box[alive], score[alive], index[alive], area[alive]
        kept += 1
    return torch.from_numpy(index)


def _overlap(one: np.ndarray, one_area: np.ndarray, many: np.ndarray, many_area: np.ndarray,
             shift: np.float32) -> np.ndarray:
    top_left = np.maximum(one[:2], many[:, :2])
    bottom_right = np.minimum(one[2:], many[:, 2:])
    sides = np.maximum(np.float32(0), bottom_right - top_left + shift)
    intersection = sides[:, 0] * sides[:, 1]
    return np.asarray(intersection / (one_area + many_area - intersection))


def _damping(overlap: np.ndarray, method: int, iou_threshold: float, sigma: float) -> np.ndarray:
    if method == _GAUSSIAN:
        return np.asarray(np.exp(-(overlap * overlap) / np.float32(sigma)))
    near = overlap >= np.float32(iou_threshold)
    damped = 1 - overlap if method == _LINEAR else np.zeros_like(overlap)
    return np.where(near, damped, np.float32(1))
