"""``Recording``: which modules of a model are recorded, as plain values."""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Collection, Mapping

from .dry_run import DryRun


@dataclass(frozen=True)
class Recording:
    """Which modules of a model are recorded, as its dry run has shown them.

    Attributes:
        paths: Dotted path → config key of the recorded modules.
        clones: Paths whose outputs the model goes on to write into.
        num_calls: How often each module is called in a forward pass, by path.
        image: Size (H, W) of the dry run's image.
        channels: Channels of it.
    """

    paths: Mapping[str, str] = field(default_factory=dict)
    clones: tuple[str, ...] = ()
    num_calls: Mapping[str, int] = field(default_factory=dict)
    image: tuple[int, int] = (0, 0)
    channels: int = 3

    @classmethod
    def from_run(cls, run: DryRun, paths: Mapping[str, str]) -> Recording:
        """Return what a dry run in which the modules at ``paths`` were called shows of them."""
        return cls(paths, tuple(path for path in paths if run.is_overwritten(path)),
                   {path: run.num_calls(path) for path in paths}, run.image, run.channels)

    def restrict(self, paths: Collection[str]) -> Recording:
        """Return the part of it that is at ``paths``."""
        return replace(self, paths={path: key for path, key in self.paths.items() if path in paths},
                       clones=tuple(path for path in self.clones if path in paths),
                       num_calls={path: count for path, count in self.num_calls.items() if path in paths})
