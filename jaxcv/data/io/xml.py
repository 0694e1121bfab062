"""XML of unknown origin, with the numbers of its lines: entities and external references are refused."""

import math
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from jaxcv.data.io import text
from jaxcv.data.io.text import Where, one_line, shown
from jaxcv.errors import DataError


class Element(NamedTuple):
    """One element of a file, which has its line as the attribute `line`."""

    xml: ElementTree.Element
    file: Path

    @property
    def where(self) -> Where:
        """Where it stands."""
        return Where(self.file, int(self.xml.attrib["line"]))

    @property
    def text(self) -> str:
        """What stands in it, without space around."""
        return (self.xml.text or "").strip()

    def all(self, tag: str) -> list["Element"]:
        """The elements directly in it that are called so; of any name if `tag` is `*`."""
        return [Element(each, self.file) for each in self.xml.findall(tag)]

    def one(self, tag: str) -> "Element":
        """The only one that is called so. Raises DataError: there are none or several."""
        found = self.all(tag)
        if not found:
            raise self.where.refuse(f"<{self.xml.tag}> has no <{tag}>")
        if len(found) > 1:
            raise found[1].where.refuse(f"<{self.xml.tag}> has a second <{tag}>, expected one")
        return found[0]

    def number(self, tag: str) -> float:
        """The number in the only one that is called so. Raises DataError."""
        element = self.one(tag)
        value = text.read_number(element.text)
        if value is None or not math.isfinite(value):
            raise element.where.refuse(f"<{tag}> is {shown(element.text)}, expected a number")
        return value

    def attribute(self, name: str, default: str | None = None) -> str:
        """The text of an attribute. Raises DataError: it is not there."""
        if (found := self.xml.attrib.get(name, default)) is None:
            raise self.where.refuse(f"<{self.xml.tag}> has no attribute {name}")
        return found.strip()

    def numbers(self, *names: str) -> list[float]:
        """The numbers of attributes. Raises DataError: one is not there or is no number."""
        values = [text.read_number(self.attribute(name)) for name in names]
        for name, value in zip(names, values, strict=True):
            if value is None:
                raise self.where.refuse(f"{name} is {shown(self.attribute(name))}, expected a number")
        return [value for value in values if value is not None]


def read_xml(file: Path, tag: str, kind: str, *, limit: int = 2**24) -> Element:
    """The tree of a file whose root is `tag`. Raises DataError, with the line of the fault; `kind` is who writes so."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import DefusedXMLParser

    class Builder(ElementTree.TreeBuilder):
        def start(self, tag: Any, attrs: Any, /) -> ElementTree.Element:
            return super().start(tag, {**attrs, "line": str(parser.parser.CurrentLineNumber)})

    parser: Any = DefusedXMLParser(target=Builder(), forbid_dtd=False)
    data = text.read_bytes(file, limit=limit)
    try:
        parser.feed(data)
        root = Element(parser.close(), file)
    except ElementTree.ParseError as error:
        if "invalid token" in str(error):  # most often an encoding that the file does not state
            text.read_text(file)
        raise DataError(f"broken XML: {one_line(error).partition(':')[0]}", file=file, line=error.position[0]) from None
    except DefusedXmlException as error:
        message = f"XML with entities or external references is refused ({one_line(error)})"
        raise DataError(message, file=file) from None
    except (OSError, ValueError, LookupError) as error:
        raise DataError(f"cannot be read: {one_line(error)}", file=file) from None
    if root.xml.tag != tag:
        raise root.where.refuse(f"<{one_line(root.xml.tag)}> where {kind} has <{tag}>")
    return root
