"""Loss and projector together against the published losses; a whole training step against one written by hand."""
from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import published_losses as published
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample

import mmsrd
from mmsrd.models.losses import SRDLoss
from mmsrd.models.projectors import LinearProjector

FORMS = {'imagenet': (published.imagenet_form, dict(form='elementwise', reduction='sum', eps=1e-4)),
         'deit': (published.deit_form, dict(form='correlation', eps=0))}


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('alpha', [1, 2, 2.5, 3, 4, 5, 6])
@pytest.mark.parametrize('seed', range(4))
def test_value_and_gradients(form, alpha, seed):
    rng = np.random.default_rng([seed, int(alpha * 10)])
    rank = (2, 2, 3, 4)[seed]
    n, student, teacher = rng.integers(3, 12), rng.integers(2, 9), rng.integers(2, 9)
    positions = tuple(rng.integers(2, 6, rank - 2))
    shape_s, shape_t = ((n, c, *positions) if rank == 4 else (n, *positions, c) for c in (student, teacher))
    s = rng.normal(2, 3, shape_s)
    t = rng.normal(-1, 0.5, shape_t)
    expected, options = FORMS[form]
    projector = LinearProjector(int(student), int(teacher)).double()
    w = projector.weight.detach().numpy().copy()
    value, grad_s, grad_w = expected(published.rows(s), w, published.rows(t), alpha)

    leaf = torch.from_numpy(s).requires_grad_()
    loss, _ = SRDLoss(alpha=alpha, **options)(projector(leaf), torch.from_numpy(t))
    loss.backward()
    # 1e-6 is what is promised; the package's log(mean + 1e-8) is off by about 1e-8, the rest is rounding.
    assert float(loss) == pytest.approx(value, rel=1e-6)
    for got, want in ((leaf.grad.numpy(), published.unrows(grad_s, s)), (projector.weight.grad.numpy(), grad_w)):
        assert np.abs(got - want).max() <= 1e-6 * np.abs(want).max()


def test_constant_channels_at_eps_zero_stay_finite():
    """A ReLU feature that is dead in the whole batch; plain batch normalisation with eps 0 gives NaN there."""
    torch.manual_seed(0)
    s, t = torch.randn(8, 5, requires_grad=True), torch.randn(8, 5)
    t[:, 2] = 0
    loss, logs = SRDLoss(form='correlation', eps=0)(s, t)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(s.grad).all()
    assert (s.grad[:, 2] == 0).all()
    assert torch.isfinite(logs['alignment'])
    dead = torch.zeros(8, 5, requires_grad=True)
    SRDLoss(form='correlation', eps=0)(dead, t)[0].backward()
    assert (dead.grad == 0).all()


def _classifier(widths):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(dict(
            type='ImageClassifier', backbone=dict(type='mmsrd.CifarResNet', depth=8, widths=widths),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=5, in_channels=widths[-1],
                      loss=dict(type='CrossEntropyLoss'))))


@pytest.fixture
def teacher(tmp_path):
    """Config file and weights of a wider classifier, and the model itself."""
    torch.manual_seed(1)
    model = _classifier((8, 8, 8, 12))
    config = dict(default_scope='mmpretrain', model=dict(
        type='ImageClassifier', backbone=dict(type='mmsrd.CifarResNet', depth=8, widths=(8, 8, 8, 12)),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=12, loss=dict(type='CrossEntropyLoss'))))
    (tmp_path / 'teacher.py').write_text('\n'.join(f'{k} = {v!r}' for k, v in config.items()))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'teacher.pth')
    return str(tmp_path / 'teacher.py'), str(tmp_path / 'teacher.pth'), model.double().eval()


def test_a_training_step_is_the_one_written_by_hand(teacher):
    """CE + 2 · log Σ|BN(P·GAP(S)) − BN(GAP(T))|⁴ + KL(T ‖ S), SGD with momentum and weight decay, three steps."""
    config, checkpoint, teacher_model = teacher
    torch.manual_seed(0)
    model = _classifier((4, 4, 6, 7))
    by_hand = copy.deepcopy(model).double().train()
    # Unfolded: weights folded in float32 would be off by its rounding.
    distiller = mmsrd.attach(model, dict(teacher=dict(config=config, checkpoint=checkpoint,
                                                      inference=dict(fold=False))))
    model.double().train()
    distiller.teacher.model.double()
    w = distiller.losses['feature'].projectors[0].weight.detach().clone().requires_grad_()
    parameters = [*by_hand.parameters(), w]
    lr, momentum, decay = 0.05, 0.9, 5e-3
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr, momentum=momentum, weight_decay=decay))
    velocity = [torch.zeros_like(p) for p in parameters]

    for step in range(3):
        generator = torch.Generator().manual_seed(step)
        images = torch.randn(6, 3, 16, 16, generator=generator, dtype=torch.float64)
        labels = torch.randint(5, (6,), generator=generator)
        samples = [DataSample().set_gt_label(int(i)) for i in labels]
        losses = model(inputs=images, data_samples=samples, mode='loss')
        total, _ = model.parse_losses(losses)
        optimizer.update_params(total)

        with torch.no_grad():
            t = teacher_model.backbone(images)[0].mean((2, 3))
            t_logits = teacher_model.head.fc(t)
        s = by_hand.backbone(images)[0].mean((2, 3))
        logits = by_hand.head.fc(s)
        z, u = (F.batch_norm(x, None, None, training=True, eps=1e-4) for x in (s @ w.T, t))
        kl = (t_logits.softmax(1) * (t_logits.log_softmax(1) - logits.log_softmax(1))).sum(1).mean()
        loss = F.cross_entropy(logits, labels) + 2 * ((z - u) ** 4).sum().log() + kl
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for p, v, g in zip(parameters, velocity, gradients):
                v.mul_(momentum).add_(g + decay * p)
                p.sub_(lr * v)
        # The package takes the mean inside the logarithm, the paper the sum: 2 · log(6 · 12) apart.
        assert float(total) + 2 * np.log(6 * 12) == pytest.approx(float(loss), rel=1e-6)

    trained = {**dict(model.named_parameters())}
    assert len(trained) == len(parameters)
    for name, p in by_hand.named_parameters():
        torch.testing.assert_close(trained[name], p, rtol=1e-6, atol=1e-9, msg=name)
    torch.testing.assert_close(trained['distiller.losses.feature.projectors.0.weight'], w, rtol=1e-6, atol=1e-9)
