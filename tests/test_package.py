"""The package as a whole: its rooms, what they may import, its public names, and the examples in its docstrings."""
from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.logging import MMLogger

import mmsrd

PACKAGE = Path(mmsrd.__file__).parent
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob('*.py'))
LAYERS = [{'apis', 'engine', 'env'}, {'distillers'}, {'teachers', 'models'},
          {'config', 'recorders', 'ops', 'compat', 'report', 'resume', 'datasets'}, {'utils'},
          {'errors', 'registry', 'version'}]
"""From the top; a room may import its own layer, as long as that makes no circle, and those below."""
MODULES = [name for _, name, _ in pkgutil.walk_packages([str(PACKAGE)], 'mmsrd.') if not name.endswith('__main__')]


def room_of(path):
    return Path(path.parts[0]).stem


def imports_of(path):
    """Rooms of the package that a file imports, whether at its top or inside of functions."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            package = ['mmsrd', *path.parts[:-1]]
            base = package[:len(package) - node.level + 1]
            target = [*base, *(node.module or '').split('.')] if node.module else base
            names = [target] if len(target) > 1 and target[1] else [[*target[:1], alias.name] for alias in node.names]
            found |= {name[1] for name in names}
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ''] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found |= {name.split('.')[1] for name in names if name.startswith('mmsrd.')}
    return found - {room_of(path)}


def layer_of(room):
    return next(i for i, layer in enumerate(LAYERS) if room in layer)


@pytest.mark.parametrize('path', [path for path in FILES if room_of(path) not in ('__init__', '__main__')], ids=str)
def test_imports_point_one_way(path):
    upwards = {room for room in imports_of(path) if layer_of(room) < layer_of(room_of(path))}
    assert not upwards, f'{path} imports {upwards}, which are above {room_of(path)}'


def test_no_circle_of_rooms():
    graph = {}
    for path in FILES:
        graph.setdefault(room_of(path), set()).update(imports_of(path) if len(path.parts) > 1 else set())
    while graph:
        free = {room for room, imported in graph.items() if not imported & graph.keys()}
        assert free, f'a circle within {sorted(graph)}'
        graph = {room: imported for room, imported in graph.items() if room not in free}


def test_the_import_check_sees_what_is_imported():
    assert imports_of(Path('distillers/attach_detach.py')) == {
        'compat', 'config', 'errors', 'recorders', 'teachers', 'utils'}
    assert imports_of(Path('__init__.py')) == {'compat', 'env', 'version'}
    assert imports_of(Path('models/losses/base_loss.py')) == {'compat', 'config', 'errors', 'utils'}
    assert imports_of(Path('compat/mmcv_ext.py')) == {'errors'}


def test_the_top_is_short():
    assert len([path for path in FILES if len(path.parts) == 1]) <= 6


@pytest.mark.parametrize('name', MODULES)
def test_examples(name):
    MMLogger.get_current_instance().setLevel('WARNING')  # its handlers would write into an example's output
    if name == 'mmsrd.models.heads.deit_distill_head':
        pytest.importorskip('mmpretrain')
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


@pytest.mark.parametrize('name', [name for name in mmsrd.__all__ if name not in ('__version__', 'DistillHook')])
def test_public_names_have_an_example(name):
    """What a runner builds from a config is shown in the README instead."""
    public = getattr(mmsrd, name)
    in_configs = name.endswith(('Runner', 'Hook')) or name in ('BaseProjector', 'ProjectorDistiller', 'FeatureLoss')
    assert public.__doc__
    assert in_configs or '>>>' in public.__doc__


def test_a_release_has_one_version():
    root = PACKAGE.parent
    newest = next(line for line in (root / 'CHANGELOG.md').read_text().splitlines() if re.match(r'## \d', line))
    assert newest.split()[1] == mmsrd.__version__
    cited = re.search(r'^version: (.*)$', (root / 'CITATION.cff').read_text(), re.MULTILINE)
    assert cited
    assert cited[1] == mmsrd.__version__


def test_public_names_are_imported_on_first_use():
    code = ('import sys, mmsrd\n'
            'assert not [name for name in sys.modules if name.startswith("mmsrd.distillers")]\n'
            'assert not {"mmdet", "mmpretrain", "mmcv"} & set(sys.modules)\n'
            'from mmsrd import DistillRunner, LinearProjector, SRDLoss, attach, detach\n'
            'assert not {"mmdet", "mmpretrain", "mmcv"} & set(sys.modules)\n'
            'assert "attach" in dir(mmsrd)\n')
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="module 'mmsrd' has no attribute 'atach'"):
        _ = mmsrd.atach


HOOKS = {'runner', 'batch_idx', 'data_batch', 'outputs', 'module', 'student', 'args', 'kwargs', 'output'}
"""Arguments of hooks of MMEngine and PyTorch, which their pages describe."""


def public_functions():
    """Name, arguments and docstring of public functions and classes, but for mmcv's operators and Triton's kernels."""
    for path in FILES:
        if path.name in ('mmcv_ops.py', 'triton_kernels.py'):
            continue
        for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
            text = ast.get_docstring(node) if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else None
            if text and not node.name.startswith('_'):
                names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)] \
                    if isinstance(node, ast.FunctionDef) else []
                yield f'{path}: {node.name}', [name for name in names if name not in ('self', 'cls')], text


def test_docstrings_begin_with_a_verb_or_a_noun():
    beginnings = {'What', 'Whether', 'Of', 'As', 'How', 'Where', 'Which', 'Why', 'When', 'On'}
    assert [name for name, _, text in public_functions() if text.split()[0].strip(',.:;') in beginnings] == []


def test_functions_of_three_arguments_describe_them():
    """Unless they override one that does, or are called by MMEngine."""
    assert [name for name, arguments, text in public_functions()
            if len(set(arguments) - HOOKS) >= 3 and 'Args:' not in text and not text.startswith('See ')] == []
