"""The teacher: built, checked, frozen, fed the student's batch, run as far as needed."""
from __future__ import annotations

import copy
import logging
from collections import OrderedDict
from typing import Any, Sequence

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger, print_log
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from .compat import load_checkpoint_file
from .digest import weights_digest
from .errors import CheckpointError, TeacherError
from .offload import Offload, called_modules
from .preprocess import InputConverter, PixelFormat, image_preprocessor
from .probe import SIDES, Probe, probe, trained_part
from .rng import preserved_rng
from .taps import AllTapsFiredSignal, TapSet
from .zoo import load_config, local_checkpoint


def build_model(config: Config, key: str) -> nn.Module:
    """Build the model of a whole config in that config's own scope, without initialising weights.

    Raises:
        TeacherError: The model cannot be built; the message has the reason.
    """
    model_config = copy.deepcopy(config.model)
    if config.get('data_preprocessor') is not None:
        model_config.setdefault('data_preprocessor', copy.deepcopy(config.data_preprocessor))
    try:
        with DefaultScope.overwrite_default_scope(config.get('default_scope', 'mmengine')), preserved_rng():
            model: nn.Module = MODELS.build(model_config)
    except Exception as e:
        raise TeacherError(f'{key}: the model cannot be built ({type(e).__name__}: {e})') from e
    return model


def initialise(model: nn.Module) -> None:
    """Random initial weights as the model would begin training with, but nothing downloaded; quietly.

    Building alone leaves some parameters as whatever was in memory (the L2Norm of SSD).
    """
    for module in model.modules():
        # A backbone may have a way of its own to name a file; and a config may name none, for the user to fill in.
        if any(word in str(getattr(module, 'init_cfg', None)) for word in ('checkpoint', 'Pretrained')):
            module.init_cfg = None  # type: ignore[assignment]
        if isinstance(getattr(module, 'pretrained', None), str):
            module.pretrained = None  # type: ignore[assignment]
    logger = MMLogger.get_current_instance()
    level, handlers = logger.level, logger.handlers
    logger.setLevel(logging.WARNING)  # MMEngine logs a line for each parameter, to files past the level
    logger.handlers = []
    try:
        with preserved_rng():
            if hasattr(model, 'init_weights'):
                model.init_weights()  # type: ignore[operator]
    finally:
        logger.setLevel(level)
        logger.handlers = handlers


class Teacher:
    """A frozen model that is deliberately not an ``nn.Module``.

    So it is in no ``state_dict``, ``parameters()``, optimizer or DDP bucket of the
    student that holds it. A deep copy of the student (EMA) shares it.

    Args:
        model: The teacher, on the CPU.
        config_name: Where its config came from, for messages and ``'auto'``.
        checkpoint: Path, URL, ``'auto'``, or None for random weights.
        key: Where it stands in the config, for messages.
        offload: Whether the weights stay in host memory (see :class:`mmsrd.offload.Offload`).
    """

    def __init__(self, model: nn.Module, config_name: str = '', checkpoint: str | None = None,
                 key: str = 'distill.teacher', offload: bool = False) -> None:
        self.model = model.eval().requires_grad_(False)
        self.key = key
        self.config_name = config_name
        self.checkpoint = checkpoint
        self.loaded = checkpoint is None
        self.digest: int | None = None
        self.offload = offload
        self._offload: Offload | None = None
        self._taps: TapSet | None = None
        self._last_calls: dict[str, int] = {}
        self._convert: InputConverter | None = None
        self._device: torch.device | None = None

    @classmethod
    def from_config(cls, config: str | Config, checkpoint: str | None, key: str = 'distill.teacher',
                    offload: bool = False) -> Teacher:
        """Build the architecture; :meth:`load_weights` reads the weights when training is about to start."""
        name = config if isinstance(config, str) else str(config.filename or 'config given inline')
        loaded = load_config(config, f'{key}.config') if isinstance(config, str) else config
        model = build_model(loaded, f'{key}.config')
        if checkpoint is None:
            initialise(model)
        return cls(model, name, checkpoint, key, offload)

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        return self

    def load_weights(self) -> None:
        """Read the checkpoint into the model, once.

        Raises:
            CheckpointError: The file cannot be had or read, or belongs to another architecture.
        """
        if self.loaded or self.checkpoint is None:
            return
        key = f'{self.key}.checkpoint'
        path = local_checkpoint(self.checkpoint, self.config_name, key)
        checkpoint = load_checkpoint_file(path, key)
        # MMEngine and Lightning save under the first name, timm and the DeiT authors under the second.
        saved = next((checkpoint[name] for name in ('state_dict', 'model') if isinstance(checkpoint.get(name), dict)),
                     checkpoint)
        state = OrderedDict((name.removeprefix('module.'), value) for name, value in saved.items())
        if hasattr(saved, '_metadata'):
            state._metadata = saved._metadata  # type: ignore[attr-defined]  # modules convert older versions by it
        own = self.model.state_dict()
        try:
            # The models' own load hooks rename and resize what older files have, so they judge what fits.
            result = self.model.load_state_dict(state, strict=False)
        except RuntimeError as e:
            wrong = [n for n, v in own.items() if n in state and getattr(state[n], 'shape', None) != v.shape]
            missing = [n for n in own if n not in state]
            raise CheckpointError.at(key, self.checkpoint, self._mismatch(own, state, wrong, missing)) from e
        # Batch counters came with PyTorch 0.4; older checkpoints of the zoo do not have them.
        missing = [n for n in result.missing_keys if not n.endswith('num_batches_tracked')]
        if missing:
            raise CheckpointError.at(key, self.checkpoint, self._mismatch(own, state, [], missing))
        self.model.eval().requires_grad_(False)
        self.loaded = True
        self.digest = weights_digest(self.model)
        print_log(f'Teacher weights loaded from {path}', logger='current')

    def _mismatch(self, own: dict[str, Tensor], state: dict[str, Any], wrong: list[str], missing: list[str]) -> str:
        unexpected = [n for n in state if n not in own]
        parts = [f'does not fit {type(self.model).__name__} of {self.config_name}: '
                 f'{len(own) - len(wrong) - len(missing)} of {len(own)} keys match']
        if missing:
            parts.append(f'{len(missing)} are missing ({_some(missing)})')
        if wrong:
            parts.append(f'{len(wrong)} have another shape ({_some(wrong)})')
        if unexpected:
            parts.append(f'{len(unexpected)} in the file are unknown to the model ({_some(unexpected)})')
        return '; '.join(parts)

    def tap(self, paths: dict[str, str], student: nn.Module, sides: Sequence[int] = SIDES, channels: int = 3) -> Probe:
        """Tap the teacher, learn what the taps return, and how to convert the student's batch.

        Args:
            paths: Dotted path → config key.
            student: Model whose preprocessor makes the batches.
            sides: Sides of the dry-run image to try.
            channels: Channels of the student's images.

        Raises:
            TapError: A path does not exist or is not called.
            TeacherError: It takes images of other channels; grey ones can be made grey RGB.
        """
        self._taps = TapSet(self.model, paths)
        with called_modules(self.model) as called:
            result = probe(self.model, self._taps, sides)
        if self.offload:
            self._offload = Offload(self.model, called)
        if channels not in (result.channels, 1):
            raise TeacherError.at(f'{self.key}.config', self.config_name, f'the teacher takes images of '
                                  f'{result.channels} channels, and the student\'s have {channels}')
        self._last_calls = result.calls
        # Registered after the recording hooks, so it sees the output of its module recorded.
        for path in paths:
            self.model.get_submodule(path).register_forward_hook(self._stop_if_complete)
        self._convert = InputConverter(PixelFormat(image_preprocessor(student)),
                                       PixelFormat(image_preprocessor(self.model)), result.channels)
        return result

    def _stop_if_complete(self, module: nn.Module, args: Any, output: Any) -> None:
        # No counting without the expected numbers: the dry run lets the whole forward pass run.
        if self._taps is not None and self._convert is not None and self._taps.calls() == self._last_calls:
            raise AllTapsFiredSignal

    def place(self, device: torch.device) -> None:
        """Move the model to ``device``, where it is not there yet."""
        if self._offload is not None:
            self._offload.device = device
        elif self._device != device:
            self.model.to(device)
            self._device = device

    @torch.no_grad()
    def features(self, inputs: Tensor, data_samples: Sequence[Any] | None) -> dict[str, list[Tensor]]:
        """Levels by path, from a forward pass that ends with the deepest tap.

        Args:
            inputs: The student's normalised batch (N, C, H, W).
            data_samples: The student's data samples.

        Raises:
            TeacherError: Called before :meth:`tap`, or weights were never loaded.
            TapError: A tap was not called.
        """
        if self._taps is None or self._convert is None:
            raise TeacherError(f'{self.key}: the teacher has no taps yet')
        if not self.loaded:
            raise TeacherError.at(f'{self.key}.checkpoint', self.checkpoint,
                                  'was never loaded; call load_weights() first')
        self.place(inputs.device)
        self._taps.arm()
        try:
            trained_part(self.model)[1](inputs=self._convert(inputs, data_samples), data_samples=data_samples,
                                        mode='tensor')
        except AllTapsFiredSignal:
            pass
        except BaseException:
            self._taps.disarm()
            raise
        return self._taps.take()


def _some(names: list[str], count: int = 3) -> str:
    return ', '.join(names[:count]) + (', ...' if len(names) > count else '')
