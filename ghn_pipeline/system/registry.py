"""A registry: what there is of a kind, by name."""

from typing import TypeVar

from ghn_pipeline.system.errors import UserError

T = TypeVar("T")


class Registry(dict[str, T]):
    """A dictionary in which no name is given twice.

    Args:
        kind: the word for an entry, such as "proxy", for the message.
        entries: the entries of the package.
    """

    def __init__(self, kind: str, entries: dict[str, T] | None = None) -> None:
        super().__init__(entries or {})
        self.kind = kind

    def __setitem__(self, name: str, entry: T) -> None:
        """Add an entry.

        Raises:
            UserError: the name is taken.
        """
        if name in self:
            raise UserError(f"there is a {self.kind} {name!r} already: choose another name.")
        super().__setitem__(name, entry)
