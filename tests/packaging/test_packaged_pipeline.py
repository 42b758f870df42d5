"""The pipeline that is served without any configuration is the one of etc/apid, also where a checkout has no symbolic links."""

from pathlib import Path

TOP = Path(__file__).resolve().parents[2]


def test_the_packaged_pipeline_is_that_of_etc():
    packaged = (TOP / "apid/api/api-paste.ini").read_text(encoding="utf-8")
    assert packaged == (TOP / "etc/apid/api-paste.ini").read_text(encoding="utf-8")
