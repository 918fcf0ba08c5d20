"""``ProjectorDiagnosticsHook``: what the projectors do, written down while they train."""
from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ...config.checks import whole_number
from ...distillers.balance import GradientWatch
from ...models.projectors.diagnostics import cross_correlation, effective_rank, matrices, singular_values
from ...registry import HOOKS
from ...report.run_log import SPECTRA
from .distill_hook import distiller_of
from .level_scalars import LevelScalars


@HOOKS.register_module()
class ProjectorDiagnosticsHook(Hook):
    """Writes singular values, effective rank, correlation of input and output, alignment and gradient norms by level.

    Off unless a config has ``custom_hooks=[dict(type='mmsrd.ProjectorDiagnosticsHook')]``. It looks at what passes
    through the projectors and losses in one step of ``interval``, so it costs no forward pass. Scalars
    ``srd_<what>/<loss>.<level>`` go through the runner's visualizer, to every backend it has
    (scalars.json, TensorBoard, Weights & Biases, which counts each look as a step).

    Args:
        interval: Iterations from one look to the next.

    Raises:
        ConfigError: ``interval`` is not a whole number above 0.
    """

    priority = 'BELOW_NORMAL'  # after DistillHook has taken the step's norms into the balances

    def __init__(self, interval: int = 100) -> None:
        self.interval = whole_number('ProjectorDiagnosticsHook.interval', interval, at_least=1)
        self._due = self._looking = False
        self._levels: list[LevelScalars] = []
        self._handles: list[RemovableHandle] = []
        self._seen: dict[str, float] = {}

    def before_train(self, runner: Runner) -> None:
        """Look into the projectors and losses; in the main process only."""
        if not is_main_process():
            return
        for loss in distiller_of(runner).feature_losses:
            name = loss.config.name
            for level, projector in enumerate(loss.projectors):
                self._handles.append(projector.register_forward_hook(self._projector_hook(f'{name}.{level}')))
            self._levels.append(LevelScalars(loss))

    def _projector_hook(self, name: str) -> Any:
        def look(module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
            if self._looking and matrices(module):
                self._seen[f'srd_cross_correlation/{name}'] = cross_correlation(args[0].detach(), output.detach())
        return look

    def after_train(self, runner: Runner) -> None:
        """Look no longer."""
        for levels in self._levels:
            levels.close()
        for handle in self._handles:
            handle.remove()
        for loss in distiller_of(runner).feature_losses:
            loss.watch = None
        self._levels.clear()
        self._handles.clear()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Optional[Any] = None) -> None:
        """Look at every ``interval``-th iteration, the first included, or at the next one that is distilled.

        All processes measure gradients together.
        """
        self._due = self._due or runner.iter % self.interval == 0
        looking = self._due and distiller_of(runner).progress.active
        self._due = self._due and not looking
        for loss in distiller_of(runner).feature_losses:
            loss.watch = GradientWatch(loss.student_levels, next(runner.model.parameters()).device) \
                if looking and loss.balance is None else None
        self._looking = looking and is_main_process()
        self._seen.clear()
        for levels in self._levels:
            levels.clear()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Optional[Any] = None,
                         outputs: Optional[Any] = None) -> None:
        """Write what was seen, and the spectra."""
        # Nothing passes in a step that breaks off, or that has no loss.
        if not self._looking or not any(levels.passed for levels in self._levels):
            return
        self._looking = False
        step = runner.iter + 1
        spectra: dict[str, list[float]] = {}
        for loss in distiller_of(runner).feature_losses:
            for level, projector in enumerate(loss.projectors):
                if matrices(projector):
                    name, values = f'{loss.config.name}.{level}', singular_values(projector)
                    self._seen[f'srd_effective_rank/{name}'] = effective_rank(values)
                    self._seen[f'srd_largest_singular_value/{name}'] = float(values[0])
                    spectra[name] = [round(float(value), 6) for value in values]
        for levels in self._levels:
            self._seen.update(levels.take())
        runner.visualizer.add_scalars(dict(self._seen), step=step)
        folder = Path(runner.log_dir) / 'vis_data'
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / SPECTRA, 'a') as file:
            file.write(json.dumps(dict(step=step, spectra=spectra)) + '\n')
