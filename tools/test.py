#!/usr/bin/env python
"""Evaluate a checkpoint; a config with a `distill` block needs no teacher for it: test.py --help."""
from mmsrd.apis import main

if __name__ == '__main__':
    main('test')
