"""The Triton kernels compile for GPUs, which needs none: to PTX, with loads of 16 bytes and no spilled registers."""
from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip('triton')
PROGRAM = '''
import itertools
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from mmsrd.ops import triton_kernels

LAYOUTS = dict(  # of student, teacher and gradient
    contiguous=dict(A_ALONG='rows', B_ALONG='rows', OUT_ALONG='rows', BC=4, BR=1024),
    mixed=dict(A_ALONG='rows', B_ALONG='channels', OUT_ALONG='rows', BC=64, BR=64),
    channels_last=dict(A_ALONG='channels', B_ALONG='channels', OUT_ALONG='channels', BC=64, BR=64))
TYPES = dict(table='*i64', partial='*fp32', statistics='*fp64', mean='*fp64', scale='*fp64', coefficients='*fp64',
             upstream='*fp32', out='*fp64', gathered='*fp64', eps='fp32', factor='fp32')
FORMS = dict(powers=[dict(ALPHA=4.0), dict(ALPHA=2.5)], gradient=[dict(ALPHA=4.0, CORRELATION=False), dict(
    ALPHA=2.5, CORRELATION=False), dict(ALPHA=4.0, CORRELATION=True)], terms=[dict(
    ALPHA=4.0, CORRELATION=correlation, SUM=not correlation, BC=512, MIN_ROWS=4) for correlation in (False, True)])


def variants():
    for name in ('moments', 'powers', 'gradient'):
        for (layout, tiles), form in itertools.product(LAYOUTS.items(), FORMS.get(name, [{}])):
            yield name, layout, dict(A_TYPE='bf16', B_TYPE='bf16', ALIGN=8, **tiles, **form)
    for name in ('combine', 'statistics', 'sums', 'terms'):
        for form in FORMS.get(name, [{}]):
            yield name, 'between', {**dict(BC=8, BS=256), **form}


for name, layout, constants in variants():
    kernel = getattr(triton_kernels, f'{name}_kernel')
    index = {k: (i,) for i, k in enumerate(kernel.arg_names)}
    constants = {k: v for k, v in constants.items() if k in index}
    types = {k: 'constexpr' if k in constants else TYPES.get(k, 'i32') for k in index}
    source = ASTSource(fn=kernel, signature=types, constexprs={index[k]: v for k, v in constants.items()},
                       attrs={index[k]: [['tt.divisibility', 16]] for k, v in types.items()
                              if v.startswith('*') or k == 'size'})
    ptx = triton.compile(source, target=GPUTarget('cuda', int(sys.argv[1]), 32)).asm['ptx']
    # A thread has 32 elements of each feature; only the pilots are loaded one by one.
    print(name, layout, 'ld.global.v4.b32' in ptx and ptx.count('ld.global.b16') <= 12, '.local' in ptx)
'''


@pytest.mark.parametrize('capability', ['90', pytest.param('80', marks=pytest.mark.slow)])
def test_to_ptx(capability, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != 'TRITON_INTERPRET'}
    done = subprocess.run([sys.executable, '-c', PROGRAM, capability], capture_output=True, text=True, check=False,
                          env={**environment, 'TRITON_CACHE_DIR': str(tmp_path)}, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert len(rows) == 3 * (1 + 2 + 3) + 5
    assert all(wide == 'True' for _, layout, wide, _ in rows if layout != 'between')  # those read little
    assert all(spilled == 'False' for *_, spilled in rows)
