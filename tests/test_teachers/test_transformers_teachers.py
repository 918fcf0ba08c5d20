"""Models of transformers as teachers, in a process that finds transformers: MMPretrain is slow to import with it."""
from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest
from helpers.processes import ROOT, python


def test_in_a_process_with_transformers():
    folder = Path(sys.prefix, 'transformers')  # where tools/setup_env.sh puts it
    if not Path(sys.prefix, 'mmsrd-stamp').is_file():
        pytest.skip('an environment of the compatibility matrix, which has no transformers')
    assert (folder / 'transformers').is_dir(), f'no transformers in {folder}; run tools/setup_env.sh'
    done = python('-m', 'pytest', '-p', 'no:cacheprovider', '-p', 'no:xdist', '--confcutdir', 'tests',
                  'tests/test_teachers/transformers_cases.py', cwd=ROOT, HF_HUB_OFFLINE='1',
                  PYTHONPATH=os.pathsep.join(map(str, (folder, ROOT))))
    assert int(re.search(r'(\d+) passed', done.stdout)[1]) >= 14, done.stdout
