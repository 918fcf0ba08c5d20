"""The composed data is what it says, and the report is made from what the trainings wrote."""
from __future__ import annotations

import json

import cv2
import detection_pictures
import numpy as np
import pytest
import quickstart_report as report
import run_quickstart
import torch
import yaml
from compose_digits import SceneConfig, compose
from detection_pictures import judge
from helpers.processes import ROOT, python
from mmengine.structures import InstanceData
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from sklearn.datasets import load_digits


def test_boxes_are_tight_around_the_masks(coco):
    data = COCO(str(coco / 'annotations' / 'train.json'))
    assert len(data.imgs) == 8
    for annotation in data.anns.values():
        mask = data.annToMask(annotation)
        assert mask_utils.toBbox(data.annToRLE(annotation)).tolist() == annotation['bbox']
        assert int(mask.sum()) == annotation['area'] > 0
        image = cv2.imread(str(coco / 'train' / data.imgs[annotation['image_id']]['file_name']))
        assert image.shape == (64, 64, 3)


def test_digits_stand_out_and_do_not_overlap(coco):
    data = COCO(str(coco / 'annotations' / 'train.json'))
    for image_id, info in data.imgs.items():
        masks = [data.annToMask(a) for a in data.imgToAnns[image_id]]
        assert np.sum(masks, axis=0).max() == 1
        image = cv2.imread(str(coco / 'train' / info['file_name'])).astype(float)
        ink = masks[0].astype(bool)
        around = cv2.dilate(masks[0], np.ones((9, 9), np.uint8)).astype(bool) & ~ink
        assert np.abs(image[ink].mean(0) - image[around].mean(0)).max() > 20


def test_the_same_recipe_gives_the_same_set_and_is_not_composed_twice(coco, tmp_path):
    scene = SceneConfig(size=64, digits=(1, 3), digit_size=(16, 28), strokes=2)
    compose(tmp_path, 8, 4, scene)
    for path in coco.rglob('*.*'):
        assert path.read_bytes() == (tmp_path / path.relative_to(coco)).read_bytes()
    first = tmp_path / 'train' / '000001.png'
    stamp = first.stat().st_mtime_ns
    compose(tmp_path, 8, 4, scene)
    assert first.stat().st_mtime_ns == stamp
    compose(tmp_path, 9, 4, scene)
    assert (tmp_path / 'train' / '000009.png').is_file()


def test_a_set_in_the_layout_of_coco(tmp_path):
    """By the command, in a process that has not imported mmsrd before."""
    python(ROOT / 'tools/compose_digits.py', tmp_path / 'coco', '--coco', '--train', '2', '--val', '1')
    data = COCO(str(tmp_path / 'coco/annotations/instances_train2017.json'))
    assert len(data.cats) == 80
    assert all((tmp_path / 'coco/train2017' / image['file_name']).is_file() for image in data.imgs.values())


def test_splits_use_different_source_digits(monkeypatch, tmp_path):
    import compose_digits
    seen = {}
    monkeypatch.setattr(compose_digits, 'write_split',
                        lambda out, name, count, draw, *rest: seen.update({name: draw.args[0]}))
    compose(tmp_path, 1, 1)
    keys = {name: {image.tobytes() for image in images} for name, images in seen.items()}
    assert len(seen['train']) + len(seen['val']) == len(load_digits().images)
    # A few of the 1,797 source images are equal to the pixel; none is shared beyond those.
    duplicates = len(load_digits().images) - len({i.tobytes() for i in load_digits().images})
    assert len(keys['train'] & keys['val']) <= duplicates


def test_the_pages_show_the_recorded_results():
    results = json.loads((ROOT / 'docs/results/quickstart.json').read_text())
    text = report.table(results)
    assert text in (ROOT / 'configs/quickstart/README.md').read_text()
    model, = yaml.safe_load((ROOT / 'configs/quickstart/metafile.yml').read_text())['Models']
    distilled = [r['mAP'] for r in results if r['role'] == 'distilled']
    assert model['Results'][0]['Metrics'] == {'box AP': pytest.approx(sum(distilled) / len(distilled), abs=0.051)}


def finished_run(role, seed, folder, mean):
    """A work directory as a training leaves it."""
    work_dir = folder / f'{role}{seed}'
    (work_dir / 't' / 'vis_data').mkdir(parents=True)
    logged = [dict(step=20, loss_cls=0.5, loss_bbox=0.5, loss_centerness=0.6, loss_srd_neck=-1.0,
                   **{'srd_alignment_neck': 0.4}),
              {'step': 20, 'coco/bbox_mAP': 0.01, 'coco/bbox_mAP_50': 0.02},
              {'step': 40, 'coco/bbox_mAP': mean, 'coco/bbox_mAP_50': 2 * mean}]
    (work_dir / 't' / 'vis_data' / 'scalars.json').write_text('\n'.join(map(json.dumps, logged)))
    torch.save(dict(state_dict={'w': torch.zeros(1500), 'bn.running_mean': torch.zeros(7)}), work_dir / 'iter_40.pth')
    (work_dir / 'last_checkpoint').write_text(str(work_dir / 'iter_40.pth'))
    return report.Run(role, seed, work_dir, 'config.py', 61.2)


def test_table_and_curves(tmp_path):
    runs = [finished_run('teacher', 0, tmp_path, 0.5), finished_run('student', 0, tmp_path, 0.2),
            finished_run('student', 1, tmp_path, 0.24), finished_run('distilled', 0, tmp_path, 0.3)]
    lines = report.table([report.measure(run) for run in runs]).splitlines()
    assert lines[2:] == ['| Teacher | 0 | 50.0 | 100.0 | 2 k | 61 s |',
                         '| Student alone | 0, 1 | 22.0 ± 2.8 | 44.0 ± 5.7 | 2 k | 61 s |',
                         '| Student distilled | 0 | 30.0 | 60.0 | 2 k | 61 s |']
    report.curves(runs, tmp_path / 'curves.png')
    image = cv2.imread(str(tmp_path / 'curves.png'))
    assert image.shape[1] > image.shape[0] > 100
    drawn = {tuple(c) for c in image.reshape(-1, 3)[:, ::-1].tolist()}
    assert len(drawn) > 10


def test_right_wrong_and_missed():
    objects, labels = [(0, 0, 10, 10), (20, 20, 30, 30), (40, 40, 50, 50)], [1, 2, 3]
    found = [(0, 0, 10, 9), (1, 0, 10, 10), (20, 20, 30, 30), (40, 40, 46, 46), (60, 60, 70, 70)]
    # Right; a second box on the same object; another label; too little overlap; nothing there.
    right, missed = judge(found, [1, 1, 5, 3, 3], objects, labels)
    assert right == [True, False, False, False, False]
    assert missed == [False, True, True]
    assert judge([], [], objects, labels) == ([], [True] * 3)
    assert judge(found[:1], [1], [], []) == ([False], [])


def test_the_busiest_images_are_shown():
    images = [dict(id=i) for i in range(150)]
    annotations = [dict(image_id=i) for i, count in ((3, 2), (7, 5), (9, 4), (20, 3), (21, 1), (140, 9))
                   for _ in range(count)]
    shown = detection_pictures.busiest(dict(images=images, annotations=annotations), 4)
    assert [image['id'] for image in shown] == [7, 9, 20, 3]


def test_a_panel_tells_right_from_wrong():
    found = InstanceData(bboxes=torch.tensor([[4.0, 5, 20, 21], [0, 0, 3, 3]]), labels=torch.tensor([1, 1]),
                         scores=torch.tensor([0.9, 0.1]))
    right, picture = detection_pictures.panel(np.zeros((32, 32, 3), np.uint8), found, [(4, 5, 20, 21)], ['8'], '87')
    assert right == 0  # the second is one more than there are objects
    assert tuple(picture[5 * 3 + 40, 4 * 3]) == detection_pictures.WRONG


def test_boxes_are_drawn_where_they_are():
    canvas = detection_pictures.draw_boxes(np.zeros((32, 32, 3), np.uint8), [(4, 5, 20, 21)], [7], [(0, 0, 255)])
    assert canvas.shape == (96, 96, 3)
    assert tuple(canvas[5 * 3 + 20, 4 * 3]) == (0, 0, 255)  # left edge
    assert tuple(canvas[80, 80]) == (0, 0, 0)


def test_progress_is_read_from_the_log():
    """The total loss falls below zero, as SRD's logarithm does."""
    line = ('11/23 02:46:42 - mmengine - INFO - Iter(train) [200/600]  lr: 3.4e-03  eta: 0:01:40  time: 0.25  '
            'grad_norm: 1.5  loss: -1.2345  loss_cls: 0.40  loss_srd_neck: -2.5  srd_alignment_neck: -0.01')
    assert run_quickstart.PROGRESS.search(line).groups() == ('200', '600', '-1.2345', '-0.01')
    assert run_quickstart.PROGRESS.search(line.split('  loss_srd')[0]).groups() == ('200', '600', '-1.2345', None)
