"""fp16, bf16 and fp32 train alike, on the CPU's autocast; sizes of a COCO batch neither overflow nor vanish."""
from __future__ import annotations

import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from tiny import build_detector

import mmsrd
from mmsrd.models.losses import SRDLoss

STEPS = 40


def curve(student_config, distill, dtype):
    """Alignment over a short training with the dtype's usual tools: a loss scaler for fp16."""
    torch.manual_seed(0)
    model = build_detector(student_config.model).train()
    model.init_weights()
    mmsrd.attach(model, distill)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    scaler = torch.amp.GradScaler('cpu', init_scale=2.0**12, growth_interval=10) if dtype is torch.float16 else None
    with DefaultScope.overwrite_default_scope('mmdet'):
        loader = Runner.build_dataloader(dict(student_config.train_dataloader.to_dict()), seed=0)
    batches = [model.data_preprocessor(data, True) for data in loader]
    alignment, skipped = [], 0
    for step in range(STEPS):
        with torch.autocast('cpu', dtype, enabled=dtype is not torch.float32):
            losses = model(**batches[step % len(batches)], mode='loss')
        alignment.append(float(losses['srd_alignment_neck']))
        optimizer.zero_grad()
        if scaler is None:
            losses['loss_srd_neck'].backward()
            optimizer.step()
            continue
        scaler.scale(losses['loss_srd_neck']).backward()
        scale = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        skipped += scaler.get_scale() < scale
    return torch.tensor(alignment), skipped


def test_the_curves_agree(student_config, distill):
    reference, _ = curve(student_config, distill, torch.float32)
    assert reference[-5:].mean() > reference[:5].mean() + 0.2
    fp16 = [torch.float16] if hasattr(torch.amp, 'GradScaler') else []  # until 2.3 there is no scaler on the CPU
    for dtype in (torch.bfloat16, *fp16):
        other, skipped = curve(student_config, distill, dtype)
        # bf16 has eight bits of mantissa; steps are chaotic in detail, the curve is not.
        assert (other - reference).abs().max() < 0.1, dtype
        assert (other[-5:].mean() - reference[-5:].mean()).abs() < 0.03, dtype
        assert skipped < 3


@pytest.mark.parametrize('form', ['elementwise', 'correlation'])
@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_fpn_levels_of_a_coco_batch_in_fp16(form, reduction):
    """Four channels of the finest level of two images of 800×1333; scales far from 1, as features have them."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, 4, 100, 167)
    scales = torch.tensor([1e-2, 1.0, 30.0, 300.0])[:, None, None]
    student = (torch.randn(shape, generator=generator) * scales + scales).half()
    teacher = ((torch.randn(shape, generator=generator) + 0.5 * (student / scales)) * scales.flip(0)).half()
    criterion = SRDLoss(form=form, reduction=reduction)
    exact = student.double().requires_grad_()
    criterion(exact, teacher.double())[0].backward()
    half = student.clone().requires_grad_()
    loss = criterion(half, teacher)[0]
    assert loss.dtype == torch.float32
    scale = 2.0**12  # where the loss scaler settles
    (loss * scale).backward()
    assert torch.isfinite(half.grad).all()
    for channel in range(4):
        mine, truth = (x.grad[:, channel].double() for x in (half, exact))
        # Relative to the channel's largest gradient: fp16 rounds at 2^-11, and the smallest entries vanish.
        assert (mine / scale - truth).abs().max() < 2e-3 * truth.abs().max(), channel
