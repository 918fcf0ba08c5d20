"""One variant in a process of its own: builds it, then takes turns on request and reports as JSON lines.

``worker.py CASE_JSON VARIANT``; each line on standard input is a number of steps to time, standard output has one
line of JSON for each that starts with ``@``.
"""
from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Callable

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.optim.optimizer.optimizer_wrapper import OptimWrapper as Wrapper
from pairs import CONTROL, VARIANTS, Case, batches, configs_of, distill_block
from torch import Tensor, nn

import mmsrd
from mmsrd.compat.torch_versions import autocast_dtype
from mmsrd.distillers import ProjectorDistiller
from mmsrd.teachers.build_model import build_model, initialise
from mmsrd.utils.tensors import pool_rows


def build(case: Case, variant: str) -> nn.Module:
    """The model of a variant on its device, in training mode."""
    if variant not in VARIANTS:
        raise SystemExit(f'no variant {variant!r}; there are {", ".join(VARIANTS)}')
    student, teacher = configs_of(case.pair)
    torch.manual_seed(0)
    if variant.startswith('MMRazor'):
        from others import mmrazor_model
        model = mmrazor_model(student, teacher, variant.split()[1])
    elif variant == 'torchdistill SRD':
        from others import TorchdistillSRD
        model = TorchdistillSRD(student, teacher)
    else:
        model = build_model(student, 'student')
        initialise(model)
        if variant not in ('plain', CONTROL):
            mmsrd.attach(model, distill_block(teacher, variant))
            for loss in model.distiller.feature_losses:  # type: ignore[union-attr]
                if variant in ('autograd loss', 'naive'):
                    loss.criterion.backend = 'autograd'
                if variant == 'no balance':
                    loss.balance = None
    model.to(case.device)
    model.train()  # MMRazor's returns None
    return model


def optimizer(model: nn.Module, case: Case) -> Wrapper:
    """SGD with momentum, under autocast where the case asks for it."""
    sgd = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=1e-6, momentum=0.9)
    if case.amp == 'none':
        return OptimWrapper(sgd)
    if case.device == 'cuda':
        return AmpOptimWrapper(optimizer=sgd, dtype=dict(fp16='float16', bf16='bfloat16')[case.amp])
    raise SystemExit('mixed precision needs a GPU: MMEngine\'s AmpOptimWrapper has no CPU version')


class Worker:
    """Times steps of one variant, and the parts of a distilled one.

    Args:
        case: The setting.
        variant: The variant.
    """

    def __init__(self, case: Case, variant: str) -> None:
        torch.set_num_threads(case.threads)
        self.case = case
        self.cuda = case.device == 'cuda'
        self.model: Any = build(case, variant)
        self.wrapper = optimizer(self.model, case)
        self.data = batches(case, configs_of(case.pair)[0])
        distiller = getattr(self.model, 'distiller', None)  # MMRazor's has that name, too
        self.distiller = distiller if isinstance(distiller, ProjectorDistiller) else None
        self.done = 0
        self.steps(3)  # libraries choose algorithms, kernels are compiled

    def steps(self, count: int) -> None:
        """Whole training steps, as MMEngine's loop makes them."""
        for _ in range(count):
            self.model.train_step(self.data[self.done % len(self.data)], self.wrapper)
            self.done += 1

    def wait(self) -> None:
        """Until the device has done what it was asked for."""
        if self.cuda:
            torch.cuda.synchronize()

    def time(self, work: Callable[[], Any], count: int) -> float:
        """Milliseconds of one ``work``, a mean over ``count`` of them."""
        self.wait()
        started = time.perf_counter()
        for _ in range(count):
            work()
        self.wait()
        return (time.perf_counter() - started) / count * 1e3

    def turn(self, count: int) -> dict[str, float]:
        """Time ``count`` steps; memory is given back to the device for the next worker's turn."""
        self.steps(2 if self.cuda else 1)  # caches are cold after the others' turns, and a GPU's allocator is empty
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        result = dict(step_ms=self.time(lambda: self.steps(1), count), peak_mib=self.peak())
        if self.distiller is not None and not self.distiller.schedule.over(self.done, 0):
            result.update(self.parts())
        if self.cuda:
            torch.cuda.empty_cache()
        return result

    def peak(self) -> float:
        """Most memory: of tensors on a GPU since the turn began, of the whole process on a CPU since its start."""
        if self.cuda:
            return torch.cuda.max_memory_allocated() / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

    def parts(self, count: int = 9) -> dict[str, float]:
        """Teacher alone; losses forward and backward on features of its shapes, without projectors; their floor."""
        assert self.distiller is not None
        data = self.model.data_preprocessor(self.data[0], True)
        inputs, samples = data['inputs'], data['data_samples']
        with self.wrapper.optim_context(self.model):
            dtype = autocast_dtype(inputs.device)
            features = [self.distiller.teacher.features(inputs, samples) for _ in range(2)][-1]
            teacher = statistics.median(self.time(lambda: self.distiller.teacher.features(inputs, samples), 1)
                                        for _ in range(count))
        pairs = [(loss.criterion, pool_rows(level) if loss.config.pool else level)
                 for loss in self.distiller.feature_losses
                 for level in [features[loss.config.teacher][pair.teacher] for pair in loss.pairs]]
        return dict(teacher_ms=teacher, **loss_cost(self, pairs, dtype, count))


def loss_cost(worker: Worker, pairs: list[tuple[nn.Module, Tensor]], dtype: torch.dtype | None,
              count: int) -> dict[str, float]:
    """Forward and backward of criteria on random student features, and what memory traffic alone would take."""
    leaves = [torch.randn_like(t, dtype=dtype or t.dtype).requires_grad_() for _, t in pairs]

    def once() -> None:
        torch.stack([criterion(s, t)[0] for s, (criterion, t) in zip(leaves, pairs)]).mean().backward()
        for leaf in leaves:
            leaf.grad = None

    once()
    loss = statistics.median(worker.time(once, 1) for _ in range(count))
    big = torch.empty(2**26, dtype=torch.uint8, device=pairs[0][1].device)
    other = torch.empty_like(big)
    copy_ms = min(worker.time(lambda: other.copy_(big), 1) for _ in range(5))
    student, teacher = (sum(x.numel() * x.element_size() for x in side) for side in (leaves, [t for _, t in pairs]))
    # Forward reads both sides once, backward reads them again and writes the gradient.
    floor = (2 * (student + teacher) + student) / (2 * big.numel() / copy_ms)
    return dict(loss_ms=loss, loss_floor_ms=floor)


def main() -> None:
    worker = Worker(Case(**json.loads(sys.argv[1])), sys.argv[2])
    print('@{}', flush=True)  # ready
    for line in sys.stdin:
        print('@' + json.dumps(worker.turn(int(line))), flush=True)


if __name__ == '__main__':
    main()
