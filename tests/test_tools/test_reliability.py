"""Disks that fail, nodes that are lost, and a long training; the whole trials are in ``tools/reliability``."""
from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
from helpers.processes import ROOT, python
from nodes import Node, family

TOOLS = ROOT / 'tools' / 'reliability'


@pytest.mark.slow
def test_disks():
    done = python(TOOLS / 'disks.py', '--faults', '9', timeout=900)
    result = json.loads(done.stdout.splitlines()[-1])
    assert len(result['faults']) == 9
    assert result['went_on'] >= 2
    assert done.stdout.count('equal to the training left alone, bit for bit') == 9


@pytest.mark.slow
def test_a_lost_node():
    done = python(TOOLS / 'nodes.py', '--losses', '1', timeout=900)
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result['losses'], result['trainings'], result['processes']) == (1, 1, 4)


@pytest.mark.slow
def test_a_training_that_is_looked_at():
    done = python(TOOLS / 'soak_training.py', '--iterations', '200', '--interval', '5', '--processes', '1', timeout=900)
    result = json.loads(done.stdout)
    for phase in ('before', 'during', 'after'):
        found = result[f'process 0, {phase}']
        assert found['looks'] >= 3
        # Averages and optimizers make their tensors in the first steps of a phase.
        assert {key: value for key, value in found['spread'].items() if key != 'tensors'} == dict.fromkeys(
            ('graphs', 'hooks', 'files', 'threads'), 0)


def test_a_node_is_lost_with_all_its_processes():
    """Those in sessions of their own, too, as torchrun makes them."""
    command = 'setsid sleep 600 & setsid bash -c "sleep 600 & sleep 600" & wait'
    with subprocess.Popen(['bash', '-c', command], start_new_session=True) as shell:
        deadline = time.monotonic() + 10
        while len(family(shell.pid)) < 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        found = family(shell.pid)
        node = Node.__new__(Node)
        node.launcher = shell
        node.lose()
    assert len(found) == 5
    deadline = time.monotonic() + 10
    while any(is_running(process) for process in found) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_running(process) for process in found)


def is_running(process):
    """Whether it is there and not only waits to be collected."""
    try:
        return Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False
