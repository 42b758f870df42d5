"""Extensions of the default API, found by the entry point group `apid.api.v1.extensions`."""
