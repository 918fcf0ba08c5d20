"""``teacher.inference``: how a frozen model is made fast."""
from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Mapping, Union

from .checks import boolean, check_keys, mapping, of_type, one_of

PRECISIONS = ('auto', 'fp32', 'bf16', 'fp16')
PLAIN: dict[str, Any] = dict(precision='fp32', fold=False, channels_last=False, stream=False, compile=False)
"""The teacher unchanged: all speedups switched off."""


@dataclass(frozen=True)
class InferenceConfig:
    """``teacher.inference``; each entry has a value that switches it off.

    Attributes:
        precision: ``'bf16'`` or ``'fp16'``: weights of convolutions and linear layers are stored in it and the
            rest runs under autocast; ``'fp32'``: no autocast; ``'auto'``: as the student trains.
        fold: Fuse batch normalisation into the convolution before it.
        channels_last: Convolutions in channels-last layout; ``'auto'``: on CUDA in half precision, for tensor cores.
        stream: On CUDA, run in a separate stream, in parallel with the student's head.
        compile: ``torch.compile`` the parts between the recorded modules; a dict has its arguments.
    """

    precision: str = 'auto'
    fold: bool = True
    channels_last: Union[bool, str] = 'auto'
    stream: bool = True
    compile: Union[bool, Mapping[str, Any]] = False


def parse_inference(key: str, block: Any) -> InferenceConfig:
    """Check how a teacher is made fast.

    Raises:
        ConfigError: And its kinds.
    """
    options = mapping(key, block, optional=True)
    known = tuple(f.name for f in fields(InferenceConfig))
    check_keys(key, options, known)
    one_of(f'{key}.precision', options.get('precision', 'auto'), PRECISIONS)
    for name in ('fold', 'stream'):
        boolean(f'{key}.{name}', options.get(name, True))
    if options.get('channels_last', 'auto') != 'auto':
        of_type(f'{key}.channels_last', options['channels_last'], bool, "True, False or 'auto'")
    of_type(f'{key}.compile', options.get('compile', False), (bool, Mapping),
            'True, False, or a dict with arguments of torch.compile')
    return InferenceConfig(**{name: options[name] for name in known if name in options})
