"""Settings of Sphinx; ``bash tools/build_docs.sh`` builds the pages."""
from __future__ import annotations

import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

import mmsrd

project = 'mmsrd'
author = 'mmsrd contributors'
copyright = 'mmsrd contributors'
version = release = mmsrd.__version__

extensions = ['sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode', 'sphinx_copybutton', 'myst_nb']
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = f'mmsrd {version}'
html_show_sphinx = False
myst_heading_anchors = 3
nb_execution_mode = 'off'  # the notebook keeps the outputs of the test that runs it
autodoc_typehints = 'none'  # docstrings say types
autodoc_member_order = 'bysource'

_LINK = re.compile(r'(?<!!)\[([^\]]*)\]\(([^)#\s:]+)(#[^)\s]*)?\)')


def _repository_url() -> str | None:
    """Address of the files of this commit; Read the Docs says where it has cloned from."""
    clone, commit = os.environ.get('READTHEDOCS_GIT_CLONE_URL'), os.environ.get('READTHEDOCS_GIT_COMMIT_HASH')
    return f'{clone[:-len(".git")] if clone.endswith(".git") else clone}/blob/{commit}' if clone and commit else None


def _link_to_repository(app: object, page: str, source: list[str]) -> None:
    """Turn links that leave the documentation (configs, tools) into links to the repository, or to the file here."""
    folder = (HERE / page).parent
    base = _repository_url() or ROOT.as_uri()

    def target(match: re.Match[str]) -> str:
        path = (folder / match[2]).resolve()
        if path.is_relative_to(HERE) or not path.exists():
            return match[0]
        # In HTML, because Markdown takes no file: addresses.
        return f'<a href="{base}/{path.relative_to(ROOT)}{match[3] or ""}">{match[1]}</a>'

    if (HERE / f'{page}.md').exists():
        source[0] = _LINK.sub(target, source[0])


def setup(app: object) -> None:
    app.connect('source-read', _link_to_repository)  # type: ignore[attr-defined]
