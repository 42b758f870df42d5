from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from apid import conf
from apid.conf.settings import Settings
from apid.errors import ConfigError


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Write a configuration file into a directory that has an api-paste.ini, and return its path."""
    (tmp_path / "api-paste.ini").write_text("[app:main]\nuse = call:nobody:loads_it\n")

    def writer(text: str, name: str = "apid.conf") -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
        return str(path)

    return writer


@pytest.fixture
def load(write: Callable[..., str]) -> Callable[..., Settings]:
    def loader(text: str = "", *argv: str, **environ: str) -> Settings:
        return conf.load(["--config-file", write(text), *argv], environ=environ)

    return loader


@pytest.fixture
def refused(load: Callable[..., Settings]) -> Callable[..., str]:
    """Load what must be refused; return the error's text."""

    def refuser(text: str = "", *argv: str, **environ: str) -> str:
        with pytest.raises(ConfigError) as caught:
            load(text, *argv, **environ)
        assert caught.value.exit_code == 2
        return str(caught.value)

    return refuser
