"""Nothing piles up over a training; the long run is ``tools/reliability/soak.py``."""
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'reliability' / 'soak.py'


@pytest.mark.slow
def test_nothing_is_held_after_a_step():
    done = subprocess.run([sys.executable, str(TOOL), '--iterations', '160', '--interval', '20'],
                          capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    records = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"iteration"')]
    assert len(records) == 8
    assert {record['graphs'] for record in records} == {0}
    for key in ('tensors', 'hooks', 'files'):  # exact: three steps of the run have failed inside of the student
        assert len({record[key] for record in records}) == 1, key
    # Allocators settle first. Features kept by their taps would be about 1 MiB a step, 80 MiB in this half.
    assert records[-1]['memory_mib'] - records[3]['memory_mib'] < 30
