"""``distill.report``: the page that is written while training."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .checks import ROOT, check_keys, mapping, of_type, whole_number

IMAGES = 8
"""Validation images in a report unless it is said otherwise."""


@dataclass(frozen=True)
class ReportConfig:
    """What :class:`mmsrd.DistillReportHook` is given.

    Attributes:
        images: Validation images that are shown; 0 for none.
        baseline: Work directory of the student alone; None for none.
        metric: Name of the metric that the report is about; None for the main one.
    """

    images: int = IMAGES
    baseline: str | None = None
    metric: str | None = None


def parse_report(block: Any, key: str = f'{ROOT}.report') -> ReportConfig | None:
    """Check the part of the ``distill`` block; None where no report is wanted.

    Args:
        block: A dict; True or None for a report as it is by default, False for none.
        key: Config key, for messages.

    Raises:
        ConfigError: And its kinds.

    Example:
        >>> from mmsrd.config.report_config import parse_report
        >>> parse_report(dict(baseline='work_dirs/alone')).images
        8
        >>> parse_report(False) is None
        True
    """
    if block is None or isinstance(block, bool):
        return None if block is False else ReportConfig()
    options = mapping(key, block)
    check_keys(key, options, ('images', 'baseline', 'metric'))
    for name, meaning in (('baseline', 'the work directory of the student alone'), ('metric', 'the name of a metric')):
        if options.get(name) is not None:
            of_type(f'{key}.{name}', options[name], str, meaning)
    return ReportConfig(whole_number(f'{key}.images', options.get('images', IMAGES)), options.get('baseline'),
                        options.get('metric'))
