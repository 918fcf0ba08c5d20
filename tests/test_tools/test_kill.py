"""Killed trainings end as one left alone; the whole trial is ``tools/reliability/kill.py``."""
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'reliability' / 'kill.py'


@pytest.mark.parametrize(('processes', 'kills'), [
    (1, 2), pytest.param(1, 7, marks=pytest.mark.slow), pytest.param(2, 2, marks=pytest.mark.slow)])
def test_killed_and_resumed(processes, kills):
    done = subprocess.run([sys.executable, str(TOOL), '--kills', str(kills), '--processes', str(processes)],
                          capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result['kills'] == kills
    assert len(result['moments']) == kills  # each moment that there is, up to the number of kills
    assert result['trainings'] >= 1
    assert 'equal to the one left alone, bit for bit' in done.stdout
