"""Configs and weights by name: local paths, ``package::config`` names, URLs, the model zoo's metafiles."""
from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import os.path as osp
import re
from pathlib import Path
from typing import Any, Callable, Iterator
from urllib.parse import unquote, urlparse
from urllib.request import url2pathname

import torch
from mmengine import load
from mmengine.config import Config
from mmengine.dist import barrier
from mmengine.fileio import get
from mmengine.runner import checkpoint

from ..errors import CheckpointError, ConfigError, MissingPackageError, TeacherError, did_you_mean

_LISTS: dict[str, Callable[[], dict[str, str]]] = {
    'torchvision': checkpoint.get_torchvision_models, 'open-mmlab': checkpoint.get_external_models,
    'openmmlab': checkpoint.get_external_models, 'mmcls': checkpoint.get_mmcls_models}
"""Names of weights that MMEngine knows, by scheme."""
TOOLBOXES = 'mmdet', 'mmpretrain', 'mmseg', 'mmpose', 'mmrotate', 'mmyolo'
"""Packages that bring configs and scripts."""
_EXTERNAL = re.compile(r'^(\w+)::(.+)$')
_HASH_IN_NAME = re.compile(r'-(?!(?:19|20)\d\d[01]\d[0-3]\d\.)([0-9a-f]{8,64})\.[^.]+$')


def package_files(package: str) -> Path:
    """Folder of an installed toolbox that holds its ``configs/`` and ``tools/``.

    Raises:
        MissingPackageError: The toolbox is not installed, or without its configs.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingPackageError(f'{package!r} is not installed; install it with "pip install {package}"')
    inside = Path(spec.origin).parent / '.mim'  # wheels and "mim install" put them there
    beside = Path(spec.origin).parent.parent  # a source checkout
    for folder in (inside, beside):
        if (folder / 'configs').is_dir():
            return folder
    raise MissingPackageError(f'{package!r} is installed in {inside.parent} without its configs; reinstall it with pip')


def _neighbours(path: Path) -> str:
    """Suggestion of the files beside a missing one that have its suffix and a name close to its."""
    return did_you_mean(str(path), map(str, path.parent.glob(f'*{path.suffix}')))


def _in_a_zoo(path: Path) -> str:
    """Say how a config is named that an installed toolbox has under the name of a missing file."""
    for package in TOOLBOXES:
        with contextlib.suppress(MissingPackageError):
            configs = package_files(package) / 'configs'
            for found in configs.rglob(f'{path.stem}.py'):
                return f'; {package} has {package}::{found.relative_to(configs)}'
    return ''


def config_path(name: str, key: str) -> Path:
    """The file that a config name means: a path, or ``package::path/below/configs.py``.

    Raises:
        ConfigError: No such file; the closest names are suggested.
        MissingPackageError: The named package is not installed.
    """
    match = _EXTERNAL.match(name)
    if match is None:
        path = Path(name).expanduser()
        if path.is_file():
            return path
        raise ConfigError.at(key, name, f'no such config file (looked in {Path.cwd()}){_neighbours(path)}'
                             f'{_in_a_zoo(path)}')
    package, relative = match.groups()
    configs = package_files(package) / 'configs'
    path = configs / relative
    if path.suffix == '':
        path = path.with_suffix('.py')
    if path.is_file():
        return path
    known = [f'{package}::{p.relative_to(configs)}' for p in configs.rglob('*.py') if '_base_' not in p.parts]
    raise ConfigError.at(key, name, f'{package} has no such config{did_you_mean(name, known)}')


def load_config(name: str, key: str) -> Config:
    """Read the config that ``name`` means (see :func:`config_path`).

    Raises:
        TeacherError: It does not exist, cannot be read, or defines no model.
    """
    path = config_path(name, key)
    try:
        config = Config.fromfile(str(path))
    except Exception as e:
        raise TeacherError.at(key, name, f'cannot be read as a config ({type(e).__name__}: {e})') from e
    if 'model' not in config:
        raise TeacherError.at(key, name, f'defines no model; it has {", ".join(sorted(config.keys()))}')
    return config


def _metafiles(root: Path, config: Path) -> Iterator[Path]:
    """Metafiles that may list ``config``, the one beside it first."""
    beside = config.parent / 'metafile.yml'
    if beside.is_file():
        yield beside
    index = root / 'model-index.yml'
    if index.is_file():
        yield from (root / name for name in load(str(index))['Import'] if (root / name) != beside)


def _models(metafile: Path) -> list[dict[str, Any]]:
    """Return the models with config and weights that a metafile lists; none where there is no such file."""
    content = (load(str(metafile)) if metafile.is_file() else None) or []
    models = content if isinstance(content, list) else content.get('Models') or []
    return [model for model in models if model.get('Config') and model.get('Weights')]


def _weights_of(models: list[dict[str, Any]]) -> str:
    """Return the weights of one of the models of a config: without results are those that await fine-tuning."""
    return str(max(models, key=lambda model: bool(model.get('Results')))['Weights'])


def zoo_weights(name: str, key: str) -> str:
    """URL of the weights that the model zoo lists for a ``package::`` config.

    Raises:
        CheckpointError: ``name`` is a local path, or the zoo has no weights for it.
    """
    match = _EXTERNAL.match(name)
    if match is None:
        raise CheckpointError.at(key, 'auto', f'works for configs of a model zoo ("mmdet::..."), but the config is '
                                 f'{name!r}; give a path or a URL')
    root = package_files(match.group(1))
    path = config_path(name, key)
    listed_as = path.relative_to(root).as_posix()
    for metafile in _metafiles(root, path):
        models = [model for model in _models(metafile) if unquote(model['Config']) == listed_as]
        if models:
            return _weights_of(models)
    # Some are listed under a folder that they are not in.
    models = [model for model in _models(path.parent / 'metafile.yml') if Path(model['Config']).name == path.name]
    if models:
        return _weights_of(models)
    raise CheckpointError.at(key, 'auto', f'the model zoo lists no weights for {name!r}; give a path or a URL')


def download(url: str, key: str) -> str:
    """Fetch a checkpoint into PyTorch's hub folder, once.

    A name that ends in ``-<hash>.pth`` has the start of the file's SHA-256, unless it is a date; the
    file is kept only if it agrees.

    Raises:
        CheckpointError: It cannot be fetched or has another hash.
    """
    match = _HASH_IN_NAME.search(osp.basename(urlparse(url).path))
    return _once(url, key, lambda target: torch.hub.download_url_to_file(
        url, str(target), hash_prefix=match.group(1) if match else None))


def _once(url: str, key: str, write: Callable[[Path], Any]) -> str:
    """Path of a file in PyTorch's hub folder, which the first process of each machine writes if it is not there.

    Two addresses may end in the same name. Without a hash in it, the file's name has one of the whole address.
    """
    name = osp.basename(urlparse(url).path)
    if not _HASH_IN_NAME.search(name):
        stem, ending = osp.splitext(name)
        name = f'{stem}-{hashlib.sha256(url.encode()).hexdigest()[:16]}{ending}'
    target = Path(torch.hub.get_dir(), 'checkpoints', name)
    partial = target.with_name(f'{name}.{os.getpid()}.partial')
    failure: Exception | None = None
    # MMEngine's get_local_rank needs a local process group, which its runner does not make.
    if not target.is_file() and int(os.environ.get('LOCAL_RANK', 0)) == 0:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write(partial)
            os.replace(partial, target)
        except Exception as e:  # raised below, after the other processes have been let go
            failure = e
        finally:
            with contextlib.suppress(OSError):
                partial.unlink()
    barrier()
    if failure is not None or not target.is_file():
        reason = failure or 'see the message of the first process'
        raise CheckpointError.at(key, url, f'cannot be downloaded to {target} ({reason}). TORCH_HOME sets '
                                 'another folder; if you have the file from a source you trust, give its path'
                                 ) from failure
    return str(target)


def named_weights(spec: str, key: str) -> str:
    """Return the URL of weights by their name in a list of MMEngine: ``torchvision://``, ``open-mmlab://``, ``mmcls://``.

    Raises:
        CheckpointError: The list has no such name; the closest are suggested.
    """
    scheme, _, name = spec.partition('://')
    known: dict[str, str] = _LISTS[scheme]()
    name = checkpoint.get_deprecated_model_names().get(name, name) if scheme.startswith('open') else name
    if name not in known:
        raise CheckpointError.at(key, spec, f'MMEngine has no such weights{did_you_mean(name, known)}')
    return known[name]


def fetch(spec: str, key: str) -> str:
    """Copy a checkpoint from a store that MMEngine reads (``s3://``, ``petrel://``) into PyTorch's hub folder, once.

    Raises:
        CheckpointError: It cannot be read.
    """
    return _once(spec, key, lambda target: target.write_bytes(get(spec)))


def local_checkpoint(spec: str, config_name: str, key: str) -> str:
    """Path of the checkpoint file that ``spec`` means: ``'auto'``, a URL, a name of MMEngine's lists, or a path.

    Args:
        spec: What the config has.
        config_name: Name of the model's config, for ``'auto'``.
        key: Config key, for messages.

    Raises:
        CheckpointError: It cannot be found or fetched.
    """
    if spec == 'auto':
        spec = zoo_weights(config_name, key)
    scheme = spec.partition('://')[0] if '://' in spec else ''
    if scheme in _LISTS:
        return download(named_weights(spec, key), key)
    if scheme in ('http', 'https'):
        return download(spec, key)
    if scheme not in ('', 'file'):
        return fetch(spec, key)
    address = urlparse(spec)
    if scheme and address.netloc not in ('', 'localhost'):
        raise CheckpointError.at(key, spec, f'names the machine {address.netloc!r}; write file:///PATH, or the path')
    path = url2pathname(address.path) if scheme else osp.expanduser(spec)
    if not osp.isfile(path):
        close = did_you_mean(spec, ['auto']) or _neighbours(Path(path))
        raise CheckpointError.at(key, spec, f'no such file (looked in {Path.cwd()}){close}')
    return path
