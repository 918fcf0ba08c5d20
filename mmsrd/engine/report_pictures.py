"""``ReportPictures``: the same validation images as several models see them."""
from __future__ import annotations

import contextlib
import copy
import io
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.dist import get_world_size, is_main_process
from mmengine.fileio import get
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from mmengine.visualization.vis_backend import BaseVisBackend, LocalVisBackend

from ..utils.dist import unwrapped
from ..utils.random_state import preserved_random_state

SIDE = 480
"""Longest side of a picture in pixels."""
SCORE = 0.3
"""Lowest score of a box that is drawn, where the visualizer has a threshold: that of mmdet's tools."""
TRUTH = 'ground truth'


@dataclass(eq=False)
class _Item:
    """One image: a batch of it alone, and what models say about it."""

    batch: Any
    title: str
    truth: Any
    shown: dict[str, dict[str, str]] = field(default_factory=dict)
    drawn: dict[str, np.ndarray] = field(default_factory=dict)


class ReportPictures:
    """Draws ground truth and predictions with the visualizer of the student's config.

    Images are chosen evenly from those that the main process validates. A classifier's label is written, not drawn.

    Args:
        runner: The student's.
        count: How many images.
        folder: Where the pictures are written.

    Attributes:
        columns: What there are pictures of.
    """

    def __init__(self, runner: Runner, count: int, folder: Path) -> None:
        self.columns: list[str] = []
        self._folder = folder
        self._items: dict[Any, _Item] = {}
        with preserved_random_state():
            # The data set as it is: some wait for the other processes where they are built.
            dataset, world_size = runner.val_loop.dataloader.dataset, get_world_size()
            own = -(-len(dataset) // world_size)
            number = min(count, own)
            for place in range(number):
                index = round(place * (own - 1) / max(number - 1, 1)) * world_size
                batch = pseudo_collate([dataset[index]])
                sample = batch['data_samples'][0]
                self._items[_identity(sample)] = _Item(batch, _title(_path(sample) or str(index)),
                                                       _truth(dataset, index, sample))
        self._items.pop(None, None)  # nothing tells these images apart
        meta = getattr(dataset, 'metainfo', {})
        # Arrays of CIFAR are RGB.
        self._is_bgr = bool(getattr(unwrapped(runner.model).data_preprocessor, 'to_rgb', True))
        self._classes = list(meta.get('classes') or ())
        options = {key: value for key, value in (runner.cfg.get('visualizer') or {}).items()
                   if key not in ('type', '_scope_', 'name', 'vis_backends', 'save_dir')}
        # Not by a registry, which would make it the current visualizer of everybody.
        self._visualizer: Any = type(runner.visualizer)(**copy.deepcopy(options))
        self._visualizer.dataset_meta = meta
        with preserved_random_state():  # masks are drawn in random colours
            for item in self._items.values():
                self._draw(TRUTH, item, item.truth)

    @torch.no_grad()
    def predict(self, column: str, predict: Callable[[Any], Iterable[Any]]) -> None:
        """Show what a model says.

        Args:
            column: Whose pictures they are.
            predict: ``test_step`` of the model: a batch → its data samples with predictions.
        """
        with preserved_random_state():
            for item in self._items.values():
                self._draw(column, item, next(iter(predict(copy.deepcopy(item.batch)))))

    def look(self, column: str, samples: Iterable[Any]) -> None:
        """Show those of ``samples``, with predictions, that are of these images."""
        for sample in samples:
            item = self._items.get(_identity(sample))
            if item is not None:
                with preserved_random_state():
                    self._draw(column, item, sample)

    def _draw(self, column: str, item: _Item, sample: Any) -> None:
        if column not in self.columns:
            self.columns.append(column)
        image, text = _image(item.batch, sample, self._is_bgr), ''
        if 'pred_label' in sample or 'gt_label' in sample:
            text = self._label(column, sample)
        else:
            takes = signature(self._visualizer.add_datasample).parameters
            options = dict(pred_score_thr=SCORE) if 'pred_score_thr' in takes else {}
            self._visualizer.set_image(image)  # MMEngine's own visualizer draws nothing
            self._visualizer.add_datasample('', image, sample, draw_gt=column == TRUTH, draw_pred=column != TRUTH,
                                            show=False, **options)
            image = self._visualizer.get_image()
        file = f'pictures/{list(self._items.values()).index(item)}_{column.replace(" ", "_")}.jpg'
        item.drawn[column] = _save(image, self._folder / file)
        item.shown[column] = dict(file=file, text=text)

    def _label(self, column: str, sample: Any) -> str:
        truth = sample.gt_label.flatten().tolist() if 'gt_label' in sample else []
        labels = truth if column == TRUTH else sample.pred_label.flatten().tolist()
        text = ', '.join(str(self._classes[i]) if i < len(self._classes) else str(i) for i in labels)
        if column == TRUTH:
            return text
        score = f' ({float(sample.pred_score.max()):.0%})' if 'pred_score' in sample else ''
        return text + score + ('' if not truth or set(labels) == set(truth) else ', wrong')

    def rows(self) -> list[dict[str, Any]]:
        """For :class:`mmsrd.report.ReportNotes`: what there is of each image, in the order of the columns."""
        return [dict(title=item.title, shown=[item.shown.get(column, {}) for column in self.columns])
                for item in self._items.values()]

    def side_by_side(self) -> list[np.ndarray]:
        """All columns of each image in one picture (H, W, 3), RGB, uint8; without a classifier's labels."""
        return [np.concatenate(_of_one_height(item.drawn), axis=1) for item in self._items.values()]


def _identity(sample: Any) -> Any:
    """Return what tells an image from others in all passes through the data set; None where nothing does."""
    keys = [key for key in ('img_id', 'sample_idx', 'img_path') if sample.get(key) is not None]
    return tuple((key, str(sample.get(key))) for key in keys) or None


def _truth(dataset: Any, index: int, sample: Any) -> Any:
    """A sample with the boxes of the annotations, also where the pipeline of the validation does not load them."""
    entries = dataset.get_data_info(index).get('instances') if hasattr(dataset, 'get_data_info') else None
    boxes = [entry for entry in entries or () if 'bbox' in entry and not entry.get('ignore_flag')]
    given = {key: value for key, value in sample.items() if key.startswith('gt_')}
    truth = copy.deepcopy(sample)
    # Boxes that a pipeline has loaded may have been resized with its image. Masks and segmentations are in it alone.
    if not boxes or any(not isinstance(value, InstanceData) or 'masks' in value for value in given.values()):
        for key, value in given.items():  # visualizers draw tensors, and pipelines make objects that know their format
            for name, own in value.items() if isinstance(value, InstanceData) else ():
                if isinstance(getattr(own, 'tensor', None), torch.Tensor):
                    setattr(truth.get(key), name, own.tensor.clone())
        return truth
    truth.gt_instances = InstanceData(bboxes=torch.tensor([entry['bbox'] for entry in boxes], dtype=torch.float32),
                                      labels=torch.tensor([entry.get('bbox_label', 0) for entry in boxes]))
    return truth


def _title(path: str) -> str:
    """Return the name of a file, also where its bytes are no text."""
    return Path(path).name.encode('utf-8', 'replace').decode()


def _path(sample: Any) -> str | None:
    path = sample.get('img_path')
    return path if isinstance(path, str) else None


def _image(batch: Any, sample: Any, is_bgr: bool) -> np.ndarray:
    """The image (H, W, 3), RGB, uint8: its file, to which predictions are scaled back, or else the model's input."""
    if _path(sample) is not None:
        import mmcv  # part of both toolboxes

        with contextlib.suppress(Exception):  # in an archive that only the pipeline can open
            image: np.ndarray = mmcv.imfrombytes(get(_path(sample)), channel_order='rgb')
            return image
    array = batch['inputs'][0].permute(1, 2, 0).cpu().numpy()[..., ::-1 if is_bgr else 1]
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)).clip(0, 255).astype(np.uint8))


def _save(image: np.ndarray, path: Path) -> np.ndarray:
    """Write a picture, and return it as it is written."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(image)
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, 'JPEG', quality=85)
    path.write_bytes(file.getvalue())
    return np.asarray(picture)


def _of_one_height(drawn: dict[str, np.ndarray]) -> list[np.ndarray]:
    from PIL import Image

    height = max(image.shape[0] for image in drawn.values())
    return [np.asarray(Image.fromarray(image).resize((round(image.shape[1] * height / image.shape[0]), height)))
            for image in drawn.values()]


@contextlib.contextmanager
def without_steps(runner: Runner) -> Iterator[None]:
    """Context in which what is logged counts no step of W&B, but joins the next record: it counts each call as one."""
    counting = [backend for backend in runner.visualizer._vis_backends.values() if getattr(backend, '_commit', False)]
    for backend in counting:
        backend._commit = False
    try:
        yield
    finally:
        for backend in counting:
            backend._commit = True


def services(runner: Runner) -> list[BaseVisBackend]:
    """Backends of the runner's visualizer but for the files in the work directory; none but in the main process."""
    return [backend for backend in runner.visualizer._vis_backends.values()
            if is_main_process() and not isinstance(backend, LocalVisBackend)]
