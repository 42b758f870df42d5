"""The versions of the default API, said once: the root's list, the mount's document and the microversion range read them here.

1.0  the first
1.1  animals have tags
1.2  an action answers with the animal (200) instead of nothing (202)
"""

from __future__ import annotations

from apid.wsgi.microversions import Microversions
from apid.wsgi.versions import Version

SERVICE_TYPE = "zoo"
V1 = Version("v1", updated="2026-11-20T00:00:00Z", min_version="1.0", max_version="1.2", service_type=SERVICE_TYPE)
ALL = (V1,)
MICROVERSIONS = Microversions(SERVICE_TYPE, V1.min_version, V1.max_version)
