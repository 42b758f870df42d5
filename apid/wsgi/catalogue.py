"""Texts in the client's language: which one Accept-Language asks for, and where the catalogue is.

A catalogue is a gettext `.mo` file, `<directory>/<language>/LC_MESSAGES/<domain>.mo`; without one, or without the header, the
text stays as written. A message of oslo.i18n translates itself. Which texts there are is decided where they are written.
"""

from __future__ import annotations

import functools
import gettext
import re

_LANGUAGE = re.compile(r"\s*([A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*|\*)\s*(?:;\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*)?")
_LONGEST = 512
"""Characters of an Accept-Language header that is still read; a browser sends fewer than 100."""
_MOST = 10
"""Languages that are looked for, as each may be a look into the file system."""


@functools.lru_cache(maxsize=256)
def preferred(accept_language: str) -> tuple[str, ...]:
    """The languages of an Accept-Language header, best first (RFC 9110, 12.5.4); what is malformed is left out."""
    ranked: list[tuple[float, int, str]] = []
    for place, item in enumerate(accept_language.split(",")):
        match = _LANGUAGE.fullmatch(item)
        if match and match[1] != "*":
            quality = float(match[2] or 1)
            if quality > 0:
                ranked.append((-quality, place, match[1]))
    return tuple(language for _, _, language in sorted(ranked)[:_MOST])


class Catalogue:
    """The translations of one gettext domain.

    Args:
        directory: where the languages are; gettext's own place when None.
        domain: the name of the `.mo` files.
    """

    def __init__(self, directory: str | None = None, domain: str = "apid") -> None:
        self._directory = directory
        self._domain = domain
        self._loaded: dict[str, gettext.NullTranslations | None] = {}

    def translated(self, text: object, accept_language: str) -> tuple[str, str]:
        """A text in the best language that the client accepts and a catalogue exists for.

        Returns:
            The text, and its language as a language tag; an empty one for the text as written.
        """
        if not accept_language or len(accept_language) > _LONGEST:
            return str(text), ""
        for language in preferred(accept_language):
            if hasattr(text, "translation"):  # oslo.i18n's Message, where the application enabled lazy translation
                found = str(text.translation(language.replace("-", "_")))
                if found != str(text):
                    return found, language
                continue
            for name in dict.fromkeys((language.replace("-", "_"), language.split("-")[0])):
                if name.split("_")[0] == "en":
                    return str(text), ""
                catalogue = self._load(name)
                if catalogue is not None:
                    return catalogue.gettext(str(text)), name.replace("_", "-")
        return str(text), ""

    def _load(self, name: str) -> gettext.NullTranslations | None:
        if name not in self._loaded:
            if len(self._loaded) >= 256:  # clients choose the names: an unbounded table would be theirs to fill
                self._loaded.clear()
            try:
                self._loaded[name] = gettext.translation(self._domain, self._directory, [name])
            except OSError:
                self._loaded[name] = None
        return self._loaded[name]


DEFAULT = Catalogue()
