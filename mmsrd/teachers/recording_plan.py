"""What the losses need of a teacher, as its dry run has shown it."""
from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Mapping

from mmengine.logging import print_log
from torch import nn

from ..errors import TeacherError
from ..recorders import DryRun
from .input_converter import InputConverter, PixelFormat, image_preprocessor


@dataclass(frozen=True)
class RecordingPlan:
    """What is recorded, and how the student's batch becomes the teacher's.

    Attributes:
        paths: Dotted path → config key of the recorded modules.
        clones: Paths whose outputs the teacher goes on to write into.
        num_calls: How often each module is called in a forward pass, by path.
        image: Size (H, W) of the dry run's image.
        converter: Turns the student's batch into what the teacher takes.
    """

    paths: Mapping[str, str] = field(default_factory=dict)
    clones: tuple[str, ...] = ()
    num_calls: Mapping[str, int] = field(default_factory=dict)
    image: tuple[int, int] = (0, 0)
    converter: InputConverter = field(default_factory=lambda: InputConverter(PixelFormat(None), PixelFormat(None)))

    @classmethod
    def of(cls, run: DryRun, paths: Mapping[str, str], student: nn.Module, channels: int,
           teacher: tuple[str, str], swap: bool | None = None) -> RecordingPlan:
        """The plan that a dry run allows.

        Args:
            run: Dry run of the teacher, in which the modules at ``paths`` were called.
            paths: Dotted path → config key of what the losses need.
            student: Model whose preprocessor makes the batches.
            channels: Channels of the student's images.
            teacher: Config key and name of the teacher's config, for messages.
            swap: See :class:`InputConverter`.

        Raises:
            TeacherError: The teacher takes images of other channels; grey ones can be made grey RGB.
        """
        if channels not in (run.channels, 1):
            raise TeacherError.at(*teacher, f'the teacher takes images of {run.channels} channels, and the student\'s '
                                  f'have {channels}')
        formats = PixelFormat(image_preprocessor(student)), PixelFormat(image_preprocessor(run.model))
        converter = InputConverter(*formats, run.channels, swap)
        if converter.swap and swap is None and channels > 1:
            key = teacher[0].rpartition('.')[0]
            print_log(f'{key}: the teacher gets the channels of the student\'s images in the other order, because one '
                      'of their data preprocessors swaps BGR and RGB and the other does not. That is right where both '
                      'were made for images that are loaded in one order. If the data set of one gives RGB and that of '
                      f'the other BGR (CIFAR and ImageNet in MMPretrain), write {key}.swap_channels=False; True says '
                      'that it is right', logger='current', level=logging.WARNING)
        return cls(paths, tuple(path for path in paths if run.is_overwritten(path)),
                   {path: run.num_calls(path) for path in paths}, run.image, converter)
