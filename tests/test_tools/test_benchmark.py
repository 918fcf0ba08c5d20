"""The benchmark measures what it says, and the documentation has what was measured."""
from __future__ import annotations

import copy
import json
import re
import sys

import pytest
import torch
from helpers.processes import ROOT, forked, python, run

sys.path.insert(0, str(ROOT / 'tools' / 'benchmarks'))
import benchmark
import benchmark_tables
import count_passes
import harness
import host_time
import kernels_on_device
import one_process
import one_read
import profile_step
import scaling
import startup
from pairs import DEFAULTS, PAIRS, Case, configs_of, distill_block
from torch.utils.flop_counter import FlopCounterMode

RESULTS = sorted(path for path in (ROOT / 'docs/results/performance').glob('*.json')
                 if 'case' in json.loads(path.read_text()))
"""Of ``tools/benchmark.py``."""
TINY = Case('tiny', 64, 64, 2)


@pytest.mark.slow
def test_the_command(tmp_path):
    done = python('tools/benchmark.py', '--pair', 'tiny', '--variants', 'ours', '--repeats', '2',
                  '--steps', '1', '--threads', '1', '--device', 'cpu', '--out', tmp_path, cwd=ROOT)
    result = json.loads((tmp_path / 'tiny_cpu_none.json').read_text())
    plain, ours = result['rows']
    assert plain['step_ratio'] == 1
    assert ours['step_ms'] > ours['teacher_ms'] > 0
    assert ours['loss_ms'] > ours['loss_floor_ms'] > 0
    assert (len(ours['steps_ms']), len(plain['steps_ms'])) == (2, 2)
    assert ours['loss_backend'] == 'TorchBackend'
    assert (tmp_path / 'tiny_cpu_none.png').stat().st_size > 10_000
    assert f'saved {tmp_path / "tiny_cpu_none.json"}' in done.stdout


class Worker:
    """In place of a process: five turns of 10 ms for the plain step; ``'dies'`` ends in the second."""

    def __init__(self, case, variant):
        self.variant, self.turns, self.plain_died = variant, 0, False

    def answer(self):
        return None if self.variant == 'not installed' else {}

    def ask(self, steps):
        self.turns += 1
        if self.variant == 'dies' and self.turns == 2:
            return None
        return dict(step_ms=10. if self.variant == 'plain' else 11., peak_mib=1.)

    def ended(self):
        return self.plain_died

    def reason(self):
        return f'{self.variant}: out of memory'

    def stop(self):
        pass


def test_nothing_is_lost(monkeypatch):
    """Results are saved after every turn; a variant that fails leaves those of the others."""
    monkeypatch.setattr(harness, 'Process', Worker)
    saved = []
    harness.measure(TINY, ['ours', 'dies', 'not installed', 'naive'], 3, 1, save=lambda rows: saved.append(
        {row['variant']: row.get('error') or len(row['steps_ms']) for row in rows}))
    assert saved[0] == dict(plain=1, ours=1)
    assert saved[3] == dict(plain=4, ours=3, dies=1)
    assert saved[-1] == {'plain': 7, 'ours': 3, 'dies': 'dies: out of memory',
                         'not installed': 'not installed: out of memory', 'naive': 3}


def test_the_plain_step_starts_again(monkeypatch):
    """It runs out of memory beside a variant; the others are measured all the same."""
    started = []

    class Plain(Worker):

        def __init__(self, case, variant):
            super().__init__(case, variant)
            started.append(variant)

        def ask(self, steps):
            self.plain_died = self.variant == 'plain' and started[-1] == 'large'
            return None if self.plain_died else super().ask(steps)

    monkeypatch.setattr(harness, 'Process', Plain)
    rows = {row['variant']: row.get('error') for row in harness.measure(TINY, ['ours', 'large', 'naive'], 2, 1)}
    assert rows == dict(plain=None, ours=None, large='the plain step beside it: plain: out of memory', naive=None)
    assert started == ['plain', 'ours', 'large', 'plain', 'naive']


def test_nothing_can_be_measured(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(harness, 'Process', Worker)
    monkeypatch.setattr(Worker, 'answer', lambda self: None)
    monkeypatch.chdir(ROOT)
    benchmark.main(['--pair', 'tiny', '--device', 'cpu', '--out', str(tmp_path)])
    result, = json.loads((tmp_path / 'tiny_cpu_none.json').read_text())['rows']
    assert result == dict(variant='plain', error='plain: out of memory')
    assert '| plain | not measured: plain: out of memory |' in capsys.readouterr().out


def test_variants_without_time_are_left_out(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(harness, 'Process', Worker)
    monkeypatch.setattr(harness.time, 'monotonic', lambda: clock[0])
    monkeypatch.setattr(Worker, 'stop', lambda self: clock.__setitem__(0, clock[0] + 40))
    rows = harness.measure(TINY, ['ours', 'naive', 'ended'], 1, 1, minutes=1.5)  # 40 s each
    assert [row.get('error') for row in rows] == [None, None, None, 'no time left of 1.5 minutes']


def test_rows_are_medians_of_ratios_turn_by_turn():
    plain = [dict(step_ms=x, peak_mib=100.) for x in (10., 20., 10.)]
    ours = [dict(step_ms=x, peak_mib=y) for x, y in ((11., 105.), (22., 110.), (13., 90.))]
    row = harness.summary_row('ours', ours, plain, None)
    assert (row['step_ms'], row['step_ratio'], row['step_ratio_range']) == (13, 1.1, [1.1, 1.3])
    assert row['memory_ratio'] == 1.1
    assert harness.summary_row('x', [], plain, 'no such package') == dict(variant='x', error='no such package')


def test_kernels_on_device(monkeypatch, capsys):
    """Triton's interpreter in place of a GPU; errors are found."""
    monkeypatch.setattr(kernels_on_device, 'DTYPES', dict(bf16=torch.bfloat16))
    small = ['--shape', '40', '56', '--batches', '2', '--channels', '8']
    assert kernels_on_device.main(small) == 0
    assert capsys.readouterr().out.splitlines()[-1] == '0 of 4 are off'
    right = kernels_on_device.run

    def wrong(features, backend, form):
        loss, alignment, gradients = right(features, backend, form)
        return loss, alignment, [1.01 * x for x in gradients] if backend == 'triton' else gradients

    monkeypatch.setattr(kernels_on_device, 'run', wrong)
    assert kernels_on_device.main(small) == 1
    assert capsys.readouterr().out.splitlines()[-1] == '4 of 4 are off'


def test_host_time(monkeypatch):
    module = host_time.triton_kernels
    for name in [name for name in vars(module) if name.endswith('_kernel')]:
        monkeypatch.setattr(module, name, getattr(module, name))  # put back afterwards: the tool replaces them
    launches, milliseconds = host_time.measure(5, 5)
    assert launches == 10
    assert 0 < milliseconds < 1000


def flops(worker, work, count):
    """In place of milliseconds: operations of convolutions and matrix products in one ``work``."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def test_one_process(monkeypatch, capsys):
    """Work is counted instead of timed, so that other processes do not matter."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(one_process.Worker, 'time', flops)
    one_process.main(['--pair', 'tiny', '--threads', '1', '--turns', '2'])
    lines = [line.strip('| ').split(' | ') for line in capsys.readouterr().out.splitlines()[-6:]]
    figures = {what: float(median) for what, median, _ in lines}
    assert list(figures) == list(one_process.compared([dict.fromkeys([*one_process.VARIANTS, 'teacher'], 1.)]))
    ours, balance, ended, scaled, every_second, checked = figures.values()
    assert 1 < ours < 1.1  # the projectors
    assert balance == ended == checked == 1
    assert 0.2 < scaled < 0.5  # a quarter of the pixels, and the projectors
    assert 0.5 < every_second < 0.6


def test_what_one_process_compares():
    turn = dict(plain=10., teacher=5., ours=18., ended=11.) | {
        'no balance': 16., 'device check': 27., 'scale 0.5': 12., 'interval 2': 13.}
    assert [values[0] for values in one_process.compared([turn]).values()] == [1.2, 1.125, 1.1, 0.4, 0.6, 1.5]


@pytest.mark.slow
def test_startup(both_toolboxes, student_config, monkeypatch, capsys, tmp_path):
    """Both runs end when their first iteration begins."""
    student = both_toolboxes / 'startup.py'
    student_config.dump(str(student))
    monkeypatch.chdir(both_toolboxes)
    monkeypatch.setattr(startup, 'RECORD', tmp_path / 'startup.json')
    startup.main([str(student), 'mmdet/teacher.py', 'mmdet/teacher.pth', '--repeats', '1', '--record'])
    record = json.loads((tmp_path / 'startup.json').read_text())
    assert (record['student'], record['teacher']) == ('startup.py', 'teacher.py')
    assert len(record['plain']) == len(record['distilled']) == 1
    plain, distilled, teacher = (float(x) for x in re.findall(r'([0-9.]+) s(?:,|:| of)', capsys.readouterr().out))
    assert min(plain, distilled) > teacher > 0
    assert not list(both_toolboxes.rglob('*.log'))  # nothing was trained, and nothing left behind


def test_profile(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    profile_step.main(['--pair', 'tiny', '--device', 'cpu', '--variants', 'plain', 'ours', '--out', str(tmp_path)])
    plain, ours = json.loads((tmp_path / 'profile_tiny_cpu_none.json').read_text())['rows']
    assert ours['operators'] > plain['operators'] > 1000
    assert ours['reads'] - plain['reads'] <= 1  # on the CPU the loss is looked at once, for NaN
    assert ours['launches'] == ours['waits'] == 0
    assert len(ours['longest']) == 15


def test_a_step_of_the_gpu_suite_that_fails_stops_no_other(tmp_path):
    done = run('bash', ROOT / 'tools/benchmarks/gpu_suite.sh', tmp_path, ok=False, PYTHON='false')
    steps = [line.partition(':')[0] for line in (tmp_path / 'summary.txt').read_text().splitlines()]
    assert steps == ['check', 'kernels', 'train-fp16', 'train-bf16', 'nccl', 'benchmark-faster-rcnn',
                     'benchmark-retinanet', 'benchmark-fcos', 'benchmark-resnet', 'profile', 'scaling']
    assert f'11 steps failed; results are in {tmp_path}' in done.stdout
    chosen = run('bash', ROOT / 'tools/benchmarks/gpu_suite.sh', tmp_path, PYTHON='true', STEPS='nccl benchmark')
    assert [line.split()[0] for line in chosen.stdout.splitlines()[:2]] == ['nccl:', 'benchmark-faster-rcnn:']


@pytest.mark.parametrize('pair', list(PAIRS))
def test_pairs_are_whole(pair, monkeypatch):
    monkeypatch.chdir(ROOT)
    student, teacher = configs_of(pair)
    assert student.model.type == teacher.model.type
    assert all(pair in sizes for sizes in DEFAULTS.values())
    assert 'init_cfg' not in teacher.model.backbone  # nothing is downloaded


def test_variants_differ_in_what_their_names_say():
    inference = {variant: distill_block(None, variant)['teacher']['inference'] for variant in (
        'ours', 'no fold', 'fp32 teacher', 'no stream', 'no channels last', 'compiled teacher')}
    assert inference == {
        'ours': {}, 'no fold': dict(fold=False), 'fp32 teacher': dict(precision='fp32'),
        'no stream': dict(stream=False), 'no channels last': dict(channels_last=False),
        'compiled teacher': dict(compile=True)}
    assert distill_block(None, 'ended')['schedule'] == dict(end=1)
    assert distill_block(None, 'offload')['teacher']['offload']


def test_scaling_of_the_loss():
    small, large = scaling.loss_ms(TINY, 1, 8, 2), scaling.loss_ms(Case('tiny', 512, 512, 4), 3, 64, 2)
    assert all(0 < small[name] < large[name] for name in ('loss_ms', 'autograd_ms'))
    result = scaling.processes_ms(TINY, 2, 2)
    assert set(result) == {'synced_ms', 'alone_ms'}
    assert all(value > 0 for value in result.values())


def test_what_the_reference_costs():
    """The documentation's 68 passes and three copies."""
    reference, ours = count_passes.count('autograd'), count_passes.count('torch')
    assert (reference['forward'] + reference['backward'], reference['kept']) == (68, 3)
    assert (ours['backward'], ours['kept']) == (2, 1)


def test_one_read_is_not_exact_where_features_are_close():
    """Why the loss reads twice: with (z, t) all digits are gone, with (z - t, t) they go where estimates are stale."""
    assert one_read.error(1, 0.01, False) < 1e-4
    assert one_read.error(0.01, 0.01, False) > 0.1
    assert one_read.error(0.01, 0.01, True) < 1e-4
    assert one_read.error(0.01, 0.1, True) > 1e-2


@pytest.mark.parametrize('path', RESULTS, ids=lambda path: path.stem)
def test_the_documentation_has_what_was_measured(path):
    text = (ROOT / 'docs/en/notes/performance.md').read_text()
    result = json.loads(path.read_text())
    if 'rows' in result:
        assert f'**{benchmark_tables.title(result)}**\n\n{benchmark_tables.table(result)}\n' in text
    else:
        assert f'**{benchmark_tables.title(result)}**\n\n{benchmark_tables.scaling_table(result)}\n' in text
    assert path.name in text


def test_compare_teacher(distill, student_config, tmp_path):
    student_config = copy.deepcopy(student_config)  # the tests of a session share it
    student_config.distill = {**{key: value for key, value in distill.items() if key != 'teacher'},
                              'teachers': dict(one=distill['teacher'])}
    # Drawn anew in each call of a training; it asks where the training is, which there is none of.
    student_config.model.data_preprocessor.batch_augments = [dict(type='BatchSyncRandomResize',
                                                                  random_size_range=(64, 96), size_divisor=32)]
    student_config.val_dataloader.update(num_workers=2, prefetch_factor=2)
    student_config.dump(str(tmp_path / 'student.py'))
    done = forked(ROOT / 'tools/analysis/compare_teacher.py', tmp_path / 'student.py', '--images', '2')
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith(('folded', 'bf16', 'all'))]
    assert len(rows) == 4
    assert all(0.999 <= float(value) <= 1 for row in rows for value in row[-3:])
