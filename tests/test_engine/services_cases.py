"""The report's scalars and pictures in services; run by ``test_distill_report.py`` where wandb can be imported."""
from __future__ import annotations

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

BACKENDS = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend'), dict(type='WandbVisBackend')]
LEVELS = {f'srd_{what}/neck.{level}' for what in ('level_alignment', 'effective_rank') for level in range(3)}


def test_services(make_runner, distill, monkeypatch):
    monkeypatch.setenv('WANDB_MODE', 'offline')
    runner = make_runner('run', {**distill, 'report': dict(images=2)}, **{
        'visualizer.vis_backends': BACKENDS, 'default_hooks.logger.interval': 2,
        'custom_hooks': [dict(type='mmsrd.ProjectorDiagnosticsHook', interval=3)]})
    runner.train()
    runner.visualizer.close()
    folder = Path(runner.log_dir, 'vis_data')
    events = EventAccumulator(str(folder)).Reload()
    assert {*LEVELS, 'loss_srd_neck', 'coco/bbox_mAP'} <= set(events.Tags()['scalars'])
    assert set(events.Tags()['images']) == {'distill_report/0', 'distill_report/1'}
    assert [event.step for event in events.Scalars('srd_effective_rank/neck.0')] == [1, 4, 7]
    assert {2, 4, 6, 8} <= {event.step for event in events.Scalars('srd_level_alignment/neck.0')}
    file, = folder.glob('wandb/offline-run-*/run-*.wandb')
    logged = file.read_bytes()
    assert all(name.encode() in logged for name in (*LEVELS, 'loss_srd_neck', 'coco/bbox_mAP', 'distill_report/0'))
    pictures = list(folder.glob('wandb/offline-run-*/files/media/images/distill_report/*.png'))
    assert len(pictures) == 2 * len(events.Scalars('coco/bbox_mAP'))
    assert not list(folder.glob('vis_image/*'))  # the report has them

