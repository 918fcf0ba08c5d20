"""The built site, and that no file lies around that nothing names."""
from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

from helpers.processes import ROOT


class Links(HTMLParser):
    """Targets of the links of a page, and its anchors."""

    def __init__(self, path):
        super().__init__()
        self.targets, self.anchors, self.texts = [], set(), []
        self.feed(path.read_text())

    def handle_data(self, data):
        self.texts.append(data)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors.add(given.get('id'))
        if tag == 'a' and given.get('href'):
            self.targets.append(given['href'])
        if tag == 'img':
            self.targets.append(given['src'])


def test_the_site_builds_without_warnings_and_its_links_resolve(tmp_path):
    environment = {**os.environ, 'VENV': sys.prefix}
    done = subprocess.run(['bash', ROOT / 'tools/build_docs.sh', tmp_path], capture_output=True, text=True,
                          env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == f'build_docs: {tmp_path}/index.html'
    pages = {path: Links(path) for path in tmp_path.rglob('*.html') if '_modules' not in path.parts}
    assert {'index.html', 'get_started.html', 'tutorial.html', 'api.html', 'faq.html'} <= {path.name for path in pages}
    for path, page in pages.items():
        assert not re.findall(r'\]\([.\w/:]+\)', ' '.join(page.texts)), path.name  # a link that is not rendered
        for target in page.targets:
            file, _, anchor = target.partition('#')
            if re.match(r'(https?|data|mailto):', target):
                continue
            there = Path(unquote(file[len('file://'):])) if file.startswith('file://') else path.parent / file
            there = (there if file else path).resolve()
            assert there.exists(), (path.name, target)
            if anchor and there in pages:
                assert unquote(anchor) in pages[there].anchors, (path.name, target)
    api = (tmp_path / 'api.html').read_text()
    for name in ('mmsrd.attach', 'mmsrd.DistillRunner', 'mmsrd.models.losses.SRDLoss', 'mmsrd.errors.StorageError'):
        assert f'id="{name}"' in api


def test_every_file_is_named():
    """In tools, configs and docs: by another file that is not a result."""
    names = subprocess.run(['git', 'ls-files', '-co', '--exclude-standard'], cwd=ROOT, capture_output=True, text=True,
                           check=True).stdout.split('\n')
    texts = {name: (ROOT / name).read_text() for name in names
             if name.endswith(('.py', '.md', '.sh', '.yml', '.toml', '.rst', '.ipynb', '.in', '.txt'))
             and not name.startswith('docs/results')}
    unnamed = []
    for name in names:
        path = Path(name)
        if path.parts[:1] not in (('tools',), ('configs',), ('docs',)) or path.name == 'README.md':
            continue
        # Configs and pages are named without suffix, too, modules where they are imported.
        pattern = re.compile(rf'(?<![\w-]){re.escape(path.stem)}(?![\w-])')
        if not any(other != name and pattern.search(text) for other, text in texts.items()):
            unnamed.append(name)
    assert not unnamed
