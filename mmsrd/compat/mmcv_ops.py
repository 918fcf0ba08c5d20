"""Operators of ``mmcv._ext`` computed by torchvision or plain PyTorch.

Each function has the name and the calling convention of the compiled operator
of mmcv 2.x (outputs and gradients are written into tensors that the caller
made), so mmcv's own ``autograd.Function`` classes work on top of them. Half and
bfloat16 inputs are computed in float32 and rounded once at the end.
"""
from __future__ import annotations

from typing import Any, Callable, Dict

import torch
import torchvision
from torch import Tensor

from ..errors import MissingOpError
from ..utils.tensors import upcast
from .focal_loss import (
    sigmoid_focal_loss_backward,
    sigmoid_focal_loss_forward,
    softmax_focal_loss_backward,
    softmax_focal_loss_forward,
)
from .soft_nms import softnms

PART = 64
"""Channels of a map in half precision that RoIAlign converts at a time; a quarter of a pyramid's usual 256."""


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Greedy non-maximum suppression.

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


def _only_average(pool_mode: int) -> None:
    if pool_mode != 1:
        raise MissingOpError.named('roi_align', "pool_mode='max'")


def roi_align_forward(input: Tensor, rois: Tensor, output: Tensor, argmax_y: Tensor, argmax_x: Tensor, *,
                      aligned_height: int, aligned_width: int, spatial_scale: float, sampling_ratio: int,
                      pool_mode: int, aligned: bool) -> None:
    """Average RoIAlign of ``input`` (N, C, H, W) at ``rois`` (K, 5: index and corners) into ``output``."""
    _only_average(pool_mode)
    for part in _parts(input):
        image = upcast(input[:, part])
        output[:, part].copy_(torchvision.ops.roi_align(
            image, rois.to(image.dtype), (aligned_height, aligned_width), spatial_scale, sampling_ratio, aligned))


def roi_align_backward(grad_output: Tensor, rois: Tensor, argmax_y: Tensor, argmax_x: Tensor, grad_input: Tensor, *,
                       aligned_height: int, aligned_width: int, spatial_scale: float, sampling_ratio: int,
                       pool_mode: int, aligned: bool) -> None:
    """Gradient of :func:`roi_align_forward` with respect to its input, into ``grad_input``."""
    _only_average(pool_mode)
    for part in _parts(grad_input):
        grad = upcast(grad_output[:, part])
        wanted = grad_input[:, part]
        wanted.copy_(torch.ops.torchvision._roi_align_backward(
            grad, rois.to(grad.dtype), spatial_scale, aligned_height, aligned_width, *wanted.shape, sampling_ratio,
            aligned))


def _parts(x: Tensor) -> list[slice]:
    """Channels that are computed together: some of a map in half precision, so that there is no copy in float32 of
    the whole."""
    step = PART if x.element_size() < 4 else max(x.size(1), 1)
    return [slice(start, start + step) for start in range(0, x.size(1), step)]


def _deform_conv(input: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor | None,
                 stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int]) -> Tensor:
    # torchvision derives both group counts from the shapes, as mmcv's callers set them.
    size = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, d, k, s in zip(
        input.shape[-2:], padding, dilation, weight.shape[-2:], stride)]
    offset = _first_of(offset, size)
    mask = None if mask is None else _first_of(mask, size)
    output: Tensor = torchvision.ops.deform_conv2d(input, offset, weight, bias, stride, padding, dilation, mask)
    return output


def _first_of(x: Tensor, size: list[int]) -> Tensor:
    """Offsets of the output's size from larger ones, as mmcv's kernels read them.

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
    """Deformable convolution v1 of ``input`` (N, C, H, W) into ``output``."""
    output.copy_(_deform_conv(upcast(input), upcast(offset), None, upcast(weight), None,
                              (dH, dW), (padH, padW), (dilationH, dilationW)))


@torch.enable_grad()
def deform_conv_backward_input(input: Tensor, offset: Tensor, grad_output: Tensor, grad_input: Tensor,
                               grad_offset: Tensor, weight: Tensor, columns: Tensor, *, kW: int, kH: int, dW: int,
                               dH: int, padW: int, padH: int, dilationW: int, dilationH: int, group: int,
                               deformable_group: int, im2col_step: int) -> None:
    """Gradients of v1 with respect to input and offset."""
    x, o = _leaves(input, offset)
    out = _deform_conv(x, o, None, upcast(weight.detach()), None, (dH, dW), (padH, padW), (dilationH, dilationW))
    for target, grad in zip((grad_input, grad_offset), _gradients(out, [x, o], grad_output)):
        target.copy_(grad)


@torch.enable_grad()
def deform_conv_backward_parameters(input: Tensor, offset: Tensor, grad_output: Tensor, grad_weight: Tensor,
                                    columns: Tensor, ones: Tensor, *, kW: int, kH: int, dW: int, dH: int, padW: int,
                                    padH: int, dilationW: int, dilationH: int, group: int, deformable_group: int,
                                    scale: float, im2col_step: int) -> None:
    """Gradient of v1 with respect to the weight; ``grad_weight`` has its shape (as mmcv allocates it)."""
    w, = _leaves(grad_weight)  # the convolution is linear in the weight: any value gives the gradient
    out = _deform_conv(upcast(input), upcast(offset), None, w, None,
                       (dH, dW), (padH, padW), (dilationH, dilationW))
    grad_weight.add_(_gradients(out, [w], grad_output)[0].to(grad_weight.dtype), alpha=scale)


def modulated_deform_conv_forward(input: Tensor, weight: Tensor, bias: Tensor, ones: Tensor, offset: Tensor,
                                  mask: Tensor, output: Tensor, columns: Tensor, *, kernel_h: int, kernel_w: int,
                                  stride_h: int, stride_w: int, pad_h: int, pad_w: int, dilation_h: int,
                                  dilation_w: int, group: int, deformable_group: int, with_bias: bool) -> None:
    """Deformable convolution v2 (with a mask) of ``input`` (N, C, H, W) into ``output``."""
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
    """Gradients of v2 with respect to input, weight, bias, offset and mask."""
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


def ms_deform_attn_forward(value: Tensor, spatial_shapes: Tensor, level_start_index: Tensor,
                           sampling_locations: Tensor, attention_weights: Tensor, *, im2col_step: int) -> Tensor:
    """Multi-scale deformable attention through mmcv's own PyTorch path, for devices where mmcv asks for a kernel."""
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
    out: Tensor = multi_scale_deformable_attn_pytorch(
        upcast(value), spatial_shapes, upcast(sampling_locations), upcast(attention_weights))
    return out.to(value.dtype)


@torch.enable_grad()
def ms_deform_attn_backward(value: Tensor, spatial_shapes: Tensor, level_start_index: Tensor,
                            sampling_locations: Tensor, attention_weights: Tensor, grad_output: Tensor,
                            grad_value: Tensor, grad_sampling_loc: Tensor, grad_attn_weight: Tensor, *,
                            im2col_step: int) -> None:
    """Gradients of :func:`ms_deform_attn_forward`."""
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch
    leaves = _leaves(value, sampling_locations, attention_weights)
    out = multi_scale_deformable_attn_pytorch(leaves[0], spatial_shapes, leaves[1], leaves[2])
    grads = _gradients(out, leaves, grad_output)
    for target, grad in zip((grad_value, grad_sampling_loc, grad_attn_weight), grads):
        target.copy_(grad)


def get_compiler_version() -> str:
    """Shown by mmcv's environment report."""
    return 'none (torchvision operators of mmsrd)'


get_compiling_cuda_version = get_compiler_version

OPS: Dict[str, Callable[..., Any]] = {
    op.__name__: op for op in (
        nms, softnms, roi_align_forward, roi_align_backward, deform_conv_forward, deform_conv_backward_input,
        deform_conv_backward_parameters, modulated_deform_conv_forward, modulated_deform_conv_backward,
        sigmoid_focal_loss_forward, sigmoid_focal_loss_backward, softmax_focal_loss_forward,
        softmax_focal_loss_backward, ms_deform_attn_forward, ms_deform_attn_backward, get_compiler_version)
}
OPS['get_compiling_cuda_version'] = get_compiling_cuda_version
"""Name of the compiled operator → our function."""
