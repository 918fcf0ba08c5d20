"""Helpers that know nothing of distillation: processes, random states, the model zoos, tensors."""
