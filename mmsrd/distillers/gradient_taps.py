"""Where distillation losses leave the student's graph: gradients are measured and scaled there."""
from __future__ import annotations

from typing import Any, Sequence

import torch
from torch import Tensor


class MeasuredStep:
    """One step of a loss: factors of its gradients, and the norms that its backward pass finds.

    Args:
        levels: Indices of the student's levels that are measured.
        factors: Factors (levels,), float32, that the loss's gradients are multiplied by.
        weight: Multiplier of the loss, which is taken out of its norms.

    Attributes:
        factors: As given.
        task: Norms of the student's own gradient at each level, one for each batch of images.
        distill: Norms of the loss's gradient at each level before scaling, one for each batch of images.
        upstream: Gradient with respect to the weighted loss: the loss scale of mixed precision, over the number of
            accumulated steps.
    """

    def __init__(self, levels: Sequence[int], factors: Tensor, weight: float) -> None:
        self.levels = levels
        self.factors = factors
        self.weight = weight
        self.task: list[list[Tensor]] = [[] for _ in levels]
        self.distill: list[list[Tensor]] = [[] for _ in levels]
        self.upstream: Tensor | None = None

    def watch_loss(self, loss: Tensor) -> Tensor:
        """The weighted loss, in whose backward pass :attr:`upstream` is noted."""
        watched: Tensor = _Upstream.apply(loss, self)
        return watched

    def norms(self) -> Tensor:
        """Norms (2, levels), float32, in this process: the task's, and the loss's at weight 1.

        They do not depend on the loss scale. A level without a gradient has zero.
        """
        zero = torch.zeros((), device=self.factors.device)
        task, distill = torch.stack([_together(norms, zero) for norms in (*self.task, *self.distill)]).chunk(2)
        norms = torch.stack([task, distill / self.weight])
        return norms if self.upstream is None else norms / self.upstream.abs().float()


class GradientTaps:
    """The levels of a student that the losses of one step start from.

    Each loss takes its levels through :meth:`tap`, so that gradients of losses can be told apart from the student's
    own; a loss without balance, too.
    """

    def __init__(self) -> None:
        self._sources: dict[tuple[Any, int], _Source] = {}

    def tap(self, levels: Sequence[Tensor], copied: bool, step: MeasuredStep | None) -> list[Tensor]:
        """The levels, of the same values, as a loss should see them.

        Args:
            levels: Recorded levels of the student for one batch.
            copied: Whether they are copies, because the student overwrites what its module returned.
            step: The step of a loss that is measured; None for other losses.
        """
        tapped = list(levels)
        for i, level in enumerate(levels):
            if not level.requires_grad:
                continue
            source, factor, norms = self._source_of(level, copied), None, None
            if step is not None and i in step.levels:
                slot = step.levels.index(i)
                source.listeners.append(step.task[slot])
                factor, norms = step.factors[slot], step.distill[slot]
            tapped[i] = _Tap.apply(level, source, factor, norms)
        return tapped

    def _source_of(self, level: Tensor, copied: bool) -> _Source:
        """Return what several losses on one output share; found by its node in the graph, which a copy points to."""
        node = (level if copied else level.view_as(level)).grad_fn
        assert node is not None, 'the level requires a gradient'
        origin, output = node.next_functions[0]
        assert origin is not None, 'it comes from there'
        if (origin, output) not in self._sources:
            self._sources[origin, output] = source = _Source(output)
            origin.register_prehook(source)
        return self._sources[origin, output]


class _Source:
    """Node pre-hook of what a level comes from: the student's own gradient is what losses have not contributed."""

    def __init__(self, output: int) -> None:
        self.output = output
        self.contributions: list[Tensor] = []
        self.listeners: list[list[Tensor]] = []

    def __call__(self, gradients: Sequence[Tensor | None]) -> None:
        own = gradients[self.output]
        contributions, self.contributions = self.contributions, []
        if own is None or not self.listeners:
            return
        own = own.detach()
        for contribution in contributions:
            own = own - contribution
        norm = _norm(own)
        for listener in self.listeners:
            listener.append(norm)


class _Tap(torch.autograd.Function):
    """Identity whose backward pass measures a gradient, scales it, and tells the source what it contributes."""

    @staticmethod
    def forward(ctx: Any, level: Tensor, source: _Source, factor: Tensor | None,
                norms: list[Tensor] | None) -> Tensor:
        ctx.source, ctx.factor, ctx.norms = source, factor, norms
        return level.view_as(level)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        if ctx.norms is not None:
            ctx.norms.append(_norm(gradient.detach()))
            # In float32: half precision would round the factor, or overflow.
            gradient = (gradient.float() * ctx.factor).to(gradient.dtype)
        ctx.source.contributions.append(gradient.detach())
        return gradient, None, None, None


class _Upstream(torch.autograd.Function):
    """Identity whose backward pass notes the gradient that arrives."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, step: MeasuredStep) -> Tensor:
        ctx.step = step
        return loss.view_as(loss)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        ctx.step.upstream = gradient.detach()
        return gradient, None


def _norm(x: Tensor) -> Tensor:
    """Euclidean norm, a float32 scalar; sums in at least float32."""
    half = x.dtype in (torch.float16, torch.bfloat16)
    norm: Tensor = torch.linalg.vector_norm(x, dtype=torch.float32 if half else None)
    return norm.float()


def _together(norms: Sequence[Tensor], zero: Tensor) -> Tensor:
    """Norm of gradients of several batches."""
    if len(norms) < 2:
        return norms[0] if norms else zero
    return _norm(torch.stack(list(norms)))
