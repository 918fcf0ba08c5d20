"""``ResumeMixin``: long runs with any runner of MMEngine. It knows nothing of distillation."""
from __future__ import annotations

import contextlib
import functools
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Iterator, Mapping, Optional, Sequence

from mmengine.dist import all_gather_object
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import print_log
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from ..compat import load_checkpoint_file, make_plain
from ..config.preemption_config import PreemptionConfig
from ..errors import CheckpointError, MMSRDError, StorageError
from ..utils.dist import end_all_on_error
from ..utils.hooks import register_missing
from .checkpoint_files import atomic_write, checkpoint_folders, newest_complete, remove_partial, storage_errors
from .exact_resume_hook import ExactResumeHook
from .preemption_hook import PreemptionHook
from .signals_and_forks import outlive_signals, restore_signals
from .train_loops import ResumableLoop, resumable


@dataclass(frozen=True)
class ResumeSettings:
    """Settings of :class:`ResumeMixin`.

    Attributes:
        exact: Whether checkpoints keep random states and the position in the data.
        preemption: Reaction to a scheduler that ends the job; None for Python's own reaction to signals.
        place: Keys, one below the other, under which a checkpoint keeps the state of an exact resume.
    """

    exact: bool = True
    preemption: Optional[PreemptionConfig] = field(default_factory=PreemptionConfig)
    place: Sequence[str] = ('resume',)


class ResumeMixin:
    """Checkpoints that are complete or absent, exact resumes from them, and preemption.

    Stands first among the bases of a runner, also of a ``FlexibleRunner``.

    Example:
        >>> from mmengine.runner import Runner
        >>> from mmsrd import ResumeMixin
        >>> class LongRunner(ResumeMixin, Runner):
        ...     pass
    """

    hooks: Any
    _train_loop: Any
    saved_meta: dict[str, Any]
    seed: Any
    strategy: Any
    work_dir: Any
    _randomness_cfg: Any
    _train_dataloader: Any
    _resume: Any
    _load_from: Any
    _has_loaded: bool
    _checked_path: str | None = None

    def resume_settings(self) -> ResumeSettings:
        """Return the settings; a runner that reads a config overrides it."""
        return ResumeSettings()

    def register_hooks(self, default_hooks: Any = None, custom_hooks: Any = None) -> None:
        """Register the config's hooks, and those of an exact resume and of preemption, unless it has them itself."""
        super().register_hooks(default_hooks, custom_hooks)  # type: ignore[misc]
        settings = self.resume_settings()
        wanted: list[Hook] = [ExactResumeHook(settings.place)] if settings.exact else []
        if settings.preemption is not None:
            wanted.append(PreemptionHook(**asdict(settings.preemption)))
        register_missing(self, wanted)

    def train(self) -> nn.Module:
        """Train; an error ends all processes with a message."""
        with self.guarded():
            trained: nn.Module = super().train()  # type: ignore[misc]
        return trained

    @functools.cached_property
    def _reported_places(self) -> set[str]:
        """Entries of checkpoints of which the log says that they are kept as text."""
        return set()

    def save_checkpoint(self, out_dir: str, filename: str, file_client_args: Optional[dict[str, Any]] = None,
                        save_optimizer: bool = True, save_param_scheduler: bool = True,
                        meta: Optional[dict[str, Any]] = None, by_epoch: bool = True,
                        backend_args: Optional[dict[str, Any]] = None) -> None:
        """Save a checkpoint as MMEngine does, but a local file appears under its name only when it is complete.

        Args:
            out_dir: Folder of the checkpoint.
            filename: Name of the file.
            file_client_args: See ``Runner.save_checkpoint``, as for all that follow; None by default.
            save_optimizer: Whether to save the optimizer; True by default.
            save_param_scheduler: Whether to save the schedulers; True by default.
            meta: More entries of ``meta``; None by default.
            by_epoch: Whether epochs are counted; True by default.
            backend_args: Arguments of the file backend; None by default.

        Raises:
            StorageError: A store refuses it; for local files see :meth:`guarded`.
        """
        save = super().save_checkpoint  # type: ignore[misc]
        options = dict(save_optimizer=save_optimizer, save_param_scheduler=save_param_scheduler, meta=meta,
                       by_epoch=by_epoch)
        self.saved_meta = dict(meta or {})
        if '://' in str(out_dir) or file_client_args or backend_args:
            try:
                save(out_dir, filename, file_client_args, backend_args=backend_args, **options)
            except MMSRDError:
                raise
            except Exception as error:  # of whatever kind a store raises
                raise StorageError(f'{out_dir}: {filename} could not be saved ({type(error).__name__}: {error}). Start '
                                   'the same command with --resume to continue from the newest checkpoint') from error
            return
        with atomic_write(str(out_dir), filename, keep=save_optimizer) as partial:
            save(str(out_dir), partial, **options)  # onedl-mmengine takes no path

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call hooks as MMEngine does; what they have put into a checkpoint becomes plain, so that it can be read."""
        super().call_hook(fn_name, **kwargs)  # type: ignore[misc]
        if fn_name == 'before_save_checkpoint':
            for place, kind in make_plain(kwargs['checkpoint']).items():
                if place not in self._reported_places:
                    self._reported_places.add(place)
                    print_log(f'Checkpoints store {place} as text only: it is a {kind}, which cannot be loaded without '
                              'running code from the file. To keep the object, allow its class with '
                              'torch.serialization.add_safe_globals',
                              logger='current', level=logging.WARNING)

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Context of a training: an error ends all processes with a message; signal handlers are restored.

        Raises:
            StorageError: The disk of the work directory fails.
        """
        for hook in self.hooks:
            if isinstance(hook, CheckpointHook) and '://' in str(hook.out_dir) and hook.max_keep_ckpts == 1:
                hook.max_keep_ckpts = 2  # it deletes the oldest before the next is in the store
        try:
            with end_all_on_error(), storage_errors(Path(self.work_dir), self._other_folders):
                yield
        finally:
            restore_signals()

    @functools.cached_property
    def _other_folders(self) -> list[Path]:
        # Computed before training: from then on, CheckpointHook has added the name of the work directory to out_dir.
        return checkpoint_folders(Path(self.work_dir), [hook.out_dir for hook in self.hooks
                                                        if isinstance(hook, CheckpointHook)])

    @property
    def handled_signals(self) -> list[int]:
        """Numbers of the signals that end the training with a checkpoint."""
        return [number for hook in self.hooks if isinstance(hook, PreemptionHook) for number in hook.signals]

    def build_train_loop(self, loop: Any) -> Any:
        """Build the train loop; MMEngine's own two are replaced by those that resume exactly, where that is set."""
        exact = self.resume_settings().exact and isinstance(self._train_dataloader, (Mapping, DataLoader))
        path = self.resumes_from()
        if exact and path is not None and '://' not in path:
            self._restore_seed(path)
        built = super().build_train_loop(resumable(loop) if exact else loop)  # type: ignore[misc]
        if exact and not isinstance(built, ResumableLoop):
            print_log(f'The train loop {type(built).__name__} is not one of the two that resume exactly: a resumed run '
                      'is not what it would have been without the interruption', logger='current',
                      level=logging.WARNING)
        outlive_signals(built.dataloader, self.handled_signals)
        return built

    def build_val_loop(self, loop: Any) -> Any:
        """Build the validation loop, whose processes load data until a preempted training has saved."""
        built = super().build_val_loop(loop)  # type: ignore[misc]
        outlive_signals(built.dataloader, self.handled_signals)
        return built

    def _restore_seed(self, path: str) -> None:
        # MMEngine restores the seed of a checkpoint only after it has built the sampler with another seed.
        seed = load_checkpoint_file(path, 'resume').get('meta', {}).get('seed')
        self._checked_path = path
        if seed is None or seed == self.seed:
            return
        if isinstance(self, Runner):
            self._randomness_cfg.update(seed=seed)
            self.set_randomness(**self._randomness_cfg)
        else:
            self.strategy._set_randomness(**{**self._randomness_cfg, 'seed': seed})

    def resumes_from(self) -> str | None:
        """Return the path of the checkpoint that training will continue from; None where it begins anew.

        Raises:
            CheckpointError: Checkpoints were saved, and none is complete.
        """
        if not self._resume:
            return None
        named = self._resume if isinstance(self._resume, str) else self._load_from
        return named or newest_complete(Path(self.work_dir), self._other_folders)

    def _check_agreement(self) -> None:
        """Refuse processes that have gone on from different checkpoints, or not all from one.

        Raises:
            CheckpointError: Their folders, or what a file system shows of them, are not the same.
        """
        loop = self._train_loop  # a test has none, and the property would build it
        done = (loop.epoch, loop.iter) if isinstance(loop, BaseLoop) else (0, 0)
        positions = all_gather_object((bool(self._resume), *done))
        if len(set(positions)) > 1:
            found = ', '.join(f'process {rank} at iteration {iteration}' if resumed else f'process {rank} anew'
                              for rank, (resumed, _, iteration) in enumerate(positions))
            raise CheckpointError(f'resume: the processes would go on from different checkpoints: {found}. Is '
                                  f'{self.work_dir} one folder for all machines? A network file system may also need '
                                  'some seconds after a restart')

    def load_or_resume(self) -> None:
        """Load as MMEngine does, but an automatic resume takes the newest checkpoint that is complete.

        Raises:
            CheckpointError: Checkpoints were saved, and none is complete; or a file holds other objects than
                tensors and MMEngine's own, which could run code when they are loaded.
        """
        if self._resume and not isinstance(self._resume, str) and self._load_from is None:
            self._load_from = newest_complete(Path(self.work_dir), self._other_folders)
            self._resume = self._load_from is not None
            for folder in (Path(self.work_dir), *self._other_folders):
                remove_partial(folder)
            print_log(f'Automatic resume: {self._load_from or "there is no checkpoint yet"}', logger='current')
        key = 'resume' if isinstance(self._resume, str) else 'load_from'
        path = self._resume if key == 'resume' else self._load_from
        if not self._has_loaded and isinstance(path, str) and '://' not in path and path != self._checked_path:
            # Before PyTorch 2.6, and in the onedl fork on any version, MMEngine reads whatever is in a file.
            load_checkpoint_file(path, key)
        super().load_or_resume()  # type: ignore[misc]
        self._check_agreement()
