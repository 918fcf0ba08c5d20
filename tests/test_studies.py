"""The classification study and its data: what is recorded is what is shown."""
from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'tools' / 'studies'))
import classification as study  # noqa: E402
import prepare_data  # noqa: E402
import runs  # noqa: E402


def record(job, accuracy, alignment=None):
    return json.loads(json.dumps(dict(**vars(job), metrics={'accuracy/top1': accuracy},
                                      alignment={} if alignment is None else dict(feature=alignment))))


def test_table_takes_gains_seed_by_seed(tmp_path):
    teacher = study.teacher_job('digits')
    jobs = {(j.row, j.seed): j for j in study.student_jobs('digits', [0, 1], Path('w'))}
    assert len(jobs) == 8
    accuracy = {('student alone', 0): 80, ('student alone', 1): 90, ('SRD', 0): 85, ('SRD', 1): 91}
    lines = [record(teacher, 99.5), *(record(jobs[k], v, 0.5 if k[0] == 'SRD' else None)
                                      for k, v in accuracy.items())]
    results = tmp_path / 'results.jsonl'
    results.write_text(''.join(json.dumps(line) + '\n' for line in lines))
    text = study.table(runs.recorded([teacher, *jobs.values()], results))
    assert text.splitlines()[2:] == [
        '| digits, 100 labels | teacher | 1 | 99.50 |  |  |',
        '| digits, 100 labels | student alone | 2 | 85.00 ± 7.07 |  |  |',
        '| digits, 100 labels | SRD | 2 | 88.00 ± 4.24 | +3.00 ± 2.83 | 0.50 |']


def test_results_of_other_settings_do_not_count(tmp_path):
    job, other = (study.teacher_job('digits', options) for options in ((), ('train_cfg.max_epochs=1',)))
    results = tmp_path / 'results.jsonl'
    results.write_text(''.join(json.dumps(record(other, a)) + '\n' for a in (50, 60)))
    assert runs.recorded([job], results) == {}
    assert runs.recorded([other], results)[other]['metrics']['accuracy/top1'] == 60  # the newest


def test_the_readme_shows_the_recorded_results():
    readme = (ROOT / study.README).read_text()
    jobs = study.all_jobs()
    records = runs.recorded(jobs, ROOT / study.RESULTS)
    assert len(records) == len(jobs) == 42
    assert study.with_table(readme, study.table(records)) == readme


def test_smoke_run_records_and_resumes(tmp_path):
    prepare_data.digits(tmp_path / 'digits')
    command = [sys.executable, str(ROOT / 'tools/studies/classification.py'), '--smoke', '--datasets', 'digits',
               '--rows', 'student alone', 'SRD + KL', '--seeds', '3', '--jobs', '1',
               '--results', str(tmp_path / 'results.jsonl'), '--work-dir', str(tmp_path / 'work'), '--cfg-options',
               f'train_dataloader.dataset.data_root={tmp_path}/digits/train',
               f'val_dataloader.dataset.data_root={tmp_path}/digits/val']
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert '2 trainings recorded' in done.stdout  # the second time
    records = runs.read(tmp_path / 'results.jsonl')
    assert [(r['row'], r['seed']) for r in records] == [('teacher', 0), ('student alone', 3), ('SRD + KL', 3)]
    assert all(0 <= r['metrics']['accuracy/top1'] <= 100 for r in records)
    assert set(records[2]['alignment']) == {'feature'}


def test_a_failed_training_is_reported(tmp_path):
    jobs = [runs.Job('d', 'r', 0, 'configs/no_such_config.py')]
    with pytest.raises(SystemExit, match='d, r, seed 0: failed, see .*train.log'):
        runs.run(jobs, tmp_path / 'results.jsonl', tmp_path, 1)
    assert not (tmp_path / 'results.jsonl').exists()
    assert 'no_such_config' in (tmp_path / 'd/r/seed0/train.log').read_text()


def test_fashion_mnist_is_unpacked_for_the_dataset_class(tmp_path):
    """Files in the format of the real ones: 32-bit big-endian sizes, then bytes."""
    rng = np.random.default_rng(0)
    for name in prepare_data.FASHION_FILES:
        shape = (5, 28, 28) if 'images' in name else (5,)
        data = rng.integers(0, 10, shape, np.uint8)
        header = np.array([2048 + len(shape), *shape], '>u4').tobytes()
        (tmp_path / f'{name}.gz').write_bytes(gzip.compress(header + data.tobytes()))
    assert prepare_data.fashion_mnist(tmp_path / 'out', tmp_path) == 4
    from mmpretrain.datasets import FashionMNIST
    test = FashionMNIST(data_root=str(tmp_path / 'out'), split='test', test_mode=True, download=False)
    assert len(test) == 5
    assert (test[4]['img'] == data_of(tmp_path, 't10k-images-idx3-ubyte')[4]).all()
    with pytest.raises(SystemExit, match='has no train-images-idx3-ubyte.gz. Install the Debian package'):
        prepare_data.fashion_mnist(tmp_path / 'out', tmp_path / 'nothing')


def data_of(folder, name):
    return np.frombuffer(gzip.decompress((folder / f'{name}.gz').read_bytes())[16:], np.uint8).reshape(-1, 28, 28)


def test_the_metafile_has_the_recorded_means():
    import yaml
    meta = yaml.safe_load((ROOT / 'configs/mmpretrain/metafile.yml').read_text())
    records = runs.recorded(study.all_jobs(), ROOT / study.RESULTS)
    shown = {m['Config']: m['Results'][0]['Metrics']['Top 1 Accuracy'] for m in meta['Models'] if 'Results' in m}
    assert len(shown) == 2
    for config, accuracy in shown.items():
        values = [r['metrics']['accuracy/top1'] for job, r in records.items()
                  if job.config == config and job.row == 'SRD + KL']
        assert accuracy == round(sum(values) / len(values), 2)
