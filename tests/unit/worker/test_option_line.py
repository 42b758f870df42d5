"""A factory that says which option is wrong gets its file and line, and no traceback: the text says it all."""

import pytest

from apid.conf.settings import Paste
from apid.errors import PipelineError
from apid.worker import pipeline

INI = """\
[pipeline:main]
pipeline = limit ok

[filter:limit]
use = egg:apid#sizelimit
# the next line is the wrong one
max_body_size = {size}

[app:ok]
use = egg:apid#healthcheck
max_body_size_of_another = 1
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("{size}", "many", 7, "sizelimit: option max_body_size = many: must be a size in bytes"),
        ("{size}", "1\nmax_bdy = 2", 8, "sizelimit: option max_bdy: is not known; the nearest is max_body_size"),
        ("max_body_size = {size}", "set max_body_size = x", 7, "sizelimit: option max_body_size = x: must be"),
        ("[pipeline", "[DEFAULT]\nmax_body_size = x\n[pipeline", 6, "sizelimit: option max_body_size = x: must be"),
    ],
)
def test_the_line_of_the_option(tmp_path, old, new, line, said):
    ini = tmp_path / "api-paste.ini"
    text = INI.replace("max_body_size_of_another = 1\n", "")
    if "DEFAULT" in new:
        text = text.replace("max_body_size = {size}\n", "")
    ini.write_text(text.replace(old, new))
    with pytest.raises(PipelineError) as caught:
        pipeline.load(Paste(str(ini), "main"))
    assert str(caught.value).startswith(f"{ini}:{line}: [filter:limit] (in [pipeline:main]): {said}")
    assert caught.value.detail == ""
