"""The compatibility matrix: its table is made from records, and each environment says what it needs."""
from __future__ import annotations

import json

import matrix
import pytest
from helpers.processes import ROOT, run
from records import between

ENVIRONMENTS = sorted((ROOT / 'tools' / 'environments').glob('*.txt'))


def test_the_page_shows_the_records():
    text = matrix.PAGE.read_text()
    assert between(text, matrix.MARK, matrix.table()) == text


def test_rows_of_measured_and_unmeasured_environments(tmp_path, monkeypatch):
    record = dict(name='onedl', python='3.10.13', torch='2.8.0', mmcv='onedl-mmcv 2.3.6', mmengine='a', mmdet='b',
                  mmpretrain='c', passed=5, failed=0, skipped=1, detectors='ok', moved=['numpy==2'], date='2026-01-01')
    monkeypatch.setattr(matrix, 'RESULTS', tmp_path / 'results.jsonl')
    matrix.RESULTS.write_text(json.dumps({**record, 'passed': 4}) + '\n' + json.dumps(record) + '\n')
    lines = matrix.table().splitlines()
    row = '| onedl | 3.10.13 | 2.8.0 | onedl-mmcv 2.3.6 | a | b | c | 5 | 0 | 1 | ok | changed: numpy==2 | 2026-01-01 |'
    assert row in lines
    assert len(lines) == 2 + len(ENVIRONMENTS) - 1  # tests.txt is no environment
    assert sum('not measured' in line for line in lines) == len(ENVIRONMENTS) - 2


@pytest.mark.parametrize('name', [path.stem for path in ENVIRONMENTS if path.stem not in ('tests', 'extras')])
def test_environments_name_a_python_and_pin_packages(name):
    lines = (ROOT / 'tools' / 'environments' / f'{name}.txt').read_text().splitlines()
    assert any(line.startswith('# python: 3.') for line in lines)
    pinned = {line.partition('==')[0] for line in lines if '==' in line and not line.startswith('#')}
    assert {'numpy', 'setuptools'} < pinned
    assert any('mmcv' in line for line in lines)


def test_an_environment_that_is_not_there():
    done = run('bash', ROOT / 'tools/test_matrix.sh', 'nonsense', ok=False)
    assert 'no tools/environments/nonsense.txt' in done.stderr
