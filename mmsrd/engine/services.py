"""Services that follow a training: TensorBoard, Weights & Biases and the like."""
from __future__ import annotations

from mmengine.dist import is_main_process
from mmengine.runner import Runner
from mmengine.visualization.vis_backend import BaseVisBackend, LocalVisBackend


def services(runner: Runner) -> list[BaseVisBackend]:
    """Backends of the runner's visualizer but for the files in the work directory; none but in the main process."""
    return [backend for backend in runner.visualizer._vis_backends.values()
            if is_main_process() and not isinstance(backend, LocalVisBackend)]
