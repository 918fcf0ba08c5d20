"""Files that were made to run code or to fill the memory are refused wherever a checkpoint is read."""
from __future__ import annotations

import contextlib
import pickle
import resource
import time

import pytest
import torch
from helpers.hostile_checkpoints import code_routes, corpus

from mmsrd.compat import load_checkpoint_file
from mmsrd.errors import CheckpointError
from mmsrd.teachers.weights import read_weights


def peak_mib():
    """Of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def refusal(read, *arguments):
    """The message with which reading is refused; empty where it is not."""
    try:
        read(*arguments)
    except CheckpointError as error:
        return str(error)
    return ''


@pytest.fixture
def files(tmp_path):
    """By what is wrong with them."""
    made = corpus(tmp_path)
    assert len(made) >= 100
    return made


@pytest.mark.usefixtures('reader')
def test_refused(files, tmp_path):
    for what, path in files.items():
        before, began = peak_mib(), time.process_time()
        assert path.name in refusal(load_checkpoint_file, str(path), 'resume'), what
        assert not (tmp_path / 'trace').exists(), what
        assert peak_mib() - before < 64, what  # a whole bomb is 256 MiB
        assert time.process_time() - began < 5, what


@pytest.mark.parametrize('name', ['GLOBAL', 'STACK_GLOBAL', 'INST', 'OBJ', 'os.system', 'eval', 'exec', 'timeit',
                                  '__import__ and getattr', 'operator.methodcaller', 'pickle.loads', 'runpy',
                                  'nested pickle of a storage', 'BUILD with __setstate__', 'functools.partial'])
def test_the_files_are_dangerous(tmp_path, name):
    """Python's own unpickler obeys them."""
    with contextlib.suppress(Exception):
        pickle.loads(b'\x80\x04' + code_routes(tmp_path / 'trace')[name] + b'.')
    assert (tmp_path / 'trace').is_dir()


def test_refused_as_teacher_and_by_a_runner(files, tmp_path, make_runner, distill):
    runner = make_runner('run', distill)
    for what, path in files.items():
        teacher = torch.nn.Linear(2, 2)
        assert path.name in refusal(read_weights, teacher, str(path), 'config', 'distill.teacher.checkpoint'), what
        for resume in (False, True):
            runner._load_from, runner._resume = str(path), resume
            assert path.name in refusal(runner.load_or_resume), (what, resume)
    assert not (tmp_path / 'trace').exists()
