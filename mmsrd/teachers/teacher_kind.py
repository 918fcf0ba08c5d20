"""``TeacherKind``: what differs from one kind of teacher to another."""
from __future__ import annotations

import inspect
from typing import Any, Optional, Sequence

from torch import nn

from ..config import InferenceConfig
from ..config.checks import check_keys
from ..errors import ConfigError, TeacherError
from .class_names import ClassMatch
from .image_size import ImageSize


class TeacherKind:
    """Steps that a kind of teacher fills in; each does nothing, or says no, by default.

    Attributes:
        model: The teacher's model.
        key: Its config key, for messages.
        name: Where the model comes from, as text.
    """

    model: nn.Module
    key: str
    name: str
    inference: InferenceConfig = InferenceConfig(fold=False)
    """How it is made fast."""
    swap_channels: Optional[bool] = None
    """Whether it takes channels in the other order than the student; None for what their preprocessors say."""
    image_size = ImageSize()
    """Size of the images that it sees."""
    model_config = ''
    """Text of the model's part of its config, preprocessing included; empty where it has none."""
    offloads = False
    """Whether its weights stay in host memory."""
    any_task = False
    """Whether it can teach students of every task, because it has features only."""
    is_average = False
    """Whether it averages the student, so that its weights are part of the training's state."""

    @classmethod
    def from_config(cls, config: Any, student: nn.Module) -> Any:
        """Build a teacher of this kind, without its weights.

        Args:
            config: Its part of the ``distill`` block. A kind of a user's is called with ``key``, ``student`` and the
                entries of the block.
            student: The student before anything is attached to it.
        """
        return cls(key=config.key, student=student, **config.arguments)  # type: ignore[call-arg]

    @classmethod
    def check_config(cls, config: Any) -> None:
        """Check a part of the ``distill`` block that names this kind; a kind with other needs overrides it.

        Raises:
            ConfigError: An argument is not accepted, or missing.
        """
        parameters = inspect.signature(cls).parameters.values()
        own = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            if not {'key', 'student'} <= {p.name for p in own}:
                raise ConfigError.at(f'{config.key}.type', config.kind, 'its __init__ must take the arguments `key` '
                                     'and `student`')
            check_keys(config.key, config.arguments, [p.name for p in own if p.name not in ('key', 'student')])
        for p in own:
            if p.default is p.empty and p.name not in ('key', 'student', *config.arguments):
                raise ConfigError(f'{config.key}.{p.name}: is required by {cls.__name__}')

    def describe(self) -> dict[str, Any]:
        """Return ``config`` and ``checkpoint`` as text, as a report shows them."""
        return dict(config=self.name, checkpoint="the student's")

    def fingerprint(self) -> dict[str, Any]:
        """Return what a resume compares, by the last part of the config key, in plain values."""
        return dict(model=type(self.model).__name__)

    def match_classes(self, student: nn.Module, names: Sequence[str] | None) -> ClassMatch:
        """Return how the classes of this teacher and the student go together; call it once the weights are read.

        Args:
            student: The student.
            names: Names of its classes; None where they are not known.
        """
        return ClassMatch()

    def gives_layers(self, default: bool) -> bool:
        """Return whether the student starts with some of its layers.

        Args:
            default: Whether it does where the config does not say.
        """
        return False

    def check_images(self, same_task: bool) -> int:
        """Return on how many images of the student's validation set it is to be evaluated before training.

        Args:
            same_task: Whether it has the student's task and classes.
        """
        return 0

    def can_predict(self) -> bool:
        """Return whether :meth:`predict` gives what the student's evaluator understands."""
        return False

    def predict(self, batch: Any) -> list[Any]:
        """Return predictions of the whole model for a batch of the student's validation data.

        Raises:
            TeacherError: It has features only.
        """
        raise TeacherError(f'{self.key}: {self.name} makes no predictions')

    def begin(self, student: nn.Module) -> None:
        """Take the student's weights before the first step, where it averages them and has none yet."""

    def update(self, student: nn.Module) -> None:
        """Follow the student after a training step, where it does."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it; nothing of a trained one."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` has returned."""

    def load_weights(self) -> None:
        """Read the weights, where they come from a file."""
