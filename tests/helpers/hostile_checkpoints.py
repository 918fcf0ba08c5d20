"""Checkpoint files that were made to run code, to fill the memory, or that are broken.

Those that would run code create the folder ``trace`` beside them.
"""
from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Callable

import torch


def _text(value: str) -> bytes:
    data = value.encode()
    return b'X' + struct.pack('<I', len(data)) + data


def _global(module: str, name: str) -> bytes:
    return f'c{module}\n{name}\n'.encode()


def _stack_global(module: str, name: str) -> bytes:
    return _text(module) + _text(name) + b'\x93'


def _call(function: bytes, *arguments: bytes) -> bytes:
    return function + b'(' + b''.join(arguments) + b'tR'


def code_routes(trace: Path) -> dict[str, bytes]:
    """Pickles, without PROTO and STOP, that call what the file names, by one way each; most make ``trace``."""
    path, command = _text(str(trace)), _text(f'mkdir {trace}')
    statement = _text(f'import os; os.mkdir({str(trace)!r})')
    mkdir = _global('os', 'mkdir')
    routes = {
        'GLOBAL': _call(mkdir, path),
        'STACK_GLOBAL': _call(_stack_global('os', 'mkdir'), path),
        'INST': b'(' + path + b'ios\nmkdir\n',
        'OBJ': b'(' + mkdir + path + b'o',
        'NEWOBJ': mkdir + b'(' + path + b't\x81',
        'NEWOBJ_EX': mkdir + b'(' + path + b't}\x92',
        'class as OBJ': b'(' + _global('subprocess', 'Popen') + b'(' + _text('mkdir') + path + b'lo',
        'class as NEWOBJ': _global('subprocess', 'Popen') + b'((' + _text('mkdir') + path + b'lt\x81',
        'os.system': _call(_global('os', 'system'), command),
        'posix.system': _call(_global('posix', 'system'), command),
        'nt.system': _call(_global('nt', 'system'), command),
        'eval': _call(_global('builtins', 'eval'), _text(f"__import__('os').mkdir({str(trace)!r})")),
        'Python 2 eval': _call(_global('__builtin__', 'eval'), _text(f"__import__('os').mkdir({str(trace)!r})")),
        'exec': _call(_global('builtins', 'exec'), statement),
        '__import__ and getattr': _call(_call(_global('builtins', 'getattr'), _call(
            _global('builtins', '__import__'), _text('os')), _text('mkdir')), path),
        'operator.attrgetter': _call(_call(_global('operator', 'attrgetter'), _text('mkdir')), _call(
            _global('importlib', 'import_module'), _text('os'))),
        'operator.methodcaller': _call(_call(_global('operator', 'methodcaller'), _text('mkdir'), path), _call(
            _global('importlib', 'import_module'), _text('os'))),
        'functools.partial': _call(_call(_global('functools', 'partial'), mkdir, path)),
        'functools.reduce': _call(_global('functools', 'reduce'), mkdir, b'(' + path + path + b'l'),
        'map': _call(_global('builtins', 'list'), _call(_global('builtins', 'map'), mkdir, b'(' + path + b'l')),
        'runpy': _call(_global('runpy', '_run_code'), statement, b'}'),
        'timeit': _call(_global('timeit', 'timeit'), statement),
        'pdb': _call(_global('pdb', 'run'), statement),
        'cProfile': _call(_global('cProfile', 'run'), statement),
        'code.InteractiveInterpreter': _call(_call(_global('builtins', 'getattr'), _call(
            _global('code', 'InteractiveInterpreter')), _text('runsource')), statement),
        'ctypes': _call(_global('ctypes', 'CDLL'), _text('libc.so.6')),
        'torch.load': _call(_global('torch', 'load'), path),
        'torch.hub.load': _call(_global('torch.hub', 'load'), path, path),
        'nested pickle of a storage': _call(_global('torch.storage', '_load_from_bytes'), b'C' + _nested(trace)),
        'pickle.loads': _call(_global('pickle', 'loads'), b'C' + _nested(trace)),
        'numpy.load': _call(_global('numpy', 'load'), path, b'N\x88'),
        'numpy testing': _call(_global('numpy.testing._private.utils', 'runstring'), statement, b'}'),
        'BUILD with __setstate__': _call(_global('types', 'SimpleNamespace')) + b'}' + _text('__setstate__') + mkdir
                                   + b'sb' + path + b'b',
        'BUILD of a function': _global('torch._utils', '_rebuild_tensor_v2') + b'}' + _text('__code__') + mkdir + b'sb',
        'a reduce in a dict key': b'}' + _call(mkdir, path) + b'K\x01s',
        'EXT1': b'\x82\x01',
        'EXT2': b'\x83\x01\x00',
        'EXT4': b'\x84\x01\x00\x00\x00',
        'PERSID': b'Pos.mkdir\n',
        'BINPERSID': b'(' + mkdir + path + b'tQ',
        'a method of HistoryBuffer': _call(_global('builtins', 'getattr'), _global(
            'mmengine.logging.history_buffer', 'HistoryBuffer'), _text('__init__.__globals__')),
    }
    assert len(set(routes.values())) == len(routes)
    return routes


def _nested(trace: Path) -> bytes:
    data = b'\x80\x02' + _call(_global('os', 'mkdir'), _text(str(trace))) + b'.'
    assert len(data) < 256
    return bytes([len(data)]) + data


def _archive(path: Path, content: bytes, deflate: bool = False, extra: dict[str, bytes] | None = None) -> None:
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as archive:
        archive.writestr('archive/data.pkl', content)
        archive.writestr('archive/byteorder', b'little')
        archive.writestr('archive/version', b'3\n')
        for name, data in (extra or {}).items():
            archive.writestr(name, data)


def _tensor(storage: str, offset: int, size: tuple[int, ...], stride: tuple[int, ...], numel: int) -> bytes:
    """A checkpoint with one tensor, as ``torch.save`` pickles it."""
    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> object:
            return ('storage', torch.FloatStorage, storage, 'cpu', numel) if isinstance(value, Storage) else None

    class Tensor:
        def __reduce__(self) -> tuple[object, ...]:
            return torch._utils._rebuild_tensor_v2, (Storage(), offset, size, stride, False, {})

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump(dict(state_dict=dict(w=Tensor())))
    return buffer.getvalue()


def corpus(folder: Path) -> dict[str, Path]:
    """Write all files; by what is wrong with them."""
    trace = folder / 'trace'
    files: dict[str, Path] = {}

    def path_of(name: str) -> Path:
        files[name] = folder / f'{len(files)}.pth'
        return files[name]

    def entry(content: bytes, protocol: bytes = b'\x80\x04') -> bytes:
        return protocol + b'}' + _text('state_dict') + b'}s' + _text('x') + content + b's.'

    containers: dict[str, Callable[[Path, bytes], object]] = dict(
        archive=_archive, pickle=lambda path, content: path.write_bytes(content))
    for container, write in containers.items():
        for name, code in code_routes(trace).items():
            write(path_of(f'{container}: {name}'), entry(code))
    legacy = b''.join(pickle.dumps(x, 2) for x in (0x1950a86a20f9469cfc6c, 1001, dict(little_endian=True)))
    for name in ('GLOBAL', 'OBJ', 'eval'):
        path_of(f'old format: {name}').write_bytes(legacy + entry(code_routes(trace)[name], b'\x80\x02'))

    whole = io.BytesIO()
    torch.save(dict(state_dict=dict(w=torch.arange(5000.0))), whole)
    for power in range(whole.getbuffer().nbytes.bit_length()):
        path_of(f'truncated at {2 ** power}').write_bytes(whole.getvalue()[:2 ** power])

    zeros = {f'archive/data/{i}': bytes(1 << 26) for i in range(4)}
    _archive(path_of('a bomb of tensors'), _tensor('0', 0, (1 << 24,), (1,), 1 << 24), deflate=True, extra=zeros)
    _archive(path_of('a bomb as pickle'), b'\x80\x02' + b'N0' * (1 << 25) + b'}.', deflate=True)
    data = {'archive/data/0': bytes(64)}
    for name, what in (('a negative stride', (0, (4,), (-1,), 16)), ('a negative size', (0, (-4,), (1,), 16)),
                       ('a huge size', (0, (1 << 40,), (1,), 16)), ('a huge storage', (0, (4,), (1,), 1 << 40)),
                       ('an offset behind the end', (1 << 30, (4,), (1,), 16)),
                       ('a huge stride', (0, (4, 4), (1 << 40, 1), 16)), ('a negative offset', (-8, (4,), (1,), 16))):
        _archive(path_of(name), _tensor('0', *what), extra=data)
    _archive(path_of('a storage that is missing'), _tensor('7', 0, (4,), (1,), 16))
    _archive(path_of('a name outside'), _tensor('../../../../etc/hostname', 0, (4,), (1,), 16))
    for name, code in (('a text of 2**62', b'\x8d' + struct.pack('<Q', 1 << 62)),
                       ('bytes of 2**62', b'\x8e' + struct.pack('<Q', 1 << 62)),
                       ('a bytearray of 2**33', b'\x96' + struct.pack('<Q', 1 << 33)),
                       ('a number of 2**30 bytes', b'\x8b' + struct.pack('<i', 1 << 30)),
                       ('a frame of 2**62', b'\x95' + struct.pack('<Q', 1 << 62)),
                       ('a memo of 2**31', b'Nr' + struct.pack('<I', (1 << 31) - 1)),
                       ('a stack that is empty', b'0000'), ('lists in lists', b'(' * 200_000)):
        _archive(path_of(name), b'\x80\x04' + code + b'.')
    _archive(path_of('no pickle'), b'')
    path_of('zeros').write_bytes(bytes(4096))
    path_of('noise').write_bytes(os.urandom(1 << 16))
    path_of('a web page').write_bytes(b'<!DOCTYPE html><title>404</title>')
    path_of('a pointer of Git LFS').write_bytes(b'version https://git-lfs.github.com/spec/v1\nsize 12345\n')
    path_of('a folder').mkdir()
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path_of('TorchScript')))
    return files
