"""Reading a checkpoint into a teacher, with errors that say what does not fit."""
from __future__ import annotations

import zlib
from collections import OrderedDict
from typing import Any, Mapping

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..compat import load_checkpoint_file
from ..errors import CheckpointError
from ..utils.zoo import local_checkpoint
from .class_names import saved_classes


def saved_state(checkpoint: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """The ``state_dict`` in a checkpoint: of MMEngine, Lightning, timm or DeiT, or the checkpoint itself.

    Args:
        checkpoint: As the file holds it.
    """
    # MMEngine and Lightning save under the first name, timm and the DeiT authors under the second.
    saved = next((checkpoint[name] for name in ('state_dict', 'model') if isinstance(checkpoint.get(name), dict)),
                 checkpoint)
    wrapped = 'module.'  # by DistributedDataParallel
    state = OrderedDict((name[len(wrapped):] if name.startswith(wrapped) else name, value)
                        for name, value in saved.items())
    if hasattr(saved, '_metadata'):
        state._metadata = saved._metadata  # type: ignore[attr-defined]  # modules convert older versions by it
    return state


def read_weights(model: nn.Module, checkpoint: str, config_name: str, key: str) -> tuple[str, ...] | None:
    """Read weights into ``model``.

    Args:
        model: The teacher.
        checkpoint: Path, URL or ``'auto'``.
        config_name: Where the model's config came from, for ``'auto'`` and messages.
        key: Config key of the checkpoint.

    Returns:
        tuple: Names of the classes that the file says it was trained for; None where it does not.

    Raises:
        CheckpointError: The file cannot be found or read, or belongs to another architecture.
    """
    path = local_checkpoint(checkpoint, config_name, key)
    content = load_checkpoint_file(path, key)
    state = saved_state(content)
    own = model.state_dict()
    try:
        # The models' own load hooks rename and resize what older files have, so they judge what fits.
        result = model.load_state_dict(state, strict=False)
    except RuntimeError as e:
        wrong = [n for n, v in own.items() if n in state and getattr(state[n], 'shape', None) != v.shape]
        missing = [n for n in own if n not in state]
        raise CheckpointError.at(key, checkpoint, _mismatch(model, config_name, own, state, wrong, missing)) from e
    # Batch counters came with PyTorch 0.4; older checkpoints of the zoo do not have them.
    missing = [n for n in result.missing_keys if not n.endswith('num_batches_tracked')]
    if missing:
        raise CheckpointError.at(key, checkpoint, _mismatch(model, config_name, own, state, [], missing))
    print_log(f'Teacher weights loaded from {path}: {len(own.keys() & state.keys())} of {len(own)} keys',
              logger='current')
    return saved_classes(content)


def _mismatch(model: nn.Module, config_name: str, own: dict[str, Tensor], state: dict[str, Any], wrong: list[str],
              missing: list[str]) -> str:
    unexpected = [n for n in state if n not in own]
    parts = [f'does not fit {type(model).__name__} of {config_name}: '
             f'{len(own) - len(wrong) - len(missing)} of {len(own)} keys match']
    if missing:
        parts.append(f'{len(missing)} are missing ({_some(missing)})')
    if wrong:
        parts.append(f'{len(wrong)} have another shape ({_some(wrong)})')
    if unexpected:
        parts.append(f'{len(unexpected)} in the file are unknown to the model ({_some(unexpected)})')
    return '; '.join(parts)


def _some(names: list[str], count: int = 3) -> str:
    return ', '.join(names[:count]) + (', ...' if len(names) > count else '')


def weights_checksum(model: nn.Module) -> int:
    """CRC-32 over names and values of all parameters and buffers: it tells weights apart, whatever the file's path."""
    checksum = 0
    for name, value in sorted(model.state_dict().items()):
        raw = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        checksum = zlib.crc32(raw.data, zlib.crc32(name.encode(), checksum))
    return checksum
