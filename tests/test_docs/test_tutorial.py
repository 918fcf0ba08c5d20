"""The tutorial runs from its first cell to its last."""
from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.processes import ROOT

TUTORIAL = ROOT / 'docs/en/tutorial.ipynb'


def printed(file):
    """What the cells have printed."""
    cells = json.loads(Path(file).read_text())['cells']
    return ''.join(''.join(output['text']) for cell in cells for output in cell.get('outputs', []) if 'text' in output)


def curve(text, title):
    """mAP by iteration, as the tutorial prints it."""
    line = next(line for line in text.splitlines() if line.startswith(f'{title}:'))
    return ast.literal_eval(line.partition(':')[2].strip())


def test_the_tutorial_shows_its_outputs():
    for cell in json.loads(TUTORIAL.read_text())['cells']:
        assert cell['cell_type'] == 'markdown' or cell['execution_count']
    assert curve(printed(TUTORIAL), 'student distilled')[300] > curve(printed(TUTORIAL), 'student alone')[300]


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path):
    side = Path(sys.prefix) / 'docs'
    environment = {**os.environ, 'PYTHONPATH': str(side)}
    environment.pop('OMP_NUM_THREADS', None)  # two cores, as a user has them
    started = time.monotonic()
    subprocess.run([side / 'bin/jupyter-execute', '--output', tmp_path / 'tutorial', TUTORIAL], cwd=ROOT, check=True,
                   env=environment, timeout=900)
    assert time.monotonic() - started < 360
    text = printed(tmp_path / 'tutorial.ipynb')
    assert curve(text, 'student distilled')[300] > curve(text, 'student alone')[300] + 3  # it was 13
    assert 'the same keys as of a student alone: True' in text
    assert "after detach: ['loss_cls', 'loss_bbox', 'loss_centerness']" in text
