"""The teacher: built, checked, frozen, fed the student's batch, run as far as needed."""
from __future__ import annotations

import contextlib
from typing import Any, Sequence

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from torch import Tensor, nn

from .building import build_model, initialise
from .digest import weights_digest
from .eager import eager
from .errors import TeacherError
from .fold import FoldFinder, Pair, fold
from .inference import Inference, autocast_dtype, compile_parts, store_weights
from .offload import Offload, called_modules
from .preprocess import InputConverter, PixelFormat, image_preprocessor
from .probe import SIDES, Probe, dummy_samples, probe, trained_part
from .rng import preserved_rng
from .stream import SideStream
from .taps import AllTapsFiredSignal, TapSet
from .teacher_weights import read_weights
from .zoo import load_config


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
        inference: How it is made fast.
    """

    def __init__(self, model: nn.Module, config_name: str = '', checkpoint: str | None = None,
                 key: str = 'distill.teacher', offload: bool = False, inference: Inference | None = None) -> None:
        self.model = model.eval().requires_grad_(False)
        self.key = key
        self.config_name = config_name
        self.checkpoint = checkpoint
        self.loaded = checkpoint is None
        self.digest: int | None = None
        self.offload = offload
        self.inference = inference or Inference()
        self.released = False
        self._prepared = False
        self._stored: torch.dtype | None = None
        self._last = False
        self._offload: Offload | None = None
        self._taps: TapSet | None = None
        self._dry_run: Probe | None = None
        self._called: set[nn.Module] = set()
        self._pairs: list[Pair] = []
        self._convert: InputConverter | None = None
        self._device: torch.device | None = None
        self._stream = SideStream()

    @classmethod
    def from_config(cls, config: str | Config, checkpoint: str | None, key: str = 'distill.teacher',
                    offload: bool = False, inference: Inference | None = None) -> Teacher:
        """Build the architecture; :meth:`load_weights` reads the weights when training is about to start."""
        name = config if isinstance(config, str) else str(config.filename or 'config given inline')
        loaded = load_config(config, f'{key}.config') if isinstance(config, str) else config
        model = build_model(loaded, f'{key}.config')
        if checkpoint is None:
            initialise(model)
        return cls(model, name, checkpoint, key, offload, inference)

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        return self

    def load_weights(self) -> None:
        """Read the checkpoint into the model, once.

        Raises:
            CheckpointError: The file cannot be had or read, or belongs to another architecture.
        """
        if self.loaded or self.checkpoint is None:
            return
        read_weights(self.model, self.checkpoint, self.config_name, f'{self.key}.checkpoint')
        self.model.eval().requires_grad_(False)
        self.loaded = True
        self.digest = weights_digest(self.model)
        self._fold()

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
        finder = FoldFinder()
        with called_modules(self.model) as called, finder.watch(trained_part(self.model)[1]):
            result = probe(self.model, self._taps, sides)
        if channels not in (result.channels, 1):
            raise TeacherError.at(f'{self.key}.config', self.config_name, f'the teacher takes images of '
                                  f'{result.channels} channels, and the student\'s have {channels}')
        self._dry_run, self._called, self._pairs = result, called, finder.pairs(self._tapped())
        # Registered after the recording hooks, so it sees the output of its module recorded.
        for module in self._tapped():
            module.register_forward_hook(self._stop_if_complete)
        self._convert = InputConverter(PixelFormat(image_preprocessor(student)),
                                       PixelFormat(image_preprocessor(self.model)), result.channels)
        self._fold()
        return result

    def _tapped(self) -> set[nn.Module]:
        return {self.model.get_submodule(path) for path in self._taps.taps} if self._taps else set()

    @eager
    def _stop_if_complete(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._taps is not None and self._dry_run is not None and self._taps.calls() == self._dry_run.calls:
            raise AllTapsFiredSignal

    def place(self, device: torch.device) -> None:
        """Move the model to ``device``, where it is not there yet."""
        if self._offload is not None:
            self._offload.device = device
        elif self._device != device:
            self.model.to(device)
            self._device = device

    def release(self) -> None:
        """Give its memory back, for good: distillation has ended."""
        if not self.released:
            self.released = True
            if self._offload is not None:
                self._offload.remove()
                self._offload = None
            self.model.to('meta')
            if self._device is not None and self._device.type == 'cuda':
                torch.cuda.empty_cache()  # to the device, once

    def start(self, inputs: Tensor, data_samples: Sequence[Any] | None,
              students: torch.dtype | None) -> dict[str, list[Tensor]]:
        """As :meth:`features`, but nobody may read what is returned before :meth:`join`."""
        def work() -> dict[str, list[Tensor]]:
            return self._features(inputs, data_samples, students)
        return self._stream.start(work, inputs.device) if self.inference.stream else work()

    def join(self) -> None:
        """Let what the device does from now on wait for what was started."""
        self._stream.join()

    def features(self, inputs: Tensor, data_samples: Sequence[Any] | None) -> dict[str, list[Tensor]]:
        """Levels by path, from a forward pass that ends with the deepest tap.

        Args:
            inputs: The student's normalised batch (N, C, H, W).
            data_samples: The student's data samples.

        Raises:
            TeacherError: Called before :meth:`tap` or after :meth:`release`, or weights were never loaded.
            TapError: A tap was not called.
        """
        return self._features(inputs, data_samples, autocast_dtype(inputs.device))

    def _features(self, inputs: Tensor, data_samples: Sequence[Any] | None,
                  students: torch.dtype | None) -> dict[str, list[Tensor]]:
        if self._convert is None:
            raise TeacherError(f'{self.key}: the teacher has no taps yet')
        if self.released:
            raise TeacherError(f'{self.key}: the teacher was released when distillation ended')
        if not self.loaded:
            raise TeacherError.at(f'{self.key}.checkpoint', self.checkpoint,
                                  'was never loaded; call load_weights() first')
        device = inputs.device
        # Weights that are stored in half precision need autocast also where the student has none (validation).
        dtype = self.inference.dtype(students) or self._stored
        if not self._prepared:
            self._prepare(device, dtype)
            self._prepared = True
        self.place(device)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            return self.run(inputs, data_samples)

    @torch.no_grad()
    def run(self, inputs: Tensor, data_samples: Sequence[Any] | None) -> dict[str, list[Tensor]]:
        """Levels by path for the student's batch, with the model as it is and where it is."""
        assert self._taps is not None, 'tap() comes first'
        assert self._convert is not None, 'tap() comes first'
        images = self._convert(inputs, data_samples)
        if self._last:
            images = images.contiguous(memory_format=torch.channels_last)
        self._taps.arm()
        try:
            # No early end where a tap is called more often than in the dry run, or less.
            with contextlib.suppress(AllTapsFiredSignal):
                trained_part(self.model)[1](inputs=images, data_samples=data_samples, mode='tensor')
            return self._taps.take()
        finally:
            self._taps.disarm()

    def _prepare(self, device: torch.device, dtype: torch.dtype | None) -> None:
        """Make the model fast, once, before it moves to the device."""
        if dtype is not None and self.inference.stores(device):
            store_weights(self.model, dtype)
            self._stored = dtype
        self._last = self.inference.last(device, dtype)
        if self._last:
            self.model.to(memory_format=torch.channels_last)
        if self.offload:
            self._offload = Offload(self.model, self._called)
        if self.inference.compile is not False:
            options = {} if self.inference.compile is True else dict(self.inference.compile)
            compile_parts(trained_part(self.model)[1], self._called, self._tapped(), options)

    def _fold(self) -> None:
        """Fold batch normalisation, as soon as the model has both taps and weights; then never again."""
        if self._dry_run is None or not self.loaded or not self.inference.fold or not self._pairs:
            return
        with preserved_rng():
            torch.manual_seed(0)
            images = torch.randn(2, self._dry_run.channels, *self._dry_run.image)
        images = images.to(next(self.model.parameters()).device)
        change = fold(self.model, self._pairs, lambda: self.run(images, dummy_samples(images)))
        self._pairs = []
        if change is not None:
            print_log(f'{self.key}: batch normalisation is not folded, because it would change the features by '
                      f'{change:.1e}', logger='current')
