"""Operators of ``mmcv._ext`` computed by torchvision or plain PyTorch.

Each function has the name and the calling convention of the compiled operator
of mmcv 2.x (outputs and gradients are written into tensors that the caller
made), so mmcv's own ``autograd.Function`` classes work on top of them. Half and
bfloat16 inputs are computed in float32 and rounded once at the end.
"""
from __future__ import annotations

from typing import Any, Callable, Dict

import numpy as np
import torch
import torchvision
from torch import Tensor

from ..errors import MissingOpError
from ..utils.tensors import upcast

CHUNK = 64
"""Channels of a map in half precision that RoIAlign converts at a time; a quarter of a pyramid's usual 256."""
_LINEAR, _GAUSSIAN = 1, 2
"""Methods of soft-NMS; the third, 0, drops boxes."""


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Drop boxes that overlap a better one (greedy non-maximum suppression).

    Args:
        boxes: (N, 4) corners x1, y1, x2, y2 in pixels.
        scores: (N,).
        iou_threshold: A box is dropped where its IoU with a better one exceeds this.
        offset: Added to widths and heights, 0 or 1 (1: corners are pixel indices).

    Returns:
        Tensor: Kept indices (K,), int64, by falling score.
    """
    boxes = upcast(boxes)
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    kept: Tensor = torchvision.ops.nms(boxes, upcast(scores).to(boxes.dtype), iou_threshold)
    return kept


def softnms(boxes: Tensor, scores: Tensor, dets: Tensor, *, iou_threshold: float, sigma: float, min_score: float,
            method: int, offset: int) -> Tensor:
    """Take the best box, damp the scores of those that overlap it, repeat; CPU tensors, as in mmcv.

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


def _only_average(pool_mode: int) -> None:
    if pool_mode != 1:
        raise MissingOpError.named('roi_align', "pool_mode='max'")


def roi_align_forward(input: Tensor, rois: Tensor, output: Tensor, argmax_y: Tensor, argmax_x: Tensor, *,
                      aligned_height: int, aligned_width: int, spatial_scale: float, sampling_ratio: int,
                      pool_mode: int, aligned: bool) -> None:
    """Write the average RoIAlign of ``input`` (N, C, H, W) at ``rois`` (K, 5: index and corners) into ``output``."""
    _only_average(pool_mode)
    for part in _channel_chunks(input):
        image = upcast(input[:, part])
        output[:, part].copy_(torchvision.ops.roi_align(
            image, rois.to(image.dtype), (aligned_height, aligned_width), spatial_scale, sampling_ratio, aligned))


def roi_align_backward(grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor, grad_input: Tensor, *,
                       aligned_height: int, aligned_width: int, spatial_scale: float, sampling_ratio: int,
                       pool_mode: int, aligned: bool) -> None:
    """Write the gradient of :func:`roi_align_forward` with respect to its input into ``grad_input``."""
    _only_average(pool_mode)
    for part in _channel_chunks(grad_input):
        grad = upcast(grad_output[:, part])
        wanted = grad_input[:, part]
        wanted.copy_(torch.ops.torchvision._roi_align_backward(
            grad, rois.to(grad.dtype), spatial_scale, aligned_height, aligned_width, *wanted.shape, sampling_ratio,
            aligned))


def _channel_chunks(x: Tensor) -> list[slice]:
    """Return channels that are computed together.

    A map in half precision is computed in parts, so that there is no copy in float32 of the whole.
    """
    step = CHUNK if x.element_size() < 4 else max(x.size(1), 1)
    return [slice(start, start + step) for start in range(0, x.size(1), step)]


def _deform_conv(input: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor | None,
                 stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int]) -> Tensor:
    # torchvision derives both group counts from the shapes, as mmcv's callers set them.
    size = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in zip(
        input.shape[-2:], padding, dilation, weight.shape[-2:], stride)]
    offset = _crop_offsets(offset, size)
    mask = None if mask is None else _crop_offsets(mask, size)
    output: Tensor = torchvision.ops.deform_conv2d(input, offset, weight, bias, stride, padding, dilation, mask)
    return output


def _crop_offsets(x: Tensor, size: list[int]) -> Tensor:
    """Return offsets of the output's size from larger ones, as mmcv's kernels read them.

    They take what lies first in the memory of each sample, whatever its height and
    width. DyHead relies on it: it gives a coarse level the offsets of a finer one.
    """
    if list(x.shape[-2:]) == size or x[0].numel() < x.size(1) * size[0] * size[1]:
        return x  # torchvision says what is wrong with smaller ones
    return x.flatten(1)[:, :x.size(1) * size[0] * size[1]].reshape(x.size(0), x.size(1), *size)


def _gradients(outputs: Tensor, inputs: list[Tensor], grad_output: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(outputs, inputs, grad_output.to(outputs.dtype))


def _leaves(*tensors: Tensor) -> list[Tensor]:
    return [upcast(x).detach().requires_grad_() for x in tensors]


def deform_conv_forward(input: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor, ones: Tensor,
                        *, kW: int, kH: int, dW: int, dH: int, padW: int, padH: int, dilationW: int, dilationH: int,
                        group: int, deformable_group: int, im2col_step: int) -> None:
    """Write the deformable convolution v1 of ``input`` (N, C, H, W) into ``output``."""
    output.copy_(_deform_conv(upcast(input), upcast(offset), None, upcast(weight), None,
                              (dH, dW), (padH, padW), (dilationH, dilationW)))


@torch.enable_grad()
def deform_conv_backward_input(input: Tensor, offset: Tensor, grad_output: Tensor, grad_input: Tensor,
                               grad_offset: Tensor, weight: Tensor, columns: Tensor, *, kW: int, kH: int, dW: int,
                               dH: int, padW: int, padH: int, dilationW: int, dilationH: int, group: int,
                               deformable_group: int, im2col_step: int) -> None:
    """Write gradients of v1 with respect to input and offset."""
    x, o = _leaves(input, offset)
    out = _deform_conv(x, o, None, upcast(weight.detach()), None, (dH, dW), (padH, padW), (dilationH, dilationW))
    for target, grad in zip((grad_input, grad_offset), _gradients(out, [x, o], grad_output)):
        target.copy_(grad)


@torch.enable_grad()
def deform_conv_backward_parameters(input: Tensor, offset: Tensor, grad_output: Tensor, grad_weight: Tensor,
                                    columns: Tensor, ones: Tensor, *, kW: int, kH: int, dW: int, dH: int, padW: int,
                                    padH: int, dilationW: int, dilationH: int, group: int, deformable_group: int,
                                    scale: float, im2col_step: int) -> None:
    """Add the gradient of v1 with respect to the weight to ``grad_weight``, which mmcv allocates in its shape."""
    w, = _leaves(grad_weight)  # the convolution is linear in the weight: any value gives the gradient
    out = _deform_conv(upcast(input), upcast(offset), None, w, None,
                       (dH, dW), (padH, padW), (dilationH, dilationW))
    grad_weight.add_(_gradients(out, [w], grad_output)[0].to(grad_weight.dtype), alpha=scale)


def modulated_deform_conv_forward(input: Tensor, weight: Tensor, bias: Tensor, ones: Tensor, offset: Tensor,
                                  mask: Tensor, output: Tensor, columns: Tensor, *, kernel_h: int, kernel_w: int,
                                  stride_h: int, stride_w: int, pad_h: int, pad_w: int, dilation_h: int,
                                  dilation_w: int, group: int, deformable_group: int, with_bias: bool) -> None:
    """Write the deformable convolution v2 (with a mask) of ``input`` (N, C, H, W) into ``output``."""
    output.copy_(_deform_conv(upcast(input), upcast(offset), upcast(mask), upcast(weight),
                              upcast(bias) if with_bias else None,
                              (stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w)))


@torch.enable_grad()
def modulated_deform_conv_backward(input: Tensor, weight: Tensor, bias: Tensor, ones: Tensor, offset: Tensor,
                                   mask: Tensor, columns: Tensor, grad_input: Tensor, grad_weight: Tensor,
                                   grad_bias: Tensor, grad_offset: Tensor, grad_mask: Tensor, grad_output: Tensor, *,
                                   kernel_h: int, kernel_w: int, stride_h: int, stride_w: int, pad_h: int,
                                   pad_w: int, dilation_h: int, dilation_w: int, group: int, deformable_group: int,
                                   with_bias: bool) -> None:
    """Write gradients of v2 with respect to input, weight, bias, offset and mask."""
    leaves = _leaves(input, weight, offset, mask)
    x, w, o, m = leaves
    targets = [grad_input, grad_weight, grad_offset, grad_mask]
    b = None
    if with_bias:
        b, = _leaves(bias)
        leaves.append(b)
        targets.append(grad_bias)
    out = _deform_conv(x, o, m, w, b, (stride_h, stride_w), (pad_h, pad_w), (dilation_h, dilation_w))
    for target, grad in zip(targets, _gradients(out, leaves, grad_output)):
        target.copy_(grad)


def _row_weight(weight: Tensor, target: Tensor, like: Tensor) -> Tensor:
    """Return the class weight of each row (N,); background rows (target == C) have none and count with 1."""
    if weight.numel() == 0:
        return like.new_ones(len(target))
    picked = weight.to(like.dtype)[target.clamp(max=weight.numel() - 1)]
    return torch.where(target < weight.numel(), picked, torch.ones_like(picked))


def _sigmoid_focal(x: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    one_hot = (target.unsqueeze(1) == torch.arange(x.size(1), device=x.device)).to(x.dtype)
    loss: Tensor = torchvision.ops.sigmoid_focal_loss(x, one_hot, alpha, gamma)
    return loss * _row_weight(weight, target, x).unsqueeze(1)


def sigmoid_focal_loss_forward(input: Tensor, target: Tensor, weight: Tensor, output: Tensor, *, gamma: float,
                               alpha: float) -> None:
    """Write the loss of logits ``input`` (N, C) into ``output`` (N, C).

    Positives are weighted by alpha and negatives by 1 - alpha. Unlike in mmcv 2.1
    (``sigmoid_focal_loss_cuda_kernel.cuh``), it is not capped where mmcv's logarithm underflows, at logits beyond 87.

    Args:
        input: (N, C).
        target: Class indices (N,); C is background.
        weight: Weight of each class (C,); empty for 1.
        output: (N, C), receives the loss.
        gamma: Exponent of the modulating factor.
        alpha: Weight of positives.
    """
    output.copy_(_sigmoid_focal(upcast(input), target, weight, gamma, alpha))


def sigmoid_focal_loss_backward(input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, *, gamma: float,
                                alpha: float) -> None:
    """Write the derivative of :func:`sigmoid_focal_loss_forward` by its logits, for a unit output gradient."""
    with torch.enable_grad():
        x = upcast(input).detach().requires_grad_()
        loss = _sigmoid_focal(x, target, weight, gamma, alpha).sum()
    grad_input.copy_(torch.autograd.grad(loss, x)[0])


def _softmax_focal(log_p: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    """Return the loss (N,) of the log probabilities (N,) of the target classes; 0 where target < 0."""
    loss = -alpha * (1 - log_p.exp()).pow(gamma) * log_p
    return torch.where(target >= 0, loss * _row_weight(weight, target.clamp(min=0), log_p), torch.zeros_like(log_p))


def _target_log_probability(softmax: Tensor, target: Tensor) -> Tensor:
    """Return the log probability of the target class (N,), in at least float32."""
    picked = upcast(softmax).gather(1, target.clamp(min=0).unsqueeze(1)).squeeze(1)
    return picked.clamp(min=torch.finfo(torch.float32).tiny).log()


def softmax_focal_loss_forward(softmax: Tensor, target: Tensor, weight: Tensor, output: Tensor, *, gamma: float,
                               alpha: float) -> None:
    """Write the loss of probabilities ``softmax`` (N, C) into ``output`` (N,).

    Every row is weighted by alpha, as in mmcv's ``softmax_focal_loss_cuda_kernel.cuh``; target < 0 is ignored.

    Args:
        softmax: (N, C).
        target: Class indices (N,).
        weight: Weight of each class (C,); empty for 1.
        output: (N,), receives the loss.
        gamma: Exponent of the modulating factor.
        alpha: Weight of all rows.
    """
    log_p = _target_log_probability(softmax, target)
    output.copy_(_softmax_focal(log_p, target, weight, gamma, alpha))


@torch.enable_grad()
def softmax_focal_loss_backward(softmax: Tensor, target: Tensor, weight: Tensor, buff: Tensor, grad_input: Tensor, *,
                                gamma: float, alpha: float) -> None:
    """Write the derivative of :func:`softmax_focal_loss_forward` by the logits, for a unit output gradient."""
    log_p = _target_log_probability(softmax, target).detach().requires_grad_()
    slope, = torch.autograd.grad(_softmax_focal(log_p, target, weight, gamma, alpha).sum(), log_p)
    buff.copy_(slope)
    one_hot = target.unsqueeze(1) == torch.arange(softmax.size(1), device=softmax.device)
    grad_input.copy_(slope.unsqueeze(1) * (one_hot.to(slope.dtype) - upcast(softmax)))


def ms_deform_attn_forward(value: Tensor, spatial_shapes: Tensor, level_start_index: Tensor,
                           sampling_locations: Tensor, attention_weights: Tensor, *, im2col_step: int) -> Tensor:
    """Return multi-scale deformable attention by mmcv's own PyTorch path, where mmcv asks for a kernel."""
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
    out: Tensor = multi_scale_deformable_attn_pytorch(
        upcast(value), spatial_shapes, upcast(sampling_locations), upcast(attention_weights))
    return out.to(value.dtype)


@torch.enable_grad()
def ms_deform_attn_backward(value: Tensor, spatial_shapes: Tensor, level_start_index: Tensor,
                            sampling_locations: Tensor, attention_weights: Tensor, grad_output: Tensor,
                            grad_value: Tensor, grad_sampling_loc: Tensor, grad_attn_weight: Tensor, *,
                            im2col_step: int) -> None:
    """Write gradients of :func:`ms_deform_attn_forward`."""
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
    leaves = _leaves(value, sampling_locations, attention_weights)
    out = multi_scale_deformable_attn_pytorch(leaves[0], spatial_shapes, leaves[1], leaves[2])
    grads = _gradients(out, leaves, grad_output)
    for target, grad in zip((grad_value, grad_sampling_loc, grad_attn_weight), grads):
        target.copy_(grad)


def get_compiler_version() -> str:
    """Return what mmcv's environment report shows."""
    return 'none (torchvision operators of mmsrd)'


OPS: Dict[str, Callable[..., Any]] = {
    op.__name__: op for op in (
        nms, softnms, roi_align_forward, roi_align_backward, deform_conv_forward, deform_conv_backward_input,
        deform_conv_backward_parameters, modulated_deform_conv_forward, modulated_deform_conv_backward,
        sigmoid_focal_loss_forward, sigmoid_focal_loss_backward, softmax_focal_loss_forward,
        softmax_focal_loss_backward, ms_deform_attn_forward, ms_deform_attn_backward, get_compiler_version)
}
OPS['get_compiling_cuda_version'] = get_compiler_version
"""Name of the compiled operator → our function."""
