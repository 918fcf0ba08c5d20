"""The plan's costs against what they must be."""
from __future__ import annotations

import copy
import re

import pytest
import torch
from costs import Costs, measure_costs
from helpers.processes import ROOT, forked
from print_distill import report
from tiny import build_detector
from torch.utils.flop_counter import FlopCounterMode

import mmsrd


def test_costs_of_the_tiny_pair(student, distill, student_config):
    distiller = mmsrd.attach(student, distill)
    teacher = distiller.teacher.model
    images = torch.randn(2, 3, 64, 64)
    student.train()
    costs = measure_costs(student, images)
    assert student.training
    assert costs.projectors == 3 * 32 * 64
    tensors = [*teacher.parameters(), *teacher.buffers()]
    assert costs.teacher_weights == sum(t.numel() * t.element_size() for t in tensors)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        levels = teacher.neck(teacher.backbone(images))
    assert costs.flops_to_tap[''] == counter.get_total_flops()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        teacher.bbox_head(levels)
    assert costs.flops_whole[''] == costs.flops_to_tap[''] + counter.get_total_flops()
    alone = build_detector(student_config.model).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        alone(images, mode='tensor')
    assert costs.flops_student == counter.get_total_flops()
    assert costs.teachers_share == pytest.approx(costs.flops_to_tap[''] / (3 * counter.get_total_flops()))
    assert costs.features == sum(4 * level.numel() for level in levels)
    # The loss keeps at least the projected feature, and twice as much for twice the images.
    assert costs.saved >= costs.features
    assert 1.9 < measure_costs(student, torch.cat([images, images])).saved / costs.saved <= 2
    assert costs.memory == costs.teacher_weights + costs.features + costs.saved + 12 * costs.projectors


def test_grey_students_of_colour_teachers(student, distill, student_config):
    config = copy.deepcopy(student_config.model)
    config.backbone.in_channels = 1
    config.data_preprocessor.update(mean=[128.0], std=[64.0], bgr_to_rgb=False)
    grey = build_detector(config)
    mmsrd.attach(grey, distill)
    colour = measure_costs(_attached(student, distill), torch.randn(1, 3, 64, 64))
    assert measure_costs(grey, torch.randn(1, 1, 64, 64)).flops_to_tap == colour.flops_to_tap


def _attached(student, distill):
    mmsrd.attach(student, distill)
    return student


def test_print_distill(distill, student_config, tmp_path):
    student_config.dump(str(tmp_path / 'student.py'))
    done = forked(
        ROOT / 'tools/analysis/print_distill.py', tmp_path / 'student.py', '--teacher', distill['teacher']['config'],
        '--teacher-checkpoint', '/not/read.pth', '--shape', '64', '96', '--cfg-options', 'distill.schedule.interval=2')
    assert 'neck[0]  8' in done.stdout
    assert 'projectors: 0.006 M parameters' in done.stdout
    assert 'GFLOPs per image to its deepest tap' in done.stdout
    assert 'memory at batch 2' in done.stdout
    assert re.search(r'three forward passes \(\d\.\d GFLOPs each per image\): the teacher adds \d+% to its FLOPs; with '
                     r'interval 2, \d+% on average$', done.stdout, re.MULTILINE)


@pytest.mark.parametrize(('interval', 'text'), [(1, 'the teacher adds 40% to its FLOPs\n'),
                                                (4, 'adds 40% to its FLOPs; with interval 4, 10% on average\n')])
def test_the_teachers_share_of_a_step(interval, text):
    costs = Costs(0, flops_to_tap={'a': 8_000, 'b': 4_000}, flops_whole={'a': None, 'b': None}, flops_student=10_000)
    assert text in report(costs, 2, interval)


def test_a_share_that_is_not_known():
    """PyTorch counts no FLOPs, or the student's head wants annotations."""
    for unknown in (Costs(0, flops_to_tap={'': None}, flops_whole={'': None}, flops_student=None),
                    Costs(0, flops_to_tap={'': 5}, flops_whole={'': 9}, flops_student=None)):
        assert 'adds' not in report(unknown, 2)
