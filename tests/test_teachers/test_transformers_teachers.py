"""Models of transformers as teachers, in a process that finds transformers: MMPretrain is slow to import with it."""
from __future__ import annotations

from helpers.processes import run_cases


def test_in_a_process_with_transformers(tmp_path):
    assert run_cases('transformers', 'test_teachers/transformers_cases.py', tmp_path, HF_HUB_OFFLINE='1') >= 14
