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
from mmsrd.models.losses import SRDLoss
from mmsrd.ops import choose_backend, has_triton
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
        fill_residual_branches(model)
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


def fill_residual_branches(model: nn.Module) -> None:
    """Set normalisation weights that are initialised to zero to one: a branch of zeros is faster than a trained one."""
    for module in model.modules():
        weight = getattr(module, 'weight', None)
        if isinstance(weight, nn.Parameter) and weight.dim() == 1 and not weight.any():
            nn.init.ones_(weight)


def optimizer(model: nn.Module, case: Case) -> Wrapper:
    """SGD with momentum, under autocast where the case asks for it."""
    sgd = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=1e-6, momentum=0.9)
    if case.amp == 'none':
        return OptimWrapper(sgd)
    if case.device == 'cuda':
        return AmpOptimWrapper(optimizer=sgd, dtype=dict(fp16='float16', bf16='bfloat16')[case.amp])
    raise SystemExit('mixed precision needs a GPU: MMEngine\'s AmpOptimWrapper has no CPU version')


class Worker:
    """Times steps of one variant, and the parts of a distilled one."""

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

    def turn(self, count: int) -> dict[str, Any]:
        """Time ``count`` steps; memory is given back to the device for the other worker's turn."""
        self.steps(2 if self.cuda else 1)  # caches are cold after the others' turns, and a GPU's allocator is empty
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        result: dict[str, Any] = dict(step_ms=self.time(lambda: self.steps(1), count), **self.peak())
        if self.distiller is not None and not self.distiller.progress.schedule.over(self.done, 0):
            result.update(self.parts())
        if self.cuda:
            torch.cuda.empty_cache()
        return result

    def peak(self) -> dict[str, float]:
        """Most memory: of tensors and of PyTorch's pool on a GPU since the turn began, of a process on the CPU."""
        if self.cuda:
            return dict(peak_mib=torch.cuda.max_memory_allocated() / 2**20,
                        reserved_mib=torch.cuda.max_memory_reserved() / 2**20)
        return dict(peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)

    @property
    def calls(self) -> int:
        """Calls that are timed together: waiting for a GPU after each would count what its queue hides."""
        return 20 if self.cuda else 1

    def parts(self, count: int = 9) -> dict[str, Any]:
        """Teacher alone; losses forward and backward on features of its shapes, without projectors; their floor."""
        assert self.distiller is not None
        data = self.model.data_preprocessor(self.data[0], True)
        inputs, samples = data['inputs'], data['data_samples']
        with self.wrapper.optim_context(self.model):
            dtype = autocast_dtype(inputs.device)
            features = [self.distiller.teacher.features(inputs, samples) for _ in range(2)][-1]
            teacher = statistics.median(self.time(lambda: self.distiller.teacher.features(inputs, samples), self.calls)
                                        for _ in range(count))
        losses = [(loss.criterion, [pool_rows(level) if loss.config.pool else level for level in [
            features[loss.config.teacher][pair.teacher] for pair in loss.pairs]])
            for loss in self.distiller.feature_losses]
        return dict(teacher_ms=teacher, **loss_cost(self, losses, dtype, count))


def loss_cost(worker: Worker, losses: list[tuple[nn.Module, list[Tensor]]], dtype: torch.dtype | None,
              count: int) -> dict[str, Any]:
    """Forward and backward of criteria on random student features, and what memory traffic alone would take."""
    # As in training: the student's maps are NCHW, the teacher's as its convolutions leave them.
    sides = [(criterion, [torch.randn(t.shape, device=t.device, dtype=dtype or t.dtype).requires_grad_()
                          for t in teachers], teachers) for criterion, teachers in losses]
    leaves = [s for _, students, _ in sides for s in students]

    def once() -> None:
        torch.stack([criterion(students, teachers)[0] for criterion, students, teachers in sides]).sum().backward()
        for leaf in leaves:
            leaf.grad = None

    once()
    loss = statistics.median(worker.time(once, worker.calls) for _ in range(count))
    # Large against the caches; on a GPU with room for it.
    big = torch.empty(2**30 if worker.cuda else 2**26, dtype=torch.uint8, device=leaves[0].device)
    other = torch.empty_like(big)
    copy_ms = min(worker.time(lambda: other.copy_(big), worker.calls) for _ in range(5))
    student, teacher = (sum(x.numel() * x.element_size() for x in side)
                        for side in (leaves, [t for _, _, teachers in sides for t in teachers]))
    # Forward reads both sides once, backward reads them again and writes the gradient.
    floor = (2 * (student + teacher) + student) / (2 * big.numel() / copy_ms)
    return dict(loss_ms=loss, loss_floor_ms=floor, loss_backend=', '.join(sorted({
        backend_of(criterion, students[0], teachers[0]) for criterion, students, teachers in sides})))


def backend_of(criterion: nn.Module, student: Tensor, teacher: Tensor) -> str:
    """Name of the backend that a loss has on these features.

    Raises:
        SystemExit: They are on a GPU with Triton, and PyTorch's operators have taken the place of its kernels.
    """
    if not isinstance(criterion, SRDLoss):
        return type(criterion).__name__
    kind = choose_backend(criterion.backend, [student], [teacher])
    name = 'autograd' if kind is None else kind.__name__
    if student.is_cuda and criterion.backend == 'auto' and name != 'TritonBackend' and has_triton():
        raise SystemExit(f'the loss ran with {name} instead of the Triton kernels; a warning above says why')
    return name


def main() -> None:
    worker = Worker(Case(**json.loads(sys.argv[1])), sys.argv[2])
    if worker.cuda:
        torch.cuda.empty_cache()  # what the warm-up's choice of algorithms took, would be missing for the other worker
    print('@{}', flush=True)  # ready
    for line in sys.stdin:
        print('@' + json.dumps(worker.turn(int(line))), flush=True)


if __name__ == '__main__':
    main()
