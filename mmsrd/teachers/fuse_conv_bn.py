"""Fuse batch normalisation of a frozen model into the convolution before it, where one feeds the other alone."""
from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any, Callable, Iterator, Tuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)
_NORM_FORWARDS = (_BatchNorm.forward, nn.SyncBatchNorm.forward)  # a subclass with its own may do more (an activation)

TOLERANCE = 1e-3
"""Relative change of features that fusing may make: far above float32's rounding, far below that of a wrong pair."""

Pair = Tuple[nn.Module, _BatchNorm]


class ConvBNFinder:
    """Pairs of a convolution and a batch normalisation, seen in the last forward pass of a model.

    The normalisation's input is the convolution's output itself, each is called once, and neither is recorded.
    That nothing else uses that output does not show here: compare the features before and after.
    """

    def __init__(self) -> None:
        self._outputs: list[tuple[Tensor, int, nn.Module]] = []
        self._calls: Counter[nn.Module] = Counter()
        self._found: list[Pair] = []

    @contextlib.contextmanager
    def watch(self, model: nn.Module) -> Iterator[None]:
        """Look at forward passes inside of the block; :meth:`begin` comes before each but the first."""
        self.begin()
        handles: list[Any] = []
        for module in model.modules():
            if type(module) in _CONVOLUTIONS and _has_plain_weight(module):
                handles.append(module.register_forward_hook(self._after_convolution))
            elif isinstance(module, _BatchNorm) and type(module).forward in _NORM_FORWARDS \
                    and module.running_mean is not None:
                handles.append(module.register_forward_pre_hook(self._before_norm))
        try:
            yield
        finally:
            self._outputs.clear()
            for handle in handles:
                handle.remove()

    def begin(self) -> None:
        """Forget the forward pass before."""
        self._outputs.clear()
        self._calls.clear()
        self._found.clear()

    def _after_convolution(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self._calls[module] += 1
        self._outputs.append((output, output._version, module))

    def _before_norm(self, module: nn.Module, args: Any) -> None:
        self._calls[module] += 1
        # An operation in place between the two leaves the tensor and changes its version.
        source = next((conv for output, version, conv in self._outputs
                       if args and output is args[0] and output._version == version), None)
        if source is not None and isinstance(module, _BatchNorm):
            self._found.append((source, module))

    def pairs(self, recorded: set[nn.Module]) -> list[Pair]:
        """Return what can be fused without changing what ``recorded`` modules return."""
        return [(conv, norm) for conv, norm in self._found
                if self._calls[conv] == self._calls[norm] == 1 and not {conv, norm} & recorded]


def _has_plain_weight(conv: Any) -> bool:
    """Return whether the weight is a parameter, not computed (weight norm), and PyTorch can fuse such a convolution."""
    return 'weight' in conv._parameters and not (isinstance(conv, nn.ConvTranspose2d) and conv.groups > 1)


def fuse_conv_bn(model: nn.Module, pairs: list[Pair],
                 features: Callable[[], dict[str, list[Tensor]]]) -> float | None:
    """Fuse ``pairs`` of a model in ``eval()``, unless that changes its features.

    Args:
        model: The model.
        pairs: Of :meth:`ConvBNFinder.pairs`.
        features: Runs the model on some images and returns what matters of it.

    Returns:
        float: None where all is well; else the relative change (:func:`relative_difference`) for which
            everything has been put back, infinite where the model failed.
    """
    before = features()
    weights = [(conv, conv.weight, conv.bias) for conv, _ in pairs]
    places = [(parent, name, norm) for _, norm in pairs for parent in model.modules()
              for name, child in parent._modules.items() if child is norm]
    try:
        for conv, norm in pairs:
            _fuse_pair(conv, norm)
        for parent, name, _ in places:
            setattr(parent, name, nn.Identity().eval())
        change = relative_difference(features(), before)
    except Exception:  # the model reads attributes of a layer that is gone
        change = float('inf')
    if change <= TOLERANCE:
        return None
    for conv, weight, bias in weights:
        conv.weight, conv.bias = weight, bias
    for parent, name, norm in places:
        setattr(parent, name, norm)
    return change


def _fuse_pair(conv: Any, norm: Any) -> None:
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias,
        transpose=isinstance(conv, nn.ConvTranspose2d))
    conv.requires_grad_(False)


def relative_difference(a: dict[str, list[Tensor]], b: dict[str, list[Tensor]]) -> float:
    """Largest ``|a - b| / |b|`` (Euclidean norms) of the levels of two sets of features; infinite if one is not finite.
    """
    ratios = torch.stack([torch.linalg.vector_norm(x.float() - y.float()) / torch.linalg.vector_norm(y.float())
                          .clamp_min(1e-30) for path in b for x, y in zip(a[path], b[path])])
    return float(ratios.max()) if ratios.isfinite().all() else float('inf')
