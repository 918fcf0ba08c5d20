"""A teacher that has been trained before."""
from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from typing import Any, Iterator, Mapping, Sequence

import torch
from mmengine.logging import print_log
from torch import nn

from ..config import OwnTeacherConfig, PretrainedTeacherConfig
from ..config.teacher_config import CHECK_IMAGES, read_pretrained
from ..errors import ConfigError
from ..recorders import DryRun, dry_run
from ..registry import TEACHERS
from ..utils.zoo import load_config
from .build_model import build_model, initialise, scope_of
from .class_names import ClassMatch, configured_classes, match_classes, num_classes
from .image_size import ImageSize
from .libraries import LibraryModel, build_library_model, is_library_model
from .speedup import AppliedSpeedups, apply_speedups, store_weights
from .teacher import Teacher
from .weights import read_weights, weights_checksum

UNIT = 32
"""Sides that are multiples of it suit most networks: they halve an image five times."""


@TEACHERS.register_module()
class PretrainedTeacher(Teacher):
    """A model of its own, whose weights come from a checkpoint and are never saved again.

    The architecture is built at once, the weights are read by :meth:`prepare` when training
    is about to start, so a config can be tested without them.

    Args:
        config: Its part of the ``distill`` block.
        model: The model, where it is built already.
        scope: Scope of its classes where its config names none.

    Attributes:
        model_config: Text of the model's part of its config, preprocessing included; empty for a built model.
        weights_checksum: Of the weights, once they are read; None before, and of random ones.
        classes: Names of the classes that it was trained for: given, or, once the weights are read, those that the
            checkpoint or else the config has; None where they are not known.

    Raises:
        TeacherError: The config cannot be read or the model not be built.
    """

    def __init__(self, config: PretrainedTeacherConfig, model: nn.Module | None = None,
                 scope: str = 'mmengine') -> None:
        self.checkpoint = config.checkpoint
        self.weights_checksum: int | None = None
        self.classes = config.classes
        self._configured_classes: tuple[str, ...] | None = None
        self.model_config = ''
        if model is None:
            model = self._build(config, scope)
        self.config = config
        self.inference = config.inference
        self.offloads = config.offload
        self.swap_channels = config.swap_channels
        self.any_task = isinstance(model, LibraryModel)
        self.image_size = ImageSize.for_model(config.scale, config.size, model)
        super().__init__(model, config.key, config.name)

    @classmethod
    def from_config(cls, config: PretrainedTeacherConfig | OwnTeacherConfig, student: nn.Module) -> PretrainedTeacher:
        """See :class:`Teacher`; classes that its config does not place are looked for in the student's scope."""
        if isinstance(config, OwnTeacherConfig):  # a class of a user's that derives from this one
            config = read_pretrained(config.key, config.arguments)
        return cls(config, scope=scope_of(student))

    @classmethod
    def check_config(cls, config: Any) -> None:
        """See :class:`Teacher`; a class that derives from this one takes the same entries."""
        read_pretrained(config.key, config.arguments)

    def _build(self, config: PretrainedTeacherConfig, scope: str) -> nn.Module:
        """The model without its weights; with random ones where it is to have none."""
        key = f'{config.key}.config'
        if is_library_model(config.config):
            return build_library_model(config.name, key)
        loaded = load_config(config.config, key) if isinstance(config.config, str) else config.config
        self._configured_classes = configured_classes(loaded)
        self.model_config = f'{loaded.model} {loaded.get("data_preprocessor")}'
        model = build_model(loaded, key, scope, downloads=config.checkpoint is None)
        in_model = loaded.model.get('data_preprocessor') if isinstance(loaded.model, dict) else None
        if in_model is None and loaded.get('data_preprocessor') is None:
            print_log(f'{key}: the config has no `data_preprocessor`, so the teacher gets pixels from 0 to 255. If it '
                      'was trained with normalised images, give its whole config: MMPretrain has `data_preprocessor` '
                      'beside `model`', logger='current', level=logging.WARNING)
        if config.checkpoint is None:
            initialise(model)
        return model

    def sizes_for(self, run: DryRun, paths: Mapping[str, str], divisor: int) -> ImageSize:
        """See :class:`Teacher`; sides are rounded where the model fails on some that images may have.

        Necks that double a map and join it with another fail so. Data preprocessors say nothing of it where a model was
        trained with images of one size.
        """
        size = self.image_size
        padded = size.divisor % UNIT == 0 and (not size.is_same or divisor % size.divisor == 0)
        if size.size is not None or padded:
            return size
        calls = {path: run.num_calls(path) for path in paths}

        def works(side: int) -> bool:
            other = dry_run(self.model, paths, [side], partly=True, forwards=[run.forward])
            return {path: other.num_calls(path) for path in paths} == calls

        side = max(round(run.image[0] * size.scale / UNIT), 1) * UNIT
        if all(works(side + more) for more in (1, UNIT - 1, UNIT)):  # maps of odd sides, rounded up or down
            return size
        # Odd multiples of each, so that the next is found where it is needed. A model of one size takes no other.
        multiples = {step: max(side // step // 2 * 2 + 1, 3) * step for step in (UNIT, 2 * UNIT, 4 * UNIT)}
        return replace(size, multiple=next((step for step, other in multiples.items()
                                            if works(other + 2 * step if other == side else other)), 1))

    def load_weights(self) -> None:
        """Read the checkpoint into the model, once; nothing where the weights are random.

        Raises:
            CheckpointError: The file cannot be found or read, or belongs to another architecture.
        """
        if self.checkpoint is None or self.weights_checksum is not None:
            return
        key = f'{self.key}.checkpoint'
        if isinstance(self.model, LibraryModel):
            self.model.read_weights(self.checkpoint, key)
        else:
            saved = read_weights(self.model, self.checkpoint, self.config.name, key)
            self.classes = self.classes or saved or self._configured_classes
        self.model.eval().requires_grad_(False)
        self.weights_checksum = weights_checksum(self.model)

    def describe(self) -> dict[str, Any]:
        """See :class:`Teacher`."""
        return dict(config=self.name, checkpoint=self.checkpoint or 'random')

    def fingerprint(self) -> dict[str, Any]:
        """See :class:`Teacher`; adds the checksum of the weights, and the image size where it is not the student's."""
        size = {} if self.image_size.is_same else dict(images=str(self.image_size))
        return dict(super().fingerprint(), weights=self.weights_checksum, **size)

    def gives_layers(self, default: bool) -> bool:
        """See :class:`Teacher`; random layers only where the config asks for them."""
        asked = self.config.init_student
        return (default and self.checkpoint is not None) if asked is None else asked

    def can_predict(self) -> bool:
        """See :class:`Teacher`."""
        return not (self.any_task or self.checkpoint is None or self.config.offload or self.released)

    def check_images(self, same_task: bool) -> int:
        """See :class:`Teacher`.

        Raises:
            ConfigError: A model with features only is to be evaluated.
        """
        asked = self.config.check
        if self.any_task and asked:
            raise ConfigError.at(f'{self.key}.check', asked, f'{self.name} has features only, so it cannot be '
                                 'evaluated; remove `check`')
        if self.any_task or self.checkpoint is None:
            return 0
        return asked if asked is not None else CHECK_IMAGES if same_task and not self.config.offload else 0

    def _apply_speedups(self, device: torch.device, dtype: torch.dtype | None) -> AppliedSpeedups:
        return apply_speedups(self.model, self.inference, self.offloads, self._called, self._recorded_modules(),
                              device, dtype)

    def match_classes(self, student: nn.Module, names: Sequence[str] | None) -> ClassMatch:
        """See :class:`Teacher`."""
        return match_classes(self.classes, names, (num_classes(self.model), num_classes(student)))

    @torch.no_grad()
    def predict(self, batch: Any) -> list[Any]:
        """Predictions of the whole model, in float32 also where its weights are stored in half precision.

        Heads decode boxes and pass them to NumPy, which has no bfloat16. The features that teach are not affected:
        :meth:`features` computes them in the stored precision.

        Args:
            batch: A batch of the student's validation data, as its loader gives it.

        Returns:
            list: Data samples with predictions.
        """
        with self._in_float32():
            return list(self.model.test_step(self._images_for(batch)))  # type: ignore[operator]

    @contextlib.contextmanager
    def _in_float32(self) -> Iterator[None]:
        stored = self._speedups.stored_dtype if self._speedups else None
        if stored is None:
            yield
            return
        store_weights(self.model, torch.float32)
        try:
            yield
        finally:
            store_weights(self.model, stored)  # the same values: float32 holds them exactly

    def _images_for(self, batch: Any) -> Any:
        """Return a batch with the teacher's channels, in the order that it takes them, at its size."""
        images = batch.get('inputs') if isinstance(batch, Mapping) else None
        if images is None:
            return batch
        batch, size = {**batch}, self.plan.conversion.image_size
        if batch.get('data_samples') is not None:
            batch['data_samples'] = [size.describe(sample, image.size(-2), image.size(-1))
                                     for image, sample in zip(images, batch['data_samples'])]
        converted = [size.resize(self._converter.as_loaded(image)[None])[0] for image in images]
        batch['inputs'] = torch.stack(converted) if isinstance(images, torch.Tensor) else converted
        return batch
