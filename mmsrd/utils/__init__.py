"""Helpers that know nothing of distillation: files, hooks, processes, random states, the model zoos, tensors."""
