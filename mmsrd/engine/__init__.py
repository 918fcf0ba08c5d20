"""What MMEngine drives: runners and hooks."""
