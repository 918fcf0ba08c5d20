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
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from mmsrd.ops import triton_kernels

TILES = dict(contiguous=dict(BC=4, BR=1024, CHUNK=4096, al=1, bl=1, ol=1),
             channels_last=dict(BC=64, BR=64, CHUNK=256, ac=1, bc=1, oc=1),
             vectors=dict(BC=64, BR=64, CHUNK=256, ac=1, bc=1, oc=1, chunks=1, slots=1))
TYPES = dict(a='*bf16', b='*bf16', partial='*fp32', mean='*fp64', scale='*fp64', coefficients='*fp64')
ALPHAS = dict(gradient=(4.0, 2.5, None), powers=(4.0, 2.5))  # None: the correlation form
for name, out in dict(moments='*fp32', powers='*fp32', gradient='*bf16', combine='*fp64').items():
    kernel = getattr(triton_kernels, f'{name}_kernel')
    for (layout, tiles), alpha in itertools.product(TILES.items(), ALPHAS.get(name, (None,))):
        constants = dict(ALPHA=alpha or 4.0, CORRELATION=alpha is None, BS=32, **tiles)
        constants = {k: v for k, v in constants.items() if k in kernel.arg_names}
        if name == 'combine':
            constants['BC'] = 16
        types = {**TYPES, 'out': out}
        index = {k: (i,) for i, k in enumerate(kernel.arg_names)}
        source = ASTSource(
            fn=kernel, signature={k: 'constexpr' if k in constants else types.get(k, 'i32') for k in index},
            constexprs={index[k]: v for k, v in constants.items()},
            attrs={index[k]: [['tt.divisibility', 16]] for k in index if k not in constants})
        ptx = triton_kernels.triton.compile(source, target=GPUTarget('cuda', int(sys.argv[1]), 32)).asm['ptx']
        print(name, layout, 'ld.global.v4.b32' in ptx, '.local' in ptx)
'''


@pytest.mark.parametrize('capability', ['90', pytest.param('80', marks=pytest.mark.slow)])
def test_to_ptx(capability, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != 'TRITON_INTERPRET'}
    done = subprocess.run([sys.executable, '-c', PROGRAM, capability], capture_output=True, text=True, check=False,
                          env={**environment, 'TRITON_CACHE_DIR': str(tmp_path)}, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert len(rows) == 3 * (3 + 2 + 1 + 1)
    assert all(wide == 'True' for name, _, wide, _ in rows if name != 'combine')  # that one reads little
    assert all(spilled == 'False' for *_, spilled in rows)
