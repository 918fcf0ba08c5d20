"""``Comparisons``: what is compared with what, by which projectors and losses."""
from __future__ import annotations

from typing import Sequence, cast

import torch
from torch import Tensor, nn

from .config_losses import LossConfig, build_module
from .errors import FeatureMismatchError, TapError
from .matching import LevelPair, conform


class Comparisons(nn.Module):
    """Projectors and losses, applied to features that somebody else has recorded.

    Args:
        losses: What is compared.
        pairs: Level pairs of each loss, by name.

    Raises:
        FeatureMismatchError: There is to be no projector, and the channels of a pair differ.
    """

    def __init__(self, losses: list[LossConfig], pairs: dict[str, list[LevelPair]]) -> None:
        super().__init__()
        self.configs = {loss.name: loss for loss in losses}
        self.pairs = pairs
        self.criteria = nn.ModuleDict({loss.name: build_module(loss.key, loss.module) for loss in losses})
        self.projectors = nn.ModuleDict({
            loss.name: nn.ModuleList([_projector(loss, pair) for pair in pairs[loss.name]]) for loss in losses})

    def compare(self, name: str, student: list[Tensor], teacher: list[Tensor],
                image: tuple[int, int] | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Unweighted loss ``name``, and its logs, averaged over the level pairs.

        Args:
            name: Name of the loss.
            student: The student's levels at this loss's tap.
            teacher: The teacher's levels at this loss's tap.
            image: Size (H, W) of the images, by which tokens become maps; None for square ones.

        Raises:
            FeatureMismatchError: There are other levels than in the dry run, or shapes differ.
            TapError: The student's feature carries no gradient although one is wanted.
        """
        config, criterion = self.configs[name], self.criteria[name]
        if torch.is_grad_enabled() and not any(level.requires_grad for level in student):
            raise TapError.at(f'{config.key}.student', config.student, 'the feature carries no gradient, so nothing of '
                              'the student would be trained by this loss; choose a module after the frozen stages and '
                              'not inside a block with activation checkpointing (with_cp)')
        compared = []
        for pair, projector in zip(self.pairs[name], cast(nn.ModuleList, self.projectors[name]), strict=True):
            if pair.counts != (len(student), len(teacher)):
                raise FeatureMismatchError(
                    f'{config.key}: {config.student!r} gave {len(student)} and {config.teacher!r} {len(teacher)} '
                    f'levels in this step, but {pair.counts[0]} and {pair.counts[1]} in the dry run, so it is not '
                    'known which are to be compared; tap modules that always return the same')
            try:
                s, t = conform(student[pair.student], teacher[pair.teacher], pair, config.pool, config.resize, image)
                compared.append(criterion(projector(s), t))
            except FeatureMismatchError as e:
                raise FeatureMismatchError(f'{config.key}, levels ({pair.student}, {pair.teacher}): {e}') from e
        return mean(compared)

    def nothing(self, name: str, device: torch.device) -> Tensor:
        """A zero that depends on the projectors, so that DDP finds their gradients whether or not they are used."""
        first = [parameter.flatten()[:1].float() for parameter in self.projectors[name].parameters()]
        return torch.cat(first).sum() * 0 if first else torch.zeros((), device=device)

    def account(self, name: str, student: list[list[Tensor]], teacher: list[list[Tensor]], loss: Tensor) -> str:
        """What to say of a loss if it turns out not to be finite."""
        config = self.configs[name]
        text = f'loss {config.key} is not finite (student {config.student!r}, teacher {config.teacher!r})'
        if loss.device.type == 'cpu' and not loss.isfinite():
            bad = [f'the {side}\'s feature {path!r}' for side, path, batches in (
                ('student', config.student, student), ('teacher', config.teacher, teacher))
                if not all(level.isfinite().all() for levels in batches for level in levels)]
            text += f'; {" and ".join(bad) or "the features are finite"}' + (' is not finite' if bad else '')
        return text


def _projector(loss: LossConfig, pair: LevelPair) -> nn.Module:
    if loss.projector is not None:
        return build_module(f'{loss.key}.projector', loss.projector,
                            in_channels=pair.channels[0], out_channels=pair.channels[1])
    if pair.channels[0] != pair.channels[1] and loss.compares_logits:
        raise FeatureMismatchError(
            f'{loss.key}: the student has {pair.channels[0]} classes and the teacher {pair.channels[1]}; logits can '
            'only be compared where the classes are the same. Features can be distilled all the same')
    if pair.channels[0] != pair.channels[1]:
        raise FeatureMismatchError(
            f'{loss.key}.projector = None: student level {pair.student} {pair.student_shape} and teacher level '
            f'{pair.teacher} {pair.teacher_shape} have different channels; leave `projector` out for a LinearProjector')
    return nn.Identity()


def mean(compared: Sequence[tuple[Tensor, dict[str, Tensor]]]) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean of several losses, and of their logs."""
    losses, logs = zip(*compared, strict=True)
    return torch.stack(losses).mean(), {key: torch.stack([log[key] for log in logs]).mean() for key in logs[0]}
