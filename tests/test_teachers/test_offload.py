"""A teacher whose weights stay in host memory gives the same features, and holds little on the device at a time."""
from __future__ import annotations

import pytest
import torch
from torch import nn

import mmsrd
from mmsrd.teachers.build_model import build_model, initialise
from mmsrd.teachers.offload import Offload
from mmsrd.utils.zoo import load_config


def test_the_same_losses(student, distill, batch):
    data = batch(student)
    distiller = mmsrd.attach(student, dict(distill, teacher=dict(distill['teacher'], offload=True)))
    expected = student(**data)
    features = distiller.teacher.features(data['inputs'], data['data_samples'])['neck']
    with torch.no_grad():
        whole = distiller.teacher.model.neck(distiller.teacher.model.backbone(data['inputs']))
    assert all(torch.equal(a, b) for a, b in zip(features, whole))
    assert torch.isfinite(expected['loss_srd_neck'])


@pytest.mark.parametrize('name', [
    'mmpretrain::vision_transformer/vit-base-p16_64xb64_in1k-384px.py',
    'mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py',
    'mmdet::detr/detr_r18_8xb2-500e_coco.py'])
def test_weights_come_and_go(name):
    config = load_config(name, 'k')
    if 'vit-' in name:  # four blocks do
        config.model.backbone.update(arch=dict(embed_dims=64, num_layers=4, num_heads=4, feedforward_channels=128),
                                     img_size=64)
        config.model.head.in_channels = 64
    model = build_model(config, 'k').eval().requires_grad_(False)
    initialise(model)
    part = getattr(model, 'encoder', model.backbone)
    image = torch.randn(1, 3, 64, 64) if 'vit-' in name else torch.randn(1, 3, 224, 224)
    run = (lambda: part(image)) if part is model.backbone else lambda: part(
        torch.randn(2, 9, 256, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 9, 256), None)
    with torch.no_grad():
        called = set()
        hooks = [module.register_forward_pre_hook(lambda module, args: called.add(module)) for module in part.modules()]
        expected = run()
        for hook in hooks:
            hook.remove()
        offload = Offload(part, called)
        offload.device = torch.device('cpu')
        before = {key: value.data_ptr() for key, value in part.state_dict(keep_vars=True).items()}
        seen = []
        for module in part.modules():
            if isinstance(module, nn.Linear):
                module.register_forward_pre_hook(lambda module, args: seen.append(module.weight.data_ptr()))
        got = run()
    for a, b in zip(_flat(expected), _flat(got)):
        assert torch.equal(a, b)
    assert {key: value.data_ptr() for key, value in part.state_dict(keep_vars=True).items()} == before
    assert seen
    assert not set(seen) & set(before.values())  # each module ran with a copy
    assert offload.visiting == 0
    total = sum(x.numel() * x.element_size() for x in part.state_dict().values())
    assert 0 < offload.peak < total / 2


def _flat(output):
    return [output] if torch.is_tensor(output) else [x for member in output for x in _flat(member)]


def test_a_module_that_is_found_in_two_places():
    """RTMDet's heads share convolutions: one visit to the device serves both."""
    shared = nn.Linear(3, 3)
    model = nn.ModuleList([nn.Sequential(shared), nn.Sequential(shared)]).requires_grad_(False)
    before = shared.weight.data_ptr()
    offload = Offload(model, set(model.modules()))
    offload.device = torch.device('cpu')
    seen = []
    shared.register_forward_hook(lambda *args: seen.append((shared.weight.data_ptr(), offload.visiting)))
    with offload.forward_pass():
        for part in model:
            part(torch.zeros(1, 3))
            assert shared.weight.data_ptr() == before
    size = sum(x.numel() * x.element_size() for x in shared.parameters())
    assert [visiting for _, visiting in seen] == [0, 0]  # the hook of this test comes after the end of the visit
    assert offload.peak == size  # and not twice as much


def test_an_exception_brings_the_weights_back():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).requires_grad_(False)
    offload = Offload(model, set(model.modules()))
    offload.device = torch.device('cpu')
    before = [p.data_ptr() for p in model.parameters()]
    model[1].register_forward_hook(lambda *args: 1 / 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), offload.forward_pass():
            model(torch.zeros(1, 3))
        assert [p.data_ptr() for p in model.parameters()] == before
        assert offload.visiting == 0
