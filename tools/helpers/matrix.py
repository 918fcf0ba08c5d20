"""One row of the compatibility matrix, and its table: ``matrix.py core NAME ENVIRONMENT`` and ``matrix.py table``.

Needs nothing but the standard library, as it runs in any environment.
"""
from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Dict, Sequence

from records import append_line, between, markdown, read_lines

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / 'docs' / 'results' / 'compatibility.jsonl'
PAGE = ROOT / 'docs' / 'en' / 'notes' / 'compatibility.md'
PACKAGES = {'torch': ['torch'], 'mmcv': ['mmcv', 'mmcv-lite', 'onedl-mmcv'], 'mmengine': ['mmengine', 'onedl-mmengine'],
            'mmdet': ['mmdet', 'onedl-mmdetection'], 'mmpretrain': ['mmpretrain', 'onedl-mmpretrain']}
CORE = ['tests/test_models', 'tests/test_config', 'tests/test_compat', 'tests/test_recorders', 'tests/test_teachers',
        'tests/test_distillers', 'tests/test_engine', 'tests/test_apis', 'tests/integration/test_resume.py',
        'tests/integration/test_stock_scripts.py', 'tests/test_tools/test_zoo.py', 'tests/test_env.py']
"""Losses, data parallel, attach, runner, resume, stock scripts, wheel; a distilled step of real detectors."""
MARK = '<!-- table of tools/test_matrix.sh -->'


def found(names: Sequence[str]) -> str:
    """Return what is installed of one of the names, as ``version`` or ``name version`` where it is not the first."""
    for name in names:
        try:
            return version(name) if name == names[0] else f'{name} {version(name)}'
        except PackageNotFoundError:
            continue
    return 'none'


def core(name: str, environment: Path) -> None:
    """Run the core in this Python, and record the outcome.

    Raises:
        SystemExit: Tests have failed, or installing mmsrd has changed another package.
    """
    moved = sorted(set((environment / 'before.txt').read_text().splitlines())
                   ^ set((environment / 'after.txt').read_text().splitlines()))
    # Deformable DETR and Faster R-CNN are among the slow ones of the zoo.
    report = environment / 'report.xml'
    environment_of_tests = {k: v for k, v in os.environ.items() if k != 'PYTHON'}
    environment_of_tests['OMP_NUM_THREADS'] = '1'
    command = [sys.executable, '-m', 'pytest', '-n', '2', '-p', 'no:cacheprovider', f'--junitxml={report}', *CORE]
    done = subprocess.run(command, cwd=ROOT, env=environment_of_tests, check=False)
    detectors = [sys.executable, '-m', 'pytest', '-m', 'slow or not slow', '-p', 'no:cacheprovider',
                 'tests/test_tools/test_zoo.py', '-k', 'faster-rcnn_r50 or retinanet_r18 or deformable']
    trained = subprocess.run(detectors, cwd=ROOT, env=environment_of_tests, check=False)
    suite = re.search(r'<testsuite [^>]*>', report.read_text())
    assert suite is not None, 'pytest writes one'
    counts = {key: int(value) for key, value in re.findall(r'(errors|failures|skipped|tests)="(\d+)"', suite.group())}
    wrong = counts['errors'] + counts['failures']
    record: Dict[str, Any] = dict(
        name=name, python=sys.version.split()[0], **{key: found(names) for key, names in PACKAGES.items()},
        passed=counts['tests'] - wrong - counts['skipped'], failed=wrong, skipped=counts['skipped'],
        detectors='ok' if trained.returncode == 0 else 'failed', moved=moved,
        date=datetime.date.today().isoformat())
    print(append_line(RESULTS, record))
    if done.returncode or trained.returncode or moved:
        raise SystemExit(f'{name}: {wrong} tests failed; packages that installing mmsrd has changed: {moved or "none"}')


def table() -> str:
    """The newest record of each environment as a table, and environments that have none."""
    keys = ('name', 'python', *PACKAGES, 'passed', 'failed', 'skipped', 'detectors')
    rows = {}
    for record in read_lines(RESULTS):
        moved = 'changed: ' + ', '.join(record['moved']) if record['moved'] else 'unchanged'
        rows[record['name']] = [*(record[key] for key in keys), moved, record['date']]
    for path in sorted((ROOT / 'tools' / 'environments').glob('*.txt')):
        if path.stem != 'tests':
            rows.setdefault(path.stem, [path.stem, *['not measured'] * 12])
    return markdown(('environment', 'Python', *keys[2:], 'other packages', 'date'), rows.values())


if __name__ == '__main__':
    if sys.argv[1] == 'core':
        core(sys.argv[2], Path(sys.argv[3]))
    else:
        PAGE.write_text(between(PAGE.read_text(), MARK, table()))
